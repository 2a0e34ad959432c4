"""Per-sample gradients layer by layer, one batch at a time.

A linear or convolution layer's gradient of one sample is a short sum of outer products,

    G_i = sum_t s_it a_it^T        (rows x columns)

s_it the gradient of the sample's loss by the layer's output at position t, a_it the input at that
position, with a 1 appended for the bias. The layers of other parameters hold theirs as (b, size).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional
from torch.utils._pytree import tree_map

from gifcore.curvature.batches import flat
from gifcore.problem import Problem, engine_mode

CHUNK_MB = 256  # of per-sample gradients of one layer, formed at a time


@dataclass(frozen=True, eq=False)
class Layer:
    """The parameters of one module as a matrix.

    Args:
        indices: (rows * columns,) flat coordinates, row by row. Of a linear or convolution layer,
            a row is an output unit: its weights, then its bias.
        parameters: names of its tensors, in the order of `indices` where it is not factored.
        factored: is its gradient a short sum of outer products? Else rows is 1.
    """

    name: str
    indices: Tensor
    rows: int
    columns: int
    parameters: tuple[str, ...]
    factored: bool

    def matrix(self, vector: Tensor) -> Tensor:
        """Return this layer's part of a vector (p,) as (rows, columns)."""
        return vector[self.indices].view(self.rows, self.columns)


class SampleGradients(ABC):
    """The gradients G_i (rows, columns) of b samples by one layer. Interface only."""

    @abstractmethod
    def formed(self) -> Tensor:
        """Return the G_i themselves, (b, rows * columns)."""

    @abstractmethod
    def dots(self, matrix: Tensor) -> Tensor:
        """Return <G_i, V> of each sample, (b,)."""

    @abstractmethod
    def squares(self, mask: Tensor) -> Tensor:
        """Return sum of G_i^2 over the coordinates where the mask (rows, columns) is 1, (b,)."""

    @abstractmethod
    def weighted(self, weights: Tensor) -> Tensor:
        """Return sum_i c_i G_i, (rows, columns)."""

    @abstractmethod
    def sum_of_squares(self, weights: Tensor) -> Tensor:
        """Return sum_i c_i G_i^2, entry by entry, (rows, columns)."""


@dataclass(frozen=True, eq=False)
class Factored(SampleGradients):
    """G_i = sum_t s_it a_it^T."""

    s: Tensor  # (b, T, rows)
    a: Tensor  # (b, T, columns)

    def formed(self) -> Tensor:
        return (self.s.transpose(1, 2) @ self.a).flatten(1)

    def dots(self, matrix: Tensor) -> Tensor:
        return ((self.s @ matrix) * self.a).sum(dim=(1, 2))

    def squares(self, mask: Tensor) -> Tensor:
        if self.s.shape[1] == 1:
            return ((self.s[:, 0].square() @ mask) * self.a[:, 0].square()).sum(dim=1)
        return torch.cat([(G.square() * mask).sum(dim=(1, 2)) for G in self._chunks()])

    def weighted(self, weights: Tensor) -> Tensor:
        return (self.s * weights[:, None, None]).flatten(0, 1).T @ self.a.flatten(0, 1)

    def sum_of_squares(self, weights: Tensor) -> Tensor:
        if self.s.shape[1] == 1:
            return (weights[:, None] * self.s[:, 0].square()).T @ self.a[:, 0].square()
        total = self.s.new_zeros(self.s.shape[2], self.a.shape[2])
        done = 0
        for G in self._chunks():
            c = weights[done : done + len(G), None, None]
            total += (c * G.square()).sum(dim=0)
            done += len(G)
        return total

    def rotated(self, Q_S: Tensor, Q_A: Tensor) -> Factored:
        """Return the gradients in other bases: Q_S^T G_i Q_A."""
        return Factored(self.s @ Q_S, self.a @ Q_A)

    def _chunks(self) -> Iterator[Tensor]:
        """Yield G_i of some samples at a time, (some, rows, columns)."""
        numbers = self.s.shape[2] * self.a.shape[2] * self.s.element_size()
        some = max(1, int(CHUNK_MB * 2**20) // numbers)
        for s, a in zip(self.s.split(some), self.a.split(some), strict=True):
            yield s.transpose(1, 2) @ a


@dataclass(frozen=True, eq=False)
class Whole(SampleGradients):
    """G_i itself, as one row."""

    gradients: Tensor  # (b, columns)

    def formed(self) -> Tensor:
        return self.gradients

    def dots(self, matrix: Tensor) -> Tensor:
        return self.gradients @ matrix[0]

    def squares(self, mask: Tensor) -> Tensor:
        return self.gradients.square() @ mask[0]

    def weighted(self, weights: Tensor) -> Tensor:
        return (weights @ self.gradients)[None]

    def sum_of_squares(self, weights: Tensor) -> Tensor:
        return (weights @ self.gradients.square())[None]


# --- which layers there are -----------------------------------------------------------------------


def layers_of(problem: Problem, position: Tensor) -> list[Layer]:
    """Return the model's layers; every parameter is in one of them.

    A linear or convolution layer counts as factored if its outer products give the gradient of
    one sample, which is tried: not where its weight is used by others too, or where samples are
    not along the first axis.

    Args:
        position: (1,) or more positions in the training set to try on.
    """
    modules = _candidates(problem)
    sample = next(problem.batches(position[:2], 2))
    found = dict(_of_factored(problem, modules, sample))
    parameters = problem.leaves()
    with engine_mode(problem.model):
        loss = problem.losses(parameters, sample)[0]
        values = torch.autograd.grad(loss, tuple(parameters.values()), allow_unused=True)
    expected = flat(problem, values, parameters)
    limit = 1e-3 if expected.dtype == torch.float32 else 1e-8
    layers = []
    for name, members in _by_module(problem).items():
        if name in found:
            layer = _factored_layer(problem, name, members)
            truth = layer.matrix(expected)
            first = Factored(found[name].s[:1], found[name].a[:1])
            G = first.weighted(torch.ones_like(truth[0, :1]))
            if bool((G - truth).norm() <= limit * truth.norm()):
                layers.append(layer)
                continue
        blocks = [problem.space.by_name[member] for member in members]
        indices = torch.cat([torch.arange(b.offset, b.offset + b.size) for b in blocks])
        indices = indices.to(problem.device)
        layers.append(Layer(name, indices, 1, len(indices), tuple(members), factored=False))
    return layers


def _by_module(problem: Problem) -> dict[str, list[str]]:
    """Return the parameters' names by the module that holds them."""
    members: dict[str, list[str]] = {}
    for block in problem.space.blocks:
        members.setdefault(block.name.rpartition(".")[0], []).append(block.name)
    return members


def _candidates(problem: Problem) -> dict[str, nn.Linear | nn.Conv2d]:
    """Return the modules whose gradient may be a sum of outer products, by name."""
    members, found = _by_module(problem), {}
    for name, module in problem.model.named_modules():
        own = {
            f"{name}.{short}" if name else short
            for short, _ in module.named_parameters(recurse=False)
        }
        if own != set(members.get(name, ())):
            continue  # it shares a parameter that is named after another module
        plain = type(module) is nn.Conv2d and (
            module.groups == 1
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        )
        if (type(module) is nn.Linear or plain) and isinstance(module, nn.Linear | nn.Conv2d):
            found[name] = module
    return found


def _factored_layer(problem: Problem, name: str, members: Sequence[str]) -> Layer:
    blocks = [problem.space.by_name[member] for member in members]
    weight = next(block for block in blocks if len(block.shape) > 1)
    rows = weight.shape[0]
    parts = [
        torch.arange(block.offset, block.offset + block.size).view(rows, -1)
        for block in sorted(blocks, key=lambda block: block is not weight)
    ]
    indices = torch.cat(parts, dim=1).to(problem.device)
    return Layer(name, indices.flatten(), rows, indices.shape[1], tuple(members), factored=True)


# --- gradients of one batch -----------------------------------------------------------------------


def sample_gradients(
    problem: Problem, layers: Sequence[Layer], batch: Any
) -> Iterator[tuple[int, SampleGradients]]:
    """Yield (number of the layer, gradients of this batch), layer by layer.

    Cost: a forward and a backward pass to the layers' outputs; for the layers that are not
    factored, the gradients of single samples. Memory: one batch's activations and one layer.
    """
    numbers = {layer.name: number for number, layer in enumerate(layers)}
    factored = {layer.name for layer in layers if layer.factored}
    modules = {n: m for n, m in _candidates(problem).items() if n in factored}
    for name, gradients in _of_factored(problem, modules, batch):
        yield numbers[name], gradients
    others = [layer for layer in layers if not layer.factored]
    if others:
        names = [name for layer in others for name in layer.parameters]
        single = _single_gradients(problem, names, batch)
        for layer in others:
            parts = [single[name].flatten(1) for name in layer.parameters]
            yield numbers[layer.name], Whole(torch.cat(parts, dim=1))


def _of_factored(
    problem: Problem, modules: dict[str, nn.Linear | nn.Conv2d], batch: Any
) -> Iterator[tuple[str, Factored]]:
    """Yield (name, gradients) of those of these modules that are called with samples first."""
    with engine_mode(problem.model):
        with _recorded(problem.model, modules) as calls:
            losses = problem.losses(problem.leaves(), batch)
        recorded = [(name, *call) for name, own in calls.items() for call in own]
        slopes = (
            torch.autograd.grad(
                losses.sum(), [output for *_, output in recorded], materialize_grads=True
            )
            if recorded
            else ()
        )
    size = len(losses)
    for name, own in calls.items():
        module = modules[name]
        mine = [
            (inputs, slope)
            for (caller, inputs, _), slope in zip(recorded, slopes, strict=True)
            if caller == name
        ]
        if not own or any(len(inputs) != size for inputs, _ in mine):
            continue
        with torch.no_grad():
            a = torch.cat([_positions(module, inputs) for inputs, _ in mine], dim=1)
            s = torch.cat([_outputs(module, slope) for _, slope in mine], dim=1)
            if module.bias is not None:
                a = torch.cat([a, torch.ones_like(a[..., :1])], dim=2)
        yield name, Factored(s, a)


def _positions(module: nn.Linear | nn.Conv2d, inputs: Tensor) -> Tensor:
    """Return what each output position sees, (b, T, columns without the bias)."""
    if isinstance(module, nn.Linear):
        return inputs.reshape(len(inputs), -1, inputs.shape[-1])
    assert not isinstance(module.padding, str)  # such modules are no candidates
    patches = functional.unfold(
        inputs, module.kernel_size, module.dilation, module.padding, module.stride
    )
    return patches.transpose(1, 2)


def _outputs(module: nn.Linear | nn.Conv2d, slope: Tensor) -> Tensor:
    """Return the gradient by each output position, (b, T, rows)."""
    if isinstance(module, nn.Linear):
        return slope.reshape(len(slope), -1, slope.shape[-1])
    return slope.flatten(2).transpose(1, 2)


def _single_gradients(problem: Problem, names: Sequence[str], batch: Any) -> dict[str, Tensor]:
    """Return the gradient of every sample's own loss by these parameters, (b, ...) each."""
    theta = problem.space.unflatten(problem.theta)
    own = {name: theta[name] for name in names}

    def loss(parameters: dict[str, Tensor], sample: Any) -> Tensor:
        one = tree_map(lambda x: x[None] if isinstance(x, Tensor) else x, sample)
        return problem.losses({**theta, **parameters}, one)[0]

    with engine_mode(problem.model):
        try:
            return dict(vmap(grad(loss), in_dims=(None, 0))(own, batch))
        except (RuntimeError, ValueError):  # a layer that cannot be vectorised over samples
            rows = [grad(loss)(own, sample) for sample in _samples(batch)]
    return {name: torch.stack([row[name] for row in rows]) for name in names}


def _samples(batch: Any) -> Iterator[Any]:
    tensors: list[Tensor] = []
    tree_map(lambda x: tensors.append(x) if isinstance(x, Tensor) else None, batch)
    for i in range(len(tensors[0])):
        yield tree_map(lambda x, i=i: x[i] if isinstance(x, Tensor) else x, batch)


@contextmanager
def _recorded(
    model: nn.Module, modules: dict[str, nn.Linear | nn.Conv2d]
) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """Record (input, output) of every call of these modules while the block runs the model.

    Where an activation overwrites its input, the model goes on with a copy of what is recorded.
    """
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in modules}
    overwrites = any(getattr(module, "inplace", False) for module in model.modules())

    def recorder(name: str) -> Callable[..., Tensor]:
        def record(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            calls[name].append((inputs[0].detach(), output))
            return output.clone() if overwrites else output

        return record

    handles = [module.register_forward_hook(recorder(n)) for n, module in modules.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()

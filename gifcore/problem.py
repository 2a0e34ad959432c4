"""Problem: a trained model, its training data and its objective. Sign, scale, reduction live here.

    L(theta) = (sum_i w_i l_i) / (sum_i w_i) + (wd / 2) ||theta||^2          [nats]

Per-sample losses are summed and divided by the weights' sum exactly once, here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import Dataset, TensorDataset, default_collate

from gifcore.errors import GifError
from gifcore.parameters import ParameterSpace

Loss = Callable[[Tensor, Any], Tensor]  # (outputs, batch) -> per-sample losses (b,)
Progress = Callable[[int, int, str], None]  # (done, total, note); raises Cancelled to stop


def silent(done: int, total: int, note: str) -> None:  # noqa: ARG001
    """The progress callback of someone who does not listen."""


def cross_entropy(outputs: Tensor, batch: Any) -> Tensor:
    """Return the cross-entropy of every sample, (b,), in nats; batch is (inputs, labels)."""
    return nn.functional.cross_entropy(outputs, batch[1], reduction="none")


@contextmanager
def engine_mode(model: nn.Module) -> Iterator[None]:
    """Evaluate in eval mode with kernels that can be differentiated twice; restore both after."""
    modes = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        model.eval()
        torch.backends.mha.set_fastpath_enabled(False)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, training in modes.items():
            module.training = training


@dataclass(frozen=True, eq=False)
class Problem:
    """A model at its trained parameters with the objective it was trained on.

    Args:
        model: any module; it is read, never changed.
        train: map-style data set of (input, target) pairs or dicts, n samples.
        loss: per-sample loss (outputs, batch) -> (b,).
        weight_decay: wd of the objective, as the model was trained (0 if none).
        device: where to compute.
        samples: positions of `train` that count; None: all. A change narrows it.
    """

    model: nn.Module
    train: Dataset[Any]
    loss: Loss = cross_entropy
    weight_decay: float = 0.0
    device: str | torch.device = "cpu"
    samples: Tensor | None = None

    space: ParameterSpace = field(init=False)
    theta: Tensor = field(init=False)  # (p,) the trained parameters
    buffers: dict[str, Tensor] = field(init=False)
    positions: Tensor = field(init=False)  # (n,) the samples that count

    def __post_init__(self) -> None:
        """Copy the parameters; refuse what cannot be explained.

        Raises:
            GifError: NaN in the parameters, a negative weight decay or no training sample.
        """
        if not 0 <= self.weight_decay < float("inf"):
            raise GifError(f"weight_decay is {self.weight_decay}; it must be 0 or more.")
        space = ParameterSpace.of(self.model)
        theta = space.flatten(dict(self.model.named_parameters())).detach()
        if not bool(torch.isfinite(theta).all()):
            bad = int((~torch.isfinite(theta)).nonzero()[0])
            raise GifError(
                f"The model's parameter {space.locate(bad)[0]} holds NaN or infinity; "
                "give a checkpoint of a training that did not diverge."
            )
        everything = torch.arange(len(self.train))  # type: ignore[arg-type]
        positions = everything if self.samples is None else self.samples
        if len(positions) == 0:
            raise GifError("There is no training sample left; remove fewer.")
        buffers = {k: v.detach().clone().to(self.device) for k, v in self.model.named_buffers()}
        computed = {
            "space": space,
            "theta": theta.clone().to(self.device),
            "buffers": buffers,
            "positions": positions,
        }
        for name, value in computed.items():
            object.__setattr__(self, name, value)  # the dataclass is frozen for everyone else

    @property
    def n(self) -> int:
        """Number of training samples that count."""
        return len(self.positions)

    def narrowed(self, samples: Tensor) -> Problem:
        """Return the same problem on fewer training samples (positions of `train`)."""
        return replace(self, samples=samples)

    # --- batches ----------------------------------------------------------------------------

    def batches(
        self, indices: Tensor, batch_size: int, data: Dataset[Any] | None = None
    ) -> Iterator[Any]:
        """Yield batches of `data` (default: the training set) on the device, in order."""
        data = self.train if data is None else data
        for part in indices.split(batch_size):
            yield fetch(data, part, self.device)

    # --- losses and gradients ---------------------------------------------------------------

    def outputs(self, parameters: dict[str, Tensor], batch: Any) -> Tensor:
        """Return the model's outputs at these parameters; the model itself stays as it is."""
        inputs = inputs_of(batch)
        arguments = inputs if isinstance(inputs, tuple) else (inputs,)
        return functional_call(self.model, {**parameters, **self.buffers}, arguments)

    def losses(self, parameters: dict[str, Tensor], batch: Any) -> Tensor:
        """Return the per-sample data losses, (b,)."""
        values = self.loss(self.outputs(parameters, batch), batch)
        if values.dim() != 1:
            raise GifError(
                f"The loss returned shape {tuple(values.shape)}; return one number per sample, "
                "shape (batch,), for example with reduction='none'."
            )
        return values

    def leaves(self, theta: Tensor | None = None) -> dict[str, Tensor]:
        """Return the parameters by name as fresh leaves that record gradients."""
        flat = (self.theta if theta is None else theta).detach()
        named = self.space.unflatten(flat.clone())
        return {name: tensor.detach().requires_grad_() for name, tensor in named.items()}

    def data_gradient(
        self,
        indices: Tensor,
        *,
        data: Dataset[Any] | None = None,
        batch_size: int = 256,
        progress: Progress = silent,
    ) -> Tensor:
        """Return the mean data gradient over these samples, (p,): (1/m) sum grad l_i.

        Cost: one forward and backward pass over m samples.
        """
        total = torch.zeros_like(self.theta)
        parameters = self.leaves()
        done = 0
        with engine_mode(self.model):
            for batch in self.batches(indices, batch_size, data):
                losses = self.losses(parameters, batch)
                total += self.flat_gradient(losses.sum(), parameters)
                done += len(losses)
                progress(done, len(indices), "gradient")
        if not bool(torch.isfinite(total).all()):
            raise GifError("The gradient holds NaN or infinity; check the inputs and the weights.")
        return total / len(indices)

    def flat_gradient(
        self, value: Tensor, parameters: dict[str, Tensor], *, create_graph: bool = False
    ) -> Tensor:
        """Return d value / d theta as (p,); parameters that are not reached have 0."""
        gradients = torch.autograd.grad(
            value, tuple(parameters.values()), create_graph=create_graph, allow_unused=True
        )
        named = {
            name: torch.zeros_like(tensor) if gradient is None else gradient
            for (name, tensor), gradient in zip(parameters.items(), gradients, strict=True)
        }
        return self.space.flatten(named)


def inputs_of(batch: Any) -> Any:
    """Return what the model is called with: all of a dict, else the first of a pair."""
    return batch if isinstance(batch, dict) else batch[0]


def fetch(data: Dataset[Any], indices: Tensor, device: str | torch.device) -> Any:
    """Return one collated batch of these positions on the device."""
    if type(data) is TensorDataset:
        batch: Any = tuple(tensor[indices] for tensor in data.tensors)
    else:
        batch = default_collate([data[int(i)] for i in indices])
    return _to(batch, device)


def _to(batch: Any, device: str | torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: _to(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return tuple(_to(value, device) for value in batch)
    return batch


def targets(data: Dataset[Any]) -> Tensor:
    """Return the labels of a data set, (n,)."""
    if type(data) is TensorDataset:
        return data.tensors[1]
    return torch.tensor([int(data[i][1]) for i in range(len(data))])  # type: ignore[arg-type]

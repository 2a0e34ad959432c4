"""Curvatures of the form (1/m) sum J^T M J: Gauss-Newton and the empirical Fisher matrix.

J is the Jacobian of what the model returns for a batch (its outputs, or its losses) by the
parameters, and M a symmetric matrix between the values of one sample.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import linearize
from torch.fx import GraphModule

from gifcore.curvature.batches import (
    BATCH_SIZE,
    MEMORY_MB,
    SavedBytes,
    SideBySide,
    flat,
    load_forward_mode,
)
from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.problem import Problem, engine_mode
from gifcore.second_derivatives import explained

TOGETHER = 8  # vectors that go through a graph together

Push = Callable[[Tensor], Tensor]  # v (p,) -> J v, in the shape of the values
Middle = Callable[[Tensor], Tensor]  # u -> M u, in the shape of the values


@dataclass(frozen=True, eq=False)
class _Linearised:
    """One batch: values f(theta) with their graph, v -> J v, and u -> M u."""

    parameters: dict[str, Tensor]
    values: Tensor
    push: Push
    middle: Middle


@dataclass(eq=False)
class _Kept:
    """The first batches, linearised; what was learned while that was done."""

    graphs: list[_Linearised] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    full: bool = False  # the next batch did not fit
    forward_mode: bool = True  # no layer has refused it yet
    vectorised: bool = True  # no operation has refused many vectors at once yet


@dataclass(frozen=True, eq=False)
class JacobianGram(LinearOperator):
    """(1/W) sum_i w_i J_i^T M_i J_i + wd I over the curvature samples, as products. Abstract.

    w are the problem's weights (1 if it has none) and W their sum, so the mean counts samples and
    not batches. Each mini-batch keeps f with its graph, and its linearisation v -> J v, while they
    fit `memory_mb`. The other batches take J v and the graph of f from one forward-mode pass.
    Where a layer has no forward mode, J v is the derivative of v . J^T w by w.
    """

    problem: Problem
    samples: Tensor  # (m,) positions in the training set
    batch_size: int = BATCH_SIZE
    memory_mb: float = MEMORY_MB
    stop: Callable[[], None] | None = None  # called once a batch; raises Cancelled
    _kept: _Kept = field(default_factory=_Kept, init=False)
    _side_by_side: SideBySide = field(default_factory=SideBySide, init=False)

    @abstractmethod
    def _values(self, parameters: dict[str, Tensor], batch: Any) -> Tensor:
        """Return f at these parameters for one batch."""

    @abstractmethod
    def _middle(self, values: Tensor, batch: Any) -> Middle:
        """Return u -> M u at these values."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.problem.space.size, self.problem.space.size

    def apply_many(self, vectors: Tensor) -> Tensor:
        """Return H V, (p, m), batch by batch; J V and J^T U of a kept batch are vectorised."""
        rows = vectors.T
        totals = list(self.problem.weight_decay * rows)
        scale = float(self.problem.weights_of(self.samples).sum())
        with explained(self.problem), engine_mode(self.problem.model):
            for number, part in enumerate(self.samples.split(self.batch_size)):
                for first in range(0, len(rows), TOGETHER):
                    few = rows[first : first + TOGETHER]
                    for row, product in enumerate(self._products(number, part, few)):
                        totals[first + row] = totals[first + row] + product / scale
        return torch.stack(totals, dim=1)

    def _products(self, number: int, part: Tensor, rows: Tensor) -> list[Tensor]:
        """Return the products of one batch with each row."""
        kept = self._kept
        if number < len(kept.graphs):
            graph = kept.graphs[number]
            if kept.vectorised and len(rows) > 1:
                try:
                    return self._vectorised(graph, rows)
                except RuntimeError:
                    kept.vectorised = False
            return [self._product(graph, row, keep=True) for row in rows]
        return [
            self._product(kept.graphs[number], row, keep=True)
            if number < len(kept.graphs)
            else self._fresh(number, part, row)
            for row in rows
        ]

    def _vectorised(self, graph: _Linearised, rows: Tensor) -> list[Tensor]:
        """Return the products of a kept batch with each row by vectorised J V and J^T U."""
        if self.stop:
            self.stop()
        pushed = torch.vmap(graph.push)(rows.contiguous())
        weighted = torch.stack([graph.middle(one) for one in pushed])
        found = torch.autograd.grad(
            graph.values,
            tuple(graph.parameters.values()),
            grad_outputs=weighted,
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=True,
        )
        return [
            flat(self.problem, [None if x is None else x[row] for x in found], graph.parameters)
            for row in range(len(rows))
        ]

    def apply(self, vector: Tensor) -> Tensor:
        total = self.problem.weight_decay * vector
        scale = float(self.problem.weights_of(self.samples).sum())
        with explained(self.problem), engine_mode(self.problem.model):
            products = self._side_by_side(
                lambda graph: self._product(graph, vector, keep=True),
                self._kept.graphs,
                vector.device,
            )
            for number, part in enumerate(self.samples.split(self.batch_size)):
                fresh = number >= len(products)
                product = self._fresh(number, part, vector) if fresh else products[number]
                total = total + product / scale
        return total

    apply_transposed = apply  # symmetric
    apply_transposed_many = apply_many

    @property
    def kept_megabytes(self) -> float:
        """Memory of the graphs that are kept between products."""
        return sum(self._kept.bytes) / 2**20

    def release(self) -> None:
        """Drop the kept graphs."""
        self._kept.graphs.clear()
        self._kept.bytes.clear()
        self._kept.full = False

    def _fresh(self, number: int, part: Tensor, vector: Tensor) -> Tensor:
        """Return (sum_i w_i J_i^T M_i J_i) v of a batch of which nothing is kept yet."""
        kept = self._kept
        if not kept.full and number == len(kept.graphs):
            room = int(self.memory_mb * 2**20) - sum(kept.bytes)
            graph, size = self._linearise(part, room)
            if graph is not None and size <= room:
                kept.graphs.append(graph)
                kept.bytes.append(size)
                return self._product(graph, vector, keep=True)
            kept.full = True
        if not kept.forward_mode:
            return self._product(self._reversed(part)[0], vector, keep=False)
        product = self._forward(part, vector)
        if product is not None:
            return product
        kept.forward_mode = kept.full = False
        return self._fresh(number, part, vector)

    def _linearise(self, part: Tensor, room: int) -> tuple[_Linearised | None, int]:
        """Return one batch to keep, and its size in bytes; None if it cannot be traced.

        Tracing takes about as much memory again as the graph of f: it is tried if that fits.
        """
        graph, batch, size = self._reversed(part)
        if size > room or not self._kept.forward_mode:
            return graph, size
        if 2 * size > room:
            return None, 2 * size
        found, more = self._traced(graph, batch)
        return found, size + more

    def _reversed(self, part: Tensor) -> tuple[_Linearised, Any, int]:
        """Return one batch with the graph of f, the batch itself, and the graph's size in bytes."""
        problem, used = self.problem, SavedBytes()
        parameters = problem.leaves()
        with torch.autograd.graph.saved_tensors_hooks(used.pack, used.unpack):
            batch = next(problem.batches(part, len(part)))
            values = self._values(parameters, batch)
        middle = _weighted(self._middle(values, batch), problem.weights_of(part))
        push = self._twice(values, parameters)
        return _Linearised(parameters, values, push, middle), batch, used.bytes

    def _traced(self, graph: _Linearised, batch: Any) -> tuple[_Linearised | None, int]:
        """Return the batch with J as a list of operations on v alone, and its size in bytes.

        None where that cannot be had: where torch cannot trace the model, or what it traced is
        not the transpose of J^T (as after an operation that overwrites its input).
        """
        load_forward_mode()
        theta = self.problem.space.unflatten(self.problem.theta)
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's own, on how it folds constants
                _, along = linearize(lambda at: self._values(at, batch), theta)

            def push(vector: Tensor) -> Tensor:
                with torch.no_grad():
                    found: Tensor = along(self.problem.space.unflatten(vector))
                return found

            fits = self._is_transposed(graph, push)
        except Exception:  # noqa: BLE001  # whatever tracing cannot do, the other ways can
            return None, 0
        return (replace(graph, push=push) if fits else None), _held(along)

    def _is_transposed(self, graph: _Linearised, push: Push) -> bool:
        """Is u . J v = v . J^T u, for two seeded pairs one after the other?

        An operation that overwrites its input may spoil every product but the first.
        """
        generator = torch.Generator().manual_seed(0)
        theta, values = self.problem.theta, graph.values.detach()
        for _ in range(2):
            v = torch.randn(theta.shape, generator=generator, dtype=theta.dtype).to(theta)
            u = torch.randn(values.shape, generator=generator, dtype=values.dtype).to(values)
            pulled = self._pulled(graph.values, graph.parameters, u, keep=True)
            if not _adjoint(u, push(v), v, pulled):
                return False
        return True

    def _twice(self, values: Tensor, parameters: dict[str, Tensor]) -> Push:
        """Return v -> J v as the derivative of v . J^T w by w."""

        def push(vector: Tensor) -> Tensor:
            cotangent = torch.zeros_like(values, requires_grad=True)
            pulled = self.problem.flat_gradient(
                (values * cotangent).sum(), parameters, create_graph=True
            )
            (found,) = torch.autograd.grad(
                pulled, cotangent, grad_outputs=vector, materialize_grads=True
            )
            return found

        return push

    def _product(self, graph: _Linearised, vector: Tensor, *, keep: bool) -> Tensor:
        if self.stop:
            self.stop()
        weighted = graph.middle(graph.push(vector))
        return self._pulled(graph.values, graph.parameters, weighted, keep=keep)

    def _forward(self, part: Tensor, vector: Tensor) -> Tensor | None:
        """Return the product of one batch from a single pass with dual numbers.

        None where a layer has no forward mode, or one that does not agree with its backward mode.
        """
        if self.stop:
            self.stop()
        load_forward_mode()
        problem = self.problem
        parameters, along = problem.leaves(), problem.space.unflatten(vector.clone())
        batch = next(problem.batches(part, len(part)))
        with forward_ad.dual_level():
            duals = {
                name: forward_ad.make_dual(leaf, along[name]) for name, leaf in parameters.items()
            }
            try:
                values, tangent = forward_ad.unpack_dual(self._values(duals, batch))
            except RuntimeError as error:
                if "forward" not in str(error).lower():
                    raise
                return None
        pushed = torch.zeros_like(values) if tangent is None else tangent.detach()
        weighted = _weighted(self._middle(values, batch), problem.weights_of(part))(pushed)
        product = self._pulled(values, parameters, weighted, keep=False)
        return product if _adjoint(weighted, pushed, vector, product) else None

    def _pulled(
        self, values: Tensor, parameters: dict[str, Tensor], cotangent: Tensor, *, keep: bool
    ) -> Tensor:
        """Return J^T u, (p,)."""
        found = torch.autograd.grad(
            values,
            tuple(parameters.values()),
            grad_outputs=cotangent,
            retain_graph=keep,
            allow_unused=True,
        )
        return flat(self.problem, found, parameters)


@dataclass(frozen=True, eq=False)
class GaussNewton(JacobianGram):
    """(1/m) sum J^T H_out J + wd I; H_out is the Hessian of a sample's loss by its outputs.

    It is the Hessian without the curvature of the model itself: positive semi-definite wherever
    the loss is convex in the outputs, as cross-entropy and squared error are. Exact for any
    per-sample loss: H_out u is taken by differentiating the loss twice.

    Reference: Schraudolph 2002, "Fast curvature matrix-vector products", section 3.
    Cost: about 1.3 gradients over the curvature samples a product, 1.6 where nothing is kept.
    """

    def _values(self, parameters: dict[str, Tensor], batch: Any) -> Tensor:
        outputs = self.problem.outputs(parameters, batch)
        if not isinstance(outputs, Tensor):
            raise GifError(
                f"Gauss-Newton needs a model that returns one tensor, not {type(outputs).__name__}"
                "; return the logits alone or choose the hessian."
            )
        return outputs

    def _middle(self, values: Tensor, batch: Any) -> Middle:
        return _output_hessian(self.problem, values, batch)


@dataclass(frozen=True, eq=False)
class EmpiricalFisher(JacobianGram):
    """(1/m) sum g_i g_i^T + wd I, g_i = grad l_i at the true labels, uncentred; data loss alone.

    J is the Jacobian of the losses and M the identity: no per-sample gradient is held.

    Reference: Kunstner, Balles and Hennig 2019 (arXiv 1905.12558), equation 3, also for how it
    differs from the Fisher matrix.
    Cost: as `GaussNewton`.
    """

    def _values(self, parameters: dict[str, Tensor], batch: Any) -> Tensor:
        return self.problem.losses(parameters, batch)

    def _middle(self, values: Tensor, batch: Any) -> Middle:  # noqa: ARG002
        return lambda along: along


def _adjoint(u: Tensor, pushed: Tensor, v: Tensor, pulled: Tensor) -> bool:
    """Is u . J v = v . J^T u up to rounding?"""
    limit = 1e-3 if v.dtype == torch.float32 else 1e-9
    difference = float((u * pushed).sum() - v @ pulled)
    return abs(difference) <= limit * float(u.norm() * pushed.norm() + v.norm() * pulled.norm())


def _weighted(middle: Middle, weights: Tensor) -> Middle:
    """Return u -> w_i M_i u_i, w one number a sample."""

    def of_all(along: Tensor) -> Tensor:
        found = middle(along)
        return found * weights.view(-1, *[1] * (found.dim() - 1))

    return of_all


def _held(along: Any) -> int:
    """Return the bytes of the distinct tensors that a traced linearisation holds."""
    modules = [
        module
        for cell in along.__closure__ or ()
        if isinstance(cell.cell_contents, GraphModule)
        for module in cell.cell_contents.modules()
    ]
    tensors = [
        value
        for module in modules
        for value in (*vars(module).values(), *module.parameters(recurse=False))
        if isinstance(value, Tensor)
    ]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def _output_hessian(problem: Problem, outputs: Tensor, batch: Any) -> Middle:
    """Return u -> H_out u of a batch, by differentiating the losses twice by the outputs."""
    at = outputs.detach().requires_grad_()
    losses = problem.loss(at, batch)
    if losses.shape != (len(at),):
        raise GifError(
            f"The loss returned shape {tuple(losses.shape)}; return one number per sample, "
            "shape (batch,), for example with reduction='none'."
        )
    (slope,) = torch.autograd.grad(losses.sum(), at, create_graph=True)
    if not slope.requires_grad:
        raise GifError(
            "The loss is linear in the model's outputs: its Gauss-Newton matrix is zero; choose "
            "the hessian or the fisher curvature."
        )

    def middle(along: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(slope, at, grad_outputs=along, retain_graph=True)
        return found

    return middle

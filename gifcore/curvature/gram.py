"""Curvatures of the form (1/m) sum J^T M J: Gauss-Newton and the empirical Fisher matrix.

J is the Jacobian of what the model returns for a batch (its outputs, or its losses) by the
parameters, and M a symmetric matrix between the values of one sample.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gifcore.curvature.batches import (
    BATCH_SIZE,
    MEMORY_MB,
    SavedBytes,
    flat,
    load_forward_mode,
    side_by_side,
)
from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.problem import Problem, engine_mode

Middle = Callable[[Tensor], Tensor]  # u -> M u, in the shape of the values


@dataclass(frozen=True, eq=False)
class _Linearised:
    """One batch as values with their graph, and the graph of w -> J^T w."""

    parameters: dict[str, Tensor]
    values: Tensor  # f(theta)
    cotangent: Tensor  # w, in the shape of the values
    pulled: Tensor  # J^T w, (p,), linear in w
    middle: Middle

    def pushed(self, vector: Tensor) -> Tensor:
        """Return J v: the derivative of v . J^T w by w."""
        if not self.pulled.requires_grad:
            return torch.zeros_like(self.values)
        (found,) = torch.autograd.grad(
            self.pulled, self.cotangent, grad_outputs=vector, retain_graph=True
        )
        return found


@dataclass(eq=False)
class _Kept:
    """The graphs of the first batches; what was learned while they were made."""

    graphs: list[_Linearised] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    full: bool = False  # the next batch did not fit
    forward_mode: bool = True  # no layer has refused it yet


@dataclass(frozen=True, eq=False)
class JacobianGram(LinearOperator):
    """(1/m) sum_i J_i^T M_i J_i + wd I over the curvature samples, as products. Abstract.

    Each mini-batch keeps the graphs of f and of w -> J^T w for the next product while they fit
    `memory_mb`: J v and J^T u are then one backward pass each. The other batches take J v and the
    graph of f from one forward-mode pass; where a layer has no forward mode, from the graph of
    w -> J^T w, made anew. Averages are weighted by batch size.
    """

    problem: Problem
    samples: Tensor  # (m,) positions in the training set
    batch_size: int = BATCH_SIZE
    memory_mb: float = MEMORY_MB
    stop: Callable[[], None] | None = None  # called once a batch; raises Cancelled
    _kept: _Kept = field(default_factory=_Kept, init=False)

    @abstractmethod
    def _evaluate(self, parameters: dict[str, Tensor], batch: Any) -> tuple[Tensor, Middle]:
        """Return f at these parameters for one batch, and M."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.problem.space.size, self.problem.space.size

    def apply(self, vector: Tensor) -> Tensor:
        total = self.problem.weight_decay * vector
        with engine_mode(self.problem.model):
            products = side_by_side(
                lambda graph: self._product(graph, vector, keep=True),
                self._kept.graphs,
                vector.device,
            )
            for number, part in enumerate(self.samples.split(self.batch_size)):
                fresh = number >= len(products)
                product = self._fresh(number, part, vector) if fresh else products[number]
                total = total + product / len(self.samples)
        return total

    apply_transposed = apply  # symmetric

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
        """Return (sum_i J_i^T M_i J_i) v of a batch of which nothing is kept yet."""
        kept = self._kept
        if kept.full and kept.forward_mode:
            try:
                return self._forward(part, vector)
            except (NotImplementedError, RuntimeError) as error:
                if "forward" not in str(error).lower():
                    raise
                kept.forward_mode = False
        graph, size = self._linearise(part)
        fits = sum(kept.bytes) + size <= self.memory_mb * 2**20
        if fits and number == len(kept.graphs) and not kept.full:
            kept.graphs.append(graph)
            kept.bytes.append(size)
            return self._product(graph, vector, keep=True)
        kept.full = True
        return self._product(graph, vector, keep=False)

    def _linearise(self, part: Tensor) -> tuple[_Linearised, int]:
        """Return one batch with its graphs, and their size in bytes."""
        problem, used = self.problem, SavedBytes()
        parameters = problem.leaves()
        with torch.autograd.graph.saved_tensors_hooks(used.pack, used.unpack):
            batch = next(problem.batches(part, len(part)))
            values, middle = self._evaluate(parameters, batch)
            cotangent = torch.zeros_like(values, requires_grad=True)
            inner = (values * cotangent).sum()
            pulled = problem.flat_gradient(inner, parameters, create_graph=True)
        return _Linearised(parameters, values, cotangent, pulled, middle), used.bytes

    def _product(self, graph: _Linearised, vector: Tensor, *, keep: bool) -> Tensor:
        if self.stop:
            self.stop()
        weighted = graph.middle(graph.pushed(vector))
        return self._pulled(graph.values, graph.parameters, weighted, keep=keep)

    def _forward(self, part: Tensor, vector: Tensor) -> Tensor:
        """Return the product of one batch from a single pass with dual numbers."""
        if self.stop:
            self.stop()
        load_forward_mode()
        problem = self.problem
        parameters, along = problem.leaves(), problem.space.unflatten(vector)
        batch = next(problem.batches(part, len(part)))
        with forward_ad.dual_level():
            duals = {
                name: forward_ad.make_dual(leaf, along[name]) for name, leaf in parameters.items()
            }
            values, middle = self._evaluate(duals, batch)
            values, tangent = forward_ad.unpack_dual(values)
        if tangent is None:
            return torch.zeros_like(vector)
        return self._pulled(values, parameters, middle(tangent.detach()), keep=False)

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
    Cost: 1.2 to 1.5 gradients over the curvature samples a product, about 2 where the graph is
    rebuilt.
    """

    def _evaluate(self, parameters: dict[str, Tensor], batch: Any) -> tuple[Tensor, Middle]:
        outputs = self.problem.outputs(parameters, batch)
        if not isinstance(outputs, Tensor):
            raise GifError(
                f"Gauss-Newton needs a model that returns one tensor, not {type(outputs).__name__}"
                "; return the logits alone or choose the hessian."
            )
        return outputs, _output_hessian(self.problem, outputs, batch)


@dataclass(frozen=True, eq=False)
class EmpiricalFisher(JacobianGram):
    """(1/m) sum g_i g_i^T + wd I, g_i = grad l_i at the true labels, uncentred; data loss alone.

    J is the Jacobian of the losses and M the identity: no per-sample gradient is held.

    Reference: Kunstner, Balles and Hennig 2019 (arXiv 1905.12558), equation 3, also for how it
    differs from the Fisher matrix.
    Cost: as `GaussNewton`.
    """

    def _evaluate(self, parameters: dict[str, Tensor], batch: Any) -> tuple[Tensor, Middle]:
        return self.problem.losses(parameters, batch), lambda along: along


def _output_hessian(problem: Problem, outputs: Tensor, batch: Any) -> Middle:
    """Return u -> H_out u of a batch, by differentiating the losses twice by the outputs."""
    at = forward_ad.unpack_dual(outputs).primal.detach().requires_grad_()
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

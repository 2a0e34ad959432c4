"""Curvature matrices as operators: products with H over mini-batches, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gifcore.convolution import FastConvolutions
from gifcore.curvature.batches import BATCH_SIZE, MEMORY_MB, SavedBytes, SideBySide, flat
from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.problem import Problem, engine_mode
from gifcore.second_derivatives import explained, refuse_cut_graph

TOGETHER = 8  # vectors that go through a graph together
TOGETHER_MB = 256  # for their products with the kept graphs


@dataclass(frozen=True, eq=False)
class Hessian(LinearOperator):
    """H = (1/W) sum w_i grad^2 l_i + wd I over the curvature samples, as products H v.

    w are the problem's weights, W their sum over these samples; without weights W = m.
    Each mini-batch keeps the graph of its gradient for the next product while the kept graphs
    fit `memory_mb`; the other batches rebuild theirs. Averages are weighted by batch size.

    Cost: about two gradients over the curvature samples a product; three to four where the graph
    is rebuilt (`make bench`).
    """

    problem: Problem
    samples: Tensor  # (m,) positions in the training set
    batch_size: int = BATCH_SIZE
    memory_mb: float = MEMORY_MB
    stop: Callable[[], None] | None = None  # called once a batch; raises Cancelled
    vectorised: bool = True  # many vectors by one vectorised pass, where the graph allows it
    _kept: list[_Graph] = field(default_factory=list, init=False)
    _bytes: list[int] = field(default_factory=list, init=False)
    _side_by_side: SideBySide = field(default_factory=SideBySide, init=False)
    _refused: list[bool] = field(default_factory=list, init=False)  # by an operation of the graph

    @property
    def shape(self) -> tuple[int, int]:
        return self.problem.space.size, self.problem.space.size

    def apply(self, vector: Tensor) -> Tensor:
        return self._multiply(vector, {})

    def transposed_at(self, vector: Tensor, indices: Tensor) -> Tensor:
        """Return (H v)[J]; convolutions leave out the output channels that J does not touch."""
        return self._multiply(vector, self._channels(indices))[indices]

    def apply_many(self, vectors: Tensor) -> Tensor:
        """Return H V, (p, m): a graph that is not kept is made once for all columns."""
        return self._many(vectors, {})

    def transposed_at_many(self, vectors: Tensor, indices: Tensor) -> Tensor:
        """Return (H V)[J], (k, m), as `transposed_at` does."""
        return self._many(vectors, self._channels(indices))[indices]

    def _many(self, vectors: Tensor, channels: dict[str, Tensor]) -> Tensor:
        """Return H V, a few columns at a time."""
        held = max(1, len(self._kept)) * vectors.shape[0] * vectors.element_size()
        few = max(1, min(TOGETHER, int(TOGETHER_MB * 2**20 // held)))
        with explained(self.problem), engine_mode(self.problem.model):
            parts = [self._of_few(part.T, channels) for part in vectors.split(few, dim=1)]
        return torch.cat(parts).T

    def _of_few(self, rows: Tensor, channels: dict[str, Tensor]) -> Tensor:
        """Return H v of each row v, (m, p), batches in the order of `_sum_of_batches`."""
        total = self.problem.weight_decay * rows
        scale = float(self.problem.weights_of(self.samples).sum())

        def one(graph: _Graph) -> Tensor:
            return self._products(graph, rows, channels)

        known = self._side_by_side(one, self._kept, rows.device)
        for number, part in enumerate(self.samples.split(self.batch_size)):
            fresh = number >= len(known)
            found = one(self._gradient_graph(number, part)) if fresh else known[number]
            total = total + found / scale
        return total

    def _products(self, graph: _Graph, rows: Tensor, channels: dict[str, Tensor]) -> Tensor:
        """Return the products of one batch with each row by one vectorised backward pass.

        One after the other where an operation of the graph cannot be vectorised.
        """
        leaves = graph.parameters
        if self.vectorised and len(rows) > 1 and not self._refused:
            if self.stop:
                self.stop()
            graph.convolutions.want({id(leaves[name]): at for name, at in channels.items()})
            try:
                found = torch.autograd.grad(
                    graph.gradient,
                    tuple(leaves.values()),
                    grad_outputs=rows.contiguous(),
                    retain_graph=True,
                    allow_unused=True,
                    is_grads_batched=True,
                )
            except RuntimeError:
                self._refused.append(True)
            else:
                columns = [
                    [None if part is None else part[row] for part in found]
                    for row in range(len(rows))
                ]
                return torch.stack([flat(self.problem, parts, leaves) for parts in columns])
        return torch.stack([self._product(graph, row, channels, keep=True) for row in rows])

    def _multiply(self, vector: Tensor, channels: dict[str, Tensor]) -> Tensor:
        """Return H v, of the named convolutions at these output channels only.

        Raises:
            GifError: a layer has no second derivative; names it and what helps.
        """
        with explained(self.problem):
            return self._sum_of_batches(vector, channels)

    def _sum_of_batches(self, vector: Tensor, channels: dict[str, Tensor]) -> Tensor:
        total = self.problem.weight_decay * vector
        scale = float(self.problem.weights_of(self.samples).sum())
        with engine_mode(self.problem.model):
            products = self._of_kept(vector, channels)
            for number, part in enumerate(self.samples.split(self.batch_size)):
                if number < len(products):
                    product = products[number]
                else:
                    graph = self._gradient_graph(number, part)
                    keep = number < len(self._kept)
                    product = self._product(graph, vector, channels, keep=keep)
                total = total + product / scale
        return total

    def _channels(self, indices: Tensor) -> dict[str, Tensor]:
        """Return where along its first dimension J touches each parameter."""
        touched = {}
        for block in self.problem.space.blocks:
            inside = (indices >= block.offset) & (indices < block.offset + block.size)
            rows = block.size // block.shape[0] if block.shape else 1
            touched[block.name] = ((indices[inside] - block.offset) // rows).unique()
        return touched

    def _of_kept(self, vector: Tensor, channels: dict[str, Tensor]) -> list[Tensor]:
        """Return the products of the batches whose graphs are kept, in order.

        Each batch has one thread to itself; the sum over batches stays in order, so the result
        does not depend on timing.
        """

        def one(graph: _Graph) -> Tensor:
            return self._product(graph, vector, channels, keep=True)

        return self._side_by_side(one, self._kept, vector.device)

    def _product(
        self, graph: _Graph, vector: Tensor, channels: dict[str, Tensor], *, keep: bool
    ) -> Tensor:
        """Return (sum_i w_i grad^2 l_i) v of one batch from the graph of its gradient."""
        if self.stop:
            self.stop()
        leaves = graph.parameters
        graph.convolutions.want({id(leaves[name]): rows for name, rows in channels.items()})
        product = torch.autograd.grad(
            graph.gradient,
            tuple(leaves.values()),
            grad_outputs=vector,
            retain_graph=keep,
            allow_unused=True,
        )
        return flat(self.problem, product, leaves)

    apply_transposed = apply  # H is symmetric
    apply_transposed_many = apply_many

    @property
    def shares(self) -> bool:
        """Does a batch make its graph anew, so that many vectors at once share it?"""
        return len(self._kept) < -(-len(self.samples) // self.batch_size)

    @property
    def kept_megabytes(self) -> float:
        """Memory of the gradient graphs that are kept between products."""
        return sum(self._bytes) / 2**20

    def release(self) -> None:
        """Drop the kept graphs."""
        self._kept.clear()
        self._bytes.clear()

    def _gradient_graph(self, number: int, part: Tensor) -> _Graph:
        """Return sum_i w_i grad l_i of one batch with its graph, which is kept if it fits."""
        problem, used, convolutions = self.problem, SavedBytes(), FastConvolutions()
        parameters = problem.leaves()
        with torch.autograd.graph.saved_tensors_hooks(used.pack, used.unpack):
            batch = next(problem.batches(part, len(part)))
            with convolutions:
                losses = problem.losses(parameters, batch)
            value = (problem.weights_of(part) * losses).sum()
            gradient = problem.flat_gradient(value, parameters, create_graph=True)
        if not gradient.requires_grad:
            raise GifError(
                "The gradient does not depend on the parameters: the model is linear in them and "
                "so is the loss, its Hessian is zero; choose another loss."
            )
        refuse_cut_graph([gradient])
        graph = _Graph(gradient, parameters, convolutions)
        fits = sum(self._bytes) + used.bytes <= self.memory_mb * 2**20
        if fits and number == len(self._kept):
            self._kept.append(graph)
            self._bytes.append(used.bytes)
        return graph


@dataclass(frozen=True, eq=False)
class _Graph:
    """The gradient of one batch with the graph that its Hessian products run through."""

    gradient: Tensor  # (p,)
    parameters: dict[str, Tensor]
    convolutions: FastConvolutions


def check_deterministic(hessian: Hessian, vector: Tensor) -> None:
    """Refuse a model whose products differ from one call to the next.

    Kept graphs are dropped in between: they would repeat their own randomness.

    Raises:
        GifError: two products of the same vector differ by more than 1e-5 (float32) or 1e-10.
    """
    hessian.release()
    first = hessian @ vector
    hessian.release()
    second = hessian @ vector
    scale = float(first.norm())
    limit = 1e-5 if vector.dtype == torch.float32 else 1e-10
    if float((first - second).norm()) > limit * max(scale, torch.finfo(vector.dtype).tiny):
        raise GifError(
            "Two Hessian products of the same vector differ: the model is not deterministic; "
            "switch off dropout, random augmentation and random layers outside eval mode."
        )

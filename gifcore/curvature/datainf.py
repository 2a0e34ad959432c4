"""DataInf: the inverse of a mean of rank-one matrices, swapped for the mean of their inverses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gifcore.curvature.layers import Layer, layers_of, sample_gradients
from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.problem import Problem

BATCH_SIZE = 64


@dataclass(frozen=True, eq=False)
class DataInf(LinearOperator):
    """The empirical Fisher matrix of each layer, + wd I, with a closed form for its inverse.

    As an operator: (1/m) sum_i g_il g_il^T + wd I for every layer l, g_il the part of grad l_i in
    it, at the true labels. `inverse` is not its exact inverse but, with d = wd + damping,

        (1/(m d)) sum_i (v_l - g_il (g_il . v_l) / (d + |g_il|^2))

    (with weights w_i of the problem, w_i / sum w for 1 / m)

    exact for one sample, with an error that grows with the spread of the gradients.

    Reference: Kwon et al. 2024 (arXiv 2310.00902), equation 5.
    Cost: one gradient over the curvature samples and a few small products a layer. Memory: one
    batch's activations; no gradients of single samples beyond one layer's of some of a batch.
    """

    problem: Problem
    samples: Tensor  # (m,) positions in the training set
    batch_size: int = BATCH_SIZE
    stop: Callable[[], None] | None = None  # called once a batch; raises Cancelled
    layers: tuple[Layer, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Find out which layers have gradients that are outer products."""
        object.__setattr__(self, "layers", tuple(layers_of(self.problem, self.samples)))

    @property
    def shape(self) -> tuple[int, int]:
        return self.problem.space.size, self.problem.space.size

    def apply(self, vector: Tensor) -> Tensor:
        mean = self._weighted(vector, None, lambda dots, _: dots)
        return mean + self.problem.weight_decay * vector

    apply_transposed = apply

    def inverse(self, vector: Tensor, damping: float) -> Tensor:
        """Return the formula above.

        Raises:
            GifError: a damping that is not positive.
        """
        return self._formula(vector, None, damping)

    def restricted_inverse(
        self, vector: Tensor, indices: Tensor, damping: float
    ) -> tuple[Tensor, bool]:
        """Return the formula above with g_il cut to J, (k,): the same approximation of the cut.

        Raises:
            GifError: a damping that is not positive.
        """
        full = vector.new_zeros(self.shape[0])
        full[indices] = vector
        mask = torch.zeros_like(full)
        mask[indices] = 1
        return self._formula(full, mask, damping)[indices], True

    def _formula(self, vector: Tensor, mask: Tensor | None, damping: float) -> Tensor:
        if not 0 < damping < float("inf"):
            raise GifError(f"damping is {damping}; DataInf divides by it: set a positive number.")
        d = self.problem.weight_decay + damping
        mean = self._weighted(vector, mask, lambda dots, squares: dots / (d + squares))
        return (vector - mean) / d

    def _weighted(
        self,
        vector: Tensor,
        mask: Tensor | None,
        weight: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Return (1/m) sum_i c_il g_il by layers, (p,); c_il of g_il . v_l and |g_il|^2 on J."""
        total = torch.zeros_like(vector)
        everywhere = torch.ones_like(vector) if mask is None else mask
        w = self.problem.weights_of(self.samples)
        batches = self.problem.batches(self.samples, self.batch_size)
        for batch, c in zip(batches, (w / w.sum()).split(self.batch_size), strict=True):
            if self.stop:
                self.stop()
            for number, gradients in sample_gradients(self.problem, self.layers, batch):
                layer = self.layers[number]
                dots = gradients.dots(layer.matrix(vector))
                squares = gradients.squares(layer.matrix(everywhere))
                total[layer.indices] += gradients.weighted(c * weight(dots, squares)).flatten()
        return total

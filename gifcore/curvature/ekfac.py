"""EK-FAC: a Fisher matrix with Kronecker eigenvectors and measured eigenvalues, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gifcore.curvature.kronecker import Block, Cut, DiagonalBlock, KroneckerBlock
from gifcore.curvature.layers import Factored, Layer, layers_of, sample_gradients
from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.problem import Loss, Problem, cross_entropy, engine_mode

BATCH_SIZE = 64

Batches = Iterator[tuple[Any, Tensor]]  # batches, each with w_i / sum w of its samples


@dataclass(frozen=True, eq=False)
class EKFAC(LinearOperator):
    """An eigenvalue-corrected Kronecker approximation of the Fisher matrix, + wd I.

    Per linear or convolution layer, with A = mean a a^T over samples and positions (inputs, a 1
    appended for the bias) and S = mean s s^T (output gradients), A = Q_A D_A Q_A^T and so S,

        F_l = (Q_S x Q_A) diag(L) (Q_S x Q_A)^T,    L_jk = mean over samples of (Q_S^T G_i Q_A)_jk^2

    Parameters of all other layers have the diagonal of the Fisher matrix. Nothing couples layers.

    Reference: George et al. 2018 (arXiv 1806.03884), section 3; Grosse et al. 2023
    (arXiv 2308.03296), section 2.1.
    Cost: a product or an inverse is four small matrix products a layer. Memory: p + the squares of
    every layer's numbers of rows and columns.
    """

    layers: tuple[Layer, ...]
    blocks: tuple[Block, ...]
    weight_decay: float
    samples: Tensor
    labels: str  # "model" (drawn from its outputs) or "true": what was used
    note: str  # why, if that is not what was asked for; else empty
    _last: list[tuple[Tensor, float, Restricted]] = field(default_factory=list)

    @classmethod
    def fit(
        cls,
        problem: Problem,
        samples: Tensor,
        *,
        labels: str = "model",
        seed: int = 0,
        batch_size: int = BATCH_SIZE,
        stop: Callable[[], None] | None = None,
    ) -> EKFAC:
        """Measure the factors, then the eigenvalues in their bases.

        Args:
            samples: (m,) positions in the training set.
            labels: `model` draws one label a sample from the model's softmax, which makes it the
                Fisher matrix; `true` takes the data's. A loss without a rule to draw by takes the
                true ones, and `note` says so.
            stop: called once a batch; raises Cancelled.

        Raises:
            GifError: labels of another name.

        Cost: two gradients over the samples, one more to draw labels, and the eigenvectors.
        """
        if labels not in ("model", "true"):
            raise GifError(f"labels is '{labels}'; choose model or true.")
        rule, note = SAMPLING.get(problem.loss), ""
        if labels == "model" and rule is None:
            labels, note = "true", "the loss has no rule to draw labels by: true labels"
        uniform = torch.rand(len(samples), generator=torch.Generator().manual_seed(seed))

        w = problem.weights_of(samples)
        shares = (w / w.sum()).split(batch_size)
        numbers = uniform.double().to(problem.device).split(batch_size)

        def batches() -> Batches:
            given = problem.batches(samples, batch_size)
            for batch, share, drawn in zip(given, shares, numbers, strict=True):
                if stop:
                    stop()
                sampled = rule(problem, batch, drawn) if labels == "model" and rule else batch
                yield sampled, share

        layers = layers_of(problem, samples)
        bases = _bases(problem, layers, batches())
        blocks = _blocks(problem, layers, bases, batches())
        return cls(tuple(layers), blocks, problem.weight_decay, samples, labels, note)

    @property
    def shape(self) -> tuple[int, int]:
        p = sum(len(layer.indices) for layer in self.layers)
        return p, p

    def apply(self, vector: Tensor) -> Tensor:
        return self._function(vector, lambda values: values + self.weight_decay)

    apply_transposed = apply

    def inverse(self, vector: Tensor, damping: float) -> Tensor:
        """Return (F + (wd + damping) I)^-1 v.

        Raises:
            GifError: a singular approximation.
        """
        shifted = self._shifted(damping)
        return self._function(vector, lambda values: 1 / shifted(values))

    def restricted_inverse(
        self, vector: Tensor, indices: Tensor, damping: float
    ) -> tuple[Tensor, bool]:
        """Return (E^T (F + (wd + damping) I) E)^-1 v, (k,), and whether it is that exactly.

        It is `restricted` applied to v; the last one is kept for the next v.
        """
        if not self._last or not (
            self._last[0][1] == damping and torch.equal(self._last[0][0], indices)
        ):
            self._last[:] = [(indices.clone(), damping, self.restricted(indices, damping))]
        cut = self._last[0][2]
        return cut.apply(vector), cut.exact

    def restricted(self, indices: Tensor, damping: float) -> Restricted:
        """Return the inverse of the approximation cut to J, layer by layer.

        Exact in layers of which J takes everything, whole rows (units) or whole columns, and a
        few coordinates more; in the others the inverse is cut, E^T F^-1 E.

        Raises:
            GifError: a singular approximation.

        Cost: per layer of c columns and r selected rows, c factorisations of r x r.
        """
        shifted = self._shifted(damping)
        parts, exact = [], True
        for block, here, slots in self._selected(indices):
            cut = block.inverse(slots, shifted)
            if cut is None:
                exact, cut = False, _InverseCut(block, slots, shifted)
            parts.append((here, cut))
        return Restricted(len(indices), tuple(parts), exact)

    def kronecker_scale(self, indices: Tensor, damping: float) -> Restricted:
        """Return R, about (E^T (F + (wd + damping) I)^2 E)^(-1/2): symmetric, positive definite.

        It scales the columns of H E for LSMR: R E^T H^2 E R is about I where F is about H.

        Raises:
            GifError: a singular approximation.
        """
        shifted = self._shifted(damping)
        parts = [
            (here, block.root(slots, lambda values: shifted(values).square()))
            for block, here, slots in self._selected(indices)
        ]
        return Restricted(len(indices), tuple(parts), exact=False)

    def _function(self, vector: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        found = torch.empty_like(vector)
        for layer, block in zip(self.layers, self.blocks, strict=True):
            found[layer.indices] = block.apply(layer.matrix(vector), function).flatten()
        return found

    def _shifted(self, damping: float) -> Callable[[Tensor], Tensor]:
        """Return L -> L + wd + damping, if that is positive."""
        shift = self.weight_decay + damping
        smallest = min(float(block.eigenvalues.min()) for block in self.blocks)
        if damping < 0 or not smallest + shift > 0:
            raise GifError(
                f"The EK-FAC curvature is singular with damping {damping} (smallest eigenvalue "
                f"{smallest + shift:.3g}); set a positive `damping`."
            )
        return lambda values: values + shift

    def _selected(self, indices: Tensor) -> Iterator[tuple[Block, Tensor, Tensor]]:
        """Yield (block, positions in J, places in the block's matrix) of every layer J touches."""
        owner, place = indices.new_empty(self.shape[0]), indices.new_empty(self.shape[0])
        for number, layer in enumerate(self.layers):
            owner[layer.indices] = number
            place[layer.indices] = torch.arange(len(layer.indices), device=indices.device)
        for number, block in enumerate(self.blocks):
            here = (owner[indices] == number).nonzero().squeeze(1)
            if len(here):
                yield block, here, place[indices[here]]


@dataclass(frozen=True, eq=False)
class Restricted(LinearOperator):
    """A symmetric map of the selected coordinates, layer by layer.

    Args:
        parts: (positions in J, map of them).
        exact: is it what its maker promises, or close to it?
    """

    size: int
    parts: tuple[tuple[Tensor, Cut], ...]
    exact: bool

    @property
    def shape(self) -> tuple[int, int]:
        return self.size, self.size

    def apply(self, vector: Tensor) -> Tensor:
        found = torch.empty_like(vector)
        for positions, cut in self.parts:
            found[positions] = cut.apply(vector[positions])
        return found

    apply_transposed = apply


@dataclass(frozen=True, eq=False)
class _InverseCut:
    """E^T f(B)^-1 E."""

    block: Block
    slots: Tensor
    function: Callable[[Tensor], Tensor]

    def apply(self, values: Tensor) -> Tensor:
        matrix = values.new_zeros(self.block.eigenvalues.shape)
        matrix.view(-1)[self.slots] = values
        inverse = self.block.apply(matrix, lambda eigenvalues: 1 / self.function(eigenvalues))
        return inverse.flatten()[self.slots]


# --- fitting --------------------------------------------------------------------------------------


def _bases(
    problem: Problem, layers: list[Layer], batches: Batches
) -> dict[int, tuple[Tensor, Tensor]]:
    """Return (Q_S, Q_A) of every factored layer, by its number."""
    factored = [layer for layer in layers if layer.factored]
    sums: dict[str, list[Tensor]] = {}
    for batch, share in batches:
        for number, gradients in sample_gradients(problem, factored, batch):
            assert isinstance(gradients, Factored)
            weight = share.sqrt()[:, None, None]
            s, a = (weight * gradients.s).flatten(0, 1), (weight * gradients.a).flatten(0, 1)
            total = sums.setdefault(factored[number].name, [])
            for place, moment in enumerate((s.T @ s, a.T @ a)):
                if len(total) == place:
                    total.append(moment.double())
                else:
                    total[place] += moment
    return {
        number: tuple(torch.linalg.eigh(moment).eigenvectors.to(problem.theta) for moment in both)
        for number, layer in enumerate(layers)
        if (both := sums.get(layer.name)) is not None
    }


def _blocks(
    problem: Problem,
    layers: list[Layer],
    bases: dict[int, tuple[Tensor, Tensor]],
    batches: Batches,
) -> tuple[Block, ...]:
    """Return every layer's block: the mean of squared gradients in its basis."""
    sums = [torch.zeros(layer.rows, layer.columns).to(problem.theta) for layer in layers]
    for batch, share in batches:
        for number, found in sample_gradients(problem, layers, batch):
            gradients = found
            if isinstance(found, Factored):
                gradients = found.rotated(*bases[number])
            sums[number] += gradients.sum_of_squares(share)
    blocks: list[Block] = []
    for number, total in enumerate(sums):
        if number in bases:
            blocks.append(KroneckerBlock(*bases[number], total))
        else:
            blocks.append(DiagonalBlock(total))
    return tuple(blocks)


def _drawn_classes(problem: Problem, batch: Any, uniform: Tensor) -> Any:
    """Return the batch with labels drawn from the model's softmax, by inverting its sums."""
    with engine_mode(problem.model), torch.no_grad():
        outputs = problem.outputs(problem.space.unflatten(problem.theta), batch)
    sums = outputs.double().softmax(dim=1).cumsum(dim=1)
    drawn = (uniform[:, None] > sums[:, :-1]).sum(dim=1)
    return (batch[0], drawn.to(batch[1]), *batch[2:])


# loss -> (problem, batch, one uniform number a sample) -> the batch with labels from the model
SAMPLING: dict[Loss, Callable[[Problem, Any, Tensor], Any]] = {cross_entropy: _drawn_classes}

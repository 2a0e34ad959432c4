"""Self-influence in closed form, layer by layer: s_i . (grad l_i - gbar) of each sample.

    gradient   B = E E^T                        datainf, ekfac   B = E (E^T Hhat E)^-1 E^T

s_i = B g_i, so that it is g_i . B g_i - g_i . u with u = B^T gbar. Where a cut of EK-FAC has no
closed form, B = Hhat^-1 E E^T, as for a ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gifcore.curvature import EKFAC, DataInf
from gifcore.curvature.kronecker import KroneckerBlock
from gifcore.curvature.layers import (
    CHUNK_MB,
    Factored,
    Layer,
    SampleGradients,
    layers_of,
    sample_gradients,
)
from gifcore.curved import Curved
from gifcore.problem import Problem, Progress

OfLayer = Callable[[int, SampleGradients], Tensor]  # number of the layer -> (b,)


@dataclass(frozen=True, eq=False)
class Inner:
    """The samples asked for, and J; None: all parameters."""

    problem: Problem
    J: Tensor | None
    asked: Tensor
    batch_size: int
    progress: Progress

    @property
    def mask(self) -> Tensor:
        """1 on J, else 0, (p,)."""
        theta = self.problem.theta
        if self.J is None:
            return torch.ones_like(theta)
        mask = torch.zeros_like(theta)
        mask[self.J] = 1
        return mask

    def mean_gradient(self) -> Tensor:
        """Return gbar, (p,)."""
        return self.problem.data_gradient(self.problem.positions, progress=self.progress)

    def by_layer(self, layers: Sequence[Layer], of_layer: OfLayer) -> Tensor:
        """Return the sum over layers of a number a sample, (n,)."""
        found = self.problem.theta.new_zeros(len(self.asked))
        done = 0
        for batch in self.problem.batches(self.asked, self.batch_size):
            here = slice(done, min(done + self.batch_size, len(found)))
            for number, gradients in sample_gradients(self.problem, layers, batch):
                found[here] += of_layer(number, gradients)
            done = here.stop
            self.progress(done, len(found), "self-influence")
        return found


def by_gradient(inner: Inner) -> Tensor:
    """Return ||E^T g_i||^2 - E^T g_i . E^T gbar, (n,).

    Cost: about two gradients a sample.
    """
    layers = layers_of(inner.problem, inner.problem.positions)
    mask = inner.mask
    u = mask * inner.mean_gradient()

    def of_layer(number: int, gradients: SampleGradients) -> Tensor:
        layer = layers[number]
        return gradients.squares(layer.matrix(mask)) - gradients.dots(layer.matrix(u))

    return inner.by_layer(layers, of_layer)


def by_ekfac(inner: Inner, curved: Curved) -> Tensor:
    """Return g_i . B (g_i - gbar) with EK-FAC's inverse, (n,).

    Cost: about two gradients a sample, in the eigenbases of the layers; on some coordinates of a
    layer one small system a sample.
    """
    fitted, (damping, _) = curved.approximation("ekfac"), curved.damping_of("ekfac")
    assert isinstance(fitted, EKFAC)
    gbar, shift = inner.mean_gradient(), fitted.weight_decay + damping
    whole, layers = fitted.inverse(gbar, damping), fitted.layers
    if inner.J is None:

        def in_its_basis(number: int, gradients: SampleGradients) -> Tensor:
            block, linear = fitted.blocks[number], gradients.dots(layers[number].matrix(whole))
            if isinstance(block, KroneckerBlock):
                assert isinstance(gradients, Factored)
                gradients = gradients.rotated(block.Q_S, block.Q_A)
            return gradients.squares(1 / (block.eigenvalues + shift)) - linear

        return inner.by_layer(layers, in_its_basis)
    cut = fitted.restricted(inner.J, damping)
    if cut.exact:
        mean, found = cut.apply(gbar[inner.J]), []
        for rows in formed_rows(inner, layers):
            found += [cut.apply(row) @ row - mean @ row for row in rows]
        return torch.stack(found)
    mask = inner.mask
    u = mask * whole

    def inverse_cut(number: int, gradients: SampleGradients) -> Tensor:
        layer, block = layers[number], fitted.blocks[number]
        G = gradients.formed().view(-1, layer.rows, layer.columns)
        solved = block.apply(layer.matrix(mask) * G, lambda values: 1 / (values + shift))
        return (solved * G).sum(dim=(1, 2)) - gradients.dots(layer.matrix(u))

    return inner.by_layer(layers, inverse_cut)


def by_datainf(inner: Inner, curved: Curved) -> Tensor:
    """Return g_i . B (g_i - gbar) with DataInf's inverse, (n,).

    By layers, on J: (|g_i|^2 - sum_j c_j (g_j . g_i)^2 / (d + |g_j|^2)) / d - g_i . u, the sum over
    the curvature samples j with weights c_j.

    Cost: m k operations a sample, m curvature samples, and as many passes as their gradients on J
    have chunks of CHUNK_MB.
    """
    fitted, (damping, _) = curved.approximation("datainf"), curved.damping_of("datainf")
    assert isinstance(fitted, DataInf)
    layers, d = fitted.layers, fitted.problem.weight_decay + damping
    J = torch.arange(len(inner.problem.theta)) if inner.J is None else inner.J
    gbar, mask = inner.mean_gradient(), inner.mask
    u = torch.zeros_like(gbar)
    u[J] = fitted.restricted_inverse(gbar[J], J, damping)[0]

    def own(number: int, gradients: SampleGradients) -> Tensor:
        layer = layers[number]
        return gradients.squares(layer.matrix(mask)) / d - gradients.dots(layer.matrix(u))

    found = inner.by_layer(layers, own)
    w = fitted.problem.weights_of(fitted.samples)
    c, places = w / w.sum(), _places(layers, J)
    others = Inner(fitted.problem, J, fitted.samples, inner.batch_size, inner.progress)
    done = 0
    for rows in formed_rows(others, layers):  # (some curvature samples, k)
        share = c[done : done + len(rows)]
        done += len(rows)
        norms = [d + rows[:, to].square().sum(dim=1) for _, to in places]

        def shared(
            number: int,
            gradients: SampleGradients,
            rows: Tensor = rows,
            share: Tensor = share,
            norms: list[Tensor] = norms,
        ) -> Tensor:
            at, to = places[number]
            products = gradients.formed()[:, at] @ rows[:, to].T  # (b, some)
            return products.square() @ (share / norms[number]) / d

        found = found - inner.by_layer(layers, shared)
    return found


def formed_rows(inner: Inner, layers: Sequence[Layer]) -> Iterator[Tensor]:
    """Yield the gradients of the samples on J, (b, k), CHUNK_MB at a time."""
    problem = inner.problem
    J = torch.arange(len(problem.theta)) if inner.J is None else inner.J
    places = _places(layers, J)
    few = max(1, int(CHUNK_MB * 2**20) // (max(1, len(J)) * problem.theta.element_size()))
    for chunk in inner.asked.split(few):
        rows, done = problem.theta.new_zeros(len(chunk), len(J)), 0
        for batch in problem.batches(chunk, inner.batch_size):
            here = slice(done, min(done + inner.batch_size, len(chunk)))
            for number, gradients in sample_gradients(problem, layers, batch):
                at, to = places[number]
                if len(to):
                    rows[here, to] = gradients.formed()[:, at]
            done = here.stop
        yield rows


def _places(layers: Sequence[Layer], J: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return where each layer's selected coordinates are in its matrix, and where in J."""
    found = []
    for layer in layers:
        at = torch.isin(layer.indices, J).nonzero().squeeze(1)
        found.append((at, torch.searchsorted(J, layer.indices[at])))
    return found

"""The automatic damping of a small network beside every other, and the reason it is given.

The rule reads the spectrum alone; the sweep is made afterwards, to show what it could have had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.truth_bases import Base, halves
from benchmarks.truth_methods import Array, matrix_of, summed
from gifcore.curvature import Hessian
from gifcore.curved import curvature
from gifcore.evaluate.agreement import lds
from gifcore.queries import Queries
from gifcore.scoring import influence_scores
from gifcore.solvers.many import products_of

SWEEP = (0.0, 1e-5, 1e-4, 3e-4, 1e-3, 2e-3, 5e-3, 1e-2, 1e-1)
HALVES = 3  # on which the curvature is measured again


def fill(report: Any, base: Base, queries: Sequence[int], truth: Mapping[str, Array]) -> None:
    """Add LDS of `if` at every damping, the automatic one marked, and the noise of the spectrum."""
    problem = base.problem
    H = matrix_of(problem, "hessian")
    values, vectors = torch.linalg.eigh(H)
    auto = curvature(problem, damping="auto").auto_damping()
    asked = Queries(base.test, [[q] for q in queries])
    turned = torch.stack(list(asked.gradients(problem))) @ vectors
    out = halves(problem.n, next(iter(truth.values())).shape[1])
    for damping in sorted({*SWEEP, auto.value}):
        s = (turned / (values + damping)) @ vectors.T
        sums = summed(influence_scores(problem, s).double().numpy(), out)
        found = [lds(sums, actual) for actual in truth.values()]
        cells = [f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in found]
        name = f"{damping:.3g}" + (" (automatic)" if damping == auto.value else "")
        report.add(name, *cells)
    report.notes.append(auto.reason + ".")
    report.notes.append(_noise(base, values, vectors, out))


def _noise(base: Base, values: Tensor, vectors: Tensor, out: Tensor) -> str:
    """Return how far the data's negative curvature is from that of other samples."""
    problem, decay = base.problem, base.problem.weight_decay
    negative = values < decay
    V = vectors[:, negative]
    norms = []
    for left in out[:HALVES]:
        kept = problem.positions[~left]
        moved = products_of(Hessian(problem, kept, batch_size=1000), V)
        change = V.T @ moved - torch.diag(values[negative])
        norms.append(float(torch.linalg.matrix_norm((change + change.T) / 2, 2)))
    return (
        f"{int(negative.sum())} of {len(values):,} eigenvalues of H are below weight decay, the "
        f"least {float(values[0]):.2e}: the data's curvature reaches down to "
        f"{float(values[0]) - decay:.2e}. In those directions H of a random half of the training "
        f"samples differs from H of all by {min(norms):.2e} to {max(norms):.2e} (spectral norm, "
        f"{len(norms)} halves)."
    )

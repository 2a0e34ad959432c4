"""Preconditioners on the k side: column scaling of H E, measured with random probes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gifcore.operators import Diagonal, LinearOperator


@dataclass(frozen=True, eq=False)
class Preconditioner:
    """R, and where it comes from. Early stopping with another R is another regulariser."""

    R: Diagonal
    kind: str
    probes: int
    seed: int
    status: str  # "used", or why it is the identity

    def summary(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "probes": self.probes,
            "seed": self.seed,
            "products": self.probes,
            "status": self.status,
        }


def default_probes(products: int) -> int:
    """Return min(8, products // 8), or 0 (no preconditioner) below 4."""
    probes = min(8, products // 8)
    return probes if probes >= 4 else 0


def jacobi(
    H: LinearOperator, indices: Tensor, probes: int, seed: int, like: Tensor
) -> Preconditioner:
    """Return R = diag(1 / (q + 0.01 mean q)), scaled to mean 1, on the selected coordinates J.

    q_j = sqrt(mean over probes z of (H z)_j^2), z of independent signs on all p: an unbiased
    measure of the squared norm of column j of H. Cost: one product a probe.
    """
    generator = torch.Generator().manual_seed(seed)
    squares = like.new_zeros(len(indices))
    for _ in range(probes):
        signs = torch.randint(0, 2, (H.shape[1],), generator=generator) * 2 - 1
        squares += (H @ signs.to(like))[indices] ** 2
    q = (squares / max(probes, 1)).sqrt()
    mean = float(q.mean()) if len(q) else 0.0
    if probes == 0 or not mean > 0:
        ones = like.new_ones(len(indices))
        why = "no probes: too few products" if probes == 0 else "all columns are zero"
        return Preconditioner(Diagonal(ones), "jacobi", probes, seed, why)
    r = 1 / (q + 0.01 * mean)
    return Preconditioner(Diagonal(r / r.mean()), "jacobi", probes, seed, "used")

"""Preconditioners on the k side: column scaling of H E by probes, or an inverse cut to J."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import Diagonal, Identity, LinearOperator


@dataclass(frozen=True, eq=False)
class Preconditioner:
    """R, and where it comes from. Early stopping with another R is another regulariser."""

    R: LinearOperator  # (k, k), symmetric positive definite
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
        squares += H.transposed_at(signs.to(like), indices) ** 2  # H is symmetric
    q = (squares / max(probes, 1)).sqrt()
    mean = float(q.mean()) if len(q) else 0.0
    if probes == 0 or not mean > 0:
        ones = like.new_ones(len(indices))
        why = "no probes: too few products" if probes == 0 else "all columns are zero"
        return Preconditioner(Diagonal(ones), "jacobi", probes, seed, why)
    r = 1 / (q + 0.01 * mean)
    return Preconditioner(Diagonal(r / r.mean()), "jacobi", probes, seed, "used")


class Restrictable(Protocol):
    """An approximation Hhat of the curvature whose inverse can be cut to selected coordinates J."""

    def restricted_inverse(
        self, vector: Tensor, indices: Tensor, damping: float
    ) -> tuple[Tensor, bool]:
        """Return (E^T Hhat E + damping I)^-1 v and True, or E^T (Hhat + damping I)^-1 E v, False.

        vector and result (k,).
        """
        ...


@dataclass(frozen=True, eq=False)
class RestrictedInverse(LinearOperator):
    """R = (E^T Hhat E + damping I)^-1, or E^T (Hhat + damping I)^-1 E where that has no form."""

    approximation: Restrictable
    indices: Tensor  # (k,)
    damping: float

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.indices), len(self.indices)

    def apply(self, vector: Tensor) -> Tensor:
        return self.approximation.restricted_inverse(vector, self.indices, self.damping)[0]

    apply_transposed = apply  # R is symmetric


def kronecker(
    approximation: Restrictable, indices: Tensor, damping: float, seed: int, like: Tensor
) -> Preconditioner:
    """Return R from an approximation Hhat of the curvature, cut to the selected coordinates J.

    H E R has singular values near 1 where Hhat is near H. R is the identity, and the status says
    why, where on one seeded pair u, v it is not finite, not symmetric or not positive.

    Args:
        damping: of Hhat, above 0: what makes R positive definite. It changes the way to the
            solution, not the solution.
        like: any tensor of the problem's type and device.

    Raises:
        GifError: damping is not positive, or J is empty or repeats a coordinate.

    Cost: no product with H; two applications of R to check it.
    """
    if not 0 < damping < float("inf"):
        raise GifError(f"A Kronecker preconditioner needs a positive damping, not {damping}.")
    if len(indices) == 0 or len(indices.unique()) < len(indices):
        raise GifError("A preconditioner needs one or more selected coordinates, each once.")
    R = RestrictedInverse(approximation, indices, damping)
    generator = torch.Generator().manual_seed(seed)
    u, v = (torch.randn(len(indices), generator=generator).to(like) for _ in range(2))
    (Ru, exact), Rv = approximation.restricted_inverse(u, indices, damping), R @ v
    why = _unfit(u, v, Ru, Rv)
    if why:
        return Preconditioner(Identity(len(indices)), "kronecker", 0, seed, why)
    cut = "inverse of the cut" if exact else "cut of the inverse"
    return Preconditioner(R, "kronecker", 0, seed, f"used: {cut}, damping {damping:g}")


def _unfit(u: Tensor, v: Tensor, Ru: Tensor, Rv: Tensor) -> str:
    """Return why R is no preconditioner, from one pair and its images; empty if it may be one."""
    if not bool(torch.isfinite(Ru).all() and torch.isfinite(Rv).all()):
        return "the approximation's inverse is not finite"
    scale = float(u.norm() * Rv.norm() + v.norm() * Ru.norm())
    if abs(float(u @ Rv - v @ Ru)) > torch.finfo(u.dtype).eps ** 0.5 * scale:
        return "the approximation's inverse is not symmetric"
    if float(u @ Ru) <= 0 or float(v @ Rv) <= 0:
        return "the approximation's inverse is not positive"
    return ""

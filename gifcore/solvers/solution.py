"""Solution: what a solver returns; the value together with how far it can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum

import torch
from torch import Tensor

from gifcore.operators import LinearOperator
from gifcore.solvers.many import Run, alone, parts_of, products_of


class Status(Enum):
    """How a solve ended; the value is its name, `advice` says what to do about it."""

    CONVERGED = "converged"
    EXACT = "exact termination"
    ITERATION_LIMIT = "iteration limit"
    ZERO_RHS = "zero right-hand side"
    NOT_FINITE = "not finite"
    DIRECT = "no system"
    INDEFINITE = "indefinite"
    DIVERGED = "diverged"
    STAGNATED = "stagnated"
    SINGULAR = "singular"
    INCONSISTENT = "no solution found"
    ASYMMETRIC = "not symmetric"

    @property
    def advice(self) -> str:
        return _ADVICE[self.value]


_ADVICE = {
    "converged": "The residual is below the tolerance.",
    "exact termination": "The Krylov space is exhausted: more iterations change nothing.",
    "iteration limit": "Stopped at the iteration limit: raise `iterations` or `damping`.",
    "zero right-hand side": "The gradient is zero, and so is the answer.",
    "not finite": "A product was NaN or infinite; the value is the last finite iterate: "
    "lower the step, raise `damping` or check the model.",
    "no system": "Nothing was iterated: a gradient step or a closed form.",
    "indefinite": "A direction of negative curvature was met, which this solver cannot take; the "
    "value is the iterate before it: use MINRES, or raise `damping` beyond -lambda_min.",
    "diverged": "The iterates grew, the value is not a solution: use LSMR or MINRES, raise "
    "`normaliser`, `scale` or `damping`, or lower the step.",
    "stagnated": "The steps became small before the residual did; the value is the best iterate: "
    "use LSMR or MINRES, or lower `tolerance`.",
    "singular": "The matrix is singular to working precision; the value is the solution of least "
    "norm: raise `damping` or `ridge` if that is not what you want.",
    "no solution found": "The iteration came to its end and the residual is not small: the system "
    "is singular without a solution, or too ill-conditioned; raise `damping` or `ridge`, or lower "
    "`tolerance`.",
    "not symmetric": "u . A v and v . A u differ, nothing was solved: check the operator, or use "
    "LSMR, which needs no symmetry.",
}


@dataclass(frozen=True)
class Solution:
    """The value of a solve and its certificate.

    residual is ||A x - b|| / ||b||, normal_residual ||A^T r|| / ||A^T b||; both recomputed from
    the value at the end (`check_hvps` products), never taken from the recurrence.
    """

    value: Tensor
    status: Status
    solver: str
    iterations: int = 0
    hvps: int = 0  # curvature products spent on the solve, preconditioner probes included
    check_hvps: int = 0  # products spent on the final residuals
    residual: float = 0.0
    normal_residual: float = 0.0
    judged_by: str = "residual"  # which of the two decides: normal_residual if overdetermined
    residual_history: tuple[float, ...] = ()  # of the recurrence, one an iteration, from 1.0
    drift: bool = False  # the recurrence's last residual is more than 10 % off the true one
    damping: float = 0.0
    ridge: float = 0.0
    preconditioner: dict[str, object] | None = None
    lambda_max: float | None = None  # largest Rayleigh quotient seen: a lower bound
    lambda_min: float | None = None  # smallest Rayleigh quotient seen: an upper bound
    curvature_of: str = "full"
    samples: int = 0  # curvature samples
    seconds: float = 0.0
    notes: tuple[str, ...] = field(default=())
    halfway: Tensor | None = None  # the iterate at half the budget, if the solver was asked for it
    rank_stability: float | None = None  # overlap of the top 50 between `halfway` and `value`
    auto: tuple[str, ...] = ()  # why an automatic ridge or damping is what it is
    solver_damping: float | None = None  # what the solver itself adds to A; in the residuals

    @property
    def negative_curvature(self) -> bool:
        """Was a direction v with v^T H v < 0 met? `lambda_min` is its Rayleigh quotient."""
        return self.lambda_min is not None and self.lambda_min < 0

    @property
    def trusted(self) -> bool:
        """Did the solve end as it should?"""
        return self.status in (*_GOOD, Status.DIRECT, Status.ZERO_RHS)


_GOOD = (Status.CONVERGED, Status.EXACT, Status.SINGULAR)


class Observed(LinearOperator):
    """A symmetric operator that counts its products and keeps the extreme Rayleigh quotients."""

    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator
        self.products = 0
        self.lowest: float | None = None
        self.highest: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.operator.shape

    def apply(self, vector: Tensor) -> Tensor:
        product = self.operator.apply(vector)
        self._observe(vector, product)
        return product

    apply_transposed = apply

    def transposed_at(self, vector: Tensor, indices: Tensor) -> Tensor:
        """Count a product of which only a part is known: it has no Rayleigh quotient."""
        self.products += 1
        return self.operator.transposed_at(vector, indices)

    def transposed_at_many(self, vectors: Tensor, indices: Tensor) -> Tensor:
        """Count products of which only a part is known."""
        self.products += vectors.shape[1]
        return parts_of(self.operator, vectors, indices)

    def apply_many(self, vectors: Tensor) -> Tensor:
        """Return A V, column by column counted and observed: (p, m) -> (p, m)."""
        products = products_of(self.operator, vectors)
        for vector, product in zip(vectors.T, products.T, strict=True):
            self._observe(vector, product)
        return products

    apply_transposed_many = apply_many

    def _observe(self, vector: Tensor, product: Tensor) -> None:
        self.products += 1
        square = float(vector @ vector)
        if square > 0:
            quotient = float(vector @ product) / square
            self.lowest = quotient if self.lowest is None else min(self.lowest, quotient)
            self.highest = quotient if self.highest is None else max(self.highest, quotient)


VECTORS_MB = 256.0  # for earlier Krylov vectors, if nothing else is asked


def kept_vectors(asked: int | None, iterations: int, numbers: int, like: Tensor) -> int:
    """Return how many earlier vectors to reorthogonalise against: `asked`, else all that fit.

    In float32 the Krylov vectors lose their orthogonality within a few iterations, and the
    solution lags behind what its products could give; to restore it costs no product.
    """
    if asked is not None:
        return asked
    return min(iterations, int(VECTORS_MB * 2**20 // (numbers * like.element_size())))


def against(vector: Tensor, earlier: list[Tensor]) -> Tensor:
    """Return the vector without its parts along earlier unit vectors."""
    for other in earlier:
        vector = vector - (other @ vector) * other
    return vector


def relative(value: float, scale: float) -> float:
    """Return value / scale, 0 for 0 / 0; NaN stays NaN."""
    return 0.0 if scale == 0 else value / scale


def drifted(recurrence: float, true: float, dtype: torch.dtype) -> bool:
    """Is the recurrence's residual more than 10 % (and more than rounding) off the true one?"""
    rounding = 100 * torch.finfo(dtype).eps
    return abs(recurrence - true) > 0.1 * max(recurrence, true) + rounding


def unsolvable(b: Tensor) -> Status | None:
    """Return how a solve ends before its first product, None if it can begin."""
    norm = float(b.norm())
    if not math.isfinite(norm):
        return Status.NOT_FINITE
    return Status.ZERO_RHS if norm == 0 else None


def untouched(status: Status) -> float:
    """Return the residual of a solve that made no product."""
    return 0.0 if status is Status.ZERO_RHS else math.inf


def asymmetric(A: LinearOperator, like: Tensor, seed: int) -> Status | None:
    """Return ASYMMETRIC if u . A v and v . A u differ on one seeded pair by more than rounding.

    Cost: two products.
    """
    generator = torch.Generator().manual_seed(seed)
    u, v = (torch.randn(A.shape[1], generator=generator).to(like) for _ in range(2))
    Au, Av = A @ u, A @ v
    scale = float(u.norm() * Av.norm() + v.norm() * Au.norm())
    different = abs(float(u @ Av - v @ Au)) > torch.finfo(like.dtype).eps ** 0.5 * scale
    return Status.ASYMMETRIC if different else None


def half(iterations: int) -> int:
    """Return the iteration whose iterate is kept as `halfway`."""
    return max(1, iterations // 2)


def settled(solution: Solution, tolerance: float, *, otherwise: Status) -> Solution:
    """Return the solution; one that ended well without a small residual gets another status.

    Small is at most ten tolerances, or the root of the rounding unit.
    """
    judge = solution.residual if solution.judged_by == "residual" else solution.normal_residual
    limit = max(10 * tolerance, torch.finfo(solution.value.dtype).eps ** 0.5)
    if solution.status in _GOOD and not judge <= limit:
        return replace(solution, status=otherwise)
    return solution


def certified(
    solution: Solution, A: LinearOperator, b: Tensor, *, symmetric: bool, scale: float | None
) -> Solution:
    """Return the solution with its residuals recomputed from the value.

    Args:
        scale: ||A^T b|| if it is known.

    Cost: two products, three without `scale`; added to `check_hvps`.
    """
    return alone(certifying(solution, A, b, symmetric=symmetric, scale=scale))


def certifying(
    solution: Solution, A: LinearOperator, b: Tensor, *, symmetric: bool, scale: float | None
) -> Run[Solution]:
    """`certified` as a run that asks for its products."""
    adjoint = A if symmetric else A.T
    r = b - (yield A, solution.value)
    normal = yield adjoint, r
    known = float((yield adjoint, b).norm()) if scale is None else scale
    residual = relative(float(r.norm()), float(b.norm()))
    history = solution.residual_history
    return replace(
        solution,
        check_hvps=solution.check_hvps + (3 if scale is None else 2),
        residual=residual,
        normal_residual=relative(float(normal.norm()), known),
        drift=bool(history) and drifted(history[-1], residual, b.dtype),
    )

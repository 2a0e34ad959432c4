"""Solution: what a solver returns; the value together with how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

from gifcore.operators import LinearOperator


class Status(Enum):
    """How a solve ended; the value is its name, `advice` says what to do about it."""

    CONVERGED = "converged"
    EXACT = "exact termination"
    ITERATION_LIMIT = "iteration limit"
    ZERO_RHS = "zero right-hand side"
    NOT_FINITE = "not finite"
    DIRECT = "no system"

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
    "no system": "A gradient: no system was solved.",
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

    @property
    def negative_curvature(self) -> bool:
        """Was a direction v with v^T H v < 0 met? `lambda_min` is its Rayleigh quotient."""
        return self.lambda_min is not None and self.lambda_min < 0

    @property
    def trusted(self) -> bool:
        """Did the solve end as it should?"""
        return self.status in (Status.CONVERGED, Status.EXACT, Status.DIRECT, Status.ZERO_RHS)


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
        self.products += 1
        square = float(vector @ vector)
        if square > 0:
            quotient = float(vector @ product) / square
            self.lowest = quotient if self.lowest is None else min(self.lowest, quotient)
            self.highest = quotient if self.highest is None else max(self.highest, quotient)
        return product

    apply_transposed = apply


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
    """Return value / scale, 0 for 0 / 0."""
    return value / scale if scale > 0 else 0.0


def drifted(recurrence: float, true: float, dtype: torch.dtype) -> bool:
    """Is the recurrence's residual more than 10 % (and more than rounding) off the true one?"""
    rounding = 100 * torch.finfo(dtype).eps
    return abs(recurrence - true) > 0.1 * max(recurrence, true) + rounding

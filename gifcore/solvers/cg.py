"""CG: symmetric positive definite systems by conjugate gradients.

Reference: Hestenes and Stiefel 1952, "Methods of conjugate gradients for solving linear systems",
section 3.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.problem import Progress, silent
from gifcore.solvers.many import Run, alone, columns_of, furthest, together
from gifcore.solvers.solution import (
    Solution,
    Status,
    against,
    asymmetric,
    certifying,
    half,
    kept_vectors,
    settled,
    unsolvable,
    untouched,
)


@dataclass(frozen=True)
class CG:
    """Settings of CG; `solve` minimises x^T A x / 2 - b^T x over the Krylov space of A and b.

    Cost: one product an iteration, two to certify, two if symmetry is checked.
    """

    iterations: int = 50
    tolerance: float = 1e-6  # on the relative residual
    reorthogonalise: int | None = None  # against so many earlier residuals; None: what fits 256 MB
    symmetry_seed: int | None = None  # compare u . A v with v . A u first, u and v drawn from it
    keep_halfway: bool = False  # keep the iterate at half the budget

    def __post_init__(self) -> None:
        if not (self.iterations >= 1 and self.tolerance >= 0):
            raise GifError("CG needs iterations >= 1 and tolerance >= 0.")

    def solve(self, A: LinearOperator, b: Tensor, *, progress: Progress = silent) -> Solution:
        """Return x with A x = b for a symmetric positive definite A (p, p).

        A direction d with d^T A d < 0 ends it: the value is the iterate before, and `lambda_min`
        the Rayleigh quotient d^T A d / d^T d that proves A indefinite.
        """
        window = kept_vectors(self.reorthogonalise, self.iterations, len(b), b)
        found = alone(self._run(A, b, window, progress))
        progress(self.iterations, self.iterations, "CG")
        return found

    def solve_many(
        self, A: LinearOperator, b: Tensor, *, progress: Progress = silent
    ) -> list[Solution]:
        """Return `solve` for every column of b (p, m), each with its own certificate.

        The columns go side by side and ask for their products together (`apply_many`).
        """
        columns, report = columns_of(b), furthest(progress)
        window = kept_vectors(self.reorthogonalise, self.iterations, b.numel(), b)
        found = together([self._run(A, column, window, report) for column in columns])
        progress(self.iterations, self.iterations, "CG")
        return found

    def _run(self, A: LinearOperator, b: Tensor, window: int, progress: Progress) -> Run[Solution]:
        started = time.perf_counter()
        status = unsolvable(b)
        checks = 0
        if status is None and self.symmetry_seed is not None:
            status, checks = asymmetric(A, b, self.symmetry_seed), 2
        state = _Cg(A, b, window)
        halfway = None
        while status is None:
            progress(state.iteration, self.iterations, "CG")
            status = yield from state.step(self.tolerance)
            if state.iteration == half(self.iterations):
                halfway = state.x
            if status is None and state.iteration >= self.iterations:
                status = Status.ITERATION_LIMIT
        value = state.x * state.scale if state.iteration else torch.zeros_like(b)
        half_value = value if halfway is None else halfway * state.scale
        solution = Solution(
            value=value,
            status=status,
            solver="CG",
            iterations=state.iteration,
            hvps=state.products,
            check_hvps=checks,
            residual=untouched(status),
            normal_residual=untouched(status),
            residual_history=tuple(state.history),
            lambda_min=state.lowest,
            lambda_max=state.highest,
            halfway=half_value if self.keep_halfway else None,
        )
        if state.products:
            scale = state.first * state.scale
            solution = yield from certifying(solution, A, b, symmetric=True, scale=scale)
            solution = settled(solution, self.tolerance, otherwise=Status.INCONSISTENT)
        return replace(solution, seconds=time.perf_counter() - started)


class _Cg:
    """The vectors and scalars of one run, for b of norm 1: r = b - A x, conjugate directions d."""

    def __init__(self, A: LinearOperator, b: Tensor, window: int) -> None:
        self.A, self.window = A, window
        self.scale = float(b.norm())
        self.x = torch.zeros_like(b)
        self.r = self.d = b / self.scale if self.scale > 0 else b
        self.square = 1.0
        self.residuals: list[Tensor] = []
        self.iteration = self.products = 0
        self.history = [1.0]
        self.lowest: float | None = None
        self.highest: float | None = None
        self.size = self.first = 0.0  # of the products A d / ||d||; ||A b|| / ||b||
        self.eps = 10 * torch.finfo(b.dtype).eps  # of a product that should be zero

    def step(self, tolerance: float) -> Run[Status | None]:
        """One iteration: one product; returns how it ended, None to go on."""
        product = yield self.A, self.d
        self.products += 1
        length = float(self.d.norm())
        quotient = float(self.d @ product) / length**2
        if not math.isfinite(quotient):
            return Status.NOT_FINITE
        if self.products == 1:
            self.first = float(product.norm())
        self.size = max(self.size, float(product.norm()) / length)
        if abs(quotient) <= self.eps * self.size:
            quotient = 0.0
        self.lowest = quotient if self.lowest is None else min(self.lowest, quotient)
        self.highest = quotient if self.highest is None else max(self.highest, quotient)
        if quotient < 0:
            return Status.INDEFINITE
        if quotient == 0:  # A is singular and b has a part outside its range
            return Status.EXACT
        alpha = self.square / (quotient * length**2)
        self.x = self.x + alpha * self.d
        if self.window:
            self.residuals = [*self.residuals, self.r / self.r.norm()][-self.window :]
        r = against(self.r - alpha * product, self.residuals)
        residual = float(r.norm())
        self.iteration += 1
        self.history.append(residual)
        if residual <= self.eps:
            return Status.EXACT
        if residual <= tolerance:
            return Status.CONVERGED
        self.d = r + (residual**2 / self.square) * self.d
        self.r, self.square = r, residual**2
        return None

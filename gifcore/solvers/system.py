"""A system as a stationary iteration sees it: N x = c, by products that are counted."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from gifcore.operators import LinearOperator
from gifcore.solvers.solution import (
    Solution,
    Status,
    certified,
    settled,
    unsolvable,
    untouched,
)


class System:
    """N x = c for A x = b: N = A and c = b if symmetric, else N = A^T A and c = A^T b.

    Every iteration built on it is a polynomial, x = q(N) c. With A^T for A that gives the adjoint,
    because A^T q(A A^T) = q(A^T A) A^T: one iteration serves least squares and minimum norm.
    """

    def __init__(self, A: LinearOperator, b: Tensor, *, symmetric: bool) -> None:
        self.A, self.b, self.symmetric = A, b, symmetric
        self.norm = float(b.norm())
        self.products = 0
        self.scale: float | None = None  # ||A^T b||
        self.started = time.perf_counter()

    def begin(self) -> tuple[Tensor, Status | None]:
        """Return c, and how the solve ends before it begins, None to go on."""
        zero = self.b.new_zeros(self.A.shape[1])
        status = unsolvable(self.b)
        if status is not None:
            return zero, status
        if self.symmetric:
            return self.b, None
        c = self.A.T @ self.b
        self.products += 1
        self.scale = float(c.norm())
        if not bool(torch.isfinite(c).all()):
            return zero, Status.NOT_FINITE
        return c, Status.EXACT if self.scale == 0 else None  # b is orthogonal to all columns

    def apply(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return A x and N x: one product, two if not symmetric."""
        y = self.A @ x
        self.products += 1
        if self.symmetric:
            return y, y
        self.products += 1
        return y, self.A.T @ y

    def residual(self, y: Tensor) -> float:
        """Return ||b - A x|| / ||b|| from y = A x."""
        return float((self.b - y).norm()) / self.norm

    def certify(self, solution: Solution, tolerance: float) -> Solution:
        """Return the solution with its cost and residuals; its history ends with the true one."""
        solution = replace(
            solution,
            hvps=self.products,
            residual=untouched(solution.status),
            normal_residual=untouched(solution.status),
        )
        history = solution.residual_history
        if unsolvable(self.b) is None:
            bare = replace(solution, residual_history=())  # the last of the history is not x's
            solution = certified(bare, self.A, self.b, symmetric=self.symmetric, scale=self.scale)
            otherwise = Status.STAGNATED if history else Status.INCONSISTENT
            solution = settled(solution, tolerance, otherwise=otherwise)
            history = (1.0, *history, solution.residual)
        return replace(
            solution, residual_history=history, seconds=time.perf_counter() - self.started
        )

"""Schulz: the doubling of a Neumann series, as HyperINF uses it, by products alone.

Reference: Schulz 1933, "Iterative Berechnung der reziproken Matrix"; Zhou, Fan and Jaggi 2024
(arXiv 2410.05090), HyperINF.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.problem import Progress, silent
from gifcore.solvers.solution import Solution, Status
from gifcore.solvers.spectrum import power_iteration
from gifcore.solvers.system import System

SAFETY = 0.9  # of 1 / lambda_max


@dataclass(frozen=True)
class Schulz:
    """Settings of Schulz's doubling.

    x_0 = beta c, x_{k+1} = x_k + R_k x_k, R_0 = I - beta N, R_{k+1} = R_k^2: after K doublings

        x_K = beta sum_{j < 2^K} (I - beta N)^j c

    With matrices a doubling is one multiplication; with products alone R_k x_k takes 2^k, so the
    sum is formed term by term and K doublings cost what 2^K - 1 terms of a Neumann series cost.
    N = A^T A and c = A^T b, or N = A and c = b if A is symmetric and positive semi-definite;
    beta = 0.9 / lambda_max(N) by power iterations from a seeded vector.

    Cost: 2^iterations - 1 products with N and the power iterations; N = A^T A takes two each.
    """

    iterations: int = 6  # K, doublings
    tolerance: float = 1e-6  # on the residual of N x = c
    power_iterations: int = 6
    seed: int = 0
    keep_halfway: bool = False  # keep the iterate one doubling earlier, at half the products

    def __post_init__(self) -> None:
        if not (1 <= self.iterations <= 30 and self.tolerance >= 0 and self.power_iterations >= 1):
            raise GifError(
                "Schulz needs 1 to 30 iterations (doublings), tolerance >= 0 and "
                "power_iterations >= 1."
            )

    def least_squares(
        self, A: LinearOperator, b: Tensor, *, progress: Progress = silent
    ) -> Solution:
        """Return argmin_x ||A x - b||, A (p, k), judged by the normal residual."""
        return self._solve(System(A, b, symmetric=False), "normal_residual", progress)

    def minimum_norm(
        self, A: LinearOperator, b: Tensor, *, progress: Progress = silent
    ) -> Solution:
        """Return the s of least norm with A s = b, A (k, p), judged by the residual."""
        return self._solve(System(A, b, symmetric=False), "residual", progress)

    def solve(self, A: LinearOperator, b: Tensor, *, progress: Progress = silent) -> Solution:
        """Return x with A x = b for a symmetric positive semi-definite A (p, p).

        A Rayleigh quotient below zero ends it: the status is INDEFINITE, `lambda_min` the proof.
        """
        return self._solve(System(A, b, symmetric=True), "residual", progress)

    def _solve(self, system: System, judged_by: str, progress: Progress) -> Solution:
        c, status = system.begin()
        state = _Doubling(system, c)
        if status is None:
            status = state.measure(self.power_iterations, self.seed)
        while status is None:
            progress(state.doublings, self.iterations, "Schulz")
            status = state.double(self.tolerance, progress, self.iterations)
            if status is None and state.doublings >= self.iterations:
                status = Status.ITERATION_LIMIT
        progress(self.iterations, self.iterations, "Schulz")
        solution = Solution(
            value=state.x,
            status=status,
            solver="Schulz",
            iterations=state.doublings,
            judged_by=judged_by,
            residual_history=tuple(state.history),
            lambda_min=state.lowest if system.symmetric else None,
            halfway=state.before if self.keep_halfway else None,
            notes=(f"beta {state.beta:g}",),
        )
        return system.certify(solution, self.tolerance)


class _Doubling:
    """x = beta sum_{j <= i} z_j and y = A x without its last term, z_j = (I - beta N)^j c."""

    def __init__(self, system: System, c: Tensor) -> None:
        self.system, self.c = system, c
        self.beta = self.norm = 0.0
        self.x = self.before = torch.zeros_like(c)
        self.z = c
        self.y = torch.zeros_like(system.b)
        self.doublings = 0
        self.size = math.inf  # of z where the last doubling began
        self.history: list[float] = []
        self.lowest: float | None = None
        self.eps = 10 * torch.finfo(c.dtype).eps

    def measure(self, iterations: int, seed: int) -> Status | None:
        """Set beta and x_0 = beta c; returns how it ended, None to go on."""
        found = power_iteration(lambda v: self.system.apply(v)[1], self.c, iterations, seed)
        if not math.isfinite(found.norm):
            return Status.NOT_FINITE
        self.norm = found.norm
        self._observe(found.lowest)
        if found.lowest < -self.eps * found.norm:
            return Status.INDEFINITE
        if found.norm == 0:
            return Status.EXACT  # N is zero
        self.beta = SAFETY / found.norm
        self.x = self.before = self.beta * self.c
        return None

    def double(self, tolerance: float, progress: Progress, total: int) -> Status | None:
        """Add as many terms as there are: 2^doublings products with N."""
        x = self.x
        for term in range(2**self.doublings):
            progress(self.doublings, total, "Schulz")
            y, product = self.system.apply(self.z)
            square = float(self.z @ self.z)
            if square > 0:
                self._observe(float(self.z @ product) / square)
            self.z = self.z - self.beta * product
            self.y = self.y + self.beta * y
            size = float(self.z.norm())
            if not math.isfinite(size):
                return Status.NOT_FINITE
            if self.system.symmetric and self.lowest is not None and self.lowest < 0:
                return Status.INDEFINITE
            if term == 0:
                self.history.append(self.system.residual(self.y))
                status = self._judge(size, tolerance)
                if status is not None:
                    return status
            x = x + self.beta * self.z
        self.before, self.x = self.x, x
        self.doublings += 1
        return None

    def _judge(self, size: float, tolerance: float) -> Status | None:
        """Judge x by the first new term, which is its residual in N x = c."""
        if size <= tolerance * float(self.c.norm()):
            return Status.CONVERGED
        if size > (1 + self.eps) * self.size:
            return Status.DIVERGED
        self.size = size
        return None

    def _observe(self, quotient: float) -> None:
        if abs(quotient) <= self.eps * self.norm:
            quotient = 0.0
        self.lowest = quotient if self.lowest is None else min(self.lowest, quotient)

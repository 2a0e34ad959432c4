"""P-LiSSA: Richardson's iteration on the normal equations with a step that is measured.

Reference: the solver of the 2026 version of the code to Lyu et al. 2023 (arXiv 2312.05586); the
iteration is Richardson 1911.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.problem import Progress, silent
from gifcore.solvers.solution import Solution, Status, half
from gifcore.solvers.spectrum import power_iteration
from gifcore.solvers.system import System

SAFETY = 0.9  # of 1 / lambda_max
SMOOTHING = 0.9  # of the moving average of residuals
BLOW_UP = 5.0  # times that average
WINDOW, GAIN = 8, 1e-3  # stagnation: less gain than this over so many iterations


@dataclass(frozen=True)
class PLissa:
    """Settings of P-LiSSA.

    x_{k+1} = x_k + mu (c - N x_k), N = A^T A and c = A^T b (N = A^2, c = A b for a symmetric A),
    x_0 = 0 and mu = min(mu, 0.9 / lambda_max(N)), lambda_max by power iterations from a seeded
    vector. mu is halved, and the iteration goes on from the best iterate, where the residual of
    N x = c rises above five times its moving average or gains less than 0.1 % in 8 iterations.

    Cost: two products an iteration and a power iteration, one for A^T b, two to certify.
    """

    iterations: int = 200
    tolerance: float = 1e-6  # on the normal residual
    mu: float = 3.0  # the largest step allowed
    restarts: int = 8
    power_iterations: int = 6
    seed: int = 0
    keep_halfway: bool = False  # keep the iterate at half the budget

    def __post_init__(self) -> None:
        if not (self.iterations >= 1 and self.tolerance >= 0 and self.restarts >= 0):
            raise GifError("PLissa needs iterations >= 1, tolerance >= 0 and restarts >= 0.")
        if not (0 < self.mu < math.inf and self.power_iterations >= 1):
            raise GifError("PLissa needs a positive, finite mu and power_iterations >= 1.")

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
        """Return x with A x = b for a symmetric A (p, p), definite or not."""
        return self._solve(System(A, b, symmetric=False), "residual", progress)

    def _solve(self, system: System, judged_by: str, progress: Progress) -> Solution:
        c, status = system.begin()
        state = _Richardson(system, c, self)
        if status is None:
            found = power_iteration(
                lambda v: system.apply(v)[1], c, self.power_iterations, self.seed
            )
            state.mu = min(self.mu, SAFETY / found.norm) if found.norm > 0 else self.mu
            if not math.isfinite(found.norm):
                status = Status.NOT_FINITE
        halfway: Tensor | None = None
        while status is None:
            progress(state.iteration, self.iterations, "P-LiSSA")
            status = state.step()
            if state.iteration == half(self.iterations):
                halfway = state.best
            if status is None and state.iteration >= self.iterations:
                status = Status.ITERATION_LIMIT
        progress(self.iterations, self.iterations, "P-LiSSA")
        solution = Solution(
            value=state.best,
            status=status,
            solver="P-LiSSA",
            iterations=state.iteration,
            judged_by=judged_by,
            residual_history=tuple(state.history),
            halfway=(state.best if halfway is None else halfway) if self.keep_halfway else None,
            notes=(f"mu {state.mu:g} after {state.halvings} halvings",),
        )
        return system.certify(solution, self.tolerance)


class _Richardson:
    """The iterate x, the residual q = c - N x, and the best of both."""

    def __init__(self, system: System, c: Tensor, settings: PLissa) -> None:
        self.system, self.c, self.settings = system, c, settings
        self.mu = settings.mu
        self.x = self.best = torch.zeros_like(c)
        self.q = self.best_q = c
        self.smallest = self.average = 1.0
        self.recent: list[float] = [1.0]
        self.history: list[float] = []
        self.iteration = self.halvings = 0

    def step(self) -> Status | None:
        """One iteration: two products; returns how it ended, None to go on."""
        x = self.x + self.mu * self.q
        y, product = self.system.apply(x)
        q = self.c - product
        size = float(q.norm()) / float(self.c.norm())
        if not math.isfinite(size):
            return Status.NOT_FINITE
        self.x, self.q = x, q
        self.iteration += 1
        self.history.append(self.system.residual(y))
        if size < self.smallest:
            self.best, self.best_q, self.smallest = x, q, size
        if size <= self.settings.tolerance:
            return Status.CONVERGED
        blown = size > BLOW_UP * self.average
        self.average = SMOOTHING * self.average + (1 - SMOOTHING) * size
        self.recent = [*self.recent, size][-WINDOW - 1 :]
        stuck = len(self.recent) > WINDOW and size > (1 - GAIN) * self.recent[0]
        return self._halve(blown) if blown or stuck else None

    def _halve(self, blown: bool) -> Status | None:
        if self.halvings == self.settings.restarts:
            return Status.DIVERGED if blown else Status.STAGNATED
        self.halvings += 1
        self.mu /= 2
        self.x, self.q = self.best, self.best_q
        self.average = self.smallest
        self.recent = [self.smallest]
        return None

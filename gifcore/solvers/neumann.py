"""Neumann: the published series for GIF, a stationary iteration with a normaliser c.

Reference: Lyu, Jang, Ryu and Yang 2023 (arXiv 2312.05586), modified LiSSA; the plain series is
that of Agarwal, Bullins and Hazan 2017, "Second-order stochastic optimization for machine learning
in linear time", section 3, with all samples in every product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.problem import Progress, silent
from gifcore.solvers.solution import Solution, Status, half
from gifcore.solvers.system import System


@dataclass(frozen=True)
class Neumann:
    """Settings of the published series.

    x_0 = v, x_{k+1} = v + x_k - N x_k / C with v = c / C: for least squares N = A^T A, c = A^T b,
    C = normaliser^2; for a symmetric system N = A, c = b, C = normaliser. After K iterations a
    mode of N with eigenvalue mu is solved to the fraction 1 - (1 - mu / C)^(K+1); it converges
    where 0 < mu < 2 C. Every second iteration a step longer than the one two iterations earlier
    means divergence: the normaliser is raised by `step` and the iteration begins again.

    The published stop, ||x_{k+1} - x_k|| <= tolerance sqrt(len(x)), is absolute: where it comes
    before a small residual the status is STAGNATED. At a fixed normaliser, with tolerance 0, the
    result is linear in b.

    Cost: two products an iteration (one if symmetric) and one for A^T b, abandoned restarts
    included; A^T b is kept between restarts. Two products certify, three if symmetric.
    """

    iterations: int = 1000
    tolerance: float = 1e-9  # on the step, per root of its length
    step: float = 1.0  # what divergence adds to the normaliser, which begins at 1
    restarts: int = 50
    normaliser: float | None = None  # None: automatic; a number: fixed, no restarts
    keep_halfway: bool = False  # keep the iterate at half the budget

    def __post_init__(self) -> None:
        if not (self.iterations >= 1 and self.tolerance >= 0 and self.restarts >= 0):
            raise GifError("Neumann needs iterations >= 1, tolerance >= 0 and restarts >= 0.")
        if not (self.step > 0 and (self.normaliser is None or 0 < self.normaliser < math.inf)):
            raise GifError("Neumann needs a positive step and a positive, finite normaliser.")

    def least_squares(
        self, A: LinearOperator, b: Tensor, *, progress: Progress = silent
    ) -> Solution:
        """Return argmin_x ||A x - b||, A (p, k), judged by the normal residual."""
        return self._solve(System(A, b, symmetric=False), "normal_residual", progress)

    def minimum_norm(
        self, A: LinearOperator, b: Tensor, *, progress: Progress = silent
    ) -> Solution:
        """Return the s of least norm with A s = b, A (k, p), judged by the residual.

        The adjoint of `least_squares` with A^T: g . minimum_norm(A, q) = q . least_squares(A^T, g)
        whenever normaliser and number of iterations are the same.
        """
        return self._solve(System(A, b, symmetric=False), "residual", progress)

    def solve(self, A: LinearOperator, b: Tensor, *, progress: Progress = silent) -> Solution:
        """Return x with A x = b for a symmetric A (p, p) by the plain series I_K / normaliser.

        I_0 = b, I_k = I_0 + (I - A / normaliser) I_{k-1}. A negative eigenvalue makes it diverge
        at every normaliser: where a step proves one the status is INDEFINITE.
        """
        return self._solve(System(A, b, symmetric=True), "residual", progress)

    def _solve(self, system: System, judged_by: str, progress: Progress) -> Solution:
        c, status = system.begin()
        normaliser = 1.0 if self.normaliser is None else self.normaliser
        allowed = self.restarts if self.normaliser is None else 0
        restarts = 0
        chain = _Chain(torch.zeros_like(c), status)
        while status is None:
            chain = self._iterate(system, c, normaliser, progress)
            if chain.status is not Status.DIVERGED or restarts == allowed:
                break
            normaliser += self.step
            restarts += 1
        progress(self.iterations, self.iterations, "Neumann")
        assert chain.status is not None
        halfway = chain.x if chain.halfway is None else chain.halfway
        solution = Solution(
            value=chain.x,
            status=chain.status,
            solver="Neumann",
            iterations=chain.iterations,
            judged_by=judged_by,
            residual_history=tuple(chain.history),
            lambda_min=chain.lowest,
            halfway=halfway if self.keep_halfway else None,
            notes=(f"normaliser {normaliser:g} after {restarts} restarts",),
        )
        return system.certify(solution, _SMALL)

    def _iterate(self, system: System, c: Tensor, normaliser: float, progress: Progress) -> _Chain:
        """Run the series at one normaliser until it stops, diverges or meets the limit."""
        C = normaliser if system.symmetric else normaliser**2
        rounding = 10 * torch.finfo(c.dtype).eps
        enough = self.tolerance * math.sqrt(len(c))
        x = c / C
        chain = _Chain(x, Status.ITERATION_LIMIT)
        before = torch.zeros_like(c)  # the step before
        earlier = math.inf  # the length of the step two iterations earlier
        for iteration in range(1, self.iterations + 1):
            progress(iteration - 1, self.iterations, "Neumann")
            y, product = system.apply(x)
            move = (c - product) / C
            size = float(move.norm())
            if not math.isfinite(size):
                chain.status = Status.NOT_FINITE
                break
            chain.history.append(system.residual(y))
            last, before = before, move
            x = x + move
            chain.iterations = iteration
            if iteration == half(self.iterations):
                chain.halfway = x
            if iteration % 2 == 0:
                if size > earlier + rounding * float(x.norm()):
                    quotient = _quotient(last, move, C)
                    proven = system.symmetric and quotient < -C * rounding**0.5
                    chain.status = Status.INDEFINITE if proven else Status.DIVERGED
                    chain.lowest = quotient if proven else None
                    return chain
                earlier = size
                chain.x = x
            if size <= enough:
                chain.status = Status.CONVERGED
                break
        chain.x = x
        return chain


_SMALL = 1e-6  # relative residual below which a stopped series has converged


@dataclass
class _Chain:
    """A series at one normaliser; x is its last iterate, or the last before it diverged."""

    x: Tensor
    status: Status | None
    iterations: int = 0
    history: list[float] = field(default_factory=list)
    lowest: float | None = None  # the Rayleigh quotient that proved N indefinite
    halfway: Tensor | None = None


def _quotient(before: Tensor, move: Tensor, C: float) -> float:
    """Return the Rayleigh quotient of N in a step, from the next one, (I - N / C) step."""
    return C * (1 - float(before @ move) / float(before @ before))

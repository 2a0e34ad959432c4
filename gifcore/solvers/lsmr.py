"""LSMR: least squares and minimum norm by Golub-Kahan bidiagonalisation.

Reference: Fong and Saunders 2011, "LSMR: An iterative algorithm for sparse least-squares
problems", algorithm of section 2 and the residual estimates of section 3, here without damping:
a ridge is the augmented system [A; sqrt(ridge) I].
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import Diagonal, LinearOperator
from gifcore.problem import Progress, silent
from gifcore.solvers.solution import (
    Solution,
    Status,
    against,
    drifted,
    kept_vectors,
    relative,
)


@dataclass(frozen=True)
class LSMR:
    """Settings of LSMR; `least_squares` and `minimum_norm` solve with them.

    Cost: two products an iteration, one at the start, two to certify; a ridge costs nothing.
    """

    iterations: int = 50
    tolerance: float = 1e-6  # on the normal residual, and on the residual
    ridge: float = 0.0  # ||A x - b||^2 + ridge ||x||^2
    preconditioner: str = "jacobi"  # or "none"; on the k side only
    probes: int | None = None  # None: min(8, products // 8), none below 4
    reorthogonalise: int | None = None  # against so many earlier vectors; None: all that fit 256 MB

    def __post_init__(self) -> None:
        if not (self.iterations >= 1 and self.ridge >= 0 and self.tolerance >= 0):
            raise GifError("LSMR needs iterations >= 1, ridge >= 0 and tolerance >= 0.")

    def least_squares(
        self,
        A: LinearOperator,  # (p, k)
        b: Tensor,  # (p,)
        *,
        right: Diagonal | None = None,  # R (k, k): A R z = b, x = R z
        progress: Progress = silent,
    ) -> Solution:
        """Return argmin_x ||A x - b||^2 + ridge ||x||^2, judged by the normal residual."""
        rows = A.shape[0]
        if self.ridge > 0:
            A = _Augmented(A, math.sqrt(self.ridge))
            b = torch.cat([b, b.new_zeros(A.shape[1])])
        B = A if right is None else A @ right
        run = self._bidiagonalise(B, b, progress)
        x = run.solution.value if right is None else right @ run.solution.value
        if run.solution.status is not Status.ZERO_RHS:
            r = b - A @ x
            weights = 1.0 if right is None else right.diagonal
            scale = float((run.first / weights).norm())  # ||A^T b||
            run = _certified(run, r[:rows], b[:rows], r, b, A.T @ r, scale)
        return replace(run.solution, value=x, judged_by="normal_residual")

    def minimum_norm(
        self,
        A: LinearOperator,  # (k, p)
        b: Tensor,  # (k,)
        *,
        left: Diagonal | None = None,  # R (k, k): R A s = R b
        progress: Progress = silent,
    ) -> Solution:
        """Return the s of least norm with A s = b, judged by the residual of that system.

        With a ridge A A^T + ridge I stands for A A^T. The normal residual is that of R A s = R b.
        """
        columns = A.shape[1]
        if self.ridge > 0:
            A = _Augmented(A.T, math.sqrt(self.ridge)).T
        B, c = (A, b) if left is None else (left @ A, left @ b)
        run = self._bidiagonalise(B, c, progress)
        x = run.solution.value
        if run.solution.status is not Status.ZERO_RHS:
            r = b - A @ x
            weighted = r if left is None else left @ r
            run = _certified(run, r, b, weighted, c, B.T @ weighted, float(run.first.norm()))
        return replace(run.solution, value=x[:columns], judged_by="residual")

    def _bidiagonalise(self, B: LinearOperator, b: Tensor, progress: Progress) -> _Run:
        started = time.perf_counter()
        window = kept_vectors(self.reorthogonalise, self.iterations, sum(B.shape), b)
        state = _Lsmr(B, b, window)
        status = state.start()
        while status is None:
            progress(state.iteration, self.iterations, "LSMR")
            status = state.step(self.tolerance)
            if status is None and state.iteration >= self.iterations:
                status = Status.ITERATION_LIMIT
        progress(self.iterations, self.iterations, "LSMR")
        solution = Solution(
            value=state.x,
            status=status,
            solver="LSMR",
            iterations=state.iteration,
            hvps=state.products,
            residual_history=tuple(state.history),
            ridge=self.ridge,
            seconds=time.perf_counter() - started,
        )
        return _Run(solution, state.first)


@dataclass(frozen=True, eq=False)
class _Run:
    """A solution without its certificate, and B^T b, which came with the first product."""

    solution: Solution
    first: Tensor


class _Lsmr:
    """The vectors and scalars of one run. x minimises ||B^T r|| over the Krylov space."""

    def __init__(self, B: LinearOperator, b: Tensor, reorthogonalise: int) -> None:
        self.B, self.b = B, b
        self.window = reorthogonalise
        self.us: list[Tensor] = []
        self.vs: list[Tensor] = []
        self.x = self.first = b.new_zeros(B.shape[1])
        self.products = self.iteration = 0
        self.history: list[float] = []
        self.eps = 10 * torch.finfo(b.dtype).eps  # of a product that should be zero

    def start(self) -> Status | None:
        self.beta1 = self.beta = float(self.b.norm())
        if not math.isfinite(self.beta1):
            return Status.NOT_FINITE
        if self.beta1 == 0:
            return Status.ZERO_RHS
        self.u = self.b / self.beta1
        self.v = self.B.T @ self.u
        self.first = self.v * self.beta
        self.products += 1
        self.alpha = float(self.v.norm())
        if not math.isfinite(self.alpha):
            return Status.NOT_FINITE
        if self.alpha == 0:  # b is orthogonal to all columns: 0 is the answer, and explains nothing
            return Status.EXACT
        self.v = self.v / self.alpha
        self._remember()
        self.h, self.hbar = self.v.clone(), torch.zeros_like(self.v)
        self.scale = self.alpha  # grows to an estimate of ||B||
        self.zetabar = self.normal1 = self.alpha * self.beta1
        self.alphabar, self.rho, self.rhobar = self.alpha, 1.0, 1.0
        self.cbar, self.sbar, self.zeta = 1.0, 0.0, 0.0
        # for the estimate of ||r||
        self.betadd, self.betad, self.rhodold = self.beta1, 0.0, 1.0
        self.tautildeold = self.thetatilde = 0.0
        self.history.append(1.0)
        return None

    def step(self, tolerance: float) -> Status | None:
        """One iteration: two products; returns how it ended, None to go on."""
        u = self.B @ self.v - self.alpha * self.u
        self.products += 1
        u = against(u, self.us)
        beta = float(u.norm())
        if not math.isfinite(beta):
            return Status.NOT_FINITE
        exhausted = beta <= self.eps * self.scale
        alpha = 0.0
        if not exhausted:
            u = u / beta
            v = against(self.B.T @ u - beta * self.v, self.vs)
            self.products += 1
            alpha = float(v.norm())
            if not math.isfinite(alpha):
                return Status.NOT_FINITE
            self.scale = max(self.scale, math.hypot(alpha, beta))
            exhausted = alpha <= self.eps * self.scale
            self.u = u
            self.v = v / alpha if not exhausted else torch.zeros_like(v)
            self._remember()
        self._rotate(beta, alpha)
        self.iteration += 1
        if exhausted:
            return Status.EXACT
        if abs(self.zetabar) <= tolerance * self.normal1 or self.history[-1] <= tolerance:
            return Status.CONVERGED
        return None

    def _rotate(self, beta: float, alpha: float) -> None:
        rho_old, rhobar_old, zeta_old = self.rho, self.rhobar, self.zeta
        c, s, self.rho = _rotation(self.alphabar, beta)
        theta = s * alpha
        self.alphabar = c * alpha
        thetabar = self.sbar * self.rho
        self.cbar, self.sbar, self.rhobar = _rotation(self.cbar * self.rho, theta)
        self.zeta, self.zetabar = self.cbar * self.zetabar, -self.sbar * self.zetabar
        self.hbar = self.h - (thetabar * self.rho / (rho_old * rhobar_old)) * self.hbar
        self.x = self.x + (self.zeta / (self.rho * self.rhobar)) * self.hbar
        self.h = self.v - (theta / self.rho) * self.h
        self.alpha, self.beta = alpha, beta
        self._estimate_residual(c, s, thetabar, zeta_old)

    def _estimate_residual(self, c: float, s: float, thetabar: float, zeta_old: float) -> None:
        betahat, self.betadd = c * self.betadd, -s * self.betadd
        thetatilde_old = self.thetatilde
        ctilde, stilde, rhotilde = _rotation(self.rhodold, thetabar)
        self.thetatilde, self.rhodold = stilde * self.rhobar, ctilde * self.rhobar
        self.betad = -stilde * self.betad + ctilde * betahat
        self.tautildeold = (zeta_old - thetatilde_old * self.tautildeold) / rhotilde
        taud = (self.zeta - self.thetatilde * self.tautildeold) / self.rhodold
        self.history.append(math.hypot(self.betad - taud, self.betadd) / self.beta1)

    def _remember(self) -> None:
        if self.window:
            self.us = [*self.us, self.u][-self.window :]
            self.vs = [*self.vs, self.v][-self.window :]


def _rotation(a: float, b: float) -> tuple[float, float, float]:
    """Return c, s, r with [c s; -s c] [a; b] = [r; 0], r kept away from 0."""
    r = math.hypot(a, b)
    if r == 0:
        return 1.0, 0.0, 1e-300
    return a / r, b / r, r


@dataclass(frozen=True, eq=False)
class _Augmented(LinearOperator):
    """[A; c I]: (m + n, n)."""

    operator: LinearOperator
    factor: float

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.operator.shape
        return rows + columns, columns

    def apply(self, vector: Tensor) -> Tensor:
        return torch.cat([self.operator @ vector, self.factor * vector])

    def apply_transposed(self, vector: Tensor) -> Tensor:
        rows = self.operator.shape[0]
        return self.operator.T @ vector[:rows] + self.factor * vector[rows:]


def _certified(
    run: _Run, r: Tensor, b: Tensor, run_r: Tensor, run_b: Tensor, normal: Tensor, scale: float
) -> _Run:
    """Return the run with its residuals recomputed from the value: two products.

    r and b are those of the user's system, run_r and run_b of the system that was iterated on.
    """
    true = relative(float(run_r.norm()), float(run_b.norm()))
    history = run.solution.residual_history
    certified = replace(
        run.solution,
        check_hvps=2,
        residual=relative(float(r.norm()), float(b.norm())),
        normal_residual=relative(float(normal.norm()), scale),
        drift=bool(history) and drifted(history[-1], true, b.dtype),
    )
    return replace(run, solution=certified)

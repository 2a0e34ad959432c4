"""One run of LSMR: Golub-Kahan bidiagonalisation and the two rotations, products on request.

Reference: Fong and Saunders 2011, "LSMR: An iterative algorithm for sparse least-squares
problems", algorithm of section 2 and the residual estimates of section 3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gifcore.operators import LinearOperator
from gifcore.solvers.many import Run
from gifcore.solvers.solution import Status, against


class Bidiagonalisation:
    """The vectors and scalars of one run. x minimises ||B^T r|| over the Krylov space."""

    def __init__(
        self, B: LinearOperator, Bt: LinearOperator, b: Tensor, reorthogonalise: int
    ) -> None:
        self.B, self.Bt, self.b = B, Bt, b
        self.window = reorthogonalise
        self.us: list[Tensor] = []
        self.vs: list[Tensor] = []
        self.x = self.first = b.new_zeros(B.shape[1])
        self.products = self.iteration = 0
        self.history: list[float] = []
        self.eps = 10 * torch.finfo(b.dtype).eps  # of a product that should be zero

    def start(self) -> Run[Status | None]:
        self.beta1 = self.beta = float(self.b.norm())
        if not math.isfinite(self.beta1):
            return Status.NOT_FINITE
        if self.beta1 == 0:
            return Status.ZERO_RHS
        self.u = self.b / self.beta1
        self.v = yield self.Bt, self.u
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

    def step(self, tolerance: float) -> Run[Status | None]:
        """One iteration: two products; returns how it ended, None to go on."""
        u = (yield self.B, self.v) - self.alpha * self.u
        self.products += 1
        u = against(u, self.us)
        beta = float(u.norm())
        if not math.isfinite(beta):
            return Status.NOT_FINITE
        exhausted = beta <= self.eps * self.scale
        alpha = 0.0
        if not exhausted:
            u = u / beta
            v = against((yield self.Bt, u) - beta * self.v, self.vs)
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

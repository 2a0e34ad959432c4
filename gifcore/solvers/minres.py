"""MINRES: symmetric systems, definite or not, by the Lanczos recurrence.

Reference: Paige and Saunders 1975, "Solution of sparse indefinite systems of linear equations",
section 6.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import LinearOperator
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
class MINRES:
    """Settings of MINRES; `solve` minimises ||A x - b|| over the Krylov space of A and b.

    Cost: one product an iteration, two to certify.
    """

    iterations: int = 50
    tolerance: float = 1e-6  # on the relative residual
    reorthogonalise: int | None = None  # against so many earlier vectors; None: all that fit 256 MB

    def __post_init__(self) -> None:
        if not (self.iterations >= 1 and self.tolerance >= 0):
            raise GifError("MINRES needs iterations >= 1 and tolerance >= 0.")

    def solve(self, A: LinearOperator, b: Tensor, *, progress: Progress = silent) -> Solution:
        """Return x with A x = b for a symmetric A (p, p), judged by the residual."""
        started = time.perf_counter()
        scale = float(b.norm())
        x, history, products = torch.zeros_like(b), [1.0], 0
        status = _bad_rhs(scale)
        if status is None:
            product = A @ b
            window = kept_vectors(self.reorthogonalise, self.iterations, len(b), b)
            steps = _iterate(A, b, product, self.tolerance, window)
            for x, residual, ended in steps:  # noqa: B007
                products += 1
                status = ended
                if status is not Status.NOT_FINITE:
                    history.append(residual)
                progress(products, self.iterations, "MINRES")
                if status is not None or products >= self.iterations:
                    break
        status = status or Status.ITERATION_LIMIT
        residual = normal = 0.0 if status is Status.ZERO_RHS else math.inf
        if products:
            r = b - A @ x
            residual = relative(float(r.norm()), scale)
            normal = relative(float((A @ r).norm()), float(product.norm()))
        return Solution(
            value=x,
            status=status,
            solver="MINRES",
            iterations=len(history) - 1,
            hvps=products,
            check_hvps=2 if products else 0,
            residual=residual,
            normal_residual=normal,
            judged_by="residual",
            residual_history=tuple(history),
            drift=drifted(history[-1], residual, b.dtype) if products else False,
            seconds=time.perf_counter() - started,
        )


def _bad_rhs(norm: float) -> Status | None:
    if not math.isfinite(norm):
        return Status.NOT_FINITE
    return Status.ZERO_RHS if norm == 0 else None


def _iterate(
    A: LinearOperator, b: Tensor, first: Tensor, tolerance: float, window: int
) -> Iterator[tuple[Tensor, float, Status | None]]:
    """Yield (x, relative residual, status or None) after every product; `first` is A b."""
    gamma = float(b.norm())
    eps = 10 * torch.finfo(b.dtype).eps  # of a product that should be zero
    beta1, eta, size = gamma, gamma, 0.0
    v_old, v = torch.zeros_like(b), b / gamma
    w_old, w, x = torch.zeros_like(b), torch.zeros_like(b), torch.zeros_like(b)
    c_old, c, s_old, s = 1.0, 1.0, 0.0, 0.0
    product, gamma = first / gamma, 0.0
    vectors: list[Tensor] = []
    while True:
        delta = float(v @ product)
        if not math.isfinite(delta):
            yield x, math.inf, Status.NOT_FINITE
            return
        vectors = [*vectors, v][-window:] if window else []
        new = against(product - delta * v - gamma * v_old, vectors)
        gamma_new = float(new.norm())
        size = max(size, abs(delta), gamma_new)
        a0 = c * delta - c_old * s * gamma
        a1 = math.hypot(a0, gamma_new)
        a2 = s * delta + c_old * c * gamma
        a3 = s_old * gamma
        if a1 <= eps * size:  # A is singular on this space and b has a part outside its range
            yield x, abs(eta) / beta1, Status.EXACT
            return
        c_old, c, s_old, s = c, a0 / a1, s, gamma_new / a1
        w_old, w = w, (v - a3 * w_old - a2 * w) / a1
        x = x + c * eta * w
        eta = -s * eta
        residual = abs(eta) / beta1
        if gamma_new <= eps * size:
            yield x, residual, Status.EXACT
            return
        yield x, residual, Status.CONVERGED if residual <= tolerance else None
        v_old, v, gamma = v, new / gamma_new, gamma_new
        product = A @ v

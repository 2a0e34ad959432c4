"""MINRES: symmetric systems, definite or not, by the Lanczos recurrence.

Reference: Paige and Saunders 1975, "Solution of sparse indefinite systems of linear equations",
section 6.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
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
class MINRES:
    """Settings of MINRES; `solve` minimises ||A x - b|| over the Krylov space of A and b.

    A system without a solution ends with the status INCONSISTENT and an x of least residual.

    Cost: one product an iteration, two to certify, two if symmetry is checked.
    """

    iterations: int = 50
    tolerance: float = 1e-6  # on the relative residual
    reorthogonalise: int | None = None  # against so many earlier vectors; None: all that fit 256 MB
    symmetry_seed: int | None = None  # compare u . A v with v . A u first, u and v drawn from it
    keep_halfway: bool = False  # keep the iterate at half the budget

    def __post_init__(self) -> None:
        if not (self.iterations >= 1 and self.tolerance >= 0):
            raise GifError("MINRES needs iterations >= 1 and tolerance >= 0.")

    def solve(self, A: LinearOperator, b: Tensor, *, progress: Progress = silent) -> Solution:
        """Return x with A x = b for a symmetric A (p, p), judged by the residual."""
        window = kept_vectors(self.reorthogonalise, self.iterations, len(b), b)
        return alone(self._run(A, b, window, progress))

    def solve_many(
        self, A: LinearOperator, b: Tensor, *, progress: Progress = silent
    ) -> list[Solution]:
        """Return `solve` for every column of b (p, m), each with its own certificate.

        The columns go side by side and ask for their products together (`apply_many`).
        """
        columns, report = columns_of(b), furthest(progress)
        window = kept_vectors(self.reorthogonalise, self.iterations, b.numel(), b)
        return together([self._run(A, column, window, report) for column in columns])

    def _run(self, A: LinearOperator, b: Tensor, window: int, progress: Progress) -> Run[Solution]:
        started = time.perf_counter()
        status = unsolvable(b)
        checks = 0
        if status is None and self.symmetry_seed is not None:
            status, checks = asymmetric(A, b, self.symmetry_seed), 2
        x, history, products = torch.zeros_like(b), [1.0], 0
        halfway: Tensor | None = None
        if status is None:
            product = yield A, b
            steps = _iterate(b, product, self.tolerance, window)
            x, residual, ended, wanted = next(steps)
            while True:
                products += 1
                status = ended
                if status is not Status.NOT_FINITE:
                    history.append(residual)
                if products == half(self.iterations):
                    halfway = x
                progress(products, self.iterations, "MINRES")
                if status is not None or products >= self.iterations:
                    break
                x, residual, ended, wanted = steps.send((yield A, wanted))
        status = status or Status.ITERATION_LIMIT
        solution = Solution(
            value=x,
            status=status,
            solver="MINRES",
            iterations=len(history) - 1,
            hvps=products,
            check_hvps=checks,
            residual=untouched(status),
            normal_residual=untouched(status),
            residual_history=tuple(history),
            halfway=(x if halfway is None else halfway) if self.keep_halfway else None,
        )
        if products:
            scale = float(product.norm())
            solution = yield from certifying(solution, A, b, symmetric=True, scale=scale)
            solution = settled(solution, self.tolerance, otherwise=Status.INCONSISTENT)
        return replace(solution, seconds=time.perf_counter() - started)


def _iterate(
    b: Tensor, first: Tensor, tolerance: float, window: int
) -> Generator[tuple[Tensor, float, Status | None, Tensor], Tensor, None]:
    """Yield (x, relative residual, status or None, v) after every product and take A v for it.

    `first` is A b.
    """
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
            yield x, math.inf, Status.NOT_FINITE, v
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
            yield x, abs(eta) / beta1, Status.EXACT, v
            return
        c_old, c, s_old, s = c, a0 / a1, s, gamma_new / a1
        w_old, w = w, (v - a3 * w_old - a2 * w) / a1
        x = x + c * eta * w
        eta = -s * eta
        residual = abs(eta) / beta1
        if gamma_new <= eps * size:
            yield x, residual, Status.EXACT, v
            return
        v_old, v, gamma = v, new / gamma_new, gamma_new
        product = yield x, residual, Status.CONVERGED if residual <= tolerance else None, v

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
from gifcore.solvers.bidiagonal import Bidiagonalisation
from gifcore.solvers.many import Run, columns_of, furthest, products_of, together
from gifcore.solvers.solution import (
    Solution,
    Status,
    drifted,
    half,
    kept_vectors,
    relative,
    settled,
)


@dataclass(frozen=True)
class LSMR:
    """Settings of LSMR; `least_squares` and `minimum_norm` solve with them.

    Cost: two products an iteration, one at the start, two to certify; a ridge costs nothing, an R
    of `least_squares` that is not diagonal one product more to certify.
    """

    iterations: int = 50
    tolerance: float = 1e-6  # on the normal residual, and on the residual
    ridge: float = 0.0  # ||A x - b||^2 + ridge ||x||^2
    preconditioner: str = "jacobi"  # or "none"; on the k side only
    probes: int | None = None  # None: min(8, products // 8), none below 4
    reorthogonalise: int | None = None  # against so many earlier vectors; None: all that fit 256 MB
    keep_halfway: bool = False  # keep the iterate at half the budget

    def __post_init__(self) -> None:
        if not (self.iterations >= 1 and self.ridge >= 0 and self.tolerance >= 0):
            raise GifError("LSMR needs iterations >= 1, ridge >= 0 and tolerance >= 0.")

    def least_squares(
        self,
        A: LinearOperator,  # (p, k)
        b: Tensor,  # (p,)
        *,
        right: LinearOperator | None = None,  # R (k, k) symmetric: A R z = b, x = R z
        progress: Progress = silent,
    ) -> Solution:
        """Return argmin_x ||A x - b||^2 + ridge ||x||^2, judged by the normal residual.

        Where that is not small at the end, as for an A too ill-conditioned for its type, the
        status is INCONSISTENT.
        """
        return self.least_squares_many(A, b[:, None], right=right, progress=progress)[0]

    def minimum_norm(
        self,
        A: LinearOperator,  # (k, p)
        b: Tensor,  # (k,)
        *,
        left: LinearOperator | None = None,  # R (k, k) symmetric: R A s = R b
        progress: Progress = silent,
    ) -> Solution:
        """Return the s of least norm with A s = b, judged by the residual of that system.

        With a ridge A A^T + ridge I stands for A A^T. The normal residual is that of R A s = R b.
        A system without a solution ends with the status INCONSISTENT.
        """
        return self.minimum_norm_many(A, b[:, None], left=left, progress=progress)[0]

    def least_squares_many(
        self,
        A: LinearOperator,  # (p, k)
        b: Tensor,  # (p, m)
        *,
        right: LinearOperator | None = None,
        progress: Progress = silent,
    ) -> list[Solution]:
        """Return `least_squares` for every column of b, each with its own certificate.

        The columns go side by side and ask for their products together (`apply_many`); one that
        has ended costs nothing more.
        """
        system = _System(
            A if self.ridge == 0 else _Augmented(A, math.sqrt(self.ridge)), right=right
        )
        window = self._window(system, b)
        report = furthest(progress)
        runs = [self._least_squares(system, c, A.shape[0], window, report) for c in columns_of(b)]
        return self._finished(runs, progress)

    def minimum_norm_many(
        self,
        A: LinearOperator,  # (k, p)
        b: Tensor,  # (k, m)
        *,
        left: LinearOperator | None = None,
        progress: Progress = silent,
    ) -> list[Solution]:
        """Return `minimum_norm` for every column of b, each with its own certificate."""
        whole = A if self.ridge == 0 else _Augmented(A.T, math.sqrt(self.ridge)).T
        system = _System(whole, left=left)
        window = self._window(system, b)
        report = furthest(progress)
        runs = [self._minimum_norm(system, c, A.shape[1], window, report) for c in columns_of(b)]
        return self._finished(runs, progress)

    def _window(self, system: _System, b: Tensor) -> int:
        numbers = sum(system.B.shape) * (b.shape[1] if b.dim() == 2 else 1)
        return kept_vectors(self.reorthogonalise, self.iterations, max(numbers, 1), b)

    def _finished(self, runs: list[Run[Solution]], progress: Progress) -> list[Solution]:
        solutions = together(runs)
        progress(self.iterations, self.iterations, "LSMR")
        return solutions

    def _least_squares(
        self, system: _System, b: Tensor, rows: int, window: int, progress: Progress
    ) -> Run[Solution]:
        if self.ridge > 0:
            b = torch.cat([b, b.new_zeros(system.A.shape[1])])
        run = yield from self._bidiagonalise(system, b, window, progress)
        R = system.right
        x, halfway = (z if R is None else R @ z for z in (run.solution.value, run.halfway))
        if run.solution.status is not Status.ZERO_RHS:
            r = b - (yield system.A, x)
            normal = yield system.At, r
            checks = 2
            if R is None:
                gradient = run.first
            elif isinstance(R, Diagonal):
                gradient = run.first / R.diagonal
            else:
                gradient = yield system.At, b
                checks = 3
            scale = float(gradient.norm())  # ||A^T b||
            run = _certified(run, r[:rows], b[:rows], r, b, normal, scale, checks)
        solution = replace(
            run.solution,
            value=x,
            halfway=halfway if self.keep_halfway else None,
            judged_by="normal_residual",
        )
        return settled(solution, self.tolerance, otherwise=Status.INCONSISTENT)

    def _minimum_norm(
        self, system: _System, b: Tensor, columns: int, window: int, progress: Progress
    ) -> Run[Solution]:
        R = system.left
        c = b if R is None else R @ b
        run = yield from self._bidiagonalise(system, c, window, progress)
        x = run.solution.value
        if run.solution.status is not Status.ZERO_RHS:
            r = b - (yield system.A, x)
            weighted = r if R is None else R @ r
            normal = yield system.Bt, weighted
            run = _certified(run, r, b, weighted, c, normal, float(run.first.norm()), 2)
        solution = replace(
            run.solution,
            value=x[:columns],
            halfway=run.halfway[:columns] if self.keep_halfway else None,
            judged_by="residual",
        )
        return settled(solution, self.tolerance, otherwise=Status.INCONSISTENT)

    def _bidiagonalise(
        self, system: _System, b: Tensor, window: int, progress: Progress
    ) -> Run[_Ended]:
        started = time.perf_counter()
        state = Bidiagonalisation(system.B, system.Bt, b, window)
        status = yield from state.start()
        halfway: Tensor | None = None
        while status is None:
            progress(state.iteration, self.iterations, "LSMR")
            status = yield from state.step(self.tolerance)
            if state.iteration == half(self.iterations):
                halfway = state.x
            if status is None and state.iteration >= self.iterations:
                status = Status.ITERATION_LIMIT
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
        return _Ended(solution, state.first, state.x if halfway is None else halfway)


@dataclass(frozen=True, eq=False)
class _Ended:
    """A solution without its certificate, B^T b, which came with the first product, and x half."""

    solution: Solution
    first: Tensor
    halfway: Tensor


class _System:
    """A and the B = A R or R A that is iterated on; one object each, so that columns share them."""

    def __init__(
        self,
        A: LinearOperator,
        *,
        left: LinearOperator | None = None,
        right: LinearOperator | None = None,
    ) -> None:
        self.A, self.At, self.left, self.right = A, A.T, left, right
        self.B, self.Bt = self.A, self.At
        if right is not None:
            self.B = A @ right
            self.Bt = self.B.T
        if left is not None:
            self.B = left @ A
            self.Bt = self.B.T


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

    def apply_many(self, vectors: Tensor) -> Tensor:
        return torch.cat([products_of(self.operator, vectors), self.factor * vectors])

    def apply_transposed_many(self, vectors: Tensor) -> Tensor:
        rows = self.operator.shape[0]
        products = products_of(self.operator, vectors[:rows], transposed=True)
        return products + self.factor * vectors[rows:]


def _certified(
    run: _Ended,
    r: Tensor,
    b: Tensor,
    run_r: Tensor,
    run_b: Tensor,
    normal: Tensor,
    scale: float,
    checks: int,
) -> _Ended:
    """Return the run with its residuals, recomputed from the value by so many products.

    r and b are those of the user's system, run_r and run_b of the system that was iterated on.
    """
    true = relative(float(run_r.norm()), float(run_b.norm()))
    history = run.solution.residual_history
    certified = replace(
        run.solution,
        check_hvps=checks,
        residual=relative(float(r.norm()), float(b.norm())),
        normal_residual=relative(float(normal.norm()), scale),
        drift=bool(history) and drifted(history[-1], true, b.dtype),
    )
    return replace(run, solution=certified)

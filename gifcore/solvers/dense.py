"""Dense: the matrix by its products, and the solution from its singular values."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.problem import Progress, silent
from gifcore.solvers.many import columns_of, products_of
from gifcore.solvers.solution import (
    Solution,
    Status,
    certified,
    relative,
    settled,
    unsolvable,
    untouched,
)

BLOCK = 32  # columns made at once
SHARED = "decomposed once for several right-hand sides; the first has counted its products"


@dataclass(frozen=True)
class Dense:
    """Settings of the dense solver: A in float64 = U diag(s) V^T, x = V diag(1 / s) U^T b.

    Singular values below max(m, n) eps(type of b) s_max count as zero: the status is then
    SINGULAR, the value of least norm, and the notes say the numerical rank. With a ridge
    s / (s^2 + ridge) stands for 1 / s, and the normal residual A^T r - ridge x judges.

    Cost: as many products as the shorter side of A and m n min(m, n) flops, once for all right-hand
    sides of one call; each of them m n flops and three products to certify.
    """

    limit: int = 2000  # the longest short side of A
    memory_mb: float = 2048.0  # for the matrix
    ridge: float = 0.0  # ||A x - b||^2 + ridge ||x||^2

    def __post_init__(self) -> None:
        if not (self.limit >= 1 and self.memory_mb > 0 and 0 <= self.ridge < math.inf):
            raise GifError("Dense needs limit >= 1, memory_mb > 0 and a finite ridge >= 0.")

    def least_squares(
        self, A: LinearOperator, b: Tensor, *, progress: Progress = silent
    ) -> Solution:
        """Return argmin_x ||A x - b||^2 + ridge ||x||^2, A (p, k), judged by the normal residual.

        Raises:
            GifError: k is beyond the limit or the matrix beyond the memory.
        """
        return self._solve(A, [b], "normal_residual", progress)[0]

    def minimum_norm(
        self, A: LinearOperator, b: Tensor, *, progress: Progress = silent
    ) -> Solution:
        """Return the s of least norm with A s = b, A (k, p), judged by the residual.

        Raises:
            GifError: k is beyond the limit or the matrix beyond the memory.
        """
        return self._solve(A, [b], "residual", progress)[0]

    def minimum_norm_many(
        self, A: LinearOperator, b: Tensor, *, progress: Progress = silent
    ) -> list[Solution]:
        """Return `minimum_norm` for every column of b (k, m), by one decomposition of A.

        Raises:
            GifError: as minimum_norm, or b is no matrix.
        """
        return self._solve(A, columns_of(b), "residual", progress)

    def solve(self, A: LinearOperator, b: Tensor, *, progress: Progress = silent) -> Solution:
        """Return x with A x = b for a symmetric A (p, p); lambda_min and lambda_max are exact.

        A matrix that is not symmetric to rounding is refused: the status is ASYMMETRIC.

        Raises:
            GifError: p is beyond the limit or the matrix beyond the memory, or a ridge is set.
        """
        self._refuse_ridge()
        return self._solve(A, [b], "residual", progress, symmetric=True)[0]

    def solve_many(
        self, A: LinearOperator, b: Tensor, *, progress: Progress = silent
    ) -> list[Solution]:
        """Return `solve` for every column of b (p, m), by one decomposition of A.

        Raises:
            GifError: as solve, or b is no matrix.
        """
        self._refuse_ridge()
        return self._solve(A, columns_of(b), "residual", progress, symmetric=True)

    def _refuse_ridge(self) -> None:
        if self.ridge > 0:
            raise GifError("A symmetric system takes `damping` in its operator, not a ridge.")

    def _solve(
        self,
        A: LinearOperator,
        columns: Sequence[Tensor],
        judged_by: str,
        progress: Progress,
        *,
        symmetric: bool = False,
    ) -> list[Solution]:
        """Return a solution for each right-hand side.

        The products of the matrix are in the count of the first that needed it; the others say so.
        """
        started = time.perf_counter()
        self.refuse_large(A.shape)
        shared: _Decomposed | None = None
        found: list[Solution] = []
        for b in columns:
            zero = b.new_zeros(A.shape[1])
            solution = Solution(
                zero, Status.NOT_FINITE, "dense", judged_by=judged_by, ridge=self.ridge
            )
            status = unsolvable(b)
            if status is not None:
                both = untouched(status)
                found.append(replace(solution, status=status, residual=both, normal_residual=both))
                continue
            if shared is None:
                shared = _Decomposed.of(A, b, symmetric, progress)
                solution = replace(solution, hvps=min(A.shape))
            else:
                solution = replace(solution, notes=(SHARED,))
            found.append(self._one(solution, shared, A, b))
        seconds = (time.perf_counter() - started) / len(found)
        return [replace(solution, seconds=seconds) for solution in found]

    def _one(
        self, solution: Solution, shared: _Decomposed, A: LinearOperator, b: Tensor
    ) -> Solution:
        if shared.status is Status.NOT_FINITE:
            return replace(solution, residual=math.inf, normal_residual=math.inf)
        solution = replace(solution, lambda_min=shared.lambda_min, lambda_max=shared.lambda_max)
        if shared.status is Status.ASYMMETRIC:
            solution = replace(solution, status=Status.ASYMMETRIC)
        else:
            solution = self._applied(solution, shared, b)
        return self._certified(solution, A, b)

    def refuse_large(self, shape: tuple[int, int]) -> None:
        megabytes = 8 * shape[0] * shape[1] / 2**20
        if min(shape) > self.limit:
            raise GifError(
                f"A dense solve takes a system of up to {self.limit} unknowns, this one has "
                f"{min(shape)}; select fewer parameters, raise `limit` or use LSMR."
            )
        if megabytes > self.memory_mb:
            raise GifError(
                f"A dense matrix of shape {shape} takes {megabytes:.0f} MB, {self.memory_mb:.0f} "
                "are allowed; select fewer parameters, raise `memory_mb` or use LSMR."
            )

    def _applied(self, solution: Solution, shared: _Decomposed, b: Tensor) -> Solution:
        U, s, Vt = shared.U, shared.s, shared.Vt
        size = max(U.shape[0], Vt.shape[1])
        cutoff = size * torch.finfo(b.dtype).eps * (s[0] if len(s) else 0.0)
        kept = s > cutoff
        rank, full = int(kept.sum()), len(s)
        factors = np.divide(s, s**2 + self.ridge, out=np.zeros_like(s), where=kept)
        x = Vt.T @ (factors * (U.T @ b.double().cpu().numpy()))
        return replace(
            solution,
            value=torch.from_numpy(x).to(b),
            status=Status.EXACT if rank == full or self.ridge > 0 else Status.SINGULAR,
            notes=(f"numerical rank {rank} of {full}", *solution.notes),
        )

    def _certified(self, solution: Solution, A: LinearOperator, b: Tensor) -> Solution:
        if self.ridge == 0:
            solution = certified(solution, A, b, symmetric=False, scale=None)
            return settled(solution, 0.0, otherwise=Status.INCONSISTENT)
        x = solution.value
        r = b - A @ x
        normal = A.T @ r - self.ridge * x
        scale = float((A.T @ b).norm())
        solution = replace(
            solution,
            check_hvps=3,
            residual=relative(float(r.norm()), float(b.norm())),
            normal_residual=relative(float(normal.norm()), scale),
            judged_by="normal_residual",
        )
        return settled(solution, 0.0, otherwise=Status.INCONSISTENT)


@dataclass(frozen=True, eq=False)
class _Decomposed:
    """A = U diag(s) V^T, made once for all right-hand sides, or why there is none."""

    U: np.ndarray
    s: np.ndarray
    Vt: np.ndarray
    status: Status | None = None  # NOT_FINITE or ASYMMETRIC: nothing was decomposed
    lambda_min: float | None = None  # of a symmetric A, exact
    lambda_max: float | None = None

    @classmethod
    def of(
        cls, A: LinearOperator, like: Tensor, symmetric: bool, progress: Progress
    ) -> _Decomposed:
        matrix, none = _matrix(A, like, progress), np.zeros((0, 0))
        if not np.isfinite(matrix).all():
            return cls(none, none, none, Status.NOT_FINITE)
        if not symmetric:
            return cls(*np.linalg.svd(matrix, full_matrices=False))
        rounding = torch.finfo(like.dtype).eps ** 0.5
        if np.linalg.norm(matrix - matrix.T) > rounding * np.linalg.norm(matrix):
            return cls(none, none, none, Status.ASYMMETRIC)
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        falling = np.argsort(-np.abs(values))
        V, s = vectors[:, falling], values[falling]
        return cls(V, np.abs(s), (V * np.sign(s)).T, None, float(values[0]), float(values[-1]))


def _matrix(A: LinearOperator, b: Tensor, progress: Progress) -> np.ndarray:
    """Return A as an array (m, n) in float64, by products from its shorter side."""
    wide = A.shape[0] < A.shape[1]
    unknowns = min(A.shape)
    blocks = []
    for first in range(0, unknowns, BLOCK):
        progress(first, unknowns, "dense")
        part = torch.arange(first, min(first + BLOCK, unknowns), device=b.device)
        units = b.new_zeros(unknowns, len(part))
        units[part, torch.arange(len(part), device=b.device)] = 1
        blocks.append(products_of(A, units, transposed=wide).double().cpu())
    progress(unknowns, unknowns, "dense")
    matrix = torch.cat(blocks, dim=1).numpy()
    return matrix.T if wide else matrix

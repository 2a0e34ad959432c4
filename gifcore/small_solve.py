"""A method in a small space: its own formula and solver, once for each query, on dense matrices.

A system is rotated first, once for all queries: H = Q diag(values) Q^T, and H E = Q L with L of
the size of E's columns. A rotation changes no Krylov space and no residual, so an early stop is
where it was; a product costs r numbers, or k^2, instead of those of the whole matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from gifcore.curved import Curved
from gifcore.influence import adjoint
from gifcore.methods import MethodRow, Solve, Solver, gif_adjoint, hyperinf_adjoint
from gifcore.operators import Diagonal, Embedding, Identity, LinearOperator, Matrix
from gifcore.problem import silent
from gifcore.selection import Selection
from gifcore.small_space import Space
from gifcore.solvers import LSMR, Auto, Dense, Lissa, Neumann, PLissa, Solution
from gifcore.solvers.many import products_of


def small_solve(
    space: Space,
    curved: Curved,
    selected: Selection | None,
    solver: Solver,
    method: str,
    row: MethodRow,
) -> Callable[[Tensor], Tensor]:
    """Return the map from V^T g_q to V^T s_q, both (r,) in float64.

    What has a closed form is taken at full size, once for each column of V.
    """
    r = len(space.V)
    if row.approximation is not None:
        columns = [_closed(v, space, curved, selected, solver, method) for v in space.V]
        T = torch.stack(columns, dim=1).double()
        return lambda b: T @ b
    small = space.H
    if curved.automatic and row.solves and not row.rectangular:
        small = small + curved.auto_damping().value * torch.eye(r, dtype=small.dtype)
    if row.adjoint in (gif_adjoint, hyperinf_adjoint):
        small = torch.cat([small, space.leak])
    H = Matrix(small)
    E = Identity(r) if selected is None else Embedding(space.inside, r)
    R = None
    if row.rectangular and curved.preconditioner is not None:
        own = space.V[space.inside]
        own = own if selected is None else own[:, selected.indices]
        R = Matrix((own @ torch.stack([curved.preconditioner.R @ v for v in own], dim=1)).double())
    eps = torch.finfo(space.V.dtype).eps
    solve, run = Rotated(solver, R, silent, curved, row, eps=eps), row.adjoint
    assert run is not None
    return lambda b: run(H, E, b, solve).value[:r]


def _closed(
    v: Tensor,
    space: Space,
    curved: Curved,
    selected: Selection | None,
    solver: Solver,
    method: str,
) -> Tensor:
    """Return V^T s for the query gradient v, by a closed form at full size."""
    assert curved.problem is not None
    found = adjoint(
        curved.problem, v, method=method, selected=selected, curved=curved, solver=solver
    )
    return space.V @ found.value


@dataclass(frozen=True, eq=False)
class Rotated(Solve):
    """`Solve` for many queries of one method: A is the same in every call and rotated in the first.

    Args:
        eps: of the type that the solves of full size have; an automatic ridge is meant for it.
    """

    eps: float = 0.0
    kept: dict[str, Any] = field(default_factory=dict)

    def symmetric(self, A: LinearOperator, b: Tensor) -> Solution:
        """Return x with A x = b by its eigenvectors."""
        if "eigen" not in self.kept:
            values, Q = torch.linalg.eigh(_dense(A, b))
            self.kept["eigen"] = Diagonal(values), Q
        diagonal, Q = self.kept["eigen"]
        if isinstance(self.solver, Lissa):  # its mini-batches are of full size
            found = self.solver.solve(diagonal, Q.T @ b)
        else:
            found = super().symmetric(diagonal, Q.T @ b)
        return replace(found, value=Q @ found.value)

    def minimum_norm(self, A: LinearOperator, b: Tensor) -> Solution:
        """Return the s of least norm with A s = b, A^T = Q L: s = Q y with L^T y = b."""
        if "factors" not in self.kept:
            Q, L = torch.linalg.qr(_dense(A, b.new_zeros(A.shape[1])).T)
            self.kept["factors"] = Matrix(L.T.contiguous()), Q
        square, Q = self.kept["factors"]
        found = super().minimum_norm(square, b)
        return replace(found, value=Q @ found.value)

    def _rectangular(
        self, A: LinearOperator, b: Tensor
    ) -> tuple[LSMR | Neumann | PLissa | Dense, Auto | None]:
        if "solver" not in self.kept:
            solver, auto = super()._rectangular(A, b)
            if auto is not None and isinstance(solver, LSMR | Dense):
                wider = self.eps / torch.finfo(b.dtype).eps
                solver = replace(solver, ridge=wider * solver.ridge)
            self.kept["solver"] = solver
        return self.kept["solver"], None


def _dense(A: LinearOperator, like: Tensor) -> Tensor:
    """Return the matrix of A, for vectors of the type of `like`."""
    return products_of(A, torch.eye(A.shape[1], dtype=like.dtype))

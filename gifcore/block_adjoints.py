"""Adjoint solves of many queries at once: one system, a right-hand side a query.

Columns ask for their products together, so that a graph that is not kept is made once for all of
them, and one that can be vectorised is walked once. Each has its own certificate, but for the
extreme Rayleigh quotients: those are of all products of the block.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from gifcore.curved import Curved
from gifcore.influence import completed, damped
from gifcore.methods import (
    Method,
    Solve,
    Solver,
    freeze_adjoint,
    gif_adjoint,
    if_adjoint,
    mapped,
    projected_adjoint,
    reasoned,
    scored,
)
from gifcore.operators import Identity, LinearOperator
from gifcore.problem import Problem, Progress
from gifcore.selection import Selection
from gifcore.solvers import CG, LSMR, MINRES, Dense, Solution
from gifcore.solvers.many import shares
from gifcore.solvers.solution import VECTORS_MB, Observed, kept_vectors

MOST = 16  # queries of one block


@dataclass(frozen=True)
class System:
    """The system of an adjoint: A x = b, s = x or E x."""

    matrix: Callable[[LinearOperator, LinearOperator], LinearOperator]  # of H and E
    right: Callable[[LinearOperator, Tensor], Tensor]  # of E and g_q
    least_norm: bool = False  # is A wide, and x the shortest of its solutions?
    embedded: bool = False  # s = E x


# as the functions of `methods` have them
SYSTEMS: dict[Method, System] = {
    if_adjoint: System(lambda H, E: H, lambda E, g: g),  # noqa: ARG005
    projected_adjoint: System(lambda H, E: H, lambda E, g: E @ (E.T @ g)),  # noqa: ARG005
    freeze_adjoint: System(lambda H, E: E.T @ (H @ E), lambda E, g: E.T @ g, embedded=True),
    gif_adjoint: System(lambda H, E: (H @ E).T, lambda E, g: E.T @ g, least_norm=True),
}


def block_size(method: str, solver: Solver, selected: Selection | None, theta: Tensor) -> int:
    """Return how many queries are solved at once: as many as keep the Krylov vectors of one alone.

    Of Dense as many as fit: one decomposition serves them all. 1 where a method or a solver takes
    none together.
    """
    row = scored(method)
    assert row.adjoint is not None
    if row.adjoint not in SYSTEMS or not isinstance(solver, LSMR | MINRES | CG | Dense):
        return 1
    p = len(theta)
    if isinstance(solver, Dense):  # right-hand sides and solutions
        return max(1, int(VECTORS_MB * 2**20 // (2 * p * theta.element_size())))
    k = p if selected is None else len(selected.indices)
    sizes: dict[Method, int] = {gif_adjoint: p + 2 * k, freeze_adjoint: k}
    numbers = sizes.get(row.adjoint, p)
    window = kept_vectors(solver.reorthogonalise, solver.iterations, numbers, theta)
    held = max(window, 1) * numbers * theta.element_size()
    return max(1, min(MOST, int(VECTORS_MB * 2**20 // held)))


def next_block(size: int, solver: Solver, H: LinearOperator, *, first: bool) -> int:
    """Return how many queries go next: `size` where that saves work, else one alone.

    It does where one decomposition serves all, and where a graph is made anew for every product;
    with all graphs kept it does not (`python -m benchmarks.block_solves`). Which are kept is known
    after a product: the first query goes alone.
    """
    if isinstance(solver, Dense):
        return size
    return 1 if first or not shares(H) else size


def adjoints_together(
    problem: Problem,
    gradients: Sequence[Tensor],  # (p,) each
    *,
    method: str,
    selected: Selection | None,
    curved: Curved,
    solver: Solver,
    progress: Progress,
) -> list[Solution]:
    """Return s_q of every query, as `adjoint` does one by one; of a method of SYSTEMS.

    Args:
        curved: with its preconditioner measured, if the method takes one.
    """
    started, row = time.perf_counter(), scored(method)
    assert row.adjoint is not None
    system = SYSTEMS[row.adjoint]
    E = Identity(problem.space.size) if selected is None else selected.embedding
    R = curved.preconditioner if row.rectangular else None
    curved, auto = damped(curved, row)
    H = Observed(curved.H)
    solve = Solve(solver, R.R if R else None, progress, curved, row, None, problem)
    A, b = system.matrix(H, E), [system.right(E, g_q) for g_q in gradients]
    found = solve.minimum_norm_many(A, b) if system.least_norm else solve.symmetric_many(A, b)
    if system.embedded:
        found = [mapped(E, one) for one in found]
    seconds = (time.perf_counter() - started) / len(found)
    return [completed(reasoned(one, auto), row, curved, selected, H, seconds) for one in found]

"""The methods, side by side: each is an update and its adjoint over the same operators.

    H curvature (p, p) with weight decay and damping in it    E embedding (p, k) of the selection
    g gradient change (p,)                                    g_q gradient of a query (p,)

An update delta moves the model to theta + E delta; an adjoint s scores every training sample by
s . grad l_i, because g_q . delta_i = s_q . g_i.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gifcore.change import Change
from gifcore.curvature import draw_samples
from gifcore.curved import Approximation, Curved
from gifcore.errors import GifError
from gifcore.operators import Embedding, LinearOperator
from gifcore.problem import Problem, Progress
from gifcore.solvers import (
    CG,
    LSMR,
    MINRES,
    Auto,
    Dense,
    Lissa,
    Neumann,
    PLissa,
    Schulz,
    Solution,
    Status,
    auto_ridge,
)

Solver = LSMR | MINRES | CG | Neumann | PLissa | Lissa | Dense

# --- the methods: update and adjoint ------------------------------------------------------------


def gradient_update(H: LinearOperator, E: LinearOperator, g: Tensor, solve: Solve) -> Solution:  # noqa: ARG001
    """delta = E^T g."""
    return Solution(E.T @ g, Status.DIRECT, "none")


def gradient_adjoint(H: LinearOperator, E: LinearOperator, g_q: Tensor, solve: Solve) -> Solution:  # noqa: ARG001
    """s = E E^T g_q."""
    return Solution(E @ (E.T @ g_q), Status.DIRECT, "none")


def if_update(H: LinearOperator, E: LinearOperator, g: Tensor, solve: Solve) -> Solution:  # noqa: ARG001
    """delta = H^-1 g, on all parameters."""
    return solve.symmetric(H, g)


def if_adjoint(H: LinearOperator, E: LinearOperator, g_q: Tensor, solve: Solve) -> Solution:  # noqa: ARG001
    """s = H^-1 g_q."""
    return solve.symmetric(H, g_q)


def projected_update(H: LinearOperator, E: LinearOperator, g: Tensor, solve: Solve) -> Solution:
    """delta = E^T H^-1 g."""
    return mapped(E.T, solve.symmetric(H, g))


def projected_adjoint(H: LinearOperator, E: LinearOperator, g_q: Tensor, solve: Solve) -> Solution:
    """s = H^-1 E E^T g_q."""
    return solve.symmetric(H, E @ (E.T @ g_q))


def freeze_update(H: LinearOperator, E: LinearOperator, g: Tensor, solve: Solve) -> Solution:
    """delta = (E^T H E)^-1 E^T g."""
    return solve.symmetric(E.T @ (H @ E), E.T @ g)


def freeze_adjoint(H: LinearOperator, E: LinearOperator, g_q: Tensor, solve: Solve) -> Solution:
    """s = E (E^T H E)^-1 E^T g_q."""
    return mapped(E, solve.symmetric(E.T @ (H @ E), E.T @ g_q))


def gif_update(H: LinearOperator, E: LinearOperator, g: Tensor, solve: Solve) -> Solution:
    """delta = argmin_x ||H E x - g||_2."""
    return solve.least_squares(H @ E, g)


def gif_adjoint(H: LinearOperator, E: LinearOperator, g_q: Tensor, solve: Solve) -> Solution:
    """s = argmin ||s||_2 subject to E^T H s = E^T g_q."""
    return solve.minimum_norm((H @ E).T, E.T @ g_q)


def hyperinf_update(H: LinearOperator, E: LinearOperator, g: Tensor, solve: Solve) -> Solution:
    """delta = X (H E)^T g, X by Schulz doubling towards (E^T H^2 E)^-1."""
    found = solve.doubling.least_squares(H @ E, g, progress=solve.progress)
    return without_ridge(found, solve.solver)


def hyperinf_adjoint(H: LinearOperator, E: LinearOperator, g_q: Tensor, solve: Solve) -> Solution:
    """s = H E X E^T g_q."""
    found = solve.doubling.minimum_norm((H @ E).T, E.T @ g_q, progress=solve.progress)
    return without_ridge(found, solve.solver)


def second_order_update(H: LinearOperator, E: LinearOperator, g: Tensor, solve: Solve) -> Solution:
    """delta = E^T (d1 - c (d1 - H^-1 H_U d1)), d1 = H^-1 g, c = r / (n - r)."""
    group = solve.group()
    first = solve.symmetric(H, g)
    d = first.solver_damping or 0.0  # what the solver adds to H belongs to H_U as well
    second = solve.symmetric(H, group.H @ first.value + d * first.value)
    both = worse_of(first, second, E.T @ ((1 - group.c) * first.value + group.c * second.value))
    return replace(both, hvps=both.hvps + 1)


def closed_update(H: LinearOperator, E: LinearOperator, g: Tensor, solve: Solve) -> Solution:  # noqa: ARG001
    """delta = (E^T Hhat E)^-1 E^T g by layers; where that has no closed form, E^T Hhat^-1 g."""
    value, exact = solve.inverse.cut(E, E.T @ g)
    return solve.inverse.solution(value if exact else E.T @ solve.inverse.whole(g), exact)


def closed_adjoint(H: LinearOperator, E: LinearOperator, g_q: Tensor, solve: Solve) -> Solution:  # noqa: ARG001
    """s = E (E^T Hhat E)^-1 E^T g_q; where that has no closed form, Hhat^-1 E E^T g_q."""
    b = E.T @ g_q
    value, exact = solve.inverse.cut(E, b)
    return solve.inverse.solution(E @ value if exact else solve.inverse.whole(E @ b), exact)


Method = Callable[[LinearOperator, LinearOperator, Tensor, "Solve"], Solution]


@dataclass(frozen=True)
class MethodRow:
    """One method.

    Args:
        adjoint: None where it gives no score.
        selects: does it move the selected parameters only?
        rectangular: does it solve with H E, preconditioned on the k side?
        approximation: the closed form it takes instead of a solve: "ekfac" or "datainf".
        checkpoints: is it a sum over checkpoints of the training, each at its own parameters?
    """

    update: Method
    adjoint: Method | None
    selects: bool
    rectangular: bool = False
    approximation: str | None = None
    checkpoints: bool = False

    @property
    def solves(self) -> bool:
        """Does it multiply with H?"""
        return self.approximation is None and self.update is not gradient_update


METHODS: dict[str, MethodRow] = {
    "gradient": MethodRow(gradient_update, gradient_adjoint, True),
    "if": MethodRow(if_update, if_adjoint, False),
    "projected": MethodRow(projected_update, projected_adjoint, True),
    "freeze": MethodRow(freeze_update, freeze_adjoint, True),
    "gif": MethodRow(gif_update, gif_adjoint, True, rectangular=True),
    "second-order": MethodRow(second_order_update, None, True),
    "tracin": MethodRow(gradient_update, gradient_adjoint, True, checkpoints=True),
    "datainf": MethodRow(closed_update, closed_adjoint, True, approximation="datainf"),
    "hyperinf": MethodRow(hyperinf_update, hyperinf_adjoint, True),
    "ekfac": MethodRow(closed_update, closed_adjoint, True, approximation="ekfac"),
}


def row_of(name: str) -> MethodRow:
    """Return the row of a method.

    Raises:
        GifError: an unknown method.
    """
    if name not in METHODS:
        raise GifError(f"Unknown method '{name}'; choose one of: {', '.join(METHODS)}.")
    return METHODS[name]


def scored(method: str) -> MethodRow:
    """Return the row of a method that gives per-sample scores.

    Raises:
        GifError: an unknown method, or one that is an update only.
    """
    row = row_of(method)
    if row.adjoint is None:
        able = ", ".join(name for name, other in METHODS.items() if other.adjoint)
        raise GifError(f"{method} is an update and ranks no samples; choose one of: {able}.")
    return row


# --- what a method solves with --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Group:
    """The removed samples: H_U, (p, p), the mean over them, and c = r / (n - r).

    With weights c = W_U / (W - W_U), from H' = H + c (H - H_U).
    """

    H: LinearOperator
    c: float


@dataclass(frozen=True, eq=False)
class Inverse:
    """A closed form of Hhat^-1 with its damping, whole or cut to J."""

    kind: str
    approximation: Approximation
    damping: float
    reasons: tuple[str, ...]

    def whole(self, vector: Tensor) -> Tensor:
        return self.approximation.inverse(vector, self.damping)

    def cut(self, E: LinearOperator, vector: Tensor) -> tuple[Tensor, bool]:
        """Return (E^T Hhat E)^-1 v and True; False where only the inverse can be cut."""
        if not isinstance(E, Embedding):
            return self.whole(vector), True
        return self.approximation.restricted_inverse(vector, E.indices, self.damping)

    def solution(self, value: Tensor, exact: bool) -> Solution:
        cut = "inverse of the cut curvature" if exact else "cut of the inverse curvature"
        return Solution(
            value,
            Status.DIRECT,
            f"{self.kind} closed form",
            solver_damping=self.damping,
            auto=self.reasons,
            notes=(cut,),
        )


@dataclass(frozen=True, eq=False)
class Solve:
    """What a method needs to solve: the solver, R of the k side, and who listens."""

    solver: Solver
    R: LinearOperator | None
    progress: Progress
    curved: Curved
    row: MethodRow
    change: Change | None = None
    problem: Problem | None = None

    def symmetric(self, A: LinearOperator, b: Tensor) -> Solution:
        """Return x with A x = b: by the solver that was asked for, MINRES in place of LSMR."""
        solver = self._symmetric()
        if isinstance(solver, Lissa) and A.shape == self.curved.H.shape:
            batches = solver.batches(self.curved.batch, self.curved.samples)
            return solver.solve(A, b, batches=batches, progress=self.progress)
        return without_ridge(solver.solve(A, b, progress=self.progress), self.solver)

    def symmetric_many(self, A: LinearOperator, b: Sequence[Tensor]) -> list[Solution]:
        """Return `symmetric` for every b; CG and MINRES share products, Dense decomposes once."""
        solver = self._symmetric()
        if not isinstance(solver, MINRES | CG | Dense):
            return [self.symmetric(A, one) for one in b]
        many = solver.solve_many(A, torch.stack(list(b), dim=1), progress=self.progress)
        return [without_ridge(found, self.solver) for found in many]

    def minimum_norm_many(self, A: LinearOperator, b: Sequence[Tensor]) -> list[Solution]:
        """Return `minimum_norm` for every b; LSMR shares products, Dense decomposes once."""
        solver, auto = self._rectangular(A.T, b[0])
        if not isinstance(solver, LSMR | Dense):
            return [self.minimum_norm(A, one) for one in b]
        stack = torch.stack(list(b), dim=1)
        if isinstance(solver, Dense):
            many = solver.minimum_norm_many(A, stack, progress=self.progress)
        else:
            many = solver.minimum_norm_many(A, stack, left=self.R, progress=self.progress)
        return [reasoned(found, auto) for found in many]

    def _symmetric(self) -> MINRES | CG | Neumann | PLissa | Lissa | Dense:
        solver = self.solver
        if isinstance(solver, LSMR):
            return MINRES(solver.iterations, solver.tolerance, keep_halfway=solver.keep_halfway)
        return replace(solver, ridge=0.0) if isinstance(solver, Dense) else solver

    def least_squares(self, A: LinearOperator, b: Tensor) -> Solution:
        """Return argmin ||A x - b||: by the solver that was asked for if it can, else LSMR."""
        solver, auto = self._rectangular(A, b)
        if isinstance(solver, LSMR):
            found = solver.least_squares(A, b, right=self.R, progress=self.progress)
        else:
            found = solver.least_squares(A, b, progress=self.progress)
        return reasoned(found, auto)

    def minimum_norm(self, A: LinearOperator, b: Tensor) -> Solution:
        """Return the s of least norm with A s = b, by the same solvers."""
        solver, auto = self._rectangular(A.T, b)
        if isinstance(solver, LSMR):
            found = solver.minimum_norm(A, b, left=self.R, progress=self.progress)
        else:
            found = solver.minimum_norm(A, b, progress=self.progress)
        return reasoned(found, auto)

    def _rectangular(
        self, A: LinearOperator, b: Tensor
    ) -> tuple[LSMR | Neumann | PLissa | Dense, Auto | None]:
        solver = self.solver
        if isinstance(solver, MINRES | CG | Lissa):
            solver = LSMR(
                solver.iterations,
                solver.tolerance,
                preconditioner="none",
                keep_halfway=solver.keep_halfway,
            )
        if not self.curved.automatic:
            return solver, None
        if isinstance(solver, Neumann | PLissa):
            why = f"no ridge: {type(solver).__name__} takes none, its early stop stands for one"
            return solver, Auto(0.0, why, 0)
        if solver.ridge > 0:
            return solver, None
        found = auto_ridge(A, b.new_zeros(A.shape[1]), seed=self.curved.seed)
        return replace(solver, ridge=found.value), found

    @property
    def doubling(self) -> Schulz:
        """Schulz with as many doublings as fit the iterations: 2^K - 1 terms."""
        if isinstance(self.solver, Dense):
            return Schulz(seed=self.curved.seed)
        doublings = max(1, min(30, (self.solver.iterations + 1).bit_length() - 1))
        halfway = self.solver.keep_halfway
        return Schulz(doublings, seed=self.curved.seed, keep_halfway=halfway)

    @property
    def inverse(self) -> Inverse:
        kind = self.row.approximation
        assert kind is not None
        damping, reasons = self.curved.damping_of(kind)
        return Inverse(kind, self.curved.approximation(kind), damping, reasons)

    def group(self) -> Group:
        """Return H_U and c of the removed samples, H_U on as many of them as H has.

        Raises:
            GifError: a change that is no removal, or a curvature of the changed objective.
        """
        problem = self.problem
        if problem is None or self.change is None:
            raise GifError("second-order is an update; choose another method for scores.")
        effect = self.change.effect(problem)
        removed = effect.removed
        if not torch.equal(effect.samples(problem), removed.sort().values):
            raise GifError("second-order is for removals; choose another method for this change.")
        if self.curved.of != "full":
            raise GifError("second-order needs curvature_of='full': the retained one is its aim.")
        count = len(self.curved.samples)
        few = draw_samples(problem.narrowed(removed.sort().values), count, self.curved.seed)
        gone = float(problem.shares()[removed].sum())
        return Group(self.curved.batch(few), gone / (1 - gone))


def reasoned(found: Solution, auto: Auto | None) -> Solution:
    """Return the solution with the reason of an automatic number, and its products counted."""
    if auto is None:
        return found
    return replace(found, auto=(auto.reason,), hvps=found.hvps + auto.products)


def without_ridge(found: Solution, asked: Solver) -> Solution:
    """Return the solution with a note if it was solved without the ridge that was asked for."""
    if not isinstance(asked, LSMR | Dense) or asked.ridge == 0:
        return found
    note = f"the ridge {asked.ridge:g} is for gif: {found.solver} solved without it"
    return replace(found, notes=(*found.notes, note))


def mapped(A: LinearOperator, found: Solution) -> Solution:
    """Return the solution with A x for x; its certificate is that of x."""
    halfway = None if found.halfway is None else A @ found.halfway
    return replace(found, value=A @ found.value, halfway=halfway)


def worse_of(one: Solution, other: Solution, value: Tensor) -> Solution:
    """Return a value that took two solves, with the certificate of the worse and the cost of both.

    Worse is what is not trusted, then what has the larger residual; NaN counts as infinite.
    """

    def badness(found: Solution) -> tuple[bool, float]:
        return not found.trusted, math.inf if math.isnan(found.residual) else found.residual

    return replace(
        max(one, other, key=badness),
        value=value,
        halfway=None,
        iterations=one.iterations + other.iterations,
        hvps=one.hvps + other.hvps,
        check_hvps=one.check_hvps + other.check_hvps,
        notes=(*dict.fromkeys(one.notes + other.notes), "two solves: the worse certificate"),
    )

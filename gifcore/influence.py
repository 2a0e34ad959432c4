"""The methods, side by side: each is an update and its adjoint over the same operators.

    H curvature (p, p) with weight decay and damping in it    E embedding (p, k) of the selection
    g gradient change (p,)                                    g_q gradient of a query (p,)

An update delta moves the model to theta + E delta; an adjoint s scores every training sample by
s . grad l_i, because g_q . delta_i = s_q . g_i.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gifcore.change import Change
from gifcore.curvature import Hessian, draw_samples
from gifcore.errors import GifError
from gifcore.operators import Diagonal, Embedding, Identity, LinearOperator
from gifcore.problem import Problem, Progress, silent
from gifcore.selection import Selection
from gifcore.solvers import LSMR, MINRES, Preconditioner, Solution, Status, jacobi
from gifcore.solvers.preconditioners import default_probes
from gifcore.solvers.solution import Observed

# --- the methods: update and adjoint ------------------------------------------------------------


@dataclass(frozen=True)
class Solve:
    """What a method needs to solve: the solver, R of the k side and who listens."""

    solver: LSMR | MINRES
    R: Diagonal | None
    progress: Progress

    def symmetric(self, A: LinearOperator, b: Tensor) -> Solution:
        solver = self.solver
        if isinstance(solver, LSMR):
            solver = MINRES(solver.iterations, solver.tolerance, solver.reorthogonalise)
        return solver.solve(A, b, progress=self.progress)

    @property
    def rectangular(self) -> LSMR:
        if isinstance(self.solver, LSMR):
            return self.solver
        return LSMR(
            self.solver.iterations,
            self.solver.tolerance,
            preconditioner="none",
            reorthogonalise=self.solver.reorthogonalise,
        )


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


def gif_update(H: LinearOperator, E: LinearOperator, g: Tensor, solve: Solve) -> Solution:
    """delta = argmin_x ||H E x - g||_2."""
    return solve.rectangular.least_squares(H @ E, g, right=solve.R, progress=solve.progress)


def gif_adjoint(H: LinearOperator, E: LinearOperator, g_q: Tensor, solve: Solve) -> Solution:
    """s = argmin ||s||_2 subject to E^T H s = E^T g_q."""
    return solve.rectangular.minimum_norm(
        (H @ E).T, E.T @ g_q, left=solve.R, progress=solve.progress
    )


Method = Callable[[LinearOperator, LinearOperator, Tensor, Solve], Solution]

# name -> (update, adjoint, moves the selected parameters only, is preconditioned on the k side)
METHODS: dict[str, tuple[Method, Method, bool, bool]] = {
    "gradient": (gradient_update, gradient_adjoint, True, False),
    "if": (if_update, if_adjoint, False, False),
    "gif": (gif_update, gif_adjoint, True, True),
}


# --- the curvature and its preconditioner, shared by every solve of a study ---------------------


@dataclass(frozen=True, eq=False)
class Curved:
    """A curvature with damping in it, what it was measured on, and R for a selection."""

    H: LinearOperator  # Hessian + damping I
    samples: Tensor
    damping: float
    of: str  # "full" or "retained"
    preconditioner: Preconditioner | None = None


def curvature(
    problem: Problem,
    *,
    samples: int | None = None,
    damping: float = 0.0,
    of: str = "full",
    seed: int = 0,
    batch_size: int = 128,
    memory_mb: float = 512,
    stop: Callable[[], None] | None = None,
) -> Curved:
    """Return the Hessian of a problem's objective on one seeded draw of its samples.

    Args:
        samples: how many curvature samples; None: all of the problem's.
        damping: H + damping I; moves every eigenvalue, which on an indefinite H can bring one
            onto zero.
        memory_mb: budget for gradient graphs kept between products.
    """
    if not 0 <= damping < float("inf"):
        raise GifError(f"damping is {damping}; it must be 0 or more.")
    drawn = draw_samples(problem, samples, seed)
    H: LinearOperator = Hessian(problem, drawn, batch_size, memory_mb, stop)
    if damping > 0:
        H = H + damping * Identity(problem.space.size)
    return Curved(H, drawn, damping, of)


def preconditioned(
    curved: Curved, selected: Selection | None, solver: LSMR | MINRES, *, seed: int = 0
) -> Curved:
    """Return the curvature with R measured on the selection, if the solver asks for one."""
    if not isinstance(solver, LSMR) or solver.preconditioner == "none":
        return curved
    if solver.preconditioner != "jacobi":
        raise GifError(f"Unknown preconditioner '{solver.preconditioner}'; choose jacobi or none.")
    probes = default_probes(2 * solver.iterations) if solver.probes is None else solver.probes
    theta = _parameters_of(curved.H).theta
    indices = torch.arange(len(theta)) if selected is None else selected.indices
    return replace(curved, preconditioner=jacobi(curved.H, indices, probes, seed, theta))


def _parameters_of(H: LinearOperator) -> Problem:
    while not isinstance(H, Hessian):
        H = H.left  # type: ignore[attr-defined]  # Hessian + damping I
    return H.problem


# --- the public functions ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Update:
    """A move of parameters: theta + E delta is the edited model at scale 1.

    Args:
        delta: (k,) in the order of the selection's indices, (p,) for `if`.
        indices: (k,) flat indices, None for all parameters.
    """

    delta: Tensor
    indices: Tensor | None
    method: str


@dataclass(frozen=True, eq=False)
class Influence(Update):
    """An update with its certificate and the gradient change g, (p,), it was solved for."""

    solution: Solution
    gradient: Tensor


def influence(
    problem: Problem,
    change: Change,
    *,
    method: str = "gif",
    selected: Selection | None = None,
    curvature: str | Curved = "hessian",
    samples: int | None = None,
    curvature_of: str = "retained",
    solver: LSMR | MINRES | None = None,
    damping: float = 0.0,
    seed: int = 0,
    gradient: Tensor | None = None,
    progress: Progress = silent,
) -> Influence:
    """Return the parameter change that a change of the training set calls for.

    Formulas: `gif_update`, `if_update`, `gradient_update` above. The sign is that of the edit:
    add delta to the parameters to make the change happen.

    Args:
        selected: J; None means all parameters.
        curvature: "hessian", or a `Curved` made before, to share it between calls.
        curvature_of: whose curvature: of L' ("retained") or of L ("full").
        gradient: g if it is known already.

    Raises:
        GifError: an unknown name or an impossible number.

    Reference: Lyu et al. 2023 (arXiv 2312.05586) for gif; Koh and Liang 2017 for if.
    Cost: one gradient over all samples and 2 Hessian products an LSMR iteration (MINRES: 1).
    """
    update, _, uses_selection, _ = _method(method)
    solver = solver or LSMR()
    if gradient is None:
        gradient = change.gradient(problem, progress=progress)
    objective = change.apply(problem) if curvature_of == "retained" else problem
    curved = _curved(curvature, objective, samples, damping, curvature_of, seed)
    solution = _solve(update, method, curved, selected, gradient, problem, solver, seed, progress)
    indices = selected.indices if uses_selection and selected is not None else None
    return Influence(solution.value, indices, method, solution, gradient)


def adjoint(
    problem: Problem,
    query_gradient: Tensor,  # (p,)
    *,
    method: str,
    selected: Selection | None,
    curved: Curved,
    solver: LSMR | MINRES,
    seed: int = 0,
    progress: Progress = silent,
) -> Solution:
    """Return s_q, (p,): the direction along which training gradients are read for one query."""
    solve = _method(method)[1]
    return _solve(solve, method, curved, selected, query_gradient, problem, solver, seed, progress)


def _method(name: str) -> tuple[Method, Method, bool, bool]:
    if name not in METHODS:
        raise GifError(f"Unknown method '{name}'; choose one of: {', '.join(METHODS)}.")
    return METHODS[name]


def _curved(
    given: str | Curved, problem: Problem, samples: int | None, damping: float, of: str, seed: int
) -> Curved:
    if of not in ("retained", "full"):
        raise GifError(f"curvature_of is '{of}'; choose retained or full.")
    if isinstance(given, Curved):
        if damping or samples is not None:
            raise GifError(
                "A ready curvature has its samples and damping in it; give them to `curvature` "
                "or leave them out here."
            )
        return given
    if given != "hessian":
        raise GifError(f"Unknown curvature '{given}'; choose one of: hessian.")
    return curvature(problem, samples=samples, damping=damping, of=of, seed=seed)


def _solve(
    solve: Method,
    method: str,
    curved: Curved,
    selected: Selection | None,
    b: Tensor,
    problem: Problem,
    solver: LSMR | MINRES,
    seed: int,
    progress: Progress,
) -> Solution:
    started = time.perf_counter()
    E = Identity(problem.space.size) if selected is None else selected.embedding
    wants_R = METHODS[method][3]
    if wants_R and curved.preconditioner is None:
        curved = preconditioned(curved, selected, solver, seed=seed)
    R = curved.preconditioner if wants_R else None
    H = Observed(curved.H)
    solution = solve(H, E, b, Solve(solver, R.R if R else None, progress))
    return replace(
        solution,
        hvps=solution.hvps + (R.probes if R else 0),
        damping=curved.damping,
        preconditioner=R.summary() if R else None,
        lambda_max=H.highest,
        lambda_min=H.lowest,
        curvature_of=curved.of,
        samples=len(curved.samples) if H.products else 0,
        seconds=time.perf_counter() - started,
    )


def embedded(update: Update, size: int) -> Tensor:
    """Return E delta, (p,)."""
    if update.indices is None:
        return update.delta
    return Embedding(update.indices, size) @ update.delta

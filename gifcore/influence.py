"""What a change of the training set does to the parameters, and what a query asks of them.

influence   delta, (k,): the move that a change calls for, by any row of METHODS
adjoint     s_q, (p,): the direction along which training gradients are read for one query
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gifcore.change import Change
from gifcore.checkpoints import Checkpoint
from gifcore.curved import Curved, curvature, preconditioned
from gifcore.errors import GifError
from gifcore.methods import (
    Method,
    MethodRow,
    Solve,
    Solver,
    reasoned,
    row_of,
    scored,
    second_order_update,
)
from gifcore.operators import Embedding, Identity
from gifcore.problem import Problem, Progress, silent
from gifcore.selection import Selection
from gifcore.solvers import LSMR, Auto, Solution
from gifcore.solvers.solution import Observed


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
    curvature_of: str | None = None,
    solver: Solver | None = None,
    damping: float | str = 0.0,
    seed: int = 0,
    change_samples: int | None = None,
    gradient: Tensor | None = None,
    checkpoints: Sequence[Checkpoint] = (),
    progress: Progress = silent,
) -> Influence:
    """Return the parameter change that a change of the training set calls for.

    Formulas: the functions `*_update` of `methods`. The sign is that of the edit: add delta to the
    parameters to make the change happen.

    Args:
        selected: J; None means all parameters.
        curvature: a name of CURVATURES, or a `Curved` made before, to share it between calls.
        curvature_of: whose curvature: of L' ("retained") or of L ("full"); None: retained, but
            full for second-order, whose aim the retained one is.
        damping: of H + damping I; "auto": from the spectrum, a ridge instead for gif.
        change_samples: estimate g from so many of the changed samples; None: all of them.
        gradient: g, (p,), if it is known already.
        checkpoints: of the training, for tracin: delta = E^T sum_t rate_t steps_t g(theta_t).

    Raises:
        GifError: an unknown name or an impossible number.

    Reference: Lyu et al. 2023 (arXiv 2312.05586) for gif, and for freeze and projected beside it;
    Koh and Liang 2017 for if; Basu et al. 2020 for second-order; Pruthi et al. 2020 for tracin;
    Kwon et al. 2024 for datainf; Zhou et al. 2024 for hyperinf; Grosse et al. 2023 for ekfac.
    Cost: one gradient over all samples and 2 Hessian products an LSMR iteration (MINRES: 1).
    """
    row = row_of(method)
    refuse_types(solver, selected)
    if isinstance(curvature, Curved) and curvature_of not in (None, curvature.of):
        raise GifError(
            f"curvature_of is '{curvature_of}' and the curvature given is of the {curvature.of} "
            "objective; give one of the other kind, or leave curvature_of out."
        )
    of = curvature_of or ("full" if row.update is second_order_update else "retained")
    objective = change.apply(problem) if of == "retained" else problem
    heard = Heard(progress)
    curved = curved_of(
        curvature, objective, samples, damping, of, seed, solves=row.solves, stop=heard.again
    )
    if row.checkpoints and gradient is None:
        gradient = _over_checkpoints(problem, change, checkpoints, change_samples, seed, heard)
    if gradient is None:
        gradient = change.gradient(
            problem, change_samples=change_samples, seed=seed, progress=heard
        )
    if gradient.shape != problem.theta.shape or not bool(torch.isfinite(gradient).all()):
        raise GifError(
            f"The gradient change has shape {tuple(gradient.shape)} or holds NaN; give finite "
            f"numbers, ({len(problem.theta)},)."
        )
    gradient = gradient.to(problem.theta)
    solver = solver or LSMR()
    if row.rectangular and curved.preconditioner is None:
        curved = preconditioned(curved, selected, solver, seed=seed, like=gradient)
    solution = _solve(row.update, row, curved, selected, gradient, solver, heard, change, problem)
    indices = selected.indices if row.selects and selected is not None else None
    return Influence(solution.value, indices, method, solution, gradient)


def adjoint(
    problem: Problem,
    query_gradient: Tensor,  # (p,)
    *,
    method: str,
    selected: Selection | None,
    curved: Curved,
    solver: Solver,
    seed: int = 0,
    progress: Progress = silent,
) -> Solution:
    """Return s_q, (p,): the direction along which training gradients are read for one query.

    Raises:
        GifError: a method that gives no score.
    """
    row = scored(method)
    refuse_types(solver, selected)
    if row.rectangular and curved.preconditioner is None:
        curved = preconditioned(curved, selected, solver, seed=seed, like=query_gradient)
    assert row.adjoint is not None
    return _solve(
        row.adjoint, row, curved, selected, query_gradient, solver, progress, None, problem
    )


def _over_checkpoints(
    problem: Problem,
    change: Change,
    checkpoints: Sequence[Checkpoint],
    change_samples: int | None,
    seed: int,
    progress: Progress,
) -> Tensor:
    """Return sum_t rate_t steps_t g(theta_t); each g is a difference of means, so 1/n is in it."""
    weighted = [
        point.rate
        * point.steps
        * change.gradient(
            point.problem(problem), change_samples=change_samples, seed=seed, progress=progress
        )
        for point in required(checkpoints)
    ]
    return torch.stack(weighted).sum(dim=0)


def required(checkpoints: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
    """Return the checkpoints, one or more.

    Raises:
        GifError: there are none.
    """
    if not checkpoints:
        raise GifError(
            "tracin needs checkpoints of the training; save them with "
            "`python -m gifcore train --checkpoints N`."
        )
    return checkpoints


def refuse_types(solver: object, selected: object) -> None:
    """Refuse a name in place of a solver and indices in place of a selection."""
    if solver is not None and not isinstance(solver, Solver):
        raise GifError(f"The solver is {solver!r:.80}; give one, such as gif.LSMR(iterations=50).")
    if selected is not None and not isinstance(selected, Selection):
        kind = type(selected).__name__
        raise GifError(f"selected is a {kind}; give a Selection, as gif.select returns, or None.")


class Heard:
    """A callback that can repeat its last report: to be asked between reports if it cancels.

    Products of batches are made side by side: it may be called from another thread, by one at a
    time.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress, self.last = progress, (0, 1, "curvature")
        self.lock = threading.Lock()

    def __call__(self, done: int, total: int, note: str) -> None:
        with self.lock:
            self.last = done, total, note
            self.progress(*self.last)

    def again(self) -> None:
        """Report as the last time."""
        with self.lock:
            self.progress(*self.last)


def curved_of(
    given: str | Curved,
    problem: Problem,
    samples: int | None,
    damping: float | str,
    of: str,
    seed: int,
    *,
    solves: bool,
    stop: Callable[[], None],
) -> Curved:
    """Return the curvature that was given, or the one it names of this problem's objective.

    Args:
        solves: will it be multiplied with? Else its second derivatives need not exist.

    Raises:
        GifError: as `curvature`; a ready one with other samples or damping beside it.
    """
    if of not in ("retained", "full"):
        raise GifError(f"curvature_of is '{of}'; choose retained or full.")
    if isinstance(given, Curved):
        if damping or samples is not None:
            raise GifError(
                "A ready curvature has its samples and damping in it; give them to `curvature` "
                "or leave them out here."
            )
        return given
    return curvature(
        problem,
        kind=given,
        samples=samples,
        damping=damping,
        of=of,
        seed=seed,
        stop=stop,
        solves=solves,
    )


def _solve(
    solve: Method,
    row: MethodRow,
    curved: Curved,
    selected: Selection | None,
    b: Tensor,
    solver: Solver,
    progress: Progress,
    change: Change | None,
    problem: Problem,
) -> Solution:
    started = time.perf_counter()
    E = Identity(problem.space.size) if selected is None else selected.embedding
    R = curved.preconditioner if row.rectangular else None
    curved, auto = damped(curved, row)
    H = Observed(curved.H)
    found = solve(
        H, E, b, Solve(solver, R.R if R else None, progress, curved, row, change, problem)
    )
    return completed(reasoned(found, auto), row, curved, selected, H, time.perf_counter() - started)


def damped(curved: Curved, row: MethodRow) -> tuple[Curved, Auto | None]:
    """Return the curvature with an automatic damping in it and its reason, where a method needs it.

    For gif that is a ridge instead, found as it solves.
    """
    if not (curved.automatic and row.solves and not row.rectangular):
        return curved, None
    auto = curved.auto_damping()
    H = curved.H + auto.value * Identity(curved.H.shape[0])
    return replace(curved, H=H, damping=auto.value), auto


def completed(
    found: Solution,
    row: MethodRow,
    curved: Curved,
    selected: Selection | None,
    H: Observed,
    seconds: float,
) -> Solution:
    """Return the solution with what it was solved with and what its products showed."""
    R = curved.preconditioner if row.rectangular else None
    return replace(
        found,
        hvps=found.hvps + (R.probes if R else 0),
        damping=curved.damping if row.solves else 0.0,
        notes=(*found.notes, *_on_selection(row, selected), *curved.notes),
        preconditioner=R.summary() if R else None,
        lambda_max=max((x for x in (H.highest, found.lambda_max) if x is not None), default=None),
        lambda_min=min((x for x in (H.lowest, found.lambda_min) if x is not None), default=None),
        curvature_of=curved.of,
        samples=len(curved.samples) if H.products or row.approximation else 0,
        seconds=seconds,
    )


def _on_selection(row: MethodRow, selected: Selection | None) -> tuple[str, ...]:
    """Return what to know about J, if the method depends on it."""
    if selected is None or not row.selects or not row.solves or not selected.advice:
        return ()
    return (selected.advice,)


def embedded(update: Update, size: int) -> Tensor:
    """Return E delta, (p,)."""
    if update.indices is None:
        return update.delta
    return Embedding(update.indices, size) @ update.delta

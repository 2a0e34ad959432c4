"""Self-influence of training samples: how much its own removal is predicted to cost each one.

    I(i, i) = s_i . (grad l_i - gbar) / (n - 1)        s_i the adjoint solve of grad l_i     [nats]

the predicted change of sample i's own loss if it is removed and the model refitted: what `rank`
gives on its diagonal. Positive = it holds its own loss down; the largest are what only the sample
itself teaches, such as a wrong label. With weights, w_i / (W - w_i) for 1 / (n - 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gifcore.checkpoints import Checkpoint
from gifcore.checks import check_problem
from gifcore.closed_self import Inner, by_datainf, by_ekfac, by_gradient
from gifcore.curved import Curved, preconditioned
from gifcore.dense_self import DENSE, by_dense
from gifcore.errors import GifError
from gifcore.influence import Heard, adjoint, curved_of, required
from gifcore.methods import MethodRow, Solver, scored
from gifcore.problem import Problem, Progress, silent
from gifcore.scoring import refuse_alone
from gifcore.selection import Selection
from gifcore.small_solve import small_solve
from gifcore.small_space import coordinates, small_space
from gifcore.solvers import LSMR, Dense, Solution

LISTED = 200  # samples that are solved one by one at most
CHUNK = 2048  # samples whose coordinates in a sketch are held at a time
CHECKED = 8  # samples of a sketch that are solved at full size too


@dataclass(frozen=True, eq=False)
class SelfInfluence:
    """Self-influence of training samples, in nats.

    Args:
        values: (n,), of training sample `train_indices[i]`; positive = its removal raises its loss.
        way: "closed form", "dense", "solves" or "sketch".
        info: what a record says of it: the way in words, is it exact, what was spent and checked.
        solutions: one certificate a sample, where they were solved one by one.
    """

    values: Tensor
    train_indices: Tensor
    method: str
    way: str
    info: dict[str, Any]
    solutions: tuple[Solution, ...] = ()


def self_influence(
    problem: Problem,
    *,
    method: str = "gradient",
    selected: Selection | None = None,
    curvature: str | Curved = "hessian",
    samples: int | None = None,
    solver: Solver | None = None,
    damping: float | str = 0.0,
    seed: int = 0,
    positions: Tensor | None = None,
    rank: int | None = None,
    checkpoints: Sequence[Checkpoint] = (),
    batch_size: int = 64,
    progress: Progress = silent,
) -> SelfInfluence:
    """Return the self-influence of all training samples, or of those listed.

    Exact by closed form for gradient, tracin, datainf and ekfac; exact with `Dense` for if,
    projected, freeze and gif; one solve each for up to LISTED listed samples; else, with a `rank`,
    in a sketch: the small space of the instant preview, where each sample has a small solve.

    Args:
        curvature: a name of CURVATURES (of the full objective), or a `Curved`.
        positions: of the training samples that are asked for; None: all.
        rank: numbers a sample of the sketch.
        checkpoints: of the training, for tracin.

    Raises:
        GifError: an unknown name or position; all n by a method that needs n solves, no rank given.

    Cost: closed forms two to four gradients a sample (datainf: one product of gradients with each
    curvature sample); dense one matrix; sketch `small_space`, `coordinates` and a small solve a
    sample. Memory: flat in n beside the n values.
    """
    row, heard, solver = scored(method), Heard(progress), solver or LSMR()
    refuse_alone(problem)
    asked = _asked(problem, positions)
    way = _way(row, method, solver, asked, rank)
    curved = curved_of(
        curvature, problem, samples, damping, "full", seed, solves=row.solves, stop=heard.again
    )
    solutions: list[Solution] = []
    info: dict[str, Any] = {"exact": way != "sketch"}
    if way == "closed form":
        inner = _closed_form(problem, row, selected, curved, checkpoints, asked, batch_size, heard)
        info["words"] = "exact, in closed form"
    elif way == "dense":
        assert isinstance(solver, Dense)
        inner = by_dense(problem, method, selected, curved, solver, asked, heard)
        info["words"] = "exact, by the dense matrix"
    else:
        if row.rectangular and curved.preconditioner is None:
            curved = preconditioned(curved, selected, solver, seed=seed, like=problem.theta)
        solve = _Solves(problem, method, selected, curved, solver, seed, heard)
        if way == "solves":
            inner, solutions = solve(asked)
            info["words"] = "one solve for each sample"
            info["trusted"] = sum(found.trusted for found in solutions)
        else:
            assert rank is not None
            inner = _in_sketch(solve, row, asked, rank)
            info |= _checked(solve, asked, inner, seed)
            info["rank"] = rank
            info["words"] = f"approximate: in a sketch of rank {rank} of {problem.space.size}"
    if not bool(torch.isfinite(inner).all()):
        raise GifError("Self-influence holds NaN or infinity; raise `damping`.")
    w = problem.weights_of(asked)
    total = problem.weights_of(problem.positions).sum()
    values = inner.to(problem.theta) * (w / (total - w))
    info |= {"way": way, "count": len(asked), "notes": list(check_problem(problem))}
    return SelfInfluence(values, asked, method, way, info, tuple(solutions))


def _asked(problem: Problem, positions: Tensor | None) -> Tensor:
    """Return the positions that are asked for, each a training sample that counts."""
    if positions is None:
        return problem.positions
    asked = torch.as_tensor(positions)
    if asked.dim() != 1 or len(asked) == 0 or asked.dtype != torch.int64:
        raise GifError("positions is a vector of one or more whole numbers (torch.int64).")
    strange = asked[~torch.isin(asked, problem.positions)]
    if len(strange):
        raise GifError(f"There is no training sample {int(strange[0])} in the problem.")
    return asked


def _way(row: MethodRow, method: str, solver: Solver, asked: Tensor, rank: int | None) -> str:
    if row.checkpoints or not row.solves:
        return "closed form"
    if isinstance(solver, Dense) and method in DENSE:
        return "dense"
    if rank is not None:
        return "sketch"
    if len(asked) <= LISTED:
        return "solves"
    raise GifError(
        f"Self-influence of {len(asked)} samples by {method} would be {len(asked)} solves; list up "
        f"to {LISTED} positions, give a rank for a sketch, or choose one of: gradient, tracin, "
        "datainf, ekfac."
    )


def _closed_form(
    problem: Problem,
    row: MethodRow,
    selected: Selection | None,
    curved: Curved,
    checkpoints: Sequence[Checkpoint],
    asked: Tensor,
    batch_size: int,
    progress: Progress,
) -> Tensor:
    J = None if selected is None else selected.indices
    if row.checkpoints:
        parts = []
        for point in required(checkpoints):
            there = Inner(point.problem(problem), J, asked, batch_size, progress)
            parts.append(point.rate * point.steps * by_gradient(there))
        return torch.stack(parts).sum(dim=0)
    here = Inner(problem, J, asked, batch_size, progress)
    if row.approximation == "datainf":
        return by_datainf(here, curved)
    return by_gradient(here) if row.approximation is None else by_ekfac(here, curved)


@dataclass(frozen=True, eq=False)
class _Solves:
    """One solve of full size a sample."""

    problem: Problem
    method: str
    selected: Selection | None
    curved: Curved
    solver: Solver
    seed: int
    progress: Progress

    def __call__(self, asked: Tensor) -> tuple[Tensor, list[Solution]]:
        """Return s_i . (grad l_i - gbar), (m,), and the certificates."""
        problem, inner, solutions = self.problem, [], []
        gbar = problem.data_gradient(problem.positions, progress=self.progress)
        for number, i in enumerate(asked):
            g = problem.data_gradient(i[None])
            found = adjoint(
                problem, g, method=self.method, selected=self.selected, curved=self.curved,
                solver=self.solver, seed=self.seed, progress=self.progress,
            )  # fmt: skip
            inner.append(found.value @ (g - gbar))
            solutions.append(replace(found, halfway=None))
            self.progress(number + 1, len(asked), "self-influence")
        return torch.stack(inner), solutions


def _in_sketch(solve: _Solves, row: MethodRow, asked: Tensor, rank: int) -> Tensor:
    """Return s_i . (grad l_i - gbar) with both in the small space, (n,)."""
    problem, curved = solve.problem, solve.curved
    p = problem.space.size
    if not 1 <= rank <= min(p, problem.n):
        raise GifError(f"rank is {rank}; it must be from 1 to {min(p, problem.n)}.")
    J = torch.arange(p) if solve.selected is None else solve.selected.indices
    space = small_space(
        problem, curved, J, rank, solving=True, seed=solve.seed, progress=solve.progress
    )
    gbar = (space.V @ problem.data_gradient(problem.positions, progress=solve.progress)).double()
    small = small_solve(space, curved, solve.selected, solve.solver, solve.method, row)
    found: list[Tensor] = []
    for part in asked.split(CHUNK):
        rows = coordinates(problem.narrowed(part), space, solve.progress, "coordinates").double()
        for b in rows:
            found.append(small(b) @ (b - gbar))
        solve.progress(len(found), len(asked), "self-influence")
    return torch.stack(found)


def _checked(solve: _Solves, asked: Tensor, inner: Tensor, seed: int) -> dict[str, Any]:
    """Return how far a few of a sketch's numbers are from solves of full size."""
    drawn = torch.randperm(len(asked), generator=torch.Generator().manual_seed(seed))[:CHECKED]
    exact, _ = solve(asked[drawn])
    exact = exact.double()
    error = (inner[drawn] - exact).abs() / exact.abs().clamp_min(torch.finfo(exact.dtype).tiny)
    return {"checked": len(drawn), "median_relative_error": float(error.median())}

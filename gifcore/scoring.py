"""Per-sample influence of every training sample on queries, streamed over batches.

    I(i, q) = s_q . (grad l_i - gbar) / (n - 1)        [nats]

the predicted change of the query's loss if training sample i is removed and the model refitted.
Positive = helpful (removing it raises the query's loss), negative = harmful. Of another target
(`gifcore.targets`) it is the change of that target, in its unit.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gifcore.block_adjoints import adjoints_together, block_size, next_block
from gifcore.checkpoints import Checkpoint
from gifcore.checks import check_problem, not_finite
from gifcore.curved import Curved, preconditioned
from gifcore.errors import GifError
from gifcore.gradient_products import Directions, choose, product_batches, way_of
from gifcore.influence import Heard, adjoint, curved_of, refuse_types, required
from gifcore.methods import Solver, scored
from gifcore.operators import Identity
from gifcore.problem import Problem, Progress, silent
from gifcore.queries import Queries
from gifcore.selection import Selection
from gifcore.solvers import LSMR, Dense, Solution, Status
from gifcore.streams import Extremes, ScoreFile, Scores, Sink, Whole
from gifcore.targets import target_of
from gifcore.ways import Choice

STACKED = 64  # solves whose scores one sweep over the training set gives, at most
STACK_MB = 1024  # and as many as fit
BATCH = 256  # training samples a pass, where the size is not measured
TOP = 50  # training samples that rank stability looks at
SINGLE = "scores by single gradients: a layer has no forward mode"


def rank(
    problem: Problem,
    queries: Queries,
    *,
    method: str = "gif",
    selected: Selection | None = None,
    curvature: str | Curved = "hessian",
    samples: int | None = None,
    solver: Solver | None = None,
    damping: float | str = 0.0,
    seed: int = 0,
    checkpoints: Sequence[Checkpoint] = (),
    batch_size: int | None = None,
    keep: bool = True,
    top: int = TOP,
    out: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
) -> Scores:
    """Return the influence of every training sample on every query.

    Args:
        curvature: a name of CURVATURES (of the full objective), or a `Curved` to share between
            calls.
        checkpoints: of the training, for tracin: the scores are summed over them.
        batch_size: training samples a pass; None: the fastest of some sizes, measured on the first
            batches. Where equal runs must give equal bits, name one.
        keep: hold all scores, (m, n); False: only the extremes of each query.
        top: how many extremes a side are held if not all scores are.
        out: an .npy file, (m, n) of float32, written batch by batch.

    Raises:
        GifError: an unknown name, scores that are not finite, or no room for the file.
        ScoreFileError: the file could not be finished; it holds the scores that were found.

    Cost: per query one adjoint solve; about 2 + m forward passes over the training samples for m
    solves, one more a solve for its rank stability; three more for the mean gradient if samples
    have weights. Memory: flat in n, apart from the (m, n) result if it is kept.
    """
    heard, row, m = Heard(progress), scored(method), len(queries.groups)
    if top < 1:
        raise GifError(f"top is {top}; it must be 1 or more.")
    refuse_alone(problem)
    file = None if out is None else ScoreFile(out, m, problem.n)
    values = problem.theta.new_empty(m, problem.n) if keep else None
    sinks = _Sinks(m, values, file, top)
    try:
        if row.checkpoints:
            points, choice = required(checkpoints), None
            found = _over_checkpoints(problem, queries, selected, points, sinks, batch_size, heard)
        else:
            solutions = adjoints(
                problem,
                queries,
                method=method,
                selected=selected,
                curvature=curvature,
                samples=samples,
                solver=solver,
                damping=damping,
                seed=seed,
                progress=heard,
            )
            found, choice = _scored(problem, solutions, sinks, batch_size, heard)
        scores = Scores(
            values,
            problem.positions,
            tuple(queries.groups),
            tuple(found),
            method,
            None if keep else sinks.extremes(),
            target_of(queries.target),
            choice=choice,
        )
        return scores if file is None else file.close(scores)
    finally:
        if file is not None:
            file.abandon()


def adjoints(
    problem: Problem,
    queries: Queries,
    *,
    method: str,
    selected: Selection | None,
    curvature: str | Curved,
    samples: int | None,
    solver: Solver | None,
    damping: float | str,
    seed: int,
    progress: Progress,
) -> list[Solution]:
    """Return s_q of every query with its iterate at half the budget, as `rank` scores them.

    Queries are solved in blocks (`block_adjoints`) where that saves work.
    """
    row, heard = scored(method), Heard(progress)
    solver = solver or LSMR()
    refuse_types(solver, selected)
    curved = curved_of(
        curvature, problem, samples, damping, "full", seed, solves=row.solves, stop=heard.again
    )
    if row.rectangular and curved.preconditioner is None:
        curved = preconditioned(curved, selected, solver, seed=seed, like=problem.theta)
    solver, m = with_halfway(solver), len(queries.groups)
    block = block_size(method, solver, selected, problem.theta)
    gradients = queries.gradients(problem, heard)
    solutions: list[Solution] = []
    while len(solutions) < m:
        size = next_block(block, solver, curved.H, first=not solutions)
        few = list(itertools.islice(gradients, size))
        if len(few) > 1:
            solutions += adjoints_together(
                problem,
                few,
                method=method,
                selected=selected,
                curved=curved,
                solver=solver,
                progress=heard,
            )
        else:
            solutions += [
                adjoint(
                    problem,
                    g_q,
                    method=method,
                    selected=selected,
                    curved=curved,
                    solver=solver,
                    seed=seed,
                    progress=heard,
                )
                for g_q in few
            ]
        heard(len(solutions), m, "queries")
    return solutions


def score(
    problem: Problem,
    solutions: Sequence[Solution],
    *,
    batch_size: int = BATCH,
    progress: Progress = silent,
) -> tuple[Tensor, list[Solution], Choice]:
    """Return the scores of every solve, (m, n), and the solves with their rank stability.

    With them how the products were taken, and why.

    Rank stability is the overlap of the TOP largest |scores| between the last iterate and the one
    at half the budget: 1 where the rest of the solve changed nothing up there.
    """
    refuse_alone(problem)
    values = problem.theta.new_empty(len(solutions), problem.n)
    sinks = _Sinks(len(solutions), values, None, TOP)
    certified, choice = _scored(problem, solutions, sinks, batch_size, progress)
    return values, certified, choice


def overlap(one: Tensor, other: Tensor, top: int = TOP) -> float:
    """Return the share of the `top` largest |scores| that two rankings have in common."""
    count = min(top, len(one))
    best = [set(row.abs().topk(count).indices.tolist()) for row in (one, other)]
    return len(best[0] & best[1]) / count


class _Sinks:
    """Where the scores of m queries go, and those of their iterates at half the budget."""

    def __init__(self, m: int, values: Tensor | None, file: ScoreFile | None, top: int) -> None:
        self.m, self.values, self.file, self.top = m, values, file, max(top, TOP)
        self.kept: list[Extremes] = []

    def of(self, first: int, rows: int) -> list[Sink]:
        """Return the sinks of the stream's rows from `first` on; those from m on are iterates."""
        self.kept.append(Extremes(self.top))
        sinks: list[Sink] = [self.kept[-1]]
        rows = min(rows, self.m - first)
        if rows > 0 and self.values is not None:
            sinks.append(Whole(self.values[first : first + rows]))
        if rows > 0 and self.file is not None:
            sinks.append(self.file.part(first, rows))
        return sinks

    def extremes(self) -> Extremes:
        """Return those of the queries."""
        return Extremes.joined(self.kept).rows(self.m)


def _scored(
    problem: Problem,
    solutions: Sequence[Solution],
    sinks: _Sinks,
    batch_size: int | None,
    progress: Progress,
) -> tuple[list[Solution], Choice]:
    """Send the scores of every solve to the sinks; return the solves with their rank stability."""
    vectors = [found.value for found in solutions]
    vectors += [found.halfway for found in solutions if found.halfway is not None]
    few, size = Directions(problem, torch.stack(vectors[:2])), stack_size(problem.theta)
    part = problem.positions[: batch_size or BATCH]
    choice = choose(problem, few, part, min(len(vectors), size))
    for first in range(0, len(vectors), size):
        stack = torch.stack(vectors[first : first + size])
        _stream([(problem, stack)], sinks.of(first, len(stack)), batch_size, progress, choice.way)
    extremes, earlier = Extremes.joined(sinks.kept), len(solutions)
    certified = []
    for number, found in enumerate(solutions):
        if choice.way == "single gradients":
            found = replace(found, notes=(*found.notes, SINGLE))  # noqa: PLW2901
        if found.halfway is not None:
            stability = extremes.overlap(number, extremes, earlier, TOP)
            found = replace(found, rank_stability=stability, halfway=None)  # noqa: PLW2901
            earlier += 1
        certified.append(found)
    return certified, choice


def stack_size(theta: Tensor) -> int:
    """Return how many solves one sweep takes: STACKED, or as many as fit STACK_MB."""
    return max(1, min(STACKED, STACK_MB * 2**20 // theta.nbytes))


def with_halfway(solver: Solver) -> Solver:
    """Return the solver with the iterate at half the budget kept, if it iterates."""
    return solver if isinstance(solver, Dense) else replace(solver, keep_halfway=True)


def _over_checkpoints(
    problem: Problem,
    queries: Queries,
    selected: Selection | None,
    checkpoints: Sequence[Checkpoint],
    sinks: _Sinks,
    batch_size: int | None,
    progress: Progress,
) -> list[Solution]:
    """Send sum_t rate_t steps_t (E E^T g_q) . (grad l_i - gbar) / (n - 1), all at theta_t."""
    batch_size = batch_size or BATCH  # of all checkpoints alike
    notes = check_problem(problem)
    E = Identity(problem.space.size) if selected is None else selected.embedding
    there = [point.problem(problem) for point in checkpoints]
    ways: list[str] = []
    certified: list[Solution] = []
    size = max(1, stack_size(problem.theta) // len(checkpoints))
    for first in range(0, len(queries.groups), size):
        few = replace(queries, groups=queries.groups[first : first + size])
        stacks = [
            torch.stack(
                [
                    point.rate * point.steps * (E @ (E.T @ g_q))
                    for g_q in few.gradients(at, progress)
                ]
            )
            for point, at in zip(checkpoints, there, strict=True)
        ]
        if not ways:
            ways = [
                way_of(at, Directions(at, stack[:2]), at.positions[:batch_size])
                for at, stack in zip(there, stacks, strict=True)
            ]
            slow = [SINGLE] if "single gradients" in ways else []
            sum_of = f"a sum over {len(checkpoints)} checkpoints; the value is that of the last"
            notes = (*slow, sum_of, *notes)
        parts = list(zip(there, stacks, strict=True))
        _stream(parts, sinks.of(first, len(few.groups)), batch_size, progress, *ways)
        certified += [Solution(s, Status.DIRECT, "none", notes=notes) for s in stacks[-1]]
    return certified


def influence_scores(
    problem: Problem,
    s: Tensor,
    *,
    batch_size: int = BATCH,
    progress: Progress = silent,
    way: str | None = None,
) -> Tensor:
    """Return s . (grad l_i - gbar) / (n - 1) for all n training samples, in nats.

    With weights w: w_i / (W - w_i) for 1 / (n - 1), W their sum, and gbar the weighted mean.

    Args:
        s: one solve (p,) or a stack of them (m, p).
        way: how the products are taken, a name of WAYS; None: what suits.

    Returns:
        (n,) or (m, n).
    """
    refuse_alone(problem)
    stack = s if s.dim() == 2 else s[None]
    values = problem.theta.new_empty(len(stack), problem.n)
    _stream([(problem, stack)], [Whole(values)], batch_size, progress, way)
    return values if s.dim() == 2 else values[0]


def _stream(
    parts: Sequence[tuple[Problem, Tensor]],
    sinks: Sequence[Sink],
    batch_size: int | None,
    progress: Progress,
    *ways: str | None,
) -> None:
    """Send sum over parts of s . (grad l_i - gbar) / (n - 1) to the sinks, batch by batch.

    The mean of the products is s . gbar, known at the end of the sweep, and does not change which
    are extreme. With weights it does: there gbar comes first.

    Args:
        parts: problems that differ in their parameters alone, with a stack of solves (m, p) each.
        ways: how the products of each part are taken.

    Raises:
        GifError: scores that are not finite.
    """
    problem = parts[0][0]
    w = problem.weights_of(problem.positions)
    factors, known = w / (w.sum() - w), None
    if problem.weights is not None:
        known = sum(stack @ at.data_gradient(at.positions) for at, stack in parts)
    total = torch.zeros(len(parts[0][1]), dtype=torch.float64).to(problem.device)
    batches = [
        product_batches(at, stack, batch_size=batch_size, progress=progress, way=way)
        for (at, stack), way in zip(parts, ways, strict=True)
    ]
    first = 0
    for blocks in zip(*batches, strict=True):
        block = sum(blocks[1:], start=blocks[0])
        total += block.sum(dim=1)
        if not bool(torch.isfinite(total).all()):
            raise not_finite(problem) or GifError(
                "The scores hold NaN or infinity; raise `damping` or check the model."
            )
        if isinstance(known, Tensor):
            block = (block - known[:, None]) * factors[first : first + block.shape[1]]
        for sink in sinks:
            sink.take(block, first)
        first += block.shape[1]
    centre = (total / problem.n).to(problem.theta)
    if known is None:
        for sink in sinks:
            sink.finish(centre, float(factors[0]))


def refuse_alone(problem: Problem) -> None:
    """Refuse a training set of one sample.

    Raises:
        GifError: says so.
    """
    if problem.n < 2:
        raise GifError("Influence of one sample among one is not defined; give two or more.")

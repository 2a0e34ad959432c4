"""Per-sample influence of every training sample on queries, streamed over batches.

    I(i, q) = s_q . (grad l_i - gbar) / (n - 1)        [nats]

the predicted change of the query's loss if training sample i is removed and the model refitted.
Positive = helpful (removing it raises the query's loss), negative = harmful.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gifcore.checkpoints import Checkpoint
from gifcore.checks import ANYTHING, check_problem, first_line
from gifcore.curved import Curved, preconditioned
from gifcore.errors import GifError
from gifcore.gradient_products import Directions, gradient_products, way_of
from gifcore.influence import Heard, adjoint, curved_of, required
from gifcore.methods import Solver, scored
from gifcore.operators import Identity
from gifcore.problem import Problem, Progress, silent
from gifcore.selection import Selection
from gifcore.solvers import LSMR, Dense, Solution, Status

STACKED = 16  # solves whose scores one sweep over the training set gives
TOP = 50  # training samples that rank stability looks at


@dataclass(frozen=True, eq=False)
class Scores:
    """Influence of n training samples on m queries, in nats; positive = helpful.

    Args:
        values: (m, n), column i is training sample `train_indices[i]`.
        solutions: one certificate a query.
    """

    values: Tensor
    train_indices: Tensor
    queries: tuple[Any, ...]
    solutions: tuple[Solution, ...]
    method: str

    def helpful(self, query: int, count: int = 10) -> list[tuple[int, float]]:
        """Return the most helpful training samples of row `query`: (position, influence)."""
        return self._extreme(query, count, largest=True)

    def harmful(self, query: int, count: int = 10) -> list[tuple[int, float]]:
        """Return the most harmful training samples of row `query`: (position, influence)."""
        return self._extreme(query, count, largest=False)

    def top(self, query: int, count: int = 10) -> list[tuple[int, float]]:
        """Return the training samples of largest |influence| on row `query`."""
        row = self.values[query]
        order = row.abs().argsort(descending=True, stable=True)[:count]
        return [(int(self.train_indices[i]), float(row[i])) for i in order]

    def _extreme(self, query: int, count: int, *, largest: bool) -> list[tuple[int, float]]:
        row = self.values[query]
        order = row.argsort(descending=largest, stable=True)[:count]
        return [(int(self.train_indices[i]), float(row[i])) for i in order]


@dataclass(frozen=True, eq=False)
class Queries:
    """Test samples to explain: each entry of `groups` is one query, the mean loss of its samples.

    Args:
        data: map-style data set of the samples.
        groups: positions in `data`, one or more a query.
    """

    data: Dataset[Any]
    groups: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        """Check the positions.

        Raises:
            GifError: no query, a query without samples, or a position that is not there.
        """
        size = len(self.data)  # type: ignore[arg-type]
        named = all(isinstance(group, Sized) and len(group) for group in self.groups)
        if not len(self.groups) or not named:
            raise GifError("Name one or more queries, each a list of one or more samples.")
        for given in (i for group in self.groups for i in group):
            try:
                index = operator.index(given)
            except TypeError:
                raise GifError(f"Samples are named by whole numbers; got {given!r:.40}.") from None
            if not 0 <= index < size:
                raise GifError(f"There is no query sample {index}; positions are 0 … {size - 1}.")


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
    batch_size: int = 256,
    progress: Progress = silent,
) -> Scores:
    """Return the influence of every training sample on every query.

    Args:
        curvature: a name of CURVATURES (of the full objective), or a `Curved` to share between
            calls.
        checkpoints: of the training, for tracin: the scores are summed over them.

    Raises:
        GifError: an unknown name, or scores that are not finite.

    Cost: per query one adjoint solve; about 2 + m forward passes over the training samples for m
    solves, one more a solve for its rank stability. Memory: flat in n, apart from the (m, n)
    result.
    """
    heard = Heard(progress)
    if scored(method).checkpoints:
        return _over_checkpoints(
            problem, queries, method, selected, required(checkpoints), batch_size, heard
        )
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
    values, certified = score(problem, solutions, batch_size=batch_size, progress=heard)
    return Scores(values, problem.positions, tuple(queries.groups), tuple(certified), method)


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
    """Return s_q of every query with its iterate at half the budget, as `rank` scores them."""
    row, heard = scored(method), Heard(progress)
    solver = solver or LSMR()
    curved = curved_of(
        curvature, problem, samples, damping, "full", seed, solves=row.solves, stop=heard.again
    )
    if row.rectangular and curved.preconditioner is None:
        curved = preconditioned(curved, selected, solver, seed=seed, like=problem.theta)
    solutions = []
    for number, g_q in enumerate(_query_gradients(problem, queries, heard)):
        solution = adjoint(
            problem,
            g_q,
            method=method,
            selected=selected,
            curved=curved,
            solver=with_halfway(solver),
            seed=seed,
            progress=heard,
        )
        solutions.append(solution)
        heard(number + 1, len(queries.groups), "queries")
    return solutions


def score(
    problem: Problem,
    solutions: Sequence[Solution],
    *,
    batch_size: int = 256,
    progress: Progress = silent,
) -> tuple[Tensor, list[Solution]]:
    """Return the scores of every solve, (m, n), and the solves with their rank stability.

    Rank stability is the overlap of the TOP largest |scores| between the last iterate and the one
    at half the budget: 1 where the rest of the solve changed nothing up there.
    """
    vectors = [found.value for found in solutions]
    vectors += [found.halfway for found in solutions if found.halfway is not None]
    first = Directions(problem, torch.stack(vectors[:2]))
    way = way_of(problem, first, problem.positions[:batch_size])
    stacks = [torch.stack(vectors[i : i + STACKED]) for i in range(0, len(vectors), STACKED)]
    rows = torch.cat(
        [
            influence_scores(problem, stack, batch_size=batch_size, progress=progress, way=way)
            for stack in stacks
        ]
    )
    values, earlier = rows[: len(solutions)], iter(rows[len(solutions) :])
    if way == "single gradients":
        note = "scores by single gradients: a layer has no forward mode"
        solutions = [replace(found, notes=(*found.notes, note)) for found in solutions]
    certified = [
        found
        if found.halfway is None
        else replace(found, rank_stability=overlap(value, next(earlier)), halfway=None)
        for found, value in zip(solutions, values, strict=True)
    ]
    return values, certified


def overlap(one: Tensor, other: Tensor, top: int = TOP) -> float:
    """Return the share of the `top` largest |scores| that two rankings have in common."""
    count = min(top, len(one))
    best = [set(row.abs().topk(count).indices.tolist()) for row in (one, other)]
    return len(best[0] & best[1]) / count


def with_halfway(solver: Solver) -> Solver:
    """Return the solver with the iterate at half the budget kept, if it iterates."""
    return solver if isinstance(solver, Dense) else replace(solver, keep_halfway=True)


def _query_gradients(problem: Problem, queries: Queries, progress: Progress) -> Iterator[Tensor]:
    for group in queries.groups:
        positions = torch.as_tensor(list(group), dtype=torch.long)
        try:
            g_q = problem.data_gradient(positions, data=queries.data, progress=progress)
        except ANYTHING as error:
            raise GifError(
                f"The query samples {list(group)[:3]} failed in the model or the loss "
                f"({first_line(error)}); give samples of the form of the training samples."
            ) from error
        yield g_q


def _over_checkpoints(
    problem: Problem,
    queries: Queries,
    method: str,
    selected: Selection | None,
    checkpoints: Sequence[Checkpoint],
    batch_size: int,
    progress: Progress,
) -> Scores:
    """Return sum_t rate_t steps_t (E E^T g_q) . (grad l_i - gbar) / (n - 1), all at theta_t."""
    notes = check_problem(problem)
    total = torch.zeros(len(queries.groups), problem.n).to(problem.theta)
    E = Identity(problem.space.size) if selected is None else selected.embedding
    for point in checkpoints:
        there = point.problem(problem)
        found = [
            Solution(point.rate * point.steps * (E @ (E.T @ g_q)), Status.DIRECT, "none")
            for g_q in _query_gradients(there, queries, progress)
        ]
        values, solutions = score(there, found, batch_size=batch_size, progress=progress)
        total += values
    notes = (f"a sum over {len(checkpoints)} checkpoints; the value is that of the last", *notes)
    certified = tuple(replace(found, notes=(*found.notes, *notes)) for found in solutions)
    return Scores(total, problem.positions, tuple(queries.groups), certified, method)


def influence_scores(
    problem: Problem,
    s: Tensor,
    *,
    batch_size: int = 256,
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
    if problem.n < 2:
        raise GifError("Influence of one sample among one is not defined; give two or more.")
    products = gradient_products(problem, s, batch_size=batch_size, progress=progress, way=way)
    if not bool(torch.isfinite(products).all()):
        raise GifError("The scores hold NaN or infinity; raise `damping` or check the model.")
    w = problem.weights_of(problem.positions)
    mean = (products * w).sum(dim=-1, keepdim=True) / w.sum()
    return (products - mean) * (w / (w.sum() - w))

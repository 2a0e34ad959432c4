"""Exact influence of the k nearest training samples of each query, the gradient method beside it.

    I(i, q) = s_q . (grad l_i - gbar) / (n - 1)        [nats]

with gbar over all n training samples: the numbers are those of the full ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gifcore.checkpoints import Checkpoint
from gifcore.checks import check_problem
from gifcore.curved import Curved
from gifcore.errors import GifError
from gifcore.gradient_products import Directions, gradient_products, way_of
from gifcore.influence import required
from gifcore.methods import Solver, scored
from gifcore.neighbors.index import NeighborIndex
from gifcore.operators import Identity, LinearOperator
from gifcore.problem import Problem, Progress, silent
from gifcore.queries import Queries
from gifcore.scoring import adjoints, overlap
from gifcore.selection import Selection
from gifcore.solvers import Solution, Status
from gifcore.streams import Scores
from gifcore.targets import LOSS, Target, target_of


@dataclass(frozen=True, eq=False)
class NearestScores:
    """Influence of k candidates on each of m queries, as `Scores`: positive = helpful for a loss.

    Args:
        values: (m, k), entry (q, j) is training sample `candidates[q, j]`, the nearest first.
        control: (m, k) the same by the gradient method: s = E E^T g_q, no solve.
        solutions: one certificate a query; its rank stability is that among the candidates.
        mean_gradient: gbar, (p,), for the next call; None for tracin, which has one a checkpoint.
    """

    values: Tensor
    control: Tensor
    candidates: Tensor
    queries: tuple[Any, ...]
    solutions: tuple[Solution, ...]
    method: str
    mean_gradient: Tensor | None
    target: Target = LOSS

    def row(self, query: int) -> Scores:
        """Return the scores of one query, among its candidates."""
        return Scores(
            self.values[query : query + 1],
            self.candidates[query],
            self.queries[query : query + 1],
            self.solutions[query : query + 1],
            self.method,
            target=self.target,
        )

    def helpful(self, query: int, count: int = 10) -> list[tuple[int, float]]:
        """Return the most helpful candidates of row `query`: (position, influence)."""
        return self.row(query).helpful(0, count)

    def harmful(self, query: int, count: int = 10) -> list[tuple[int, float]]:
        """Return the most harmful candidates of row `query`: (position, influence)."""
        return self.row(query).harmful(0, count)

    def top(self, query: int, count: int = 10) -> list[tuple[int, float]]:
        """Return the candidates of largest |influence| on row `query`."""
        return self.row(query).top(0, count)

    def spread(self, positions: Tensor) -> Tensor:
        """Return the values in the columns of a full ranking, (m, n); NaN at no candidate.

        Args:
            positions: (n,) the training sample of each column, as `Scores.train_indices`.
        """
        values = self.values.new_full((len(self.values), len(positions)), torch.nan)
        columns = columns_of(positions, self.candidates).to(values.device)
        return values.scatter(1, columns, self.values)


def columns_of(positions: Tensor, candidates: Tensor) -> Tensor:
    """Return the column of every candidate where column j is training sample `positions[j]`.

    >>> columns_of(torch.tensor([7, 2, 5]), torch.tensor([[5, 7]])).tolist()
    [[2, 0]]
    """
    order = positions.argsort()
    return order[torch.searchsorted(positions[order], candidates)]


def rank_nearest(
    problem: Problem,
    queries: Queries,
    *,
    k: int,
    index: NeighborIndex,
    method: str = "gif",
    selected: Selection | None = None,
    curvature: str | Curved = "hessian",
    samples: int | None = None,
    solver: Solver | None = None,
    damping: float | str = 0.0,
    seed: int = 0,
    checkpoints: Sequence[Checkpoint] = (),
    mean_gradient: Tensor | None = None,
    batch_size: int = 256,
    progress: Progress = silent,
) -> NearestScores:
    """Return the influence of the k nearest training samples on every query.

    The candidates of a group are those of its mean feature. All else is as in `rank`, whose
    entries at the candidates these are.

    Args:
        index: of this problem; it says which layer's features are compared.
        mean_gradient: gbar, (p,), as an earlier call on this problem found it.

    Raises:
        GifError: k above n, an index of another model or other data, an unknown name, or scores
            that are not finite.

    Reference: Guo et al. 2021 (arXiv 2012.15781), FastIF; its code leaves out gbar, which moves
    all scores of a query alike.
    Cost: per query one adjoint solve and about 2 + 3 forward passes over k samples; one gradient
    over all n samples a call, unless gbar is given.
    """
    row = scored(method)
    if row.checkpoints and mean_gradient is not None:
        raise GifError("tracin has a mean gradient a checkpoint; leave mean_gradient out.")
    if problem.n < 2:
        raise GifError("Influence of one sample among one is not defined; give two or more.")
    if mean_gradient is not None and mean_gradient.shape != problem.theta.shape:
        raise GifError(
            f"The mean gradient has shape {tuple(mean_gradient.shape)}; give the one of an earlier "
            f"call on this problem, ({len(problem.theta)},), or leave it out."
        )
    index.refuse_other(problem)
    candidates = index.candidates(index.query_features(problem, queries), k)
    E = Identity(problem.space.size) if selected is None else selected.embedding
    near = _Near(candidates, queries, E, batch_size, progress)
    if row.checkpoints:
        values, solutions = near.over_checkpoints(problem, required(checkpoints))
        rows, _ = near.scores(problem, near.gradients(problem), near.mean_gradient(problem))
        control = torch.cat(rows)
        gbar = None
    else:
        gbar = near.mean_gradient(problem) if mean_gradient is None else mean_gradient
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
            progress=progress,
        )
        values, control, solutions = near.certified(problem, solutions, gbar)
    return NearestScores(
        values,
        control,
        candidates,
        tuple(queries.groups),
        tuple(solutions),
        method,
        gbar,
        target_of(queries.target),
    )


@dataclass(frozen=True, eq=False)
class _Near:
    """What the scores of all queries share."""

    candidates: Tensor  # (m, k)
    queries: Queries
    E: LinearOperator
    batch_size: int
    progress: Progress

    def mean_gradient(self, problem: Problem) -> Tensor:
        """Return gbar over all training samples, (p,)."""
        return problem.data_gradient(
            problem.positions, batch_size=self.batch_size, progress=self.progress
        )

    def gradients(self, problem: Problem) -> list[Tensor]:
        """Return E E^T g_q of every query, (1, p) each."""
        found = self.queries.gradients(problem, self.progress)
        return [(self.E @ (self.E.T @ g_q))[None] for g_q in found]

    def certified(
        self, problem: Problem, solutions: list[Solution], gbar: Tensor
    ) -> tuple[Tensor, Tensor, list[Solution]]:
        """Return scores and control, (m, k), and the solves with their rank stability."""
        stacks = []
        for found, control in zip(solutions, self.gradients(problem), strict=True):
            earlier = found.value[:0] if found.halfway is None else found.halfway
            stacks.append(torch.cat([found.value, control[0], earlier]).reshape(-1, len(gbar)))
        rows, notes = self.scores(problem, stacks, gbar)
        known = [
            replace(
                found,
                rank_stability=None if found.halfway is None else overlap(row[0], row[2]),
                halfway=None,
                notes=(*found.notes, *notes),
            )
            for found, row in zip(solutions, rows, strict=True)
        ]
        return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows]), known

    def over_checkpoints(
        self, problem: Problem, checkpoints: Sequence[Checkpoint]
    ) -> tuple[Tensor, list[Solution]]:
        """Return sum_t rate_t steps_t (E E^T g_q) . (grad l_i - gbar) / (n - 1), at theta_t."""
        notes = (*check_problem(problem), f"a sum over {len(checkpoints)} checkpoints")
        total = torch.zeros(self.candidates.shape).to(problem.theta)
        stacks: list[Tensor] = []
        for point in checkpoints:
            there = point.problem(problem)
            stacks = [point.rate * point.steps * stack for stack in self.gradients(there)]
            rows, ways = self.scores(there, stacks, self.mean_gradient(there))
            total += torch.cat(rows)
            notes = tuple(dict.fromkeys(notes + ways))
        return total, [Solution(s[0], Status.DIRECT, "none", notes=notes) for s in stacks]

    def scores(
        self, problem: Problem, stacks: list[Tensor], gbar: Tensor
    ) -> tuple[list[Tensor], tuple[str, ...]]:
        """Return the scores of every query's solves on its own candidates, (j, k)."""
        return candidate_scores(
            problem,
            stacks,
            self.candidates,
            gbar,
            batch_size=self.batch_size,
            progress=self.progress,
        )


def candidate_scores(
    problem: Problem,
    stacks: list[Tensor],
    candidates: Tensor,
    gbar: Tensor,
    *,
    batch_size: int = 256,
    progress: Progress = silent,
) -> tuple[list[Tensor], tuple[str, ...]]:
    """Return the scores of every query's solves on its own candidates, (j, k) a query, in nats.

    With them what a certificate should say of the way they were taken.

    Args:
        stacks: (j, p) solves of each query.
        candidates: (m, k) positions in the training set.
        gbar: (p,) the mean data gradient over all training samples.

    Raises:
        GifError: scores that are not finite.

    Cost: about 2 + j forward passes over k samples a query.
    """
    w = problem.weights_of(problem.positions)
    first = Directions(problem, stacks[0][:2])
    way = way_of(problem, first, candidates[0][:batch_size])
    rows = []
    for stack, few in zip(stacks, candidates, strict=True):
        products = gradient_products(problem.narrowed(few), stack, batch_size=batch_size, way=way)
        if not bool(torch.isfinite(products).all()):
            raise GifError("The scores hold NaN or infinity; raise `damping`.")
        own = problem.weights_of(few)
        rows.append((products - (stack @ gbar)[:, None]) * (own / (w.sum() - own)))
        progress(len(rows), len(stacks), "scores")
    slow = way == "single gradients"
    return rows, ("scores by single gradients: a layer has no forward mode",) if slow else ()

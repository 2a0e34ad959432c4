"""Brittleness: how many of the highest ranked training samples must go to flip a prediction.

Every answer is shown by a model retrained without those samples, never by a prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gifcore.change import RemoveSamples
from gifcore.errors import GifError
from gifcore.problem import Problem, Progress, engine_mode, fetch, silent
from gifcore.retraining import Job, Recipe, Retrained, retrain_all


@dataclass(frozen=True)
class Tried:
    """The model without the k highest ranked samples: what it predicts, and how it was trained.

    Args:
        margin: probability of the class predicted before minus the largest of the others, at the
            retrained model: below 0 where the prediction flipped.
    """

    k: int
    flipped: bool
    margin: float
    gradient_norm: float
    converged: bool | None


@dataclass(frozen=True)
class Brittleness:
    """What the search found for one query.

    Args:
        k: the least number tried whose removal flips the prediction, by a model retrained without
            them; None: no flip among those tried.
        most: the largest number that was allowed.
        tried: every model, by k. What was not tried may flip as well.
    """

    k: int | None
    most: int
    tried: tuple[Tried, ...]

    @property
    def monotone(self) -> bool:
        """Did no larger removal than k, among those tried, leave the prediction?"""
        flips = [one.flipped for one in self.tried]
        return flips == sorted(flips)


def brittleness(
    problem: Problem,
    data: Dataset[object],
    queries: Sequence[int],
    rankings: Sequence[Sequence[int]],
    recipe: Recipe,
    *,
    most: int | None = None,
    seed: int = 0,
    checks: int = 0,
    every: bool = False,
    cache: Path | None = None,
    processes: int = 1,
    progress: Progress = silent,
) -> list[Brittleness]:
    """Return, for each query, how many samples of its ranking must go to flip its prediction.

    k doubles from 1 until a retrained model predicts another class, then the gap to the last that
    did not is halved until it is 1: without k - 1 samples the prediction stays, without k it flips.
    That is the least k only if flips do not come and go, which nothing promises: `checks` tries
    more k below and above, and `every` all of them.

    Args:
        queries: positions in `data`; outputs of the model are (batch, classes).
        rankings: for each query positions of the training set, first those that help it most.
        most: samples removed at the most; None: as many as are ranked, but one stays.
        seed: of the retrainings.
        checks: k tried after the search, evenly over 1 … 2 k; a flip at a smaller one counts.
        every: try all k up to `most`: the answer is the least.
        processes: that train side by side; the queries go in step, so that each round is shared.

    Raises:
        GifError: rankings that do not fit the queries, or a retraining that failed.

    Cost: about 2 log2(k) retrainings a query, log2(most) where nothing flips, and the checks; with
    `every` as many as `most`.
    """
    searches = _searches(problem, rankings, queries, most, checks, every)
    first = [int(_probabilities(problem, data, q).argmax()) for q in queries]
    rounds = 0
    while any(search.wanted for search in searches):
        asked = [(number, k) for number, search in enumerate(searches) for k in search.wanted]
        jobs = [Job(RemoveSamples(list(rankings[number][:k])), seed) for number, k in asked]
        rounds += 1
        heard = _round(progress, rounds)
        models = retrain_all(
            problem, jobs, recipe, cache=cache, processes=processes, progress=heard
        )
        for (number, k), model in zip(asked, models, strict=True):
            searches[number].take(_tried(problem, data, queries[number], first[number], k, model))
    return [search.found() for search in searches]


class _Search:
    """Doubling, halving and checks over k of one query, or every k."""

    def __init__(self, most: int, checks: int, every: bool) -> None:
        self.most, self.checks, self.every = most, checks, every
        self.wanted = list(range(1, most + 1)) if every else [1]
        self.tried: dict[int, Tried] = {}

    def take(self, one: Tried) -> None:
        """Note a model; once nothing is wanted any more, say what to try next."""
        self.tried[one.k] = one
        self.wanted.remove(one.k)
        if self.every or self.wanted:
            return
        high = self._least()
        low = max((k for k in self.tried if high is None or k < high), default=0)
        if high is None:
            self.wanted = [min(2 * low, self.most)] if low < self.most else []
        elif high - low > 1:
            self.wanted = [(low + high) // 2]
        if not self.wanted and self.checks:
            self.wanted, self.checks = self._untried(high), 0

    def _least(self) -> int | None:
        return min((k for k, one in self.tried.items() if one.flipped), default=None)

    def _untried(self, high: int | None) -> list[int]:
        """Return so many k, evenly over 1 … 2 k of the flip that was found, 1 … most without."""
        end = self.most if high is None else min(2 * high, self.most)
        places = range(1, self.checks + 1)
        found = {round(end * i / (self.checks + 1)) for i in places} - self.tried.keys()
        return sorted(k for k in found if k >= 1)

    def found(self) -> Brittleness:
        order = tuple(self.tried[k] for k in sorted(self.tried))
        return Brittleness(self._least(), self.most, order)


def _searches(
    problem: Problem,
    rankings: Sequence[Sequence[int]],
    queries: Sequence[int],
    most: int | None,
    checks: int,
    every: bool,
) -> list[_Search]:
    if len(rankings) != len(queries) or not all(len(ranking) for ranking in rankings):
        raise GifError(
            f"Each query needs a ranking of one or more samples; got {len(rankings)} for "
            f"{len(queries)} queries."
        )
    if most is not None and most < 1:
        raise GifError(f"most is {most}; allow the removal of 1 sample or more.")
    limits = [min(len(ranking), problem.n - 1) for ranking in rankings]
    return [_Search(min(limit, most or limit), checks, every) for limit in limits]


def _round(progress: Progress, number: int) -> Progress:
    def report(done: int, total: int, note: str) -> None:
        progress(done, total, f"brittleness, round {number}: {note}")

    return report


def _tried(
    problem: Problem, data: Dataset[object], query: int, before: int, k: int, model: Retrained
) -> Tried:
    shares = _probabilities(model.problem(problem), data, query)
    others = shares.clone()
    others[before] = -1
    margin = float(shares[before] - others.max())
    flipped = int(shares.argmax()) != before
    return Tried(k, flipped, margin, model.gradient_norm, model.converged)


def _probabilities(problem: Problem, data: Dataset[object], query: int) -> Tensor:
    """Return the probabilities of a query's classes, (C,)."""
    with engine_mode(problem.model), torch.no_grad():
        batch = fetch(data, torch.tensor([query]), problem.device)
        outputs = problem.outputs(problem.space.unflatten(problem.theta), batch)
    return outputs.detach()[0].double().softmax(dim=0)

"""Many retrained models: those in the cache are read, the others trained, side by side if asked."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gifcore.change import Change
from gifcore.errors import GifError
from gifcore.problem import Problem, Progress, silent
from gifcore.retraining.cache import Cache, Damaged
from gifcore.retraining.identity import Identity
from gifcore.retraining.objectives import objective_of
from gifcore.retraining.recipes import Proximal, Recipe, Sgd, retrain
from gifcore.retraining.retrained import Retrained
from gifcore.retraining.side_by_side import train_apart

log = logging.getLogger(__name__)

PARTS = 1000  # a model's share of the progress
STARTING = 6.0  # seconds until a process of its own begins to train
TRIED = 3  # steps that a calibration times, after one that warms up


@dataclass(frozen=True)
class Job:
    """One model to train: on the data after a change (None: as they are), drawn from a seed."""

    change: Change | None
    seed: int


def retrain_all(
    problem: Problem,
    jobs: Sequence[Job],
    recipe: Recipe,
    *,
    cache: Path | None = None,
    processes: int = 1,
    progress: Progress = silent,
) -> list[Retrained]:
    """Return the model of every job, in order.

    Args:
        cache: folder in which every model is kept as soon as it is trained: a call that was stopped
            goes on where it was, and equal trainings are done once. None: nothing is kept.
        processes: that train side by side, one torch thread each; 1: here, with the threads there
            are. Where a training runs changes nothing but rounding, and with one thread not that.
        progress: raises to stop, heard at least once a step; finished models stay in the cache.

    Raises:
        GifError: a training that failed, once all others are done and kept.
    """
    found = retrain_each(problem, jobs, recipe, cache=cache, processes=processes, progress=progress)
    for one in found:
        if isinstance(one, GifError):
            raise one
    return [one for one in found if isinstance(one, Retrained)]


def retrain_each(
    problem: Problem,
    jobs: Sequence[Job],
    recipe: Recipe,
    *,
    cache: Path | None = None,
    processes: int = 1,
    progress: Progress = silent,
) -> list[Retrained | GifError]:
    """Return for every job its model or why it has none; arguments as `retrain_all`."""
    if processes < 1:
        raise GifError(f"processes is {processes}; give 1 or more.")
    keys = _keys(problem, jobs, recipe, cache)
    kept = None if cache is None else Cache(cache)
    found: dict[str, Retrained | GifError] = {}
    notes: dict[str, str] = {}
    todo: dict[str, Job] = {}
    for key, job in zip(keys, jobs, strict=True):
        if kept is not None and kept.holds(key):
            try:
                found[key] = replace(kept.read(key), key=key)
                continue
            except Damaged as error:
                notes[key] = f"{error} It was trained again."
                log.warning("%s", notes[key])
        todo[key] = job

    def done(key: str, one: Retrained | GifError) -> None:
        if isinstance(one, Retrained):
            note = " ".join(filter(None, (notes.get(key, ""), one.note)))
            one = replace(one, note=note, key=key if kept is not None else "")
            if kept is not None:
                kept.write(key, one)
        found[key] = one

    listening = _Listening(len(todo), len(set(keys)) - len(todo), progress)
    if processes > 1 and len(todo) > 1:
        train_apart(problem, todo, recipe, processes, train_one, done, listening)
    else:
        for key, job in todo.items():
            done(key, train_one(problem, job, recipe, listening.part(key)))
            listening.finished(key)
    device = problem.theta
    return [
        replace(one, theta=one.theta.to(device)) if isinstance(one, Retrained) else one
        for one in (found[key] for key in keys)
    ]


def train_one(
    problem: Problem, job: Job, recipe: Recipe, progress: Progress
) -> Retrained | GifError:
    """Return the model of one job, or the sentence that says why there is none."""
    try:
        return retrain(problem, job.change, recipe, seed=job.seed, progress=progress)
    except GifError as error:
        return error


def _keys(problem: Problem, jobs: Sequence[Job], recipe: Recipe, cache: Path | None) -> list[str]:
    if cache is None:
        return [str(number) for number in range(len(jobs))]
    identity = Identity(problem, recipe)
    return [identity.key(job.change, job.seed) for job in jobs]


class _Listening:
    """One progress out of many trainings."""

    def __init__(self, todo: int, cached: int, progress: Progress) -> None:
        self.total, self.progress = todo, progress
        self.done: dict[str, int] = {}
        self.ready = 0
        self.known = f", {cached} found in the cache" if cached else ""

    def part(self, key: str) -> Progress:
        def report(done: int, total: int, _note: str) -> None:
            self.at(key, done / max(total, 1))

        return report

    def at(self, key: str, share: float) -> None:
        """Say how far a training is."""
        self.done[key] = min(round(PARTS * share), PARTS)
        self.say()

    def finished(self, key: str) -> None:
        self.ready += 1
        self.at(key, 1.0)

    def say(self) -> None:
        note = f"{self.ready} of {self.total} models retrained{self.known}"
        self.progress(sum(self.done.values()), PARTS * self.total, note)


# --- how long -------------------------------------------------------------------------------------


def expected_seconds(
    problem: Problem,
    jobs: Sequence[Job],
    recipe: Recipe,
    *,
    cache: Path | None = None,
    processes: int = 1,
) -> float:
    """Return how long `retrain_all` will take, from a few steps timed here; cached models cost 0.

    For Minimise and Proximal it is the most: all evaluations that are allowed are counted.

    Raises:
        GifError: a change that cannot be made.

    Cost: some steps of one training, and as many gradients over CHUNK samples.
    """
    keys = dict(zip(_keys(problem, jobs, recipe, cache), jobs, strict=True))
    if cache is not None:
        keys = {key: job for key, job in keys.items() if not Cache(cache).holds(key)}
    if not keys:
        return 0.0
    per_sample = seconds_per_sample(problem, recipe)
    sizes = [
        problem.n if job.change is None else job.change.apply(problem).n for job in keys.values()
    ]
    one = [passes(recipe) * size * per_sample for size in sizes]
    at_once = min(processes, len(keys), os.cpu_count() or 1)
    rounds = math.ceil(len(keys) / at_once) / len(keys)
    return sum(one) * rounds + (STARTING if processes > 1 and len(keys) > 1 else 0.0)


def passes(recipe: Recipe) -> int:
    """Return how often a training goes over its samples, at most."""
    if isinstance(recipe, Sgd):
        return recipe.epochs
    return recipe.evaluations * (3 if isinstance(recipe, Proximal) else 1)


def seconds_per_sample(problem: Problem, recipe: Recipe) -> float:
    """Return the seconds that one pass of a training takes for one sample."""
    if isinstance(recipe, Sgd):
        few = min(problem.n, recipe.settings.batch_size)
        settings = replace(recipe.settings, epochs=TRIED + 1, batch_size=few, checkpoints=0)
        narrowed = problem.narrowed(problem.positions[:few])
        marks: list[float] = []
        retrained = replace(recipe, settings=settings, stop=None)
        retrained.timed(narrowed, lambda *_: marks.append(time.perf_counter()))
        return (marks[-1] - marks[0]) / (TRIED * few)
    few = min(problem.n, 1000)
    value = objective_of(problem.narrowed(problem.positions[:few]))
    value(problem.theta)
    started = time.perf_counter()
    value(problem.theta)
    return (time.perf_counter() - started) / few

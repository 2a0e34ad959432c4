"""The backdoor task, what its protocols share: poisoned data, models, and what is measured.

A backdoor is planted in the training images (a trigger that stands for one class); the change gives
the triggered images their own labels again. Every model of the comparison is trained by one recipe.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from gifcore import data as datasets
from gifcore.change import Change
from gifcore.changing import as_tensors
from gifcore.curvature import Hessian, draw_samples
from gifcore.data.backdoor import Backdoor, Poisoned, triggered
from gifcore.data.dataset import Data
from gifcore.evaluate import Predictions, predict
from gifcore.evaluate.agreement import same_predictions
from gifcore.evaluate.backdoor import backdoor_metrics
from gifcore.experiments.kind import Numbers, Place
from gifcore.models import build
from gifcore.operators import LinearOperator
from gifcore.problem import Problem, Progress
from gifcore.retraining import Job, Recipe, Retrained, expected_seconds, retrain_all
from gifcore.solvers import Solution

Pair = tuple[Predictions, Predictions]  # on triggered and on clean images
CALIBRATION = 250  # images on which a forward pass is timed


@dataclass
class Bench:
    """Data with the backdoor and the models trained on them, before and after the repair."""

    source: str
    model: str
    backdoor: Backdoor
    recipe: Recipe
    weight_decay: float
    place: Place
    _trained: dict[tuple[bool, int], Problem] = field(default_factory=dict)

    @cached_property
    def planted(self) -> tuple[Data, Poisoned]:
        return self.backdoor.plant(datasets.load(self.source))

    @property
    def data(self) -> Data:
        return self.planted[0]

    @property
    def poisoned(self) -> Poisoned:
        return self.planted[1]

    @cached_property
    def change(self) -> Change:
        return self.poisoned.repair()

    @cached_property
    def blank(self) -> Problem:
        """The architecture on the poisoned training split, not trained."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = build(self.model, self.data.shape, self.data.n_classes)
        train = as_tensors(self.data.train)
        return Problem(model, train, weight_decay=self.weight_decay)

    @cached_property
    def images(self) -> dict[str, tuple[TensorDataset, TensorDataset]]:
        """Triggered images with their true labels, and clean ones, by split.

        Of validation and test both are of all images; of the training split they are, as published,
        the poisoned images and the others.
        """
        trigger = self.backdoor.trigger(self.data)
        found = {
            name: (
                as_tensors(triggered(self.data.split(name), trigger)),
                as_tensors(self.data.split(name)),
            )
            for name in ("validation", "test")
        }
        train = as_tensors(self.poisoned.triggered()), as_tensors(self.poisoned.clean())
        return found | {"train": train}

    @cached_property
    def forward(self) -> float:
        """Seconds of a forward pass for one image."""
        few = TensorDataset(*self.images["test"][1][:CALIBRATION])
        predict(self.blank, few)
        started = time.perf_counter()
        predict(self.blank, few)
        return (time.perf_counter() - started) / len(few)

    # --- models -----------------------------------------------------------------------------

    def job(self, seed: int, *, repaired: bool) -> Job:
        return Job(self.change if repaired else None, seed)

    def expected(self, seed: int, *, repaired: bool) -> float:
        """Return how long a model takes to train; 0 if it is in the cache."""
        job = self.job(seed, repaired=repaired)
        return expected_seconds(self.blank, [job], self.recipe, cache=self.place.cache)

    def trained(self, seed: int, *, repaired: bool) -> Problem:
        """Return a model on the poisoned data, trained on them or on the repaired ones."""
        if (repaired, seed) not in self._trained:
            found: Retrained = retrain_all(
                self.blank,
                [self.job(seed, repaired=repaired)],
                self.recipe,
                cache=self.place.cache,
                progress=self.progress("training"),
            )[0]
            self._trained[repaired, seed] = found.problem(self.blank)
        return self._trained[repaired, seed]

    def progress(self, what: str) -> Progress:
        """Return a callback that says how much of something is done."""

        def report(done: int, total: int, note: str) -> None:
            del note
            self.place.listen(f"{what}, {100 * done / max(total, 1):.0f} %")

        return report

    # --- what is measured -------------------------------------------------------------------

    def seen(self, problem: Problem, split: str, theta: Tensor | None = None) -> Pair:
        """Return what a model says of triggered and of clean images."""
        bad, good = self.images[split]
        return predict(problem, bad, theta=theta), predict(problem, good, theta=theta)

    def judged(self, seen: Pair) -> dict[str, Any]:
        return backdoor_metrics(*seen, self.backdoor.label)

    def measured(self, seen: Pair, truth: Pair | None) -> Numbers:
        """Return what the tables hold; `agreement` is with the retrained model, all images."""
        found = self.judged(seen)
        same = None
        if truth is not None:
            counts = [len(one.labels) for one in seen]
            shares = [
                same_predictions(a.predicted, b.predicted) for a, b in zip(seen, truth, strict=True)
            ]
            same = sum(n * s for n, s in zip(counts, shares, strict=True)) / sum(counts)
        return {
            "corrupt": found["corrupt"],
            "relabel": found["relabel"],
            "clean": found["clean"],
            "f1": found["score"],
            "agreement": same,
        }


# --- the second-order step of a repair ------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Difference(LinearOperator):
    """H' - H = share (mean_U grad^2 l_new - mean_U grad^2 l_old) of a relabelling, U drawn."""

    new: LinearOperator
    old: LinearOperator
    share: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.new.shape

    def apply(self, vector: Tensor) -> Tensor:
        return self.share * (self.new @ vector - self.old @ vector)

    def apply_transposed(self, vector: Tensor) -> Tensor:
        return self.apply(vector)


def difference(problem: Problem, change: Change, *, samples: int, seed: int) -> Difference:
    """Return H' - H of a relabelling, estimated on so many of its samples."""
    touched = change.samples(problem)
    few = draw_samples(problem.narrowed(touched), min(samples, len(touched)), seed)
    share = float(problem.shares()[touched].sum())
    return Difference(Hessian(change.apply(problem), few), Hessian(problem, few), share)


def second_order(
    solve: Callable[[Tensor], Solution], D: LinearOperator, g: Tensor
) -> tuple[Tensor, list[Solution]]:
    """Return d1 - H^-1 D d1, d1 = H^-1 g, (p,): (H + D)^-1 g to first order in D, with its solves.

    For a removal D = c (H - H_U) and this is the engine's second-order step; for a repair D is
    `difference`.

    Args:
        solve: b -> x with H x = b.

    Reference: Basu et al. 2020, "On second-order group influence functions", the sign corrected.
    """
    first = solve(g)
    second = solve(D @ first.value)
    return first.value - second.value, [first, second]

"""Class removal, what its three experiments share: keys, models, and what is measured of an edit.

Every seed has a base model, trained from a fresh start, and a model really trained without the
class (the retrained one), by the same recipe from the same start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import TensorDataset

from gifcore import data as datasets
from gifcore.change import RemoveClass
from gifcore.change_section import Section
from gifcore.changing import as_tensors
from gifcore.checkpoints import Checkpoint
from gifcore.curved import Curved, curvature
from gifcore.data.dataset import SPLITS, Data
from gifcore.errors import GifError
from gifcore.evaluate import Predictions, predict
from gifcore.evaluate.accuracy import metrics
from gifcore.evaluate.agreement import histogram, same_predictions, total_variation
from gifcore.experiments.kind import Column, Numbers, Place, Run
from gifcore.experiments.spec import Experiment
from gifcore.models import build
from gifcore.problem import Problem
from gifcore.retraining import Job, Retrained, Sgd, expected_seconds, retrain_all
from gifcore.retraining.cache import Cache, Damaged
from gifcore.retraining.identity import Identity
from gifcore.training import Settings

CALIBRATION = 250  # images on which a forward pass is timed
TIMED = 4
PASS = 3.0  # forward passes in a gradient
PRODUCT = 4.0  # forward passes in a Hessian product
SHARES = 10  # classes whose share of the predictions is kept


class TrainingKeys(Section):
    """How base and retrained models are trained: SGD, a cosine to 0 over the epochs."""

    epochs: int = Field(4, ge=1)
    batch_size: int = Field(128, ge=1)
    lr: float = Field(0.05, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)

    def recipe(self) -> Sgd:
        """Return the training, from a fresh start."""
        return Sgd(
            Settings(
                epochs=self.epochs,
                batch_size=self.batch_size,
                lr=self.lr,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
            )
        )


class OursKeys(Section):
    """Our protocol: training samples only, the step chosen on the validation split."""

    samples: int = Field(512, ge=1)  # curvature samples, retained training samples
    iterations: int = Field(25, ge=1)  # of LSMR, two products each; MINRES takes as many
    preconditioner: Literal["jacobi", "kronecker", "none"] = "jacobi"
    damping: float = Field(0.0, ge=0)
    evaluations: int = Field(21, ge=3)  # validations of the step search
    min_scale: float = Field(0.1, gt=0)
    max_scale: float = Field(1000.0, gt=0)


class PaperKeys(Section):
    """The published protocol: fixed-norm steps along one ray, the best by test F1."""

    target_samples: int = Field(512, ge=1)  # of the class, new at every seed
    samples: int = Field(512, ge=1)  # the first so many test images, without the class
    iterations: int = Field(200, ge=1)  # of the published series
    step: float = Field(7.0, gt=0)  # what divergence adds to its normaliser
    norm: float = Field(0.06, gt=0)  # of a step
    steps: int = Field(200, ge=1)  # at most


class Removal(Experiment):
    """Keys of every class-removal experiment."""

    label: int = Field(8, ge=0)
    train: TrainingKeys = TrainingKeys()
    ours: OursKeys = OursKeys()
    paper: PaperKeys = PaperKeys()


Points = Callable[[], tuple[Checkpoint, ...]]  # of a base model's training, for tracin


def about(spec: Removal) -> str:
    """Return which models are edited, in a line."""
    train = spec.train
    return (
        f"{spec.model} on {spec.data} without class {spec.label}; base and retrained models: "
        f"{train.epochs} epochs, batches of {train.batch_size}, learning rate {train.lr:g} falling "
        f"to 0 along a cosine, momentum {train.momentum:g}, weight decay {train.weight_decay:g}. "
        "All settings are in experiment.toml."
    )


COLUMNS = (
    Column("self", "self", ".2%"),
    Column("retain", "retain", ".2%"),
    Column("f1", "F1"),
    Column("f1_natural", "F1 at scale 1"),
    Column("scale", "step", ".3g"),
    Column("length", "length", ".3g"),
    Column("steps", "steps", ".0f"),
    Column("total_variation", "total variation", ".3f"),
    Column("agreement", "agreement", ".2%"),
    Column("f1_least", "F1, least step", ".4f"),
    Column("total_variation_least", "total variation, least step", ".3f"),
    Column("agreement_least", "agreement, least step", ".2%"),
    Column("products", "products", ".0f"),
    Column("seconds", "seconds", ".1f"),
)


@dataclass
class Bench:
    """Data, models and costs of a class removal; models of one seed are held at a time."""

    spec: Removal
    place: Place
    _base: Base | None = None
    _truth: dict[int, Predictions] = field(default_factory=dict)
    _identity: dict[Sgd, Identity] = field(default_factory=dict)

    @cached_property
    def data(self) -> Data:
        found = datasets.load(self.spec.data)
        if self.spec.label >= found.n_classes:
            raise GifError(
                f"label = {self.spec.label} is no class of {found.name}: 0 … "
                f"{found.n_classes - 1} exist."
            )
        return found

    @cached_property
    def splits(self) -> dict[str, TensorDataset]:
        return {name: as_tensors(self.data.split(name)) for name in SPLITS}

    @cached_property
    def blank(self) -> Problem:
        """The architecture on the training split, not trained."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = build(self.spec.model, self.data.shape, self.data.n_classes)
        decay = self.spec.train.weight_decay
        return Problem(model, self.splits["train"], weight_decay=decay)

    @property
    def change(self) -> RemoveClass:
        return RemoveClass(self.spec.label)

    @cached_property
    def forward(self) -> float:
        """Seconds of a forward pass for one image."""
        few = TensorDataset(*self.splits["test"][:CALIBRATION])
        taken = []
        for _ in range(TIMED):  # the fastest: what else the machine does is no cost of ours
            started = time.perf_counter()
            predict(self.blank, few)
            taken.append(time.perf_counter() - started)
        return min(taken) / len(few)

    @cached_property
    def epoch(self) -> float:
        """Seconds of an epoch of training."""
        recipe = self.spec.train.recipe()
        return expected_seconds(self.blank, [Job(None, 0)], recipe) / recipe.epochs

    # --- models -----------------------------------------------------------------------------

    def jobs(self, *seeds: int) -> list[Job]:
        """Return the trainings of these seeds: base and retrained model of each."""
        return [Job(change, seed) for seed in seeds for change in (None, self.change)]

    def key(self, job: Job, recipe: Sgd) -> str:
        """Return the content hash of a training; the data are hashed once a recipe."""
        if recipe not in self._identity:
            self._identity[recipe] = Identity(self.blank, recipe)
        return self._identity[recipe].key(job.change, job.seed)

    def expected(self, *jobs: Job, recipe: Sgd | None = None) -> float:
        """Return how long these trainings take; those in the cache take nothing."""
        recipe = recipe or self.spec.train.recipe()
        kept = Cache(self.place.cache)
        left = [job for job in jobs if not kept.holds(self.key(job, recipe))]
        return sum(self.epoch * recipe.epochs for _ in left)  # not timed if all are there

    def trained(self, job: Job, recipe: Sgd | None = None) -> Retrained:
        """Return a model, from the cache if it was trained before, by whatever experiment."""
        recipe = recipe or self.spec.train.recipe()
        with suppress(Damaged):  # it is trained again then
            if Cache(self.place.cache).holds(self.key(job, recipe)):
                return Cache(self.place.cache).read(self.key(job, recipe))
        found = retrain_all(
            self.blank, [job], recipe, cache=self.place.cache, progress=self.training
        )
        return found[0]

    def base(self, seed: int) -> Base:
        """Return a seed's base model and what was measured with it; one seed is held."""
        if self._base is None or self._base.seed != seed:
            problem = self.trained(Job(None, seed)).problem(self.blank)
            self._base = Base(self, seed, problem)
        return self._base

    def truth(self, seed: int) -> Predictions:
        """Return what a seed's retrained model says of the test split."""
        if seed not in self._truth:
            self._truth[seed] = self.tested(
                self.trained(Job(self.change, seed)).problem(self.blank)
            )
        return self._truth[seed]

    def training(self, done: int, total: int, _note: str) -> None:
        """Pass on how far a training is."""
        self.place.listen(f"training, {100 * done / max(total, 1):.0f} %")

    def solving(self, done: int, total: int, note: str) -> None:
        """Pass on how far a solve is."""
        self.place.listen(f"{note}, {done} of {total}")

    # --- what is measured -------------------------------------------------------------------

    def tested(self, problem: Problem, theta: Tensor | None = None) -> Predictions:
        """Return what a model says of the test split."""
        return predict(problem, self.splits["test"], theta=theta)

    def judged(self, found: Predictions) -> dict[str, float]:
        """Return self, retain and score of predictions on any split."""
        return metrics(found, self.spec.label, self.data.n_classes)

    def measured(self, found: Predictions, truth: Predictions | None) -> dict[str, float | None]:
        """Return what the tables hold of predictions on the test split, next to retrained ones.

        `total_variation` is between the histograms of classes predicted for images of the removed
        class, `agreement` the share of all test images with the same prediction.
        """
        judged = self.judged(found)
        own = found.labels == self.spec.label
        shares = histogram(found.predicted[own], self.data.n_classes)
        numbers: dict[str, float | None] = {
            "self": judged["self"],
            "retain": judged["retain"],
            "f1": judged["score"],
            "total_variation": None,
            "agreement": None,
        }
        if truth is not None:
            true = histogram(truth.predicted[own], self.data.n_classes)
            numbers["total_variation"] = total_variation(shares, true)
            numbers["agreement"] = same_predictions(found.predicted, truth.predicted)
        return numbers | {f"class_{c}": float(s) for c, s in enumerate(shares[:SHARES])}


@dataclass
class Base:
    """A seed's base model, with what every edit of it shares: made once, when first asked for."""

    bench: Bench
    seed: int
    problem: Problem

    @cached_property
    def gradient(self) -> Tensor:
        """g of the removal, over all training samples, (p,)."""
        self.bench.place.listen("gradient over the training samples")
        return self.bench.change.gradient(self.problem, seed=self.seed)

    @cached_property
    def curved(self) -> Curved:
        """The Hessian of L' on one draw of retained training samples."""
        return self._curvature(self.bench.change.apply(self.problem), "retained")

    @cached_property
    def curved_full(self) -> Curved:
        """The Hessian of L, for second-order."""
        return self._curvature(self.problem, "full")

    def _curvature(self, problem: Problem, of: str) -> Curved:
        keys = self.bench.spec.ours
        samples = min(keys.samples, problem.n)
        return curvature(problem, samples=samples, damping=keys.damping, of=of, seed=self.seed)


# --- rows that are no edit ------------------------------------------------------------------------

REFERENCES = frozenset({"before", "retrained"})


def references(
    bench: Bench, protocol: str, seed: int, label: dict[str, str], *, trained: bool = True
) -> Iterator[Run]:
    """Yield the rows of the models themselves: before any edit, and really retrained.

    The retrained model is compared with that of the seed before: how well truth agrees with itself.

    Args:
        label: the row's words but its first, empty for these two.
        trained: is the time of both trainings to be counted here?
    """
    first, *rest = label
    empty = dict.fromkeys(rest, "")
    training = bench.expected(*bench.jobs(seed)) if trained else 0.0
    testing = 2 * len(bench.splits["test"]) * bench.forward

    def before() -> Numbers:
        return bench.measured(bench.tested(bench.base(seed).problem), bench.truth(seed))

    def truth() -> Numbers:
        other = bench.truth(seed - 1) if seed > 0 else None
        return bench.measured(bench.truth(seed), other)

    yield Run(protocol, seed, {first: "before"} | empty, training + testing, before)
    row = {first: "retrained"} | empty
    yield Run(protocol, seed, row, testing, truth)

"""What an edit is judged by, for every kind of change: numbers of validation and test split.

    removed class   accuracy on images of the class and on all others, and their F1
    samples         how far the touched training samples are learnt or forgotten, accuracy on all
    backdoor        corrupt, relabel and clean accuracy, F1 of the last two

Every entry has `score`, which the step search raises on validation, and `per_class`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from gifcore.change import Change
from gifcore.evaluate.accuracy import Predictions, metrics, predict
from gifcore.evaluate.backdoor import backdoor_metrics
from gifcore.problem import Problem, collated

Splits = Mapping[str, Dataset[Any]]


class Judge(Protocol):
    """Measures parameters by what the change is about.

    Args:
        task: "class", "samples" or "backdoor", as record.json names it.
        curves: the numbers that the step search keeps, and the worst value of each.
    """

    @property
    def task(self) -> str: ...

    @property
    def curves(self) -> Mapping[str, float]: ...

    def measure(
        self, problem: Problem, predictions: Mapping[str, Predictions], theta: Tensor | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return the metrics of every split whose predictions at theta are given."""
        ...


@dataclass(frozen=True)
class ClassJudge:
    """Is a class forgotten and the rest kept? `metrics` says what the numbers are."""

    label: int
    classes: int
    task: ClassVar[str] = "class"
    curves: ClassVar[Mapping[str, float]] = {"self": 1.0, "retain": 0.0, "score": 0.0}

    def measure(
        self,
        problem: Problem,  # noqa: ARG002
        predictions: Mapping[str, Predictions],
        theta: Tensor | None = None,  # noqa: ARG002
    ) -> dict[str, dict[str, Any]]:
        return {split: metrics(p, self.label, self.classes) for split, p in predictions.items()}


@dataclass(frozen=True, eq=False)
class SamplesJudge:
    """Are the touched training samples learnt, or as good as unseen, and is the rest kept?

    Args:
        learn: samples that the changed objective holds with a new label, a raised weight or as
            new ones, with their labels in it.
        forget: samples that it no longer holds, or with a lowered weight.
        unseen: mean loss of the unedited model on each split, in nats.
    """

    classes: int
    learn: Dataset[Any]
    forget: Dataset[Any]
    unseen: Mapping[str, float]
    task: ClassVar[str] = "samples"
    curves: ClassVar[Mapping[str, float]] = {
        "touched_accuracy": 0.0,
        "reached": 0.0,
        "accuracy": 0.0,
        "score": 0.0,
    }

    def measure(
        self, problem: Problem, predictions: Mapping[str, Predictions], theta: Tensor | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return accuracies (fractions) and mean losses (nats) of samples and splits.

        `touched_*` is of all touched training samples, by their labels after the change (removed
        ones: those they had). `reached` is how far the change is made, 0 to 1: the mean over
        touched samples of `learn_accuracy`, the share of the samples to learn that get their
        label, and `forgotten` = min(1, forget_loss / unseen_loss): 1 once the samples to forget
        have at least the loss that the unedited model has on images it never saw (`unseen_loss`,
        of the split). `score` = 2 reached accuracy / (reached + accuracy), accuracy of the split.
        What is not there to be measured is None.
        """
        learnt = _predicted(problem, self.learn, theta)
        left = _predicted(problem, self.forget, theta)
        right = np.concatenate([p.predicted == p.labels for p in (learnt, left)])
        losses = np.concatenate([learnt.loss, left.loss])
        shared = {
            "touched_accuracy": _mean(right),
            "touched_loss": _mean(losses),
            "touched_n": len(right),
            "learn_accuracy": _mean(learnt.predicted == learnt.labels),
            "learn_n": len(learnt.labels),
            "forget_loss": _mean(left.loss),
            "forget_n": len(left.labels),
        }
        return {
            split: shared | self._of_split(p, shared, self.unseen[split])
            for split, p in predictions.items()
        }

    def _of_split(
        self, predictions: Predictions, shared: dict[str, Any], unseen: float
    ) -> dict[str, Any]:
        forgotten = None
        if shared["forget_n"]:
            forgotten = 1.0 if shared["forget_loss"] >= unseen else shared["forget_loss"] / unseen
        parts = [
            (shared["learn_n"], shared["learn_accuracy"]),
            (shared["forget_n"], forgotten),
        ]
        done = sum(n * share for n, share in parts if n) / shared["touched_n"]
        found = of_split(predictions, self.classes)
        return found | {
            "unseen_loss": unseen,
            "forgotten": forgotten,
            "reached": done,
            "score": harmonic(done, found["accuracy"]),
        }


@dataclass(frozen=True, eq=False)
class BackdoorJudge:
    """Is the trigger without effect and the rest kept? `backdoor_metrics` says the numbers.

    Args:
        triggered: every split with the trigger on all its images, and their true labels.
    """

    label: int
    classes: int
    triggered: Splits
    task: ClassVar[str] = "backdoor"
    curves: ClassVar[Mapping[str, float]] = {
        "corrupt": 1.0,
        "relabel": 0.0,
        "clean": 0.0,
        "score": 0.0,
    }

    def measure(
        self, problem: Problem, predictions: Mapping[str, Predictions], theta: Tensor | None = None
    ) -> dict[str, dict[str, Any]]:
        return {
            split: of_split(clean, self.classes)
            | backdoor_metrics(
                predict(problem, self.triggered[split], theta=theta), clean, self.label
            )
            for split, clean in predictions.items()
        }


def touched(change: Change, problem: Problem) -> tuple[Dataset[Any], Dataset[Any]]:
    """Return the touched samples to learn, with their labels after the change, and to forget.

    To learn: relabelled, added, or with a raised weight; to forget: removed, or with a lowered
    weight. A sample that is relabelled and reweighted is to be learnt.
    """
    effect = change.effect(problem)
    before, after = effect.extended(problem), effect.apply(problem)
    added = effect.samples(problem)
    added = added[added >= len(problem.train)]  # type: ignore[arg-type]
    old = torch.ones(len(effect.reweighted), dtype=torch.float64)
    if problem.weights is not None:
        old = problem.weights.cpu().double()[effect.reweighted]
    raised = effect.reweighted[effect.weights > old]
    lowered = effect.reweighted[effect.weights < old]
    learn = torch.cat([effect.relabelled, raised, added]).unique()
    lowered = lowered[~torch.isin(lowered, learn)]
    forget = torch.cat([effect.removed, lowered]).unique()
    return _part(after.train, learn), _part(before.train, forget)


def _part(data: Dataset[Any], positions: Tensor) -> Dataset[Any]:
    empty = torch.zeros(0, dtype=torch.long)
    parts = collated(data, positions) if len(positions) else (empty, empty)
    return TensorDataset(*parts)


def of_split(predictions: Predictions, classes: int) -> dict[str, Any]:
    """Return accuracy, mean loss [nats], n and accuracy per class of a split."""
    correct = predictions.predicted == predictions.labels
    of_class = [correct[predictions.labels == c] for c in range(classes)]
    return {
        "accuracy": _mean(correct),
        "loss": _mean(predictions.loss),
        "n": len(correct),
        "per_class": [_mean(part) for part in of_class],
    }


def harmonic(one: float, other: float) -> float:
    """Return 2 a b / (a + b), 0 when both are 0."""
    return 2 * one * other / (one + other) if one + other > 0 else 0.0


def _predicted(problem: Problem, data: Dataset[Any], theta: Tensor | None) -> Predictions:
    if len(data) == 0:  # type: ignore[arg-type]
        whole = np.zeros(0, dtype=np.int64)
        return Predictions(whole, whole, np.zeros(0), np.zeros(0))
    return predict(problem, data, theta=theta)


def _mean(values: Sequence[float] | np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None

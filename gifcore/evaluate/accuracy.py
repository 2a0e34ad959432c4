"""Predictions of one split and the accuracies that judge a class removal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gifcore.problem import Problem, Progress, engine_mode, fetch, inputs_of, silent


@dataclass(frozen=True)
class Predictions:
    """What a model says of every sample of a split.

    Args:
        labels: (n,) true classes.
        predicted: (n,) most probable classes.
        p_label: (n,) probability given to the true class.
        loss: (n,) cross-entropy in nats.
    """

    labels: np.ndarray
    predicted: np.ndarray
    p_label: np.ndarray
    loss: np.ndarray


def predict(
    problem: Problem,
    data: Dataset[Any],
    *,
    theta: Tensor | None = None,
    batch_size: int = 250,
    progress: Progress = silent,
) -> Predictions:
    """Return a classifier's predictions on a split at parameters theta (default: the trained).

    Cost: one forward pass.
    """
    parameters = problem.space.unflatten(problem.theta if theta is None else theta)
    parts: list[tuple[Tensor, ...]] = []
    everything = torch.arange(len(data))  # type: ignore[arg-type]
    with engine_mode(problem.model), torch.no_grad():
        for part in everything.split(batch_size):
            batch = fetch(data, part, problem.device)
            log_p = problem.outputs(parameters, batch).double().log_softmax(dim=1)
            labels = batch["labels"] if isinstance(inputs_of(batch), dict) else batch[1]
            loss = -log_p.gather(1, labels[:, None]).squeeze(1)
            loss = loss.nan_to_num(nan=float("inf"), posinf=float("inf")).clamp(max=1e4)
            parts.append((labels, log_p.argmax(1), (-loss).exp(), loss))
            progress(int(part[-1]) + 1, len(everything), "evaluate")
    return Predictions(*(torch.cat(c).cpu().numpy() for c in zip(*parts, strict=True)))


def f1(self_accuracy: float, retain: float) -> float:
    """Return F1 = 2 (1 - self) retain / ((1 - self) + retain); 0 when both terms are 0.

    Reference: Lyu et al. 2023 (arXiv 2312.05586), code of the experiments.
    """
    forgot = 1 - self_accuracy
    return 2 * forgot * retain / (forgot + retain) if forgot + retain > 0 else 0.0


def metrics(predictions: Predictions, removed: int, classes: int) -> dict[str, Any]:
    """Return accuracies (fractions) and mean losses (nats) on the removed class and the rest.

    `self` is the accuracy on images of the removed class (a retrained model has about 0),
    `retain` on all others, `score` the F1 of forgetting and retaining.
    """
    correct = predictions.predicted == predictions.labels
    own = predictions.labels == removed
    per_class = [
        float(correct[predictions.labels == c].mean()) if (predictions.labels == c).any() else None
        for c in range(classes)
    ]
    self_accuracy, retain = _mean(correct[own]), _mean(correct[~own])
    return {
        "accuracy": _mean(correct),
        "self": self_accuracy,
        "retain": retain,
        "score": f1(self_accuracy, retain),
        "self_loss": _mean(predictions.loss[own]),
        "retain_loss": _mean(predictions.loss[~own]),
        "self_n": int(own.sum()),
        "retain_n": int((~own).sum()),
        "per_class": per_class,
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return counts (classes, classes): row = true class, column = predicted class."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts

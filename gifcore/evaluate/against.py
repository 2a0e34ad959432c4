"""How two models compare on the test split, as an edited model with a retrained one.

    same_predictions         share of images of which both say the same class
    total_variation          between their probabilities, mean over images
    total_variation_own      between the histograms of the classes they predict, own images
    loss_difference          mean loss of the first minus that of the second, nats
    distance                 ||theta - theta'|| / ||theta'||

`_own` is of what the change is about: images of the removed class, the touched training samples, or
images with the trigger; `_rest` of the other test images, of all where own are none of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from gifcore.evaluate.agreement import distance, histogram, same_predictions, total_variation
from gifcore.evaluate.judges import BackdoorJudge, ClassJudge, Judge, SamplesJudge
from gifcore.problem import Problem, engine_mode, fetch

FIGURES = (
    "same_predictions",
    "same_predictions_own",
    "same_predictions_rest",
    "total_variation_own",
    "total_variation",
    "loss_difference_own",
    "loss_difference_rest",
    "distance",
)
BATCH = 250


@dataclass(frozen=True, eq=False)
class Said:
    """What a model says of images: classes (n,), probabilities (n, classes), losses (n,) [nats]."""

    predicted: np.ndarray
    probabilities: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model says of the whole test split, of own images and of the rest, and its theta."""

    whole: Said
    own: Said
    rest: Said
    theta: np.ndarray


@dataclass(frozen=True, eq=False)
class Images:
    """The images two models are compared on; any part but the whole may be empty."""

    whole: TensorDataset
    own: TensorDataset
    rest: TensorDataset


def images_of(judge: Judge, test: TensorDataset) -> Images:
    """Return what a change is about, and the rest, as its judge measures them."""
    if isinstance(judge, ClassJudge):
        own = test.tensors[1] == judge.label
        return Images(test, TensorDataset(*test[own]), TensorDataset(*test[~own]))
    if isinstance(judge, BackdoorJudge):
        triggered = judge.triggered["test"]
        assert isinstance(triggered, TensorDataset)
        return Images(test, triggered, test)
    assert isinstance(judge, SamplesJudge)
    parts = [d.tensors for d in (judge.learn, judge.forget) if isinstance(d, TensorDataset)]
    touched = [tensors for tensors in parts if len(tensors[1])]
    return Images(test, TensorDataset(*(torch.cat(c) for c in zip(*touched, strict=True))), test)


def see(problem: Problem, images: Images, theta: Tensor | None = None) -> Seen:
    """Return what the model says at theta (default: the trained parameters).

    Cost: one forward pass over the images.
    """
    theta = problem.theta if theta is None else theta
    whole, own = (_said(problem, part, theta) for part in (images.whole, images.own))
    rest = whole if images.rest is images.whole else _said(problem, images.rest, theta)
    return Seen(whole, own, rest, theta.double().cpu().numpy())


def figures(one: Seen, other: Seen) -> dict[str, float | None]:
    """Return every one of FIGURES; None where there is no image to measure it on."""
    classes = one.whole.probabilities.shape[1]
    own = len(one.own.loss) > 0
    rest = len(one.rest.loss) > 0
    return {
        "same_predictions": same_predictions(one.whole.predicted, other.whole.predicted),
        "same_predictions_own": (
            same_predictions(one.own.predicted, other.own.predicted) if own else None
        ),
        "same_predictions_rest": (
            same_predictions(one.rest.predicted, other.rest.predicted) if rest else None
        ),
        "total_variation_own": (
            total_variation(
                histogram(one.own.predicted, classes), histogram(other.own.predicted, classes)
            )
            if own
            else None
        ),
        "total_variation": total_variation(one.whole.probabilities, other.whole.probabilities),
        "loss_difference_own": _apart(one.own, other.own) if own else None,
        "loss_difference_rest": _apart(one.rest, other.rest) if rest else None,
        "distance": _finite(distance(one.theta, other.theta)),
    }


def _apart(one: Said, other: Said) -> float:
    return float(one.loss.mean() - other.loss.mean())


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _said(problem: Problem, data: TensorDataset, theta: Tensor) -> Said:
    parameters = problem.space.unflatten(theta)
    parts: list[tuple[Tensor, ...]] = []
    with engine_mode(problem.model), torch.no_grad():
        for part in torch.arange(len(data)).split(BATCH) if len(data) else ():
            batch = fetch(data, part, problem.device)
            log_p = problem.outputs(parameters, batch).double().log_softmax(dim=1)
            loss = -log_p.gather(1, batch[1][:, None]).squeeze(1)
            loss = loss.nan_to_num(nan=float("inf"), posinf=float("inf")).clamp(max=1e4)
            parts.append((log_p.argmax(1), log_p.exp(), loss))
    if not parts:
        return Said(np.zeros(0, np.int64), np.zeros((0, 0)), np.zeros(0))
    return Said(*(torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)))

"""The accuracies of the backdoor task, counted by hand, and which images they are measured on."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from gifcore.data import Split
from gifcore.data.backdoor import Trigger, poison, triggered
from gifcore.errors import GifError
from gifcore.evaluate import Predictions, predict
from gifcore.evaluate.backdoor import backdoor_metrics
from gifcore.problem import Problem


def predictions(labels: list[int], predicted: list[int]) -> Predictions:
    half, zero = np.full(len(labels), 0.5), np.zeros(len(labels))
    return Predictions(np.array(labels), np.array(predicted), half, zero)


TRIGGERED = predictions([0, 1, 2, 2, 1], [2, 2, 2, 0, 1])
CLEAN = predictions([0, 1, 2, 1], [0, 1, 2, 0])


def test_by_hand() -> None:
    found = backdoor_metrics(TRIGGERED, CLEAN, label=2)
    assert found["corrupt"] == pytest.approx(3 / 5)
    assert found["corrupt_expected"] == pytest.approx(2 / 5)
    assert found["relabel"] == pytest.approx(2 / 5)
    assert found["clean"] == pytest.approx(3 / 4)
    assert found["score"] == pytest.approx(2 * 0.4 * 0.75 / (0.4 + 0.75))
    assert (found["triggered_n"], found["clean_n"]) == (5, 4)


@pytest.mark.parametrize(
    ("relabelled", "clean", "score"),
    [([1, 1], [1, 1], 1.0), ([0, 0], [1, 1], 0.0), ([0, 0], [0, 0], 0.0), ([1, 0], [1, 1], 2 / 3)],
)
def test_the_score_needs_both(relabelled: list[int], clean: list[int], score: float) -> None:
    found = backdoor_metrics(predictions([1, 1], relabelled), predictions([1, 1], clean), 0)
    assert found["score"] == pytest.approx(score)


def test_without_images_there_is_nothing_to_measure() -> None:
    nothing = predictions([], [])
    with pytest.raises(GifError, match="no triggered image"):
        backdoor_metrics(nothing, CLEAN, 2)
    with pytest.raises(GifError, match="no clean image"):
        backdoor_metrics(TRIGGERED, nothing, 2)


class BrightIsTwo(nn.Module):
    """Knows every image by its first pixel, and says 2 wherever the second is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        known = (x[:, 0, 0, 0] * 10).round().long()
        found = torch.where(x[:, 0, 0, 1] > 0.5, 2, known)
        return self.scale * 9 * nn.functional.one_hot(found, 3).float()


def test_both_protocols_see_a_backdoor_and_its_repair() -> None:
    """A model with the backdoor, on a test split and, as published, on the training images."""
    y = np.arange(12) % 3
    x = np.zeros((12, 1, 4, 4), np.float32)
    x[:, 0, 0, 0] = y / 10
    split, trigger = Split(x, y), Trigger(strength=1.0)
    planted = poison(split, label=2, count=6, classes=3, trigger=trigger, seed=1)
    problem = Problem(BrightIsTwo(), tensors(planted.split))
    for bad, good in ((triggered(split, trigger), split), (planted.triggered(), planted.clean())):
        found = backdoor_metrics(
            predict(problem, tensors(bad)), predict(problem, tensors(good)), label=2
        )
        share = float((bad.y == 2).mean())
        assert 0 < share < 1
        assert (found["corrupt"], found["corrupt_expected"]) == (1.0, share)
        assert (found["relabel"], found["clean"]) == (share, 1.0)
        assert found["triggered_n"] == len(bad)


def tensors(split: Split) -> TensorDataset:
    return TensorDataset(torch.from_numpy(split.inputs()), torch.from_numpy(split.y))

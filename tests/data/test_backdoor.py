"""The trigger pixel by pixel, the poisoned split and the change that repairs it."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from gifcore.data import Split
from gifcore.data.backdoor import Poisoned, Trigger, poison, triggered
from gifcore.errors import GifError
from gifcore.problem import Problem, targets


def images(dtype: type, shape: tuple[int, ...] = (7, 2, 5, 4)) -> np.ndarray:
    values = np.random.default_rng(0).random(shape)
    return (values * 255).astype(np.uint8) if dtype is np.uint8 else values.astype(dtype)


def test_the_checkerboard_is_the_published_one() -> None:
    expected = np.zeros((5, 4))
    expected[::2, 1::2] = 1
    expected[1::2, ::2] = 1
    np.testing.assert_array_equal(Trigger().pattern(5, 4), expected)
    corner = Trigger(size=3).pattern(5, 4)
    np.testing.assert_array_equal(corner[:3, :3], expected[:3, :3])
    assert corner.sum() == expected[:3, :3].sum() == 4


def test_bytes_get_16_more_and_stop_at_255() -> None:
    x = images(np.uint8)
    x[0, 0, 0, 1], x[0, 0, 0, 3] = 250, 239
    found = Trigger().on(x)
    mask = np.broadcast_to(Trigger().pattern(5, 4), x.shape)
    np.testing.assert_array_equal(found[~mask], x[~mask])
    np.testing.assert_array_equal(found[mask], np.minimum(x[mask].astype(int) + 16, 255))
    assert (found[0, 0, 0, 1], found[0, 0, 0, 3]) == (255, 255)
    assert found.dtype == np.uint8


@pytest.mark.parametrize("limits", [(0.0, 1.0), (-1.0, 3.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_get_a_share_of_their_range_and_are_clamped(
    dtype: type, limits: tuple[float, float]
) -> None:
    x = images(dtype)
    x[0, 0, 0, 1], x[0, 0, 0, 0] = limits[1] - 0.01, limits[0]
    trigger = Trigger(strength=0.25, limits=limits)
    found, mask = trigger.on(x), np.broadcast_to(trigger.pattern(5, 4), x.shape)
    np.testing.assert_array_equal(found[~mask], x[~mask])
    expected = np.minimum(x[mask] + 0.25 * (limits[1] - limits[0]), limits[1])
    np.testing.assert_allclose(found[mask], expected, rtol=1e-6)
    assert found.dtype == dtype


def test_bytes_and_their_inputs_are_triggered_alike() -> None:
    split = Split(images(np.uint8), np.zeros(7, np.int64))
    after = triggered(split, Trigger()).inputs()
    np.testing.assert_allclose(after, Trigger().on(split.inputs()), atol=1e-6)


def planted(count: int = 12, seed: int = 3) -> tuple[Split, Poisoned]:
    y = np.arange(30) % 3
    split = Split(images(np.uint8, (30, 1, 4, 4)), y)
    return split, poison(split, label=1, count=count, classes=3, trigger=Trigger(2, 1.0), seed=seed)


def test_poison_is_in_exactly_the_drawn_images() -> None:
    split, found = planted()
    drawn = np.isin(np.arange(30), found.indices)
    assert drawn.sum() == len(np.unique(found.indices)) == 12
    np.testing.assert_array_equal(found.split.x[~drawn], split.x[~drawn])
    np.testing.assert_array_equal(found.split.y[~drawn], split.y[~drawn])
    np.testing.assert_array_equal(found.split.x[drawn], Trigger(2, 1.0).on(split.x[drawn]))
    assert (found.split.y[drawn] == 1).all()
    assert set(found.labels.tolist()) == {0, 1, 2}  # drawn from all classes
    np.testing.assert_array_equal(found.labels, split.y[found.indices])


def test_the_split_it_was_made_of_stays_and_the_draw_is_seeded() -> None:
    split, found = planted()
    _, again = planted()
    np.testing.assert_array_equal(split.x, images(np.uint8, (30, 1, 4, 4)))
    np.testing.assert_array_equal(split.y, np.arange(30) % 3)
    np.testing.assert_array_equal(found.indices, again.indices)
    assert set(found.indices.tolist()) != set(planted(seed=4)[1].indices.tolist())


def test_published_measurement_is_on_the_training_images() -> None:
    split, found = planted()
    bad, good = found.triggered(), found.clean()
    np.testing.assert_array_equal(bad.x, found.split.x[found.indices])
    np.testing.assert_array_equal(bad.y, split.y[found.indices])
    rest = np.setdiff1d(np.arange(30), found.indices)
    np.testing.assert_array_equal(good.x, split.x[rest])
    np.testing.assert_array_equal(good.y, split.y[rest])


def test_repair_brings_every_label_back() -> None:
    split, found = planted()
    data = TensorDataset(torch.from_numpy(found.split.inputs()), torch.from_numpy(found.split.y))
    problem = Problem(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), data)
    repaired = found.repair().apply(problem)
    assert targets(repaired.train).tolist() == split.y.tolist()
    assert found.repair().samples(problem).tolist() == [i for i in found.indices if split.y[i] != 1]


def test_nothing_to_repair() -> None:
    split = Split(images(np.uint8), np.ones(7, np.int64))
    found = poison(split, label=1, count=3, classes=2, trigger=Trigger())
    with pytest.raises(GifError, match="Every poisoned image was of class 1"):
        found.repair()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"size": 1}, "size is 1; it must be 2"),
        ({"strength": 0.0}, r"strength is 0\.0"),
        ({"strength": 1.5}, r"strength is 1\.5"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"limits": (1.0, 0.0)}, "black and white, in order"),
    ],
)
def test_impossible_triggers(arguments: dict[str, float], sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        Trigger(**arguments)


@pytest.mark.parametrize(
    ("label", "count", "sentence"),
    [(3, 2, "no class 3"), (-1, 2, "no class -1"), (0, 0, "0 of 7"), (0, 7, "7 of 7")],
)
def test_impossible_poison(label: int, count: int, sentence: str) -> None:
    split = Split(images(np.uint8), np.zeros(7, np.int64))
    with pytest.raises(GifError, match=sentence):
        poison(split, label=label, count=count, classes=3, trigger=Trigger())

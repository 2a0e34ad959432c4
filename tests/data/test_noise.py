"""Wrong labels: how many, which, of what class, and that nothing else is touched."""

import json
from pathlib import Path

import numpy as np
import pytest

from gifcore import data as datasets
from gifcore import training
from gifcore.data import Split
from gifcore.data.noise import Noise, mislabel
from gifcore.errors import GifError
from gifcore.study import read_noise

X = np.zeros((3000, 1, 2, 2), np.uint8)
Y = np.arange(3000) % 5


def test_so_many_labels_are_another_class_all_as_likely() -> None:
    found = mislabel(Split(X, Y), rate=0.4, classes=5, seed=3)
    moved = (found.split.y - Y) % 5
    assert np.flatnonzero(moved).tolist() == found.indices.tolist()
    assert len(found.indices) == 1200  # no drawn label stays what it was
    counts = np.bincount(moved)[1:]
    assert counts.sum() == 1200
    assert ((counts > 230) & (counts < 370)).all()  # 300 each, by chance within 5 deviations
    np.testing.assert_array_equal(found.labels, Y)
    assert found.split.x is X


def test_the_split_it_was_made_of_stays_and_the_draw_is_seeded() -> None:
    one, again, other = (mislabel(Split(X, Y), rate=0.1, classes=5, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(Y, np.arange(3000) % 5)
    np.testing.assert_array_equal(one.split.y, again.split.y)
    assert len(set(one.indices) & set(other.indices)) < 100


def test_only_training_labels_are_wrong() -> None:
    clean = datasets.load("digits")
    noisy, found = Noise(0.1, 7).plant(clean)
    assert (noisy.train.y != clean.train.y).sum() == 100 == len(found.indices)
    for name in ("validation", "test"):
        assert noisy.split(name) is clean.split(name)
    assert noisy.train.x is clean.train.x
    assert noisy.hash == clean.hash


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_impossible_rates(rate: float) -> None:
    with pytest.raises(GifError, match="choose one between 0 and 1"):
        Noise(rate)


@pytest.mark.parametrize(
    ("rate", "classes", "sentence"),
    [(0.1, 1, "Labels of one class"), (1e-5, 5, "makes 0 of 3000"), (0.9999, 5, "3000 of 3000")],
)
def test_impossible_splits(rate: float, classes: int, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        mislabel(Split(X, Y), rate=rate, classes=classes)


def test_the_words_of_the_command_line() -> None:
    assert read_noise(" rate=0.25, seed=3 ") == Noise(0.25, 3)
    assert read_noise(Noise(0.1, 9).words()) == Noise(0.1, 9)
    for words, sentence in (
        ("0.1", "not of the form rate=0.1"),
        ("rate=2", "less than 1"),
        ("rate=0", "a rate above 0"),
        ("seed=1", "a rate above 0"),
        ("share=0.1", "share"),
    ):
        with pytest.raises(GifError, match=sentence):
            read_noise(words)


def test_a_training_with_wrong_labels_says_so_on_its_card(tmp_path: Path) -> None:
    data = datasets.load("digits")
    settings = training.Settings(epochs=2)
    for name, noise in (("clean", None), ("noisy", Noise(0.3))):
        training.train_with(data, "logistic", settings, noise=noise, out=tmp_path / name)
    clean, noisy = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("clean", "noisy"))
    assert noisy["noise"] == {"rate": 0.3, "seed": 0}
    assert "noise" not in clean
    # the accuracy on the training labels is of the labels it was given
    assert noisy["accuracy"]["train"] < clean["accuracy"]["train"] - 0.15
    assert noisy["data"]["hash"] == clean["data"]["hash"]

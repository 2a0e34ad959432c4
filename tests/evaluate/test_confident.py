"""Confident learning against numbers by hand, and against cleanlab where that is installed."""

import numpy as np
import pytest

from gifcore.errors import GifError
from gifcore.evaluate import confident

P = np.array([
    [0.8, 0.1, 0.1],
    [0.6, 0.3, 0.1],
    [0.3, 0.6, 0.1],  # labelled 0, confidently 1
    [0.1, 0.9, 0.0],
    [0.5, 0.4, 0.1],  # labelled 1, above no threshold of another class
])  # fmt: skip
Y = np.array([0, 0, 0, 1, 1])
T = np.array([(0.8 + 0.6 + 0.3) / 3, (0.9 + 0.4) / 2, 1.0])


def test_thresholds_by_hand() -> None:
    np.testing.assert_allclose(confident.thresholds(P, Y), T)  # nobody is labelled 2


def test_margins_by_hand() -> None:
    above = P - T
    expected = [
        above[0, 1] - above[0, 0],
        above[1, 1] - above[1, 0],
        above[2, 1] - above[2, 0],
        above[3, 0] - above[3, 1],
        above[4, 0] - above[4, 1],
    ]
    np.testing.assert_allclose(confident.margins(P, Y), expected)
    assert confident.margins(P, Y).argmax() == 2


def test_contradicted_by_hand() -> None:
    # 0.6 of sample 2 is below the threshold 0.65 of class 1; raised above it, it counts
    assert confident.contradicted(P, Y).tolist() == [False] * 5
    surer = P.copy()
    surer[2] = [0.25, 0.7, 0.05]
    assert confident.contradicted(surer, Y).tolist() == [False, False, True, False, False]


def test_of_two_confident_classes_the_more_probable_one_counts() -> None:
    p = np.array([[0.45, 0.5, 0.05], [0.4, 0.55, 0.05], [0.35, 0.65, 0.0], [0.3, 0.45, 0.25]])
    y = np.array([0, 0, 1, 1])  # thresholds 0.425, 0.55, 1
    assert confident.contradicted(p, y).tolist() == [False, True, False, False]
    y = np.array([0, 0, 0, 1])  # thresholds 0.4, 0.45, 1: both are reached by the first two
    assert confident.contradicted(p, y).tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("p", "y", "sentence"),
    [
        (P[:, :1], Y, "2 or more classes"),
        (P, Y[:-1], "a label a sample"),
        (np.where(P == 0.9, np.nan, P), Y, "NaN"),
        (P, Y + 2, "Labels are 0 to 2; got 2 to 3"),
    ],
)
def test_what_cannot_be_judged(p: np.ndarray, y: np.ndarray, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        confident.margins(p, y)


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    true = generator.integers(4, size=400)
    logits = 2.5 * np.eye(4)[true] + generator.standard_normal((400, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    moved = generator.random(400) < 0.1
    return p, np.where(moved, (true + generator.integers(1, 4, 400)) % 4, true)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings("ignore")
def test_cleanlab_ranks_and_contradicts_the_same(seed: int) -> None:
    count = pytest.importorskip("cleanlab.count")
    rank = pytest.importorskip("cleanlab.rank")
    p, y = drawn(seed)
    quality = rank.get_label_quality_scores(
        y, p, method="normalized_margin", adjust_pred_probs=True
    )
    ours = confident.margins(p, y)
    # theirs is (1 - margin / (1 - sum t + C max t)) / 2: the same order, the same numbers
    t = confident.thresholds(p, y)
    scale = 1 - t.sum() + len(t) * t.max()
    np.testing.assert_allclose(quality, (1 - ours / scale) / 2, atol=1e-9)
    _, off = count.compute_confident_joint(y, p, return_indices_of_off_diagonals=True)
    assert np.flatnonzero(confident.contradicted(p, y)).tolist() == sorted(off)

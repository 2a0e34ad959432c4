"""Measures of agreement against closed forms, other libraries, and their own invariances."""

from collections.abc import Callable

import numpy as np
import pytest

from gifcore.errors import GifError
from gifcore.evaluate import agreement as measures
from gifcore.evaluate.agreement import (
    agreement,
    auc,
    bootstrap,
    distance,
    found_curve,
    found_within,
    histogram,
    lds,
    lds_difference,
    pearson,
    same_predictions,
    slope,
    spearman,
    total_variation,
)

CASES = {
    "plain": lambda g: (g.normal(size=40), g.normal(size=40)),
    "ties": lambda g: (g.integers(4, size=40).astype(float), g.integers(3, size=40).astype(float)),
    "two": lambda _: (np.array([1.0, 2.0]), np.array([5.0, 3.0])),
    "far from 0": lambda g: (1e6 + g.normal(size=30), 1e-6 * g.normal(size=30)),
}


@pytest.mark.parametrize("name", CASES)
def test_correlations_are_scipys(name: str) -> None:
    from scipy.stats import linregress, pearsonr, spearmanr

    x, y = CASES[name](np.random.default_rng(0))
    assert pearson(x, y) == pytest.approx(pearsonr(x, y).statistic, abs=1e-9)
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    assert slope(x, y) == pytest.approx(linregress(x, y).slope, rel=1e-6, abs=1e-15)


@pytest.mark.parametrize("measure", [pearson, spearman])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9])
def test_a_column_that_does_not_vary_has_no_correlation(
    measure: Callable[..., float], constant: float
) -> None:
    column, other = np.full(7, constant), np.arange(7.0)
    assert np.isnan(measure(column, other))
    assert np.isnan(measure(other, column))


def test_the_slope_is_above_one_where_the_prediction_is_too_small() -> None:
    x = np.arange(5.0)
    assert slope(x, 3 * x + 2) == pytest.approx(3)
    assert np.isnan(slope(np.ones(5), x))


def test_lds_is_the_mean_over_queries_and_knows_constant_ones() -> None:
    from scipy.stats import spearmanr

    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(6, 25)), generator.integers(5, size=(6, 25)).astype(float)
    rows = [spearmanr(a, b).statistic for a, b in zip(one, other, strict=True)]
    found = lds(one, other)
    assert found.value == pytest.approx(np.mean(rows), abs=1e-12)
    assert found.low < found.value < found.high
    assert found.count == 6
    other[0] = 1.0
    assert lds(one, other).value == pytest.approx(np.mean(rows[1:]), abs=1e-12)
    assert np.isnan(lds(one, np.ones_like(one)).value)


def test_a_difference_of_lds_leaves_out_what_both_share() -> None:
    """Paired: the interval is narrower than those of the two, and knows the better one."""
    generator = np.random.default_rng(1)
    truth = generator.normal(size=(20, 40))
    shared = truth + generator.normal(size=truth.shape)
    worse = shared + 0.7 * generator.normal(size=truth.shape)
    one, other = lds(shared, truth), lds(worse, truth)
    found = lds_difference(shared, worse, truth)
    assert found.value == pytest.approx(one.value - other.value, abs=1e-12)
    assert found.low > 0
    assert found.high - found.low < 0.6 * (one.high - one.low + other.high - other.low)
    assert one.low < other.high  # by themselves they overlap
    back = lds_difference(worse, shared, truth)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-found.value, -found.high, -found.low)
    )
    nothing = lds_difference(shared, shared, truth)
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
    with pytest.raises(GifError, match="two tables"):
        lds_difference(shared, worse[:3], truth)


def test_auc_is_scikit_learns_with_ties() -> None:
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(0)
    for values in (generator.normal(size=60), generator.integers(4, size=60).astype(float)):
        wrong = generator.random(60) < 0.2
        assert auc(values, wrong) == pytest.approx(roc_auc_score(wrong, values), abs=1e-12)
    assert np.isnan(auc(values, np.ones(60, bool)))


def test_the_curve_finds_what_is_ranked_first() -> None:
    wrong = np.array([True, False, True, False, False])
    inspected, found = found_curve(np.array([5.0, 4.0, 3.0, 2.0, 1.0]), wrong)
    np.testing.assert_allclose(inspected, [0, 0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(found, [0, 0.5, 0.5, 1, 1, 1])
    np.testing.assert_allclose(found_curve(np.zeros(5), wrong)[1], inspected)  # nothing is known
    np.testing.assert_allclose(found_curve(np.array([2.0, 1, 2, 1, 1]), wrong)[1][:3], [0, 0.5, 1])
    assert found_within(np.array([5.0, 4.0, 3.0, 2.0, 1.0]), wrong, 0.4) == pytest.approx(0.5)


def test_distributions_and_parameters() -> None:
    one, other = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
    assert total_variation(histogram(one, 3), histogram(other, 3)) == pytest.approx(0.5)
    rows = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.0, 1.0], [0.5, 0.5]])
    assert total_variation(*rows) == pytest.approx(0.5)
    assert same_predictions(one, other) == 0.5
    assert distance(np.array([3.0, 4.0]), np.array([0.0, 4.0])) == pytest.approx(0.75)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Mean of 40 normal numbers, 200 times; the bootstrap's interval is a little narrow."""
    generator = np.random.default_rng(1)
    held = 0
    for seed in range(200):
        found = bootstrap(
            lambda x: float(x.mean()), generator.normal(size=40), seed=seed, draws=200
        )
        held += found.low <= 0 <= found.high
    assert 0.88 <= held / 200 <= 0.98


def test_an_interval_of_a_mean_is_as_wide_as_the_normal_one() -> None:
    x = np.random.default_rng(3).normal(size=400)
    found = bootstrap(lambda values: float(values.mean()), x, draws=4000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * x.std() / np.sqrt(400), rel=0.06)


def test_intervals_repeat_for_a_seed_and_tell_of_draws_without_a_value() -> None:
    x, y = np.arange(6.0), np.array([0.0, 0, 0, 0, 0, 1])
    first, again, other = (agreement(x, y, seed=s)["pearson"] for s in (0, 0, 1))
    assert first == again
    assert first != other
    assert first.undefined == pytest.approx((5 / 6) ** 6, abs=0.05)


def test_measures_are_those_of_dattri() -> None:
    torch = pytest.importorskip("torch")
    dattri = pytest.importorskip("dattri.metric", reason="dattri is not installed")
    generator = np.random.default_rng(2)
    scores, subsets = (
        generator.normal(size=(30, 4)),
        [generator.permutation(30)[:15] for _ in "abcdefgh"],
    )
    truth = generator.normal(size=(8, 4))
    theirs, _ = dattri.lds(
        torch.tensor(scores), (torch.tensor(truth), torch.tensor(np.stack(subsets)))
    )
    sums = np.stack([scores[s].sum(axis=0) for s in subsets])
    assert lds(sums.T, truth.T).value == pytest.approx(float(theirs.mean()), abs=1e-6)
    wrong = generator.random(30) < 0.3
    theirs = dattri.mislabel_detection_auc(torch.tensor(scores[:, 0]), torch.tensor(wrong))[0]
    assert auc(scores[:, 0], wrong) == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pearson(np.ones(1), np.ones(1)), "2 or more numbers"),
        (lambda: slope(np.ones(3), np.ones(4)), "2 or more numbers"),
        (lambda: spearman(np.array([1, np.nan]), np.ones(2)), "NaN"),
        (lambda: lds(np.ones((2, 3)), np.ones((3, 2))), "queries x subsets"),
        (lambda: auc(np.ones(3), np.ones(2, bool)), "one score and one mark"),
        (lambda: found_curve(np.ones(3), np.zeros(3, bool)), "No label is wrong"),
        (lambda: total_variation(np.ones(2), np.ones(3)), "same classes"),
        (lambda: histogram(np.array([], int), 3), "no predictions"),
        (lambda: same_predictions(np.ones(2), np.ones(3)), "cannot be compared"),
    ],
)
def test_what_cannot_be_compared_is_named(call: Callable[[], object], words: str) -> None:
    with pytest.raises(GifError, match=words):
        call()


def test_every_correlation_is_in_the_table() -> None:
    assert set(measures.CORRELATIONS) == {"pearson", "spearman", "slope"}

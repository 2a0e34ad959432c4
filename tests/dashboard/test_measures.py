"""The statistics against slow, obvious ones and against published values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from dashboard.components import measures


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)],
)
def test_wilson_gives_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert measures.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_nothing_is_nan() -> None:
    assert all(math.isnan(bound) for bound in measures.wilson(0, 0))


def test_spearman_is_pearson_of_ranks_and_nan_for_constants() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 50), rng.normal(size=50)
    ranks = [stats.rankdata(values) for values in (x, y)]
    assert measures.spearman(x, y) == pytest.approx(np.corrcoef(ranks)[0, 1])
    assert math.isnan(measures.spearman(np.zeros(5), np.arange(5)))


def test_spearman_interval_covers_about_95_percent() -> None:
    rng, n, rho = np.random.default_rng(1), 100, 0.6
    true = 6 / math.pi * math.asin(rho / 2)  # Spearman's of a bivariate normal
    hits = 0
    for _ in range(400):
        x, e = rng.normal(size=(2, n))
        low, high = measures.spearman_interval(
            measures.spearman(x, rho * x + math.sqrt(1 - rho**2) * e), n
        )
        hits += low <= true <= high
    assert 0.91 <= hits / 400 <= 0.98


@pytest.mark.parametrize("side", list(measures.SIDES))
def test_overlap_curve_equals_counting_sets(side: measures.Side) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 37))
    ks = list(range(1, 38))
    slow = [len(set(measures.order(x, side)[:k]) & set(measures.order(y, side)[:k])) for k in ks]
    assert measures.overlap_curve(x, y, ks, side) == pytest.approx(np.array(slow) / ks)
    assert [measures.overlap(x, y, k, side) for k in ks] == slow


def test_order_puts_the_wanted_end_first() -> None:
    values = np.array([0.5, -2.0, 1.0])
    assert measures.order(values, "helpful").tolist() == [2, 0, 1]
    assert measures.order(values, "harmful").tolist() == [1, 0, 2]
    assert measures.order(values, "strongest").tolist() == [1, 2, 0]


def test_curve_points_are_increasing_and_end_at_n() -> None:
    points = measures.curve_points(8000)
    assert points == sorted(set(points))
    assert (points[0], points[-1]) == (1, 8000)
    assert measures.curve_points(1) == [1]


def test_confusion_rows_are_true_classes_and_empty_rows_are_nan() -> None:
    counts = measures.confusion(np.array([0, 0, 2]), np.array([1, 0, 2]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    shares = measures.row_shares(counts)
    assert shares[0].tolist() == [0.5, 0.5, 0.0]
    assert np.isnan(shares[1]).all()


@pytest.mark.parametrize(
    ("largest", "exponent"), [(2.5e-5, -6), (999.0, 0), (1000.0, 3), (1e-6, -6), (0.0, 0)]
)
def test_one_power_of_ten_is_a_multiple_of_three(largest: float, exponent: int) -> None:
    assert measures.exponent(np.array([largest, -largest / 3])) == exponent
    assert measures.exponent(np.array([])) == 0


def test_scores_are_written_with_sign_and_three_digits() -> None:
    assert measures.signed(-4e-7, -6) == "−0.400"
    assert measures.signed(9.999e-6, -6) == "+10.0"
    assert measures.power(-6, "nats") == "10⁻⁶ nats"
    assert measures.power(0, "nats") == "nats"


def test_numbers_are_written_for_people() -> None:
    assert measures.percent(0.0049) == "0.5 %"
    assert measures.percent(None) == "n/a"
    assert measures.percent(math.nan) == "n/a"
    assert [measures.times(x) for x in (1.0, 12.58, 1000.0)] == ["× 1", "× 12.6", "× 1,000"]
    assert measures.seconds(200) == "3 min 20 s"
    assert measures.significant(math.inf) == "n/a"

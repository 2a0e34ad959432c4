"""How well a prediction agrees with what retraining shows: pure functions, each with its interval.

Predictions and truths are in one sign and unit: changes of a query's loss in nats, positive = the
loss rises. A correlation with a column that does not vary is NaN: it says nothing, and no mean over
queries counts it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gifcore.errors import GifError

Array = NDArray[Any]
DRAWS = 1000  # of the bootstrap
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure with its bootstrap confidence interval.

    Args:
        value: of all the data.
        low: lower end of the interval of LEVEL; NaN if no draw had a value.
        high: upper end.
        count: rows that were resampled.
        undefined: share of draws without a value, such as a correlation of a constant column.
    """

    value: float
    low: float
    high: float
    count: int
    undefined: float


# --- correlation and slope ------------------------------------------------------------------------


def pearson(predicted: Array, actual: Array) -> float:
    """Return Pearson's correlation; NaN where one of both does not vary.

    >>> round(pearson(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])), 12)
    1.0
    """
    one, other = _paired(predicted, actual)
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.linalg.norm(one) * np.linalg.norm(other))
    tiny = np.finfo(np.float64).eps * len(one)
    flat = any(
        np.linalg.norm(x) <= tiny * np.linalg.norm(raw)
        for x, raw in ((one, np.asarray(predicted)), (other, np.asarray(actual)))
    )
    return float("nan") if flat or scale == 0 else float(one @ other) / scale


def spearman(predicted: Array, actual: Array) -> float:
    """Return Spearman's rank correlation, equal values at their mean rank; NaN as `pearson`."""
    from scipy.stats import rankdata

    one, other = _paired(predicted, actual)
    return pearson(rankdata(one), rankdata(other))


def slope(predicted: Array, actual: Array) -> float:
    """Return b of actual = a + b predicted by least squares: 1 where the size is right too.

    Above 1 the prediction is too small, below 1 too large; NaN where it does not vary.
    """
    one, other = _paired(predicted, actual)
    one = one - one.mean()
    square = float(one @ one)
    return float(one @ other) / square if square > 0 else float("nan")


CORRELATIONS: dict[str, Callable[[Array, Array], float]] = {
    "pearson": pearson,
    "spearman": spearman,
    "slope": slope,
}


def agreement(predicted: Array, actual: Array, *, seed: int = 0) -> dict[str, Interval]:
    """Return every row of CORRELATIONS with its interval over the retrained models.

    Of leave-one-out and leave-k-out: entry i is the change that removal i was predicted to make,
    and the one that retraining without it made.

    Args:
        predicted: (s,) nats.
        actual: (s,) nats.
    """
    columns = _paired(predicted, actual)
    return {name: bootstrap(measure, *columns, seed=seed) for name, measure in CORRELATIONS.items()}


def lds(predicted: Array, actual: Array, *, seed: int = 0) -> Interval:
    """Return the linear datamodeling score: mean over queries of Spearman over subsets.

    Args:
        predicted: (m, s) for each query the predicted loss of the model trained on each subset,
            up to a constant: the sum of influences of what the subset leaves out.
        actual: (m, s) its loss at the models trained on them.

    The interval resamples queries and subsets both, which rather overstates how unsure it is.

    Reference: Park et al. 2023 (arXiv 2303.14186), definition 2.2.
    """
    tables = _tables(predicted, actual)
    return _over_both(_mean_spearman, tables, seed)


def lds_difference(one: Array, other: Array, actual: Array, *, seed: int = 0) -> Interval:
    """Return LDS(one) - LDS(other) on the same queries and subsets, each draw of both alike.

    What two predictions share is not in the interval: it says whether one orders the retrained
    models better than the other, where both intervals by themselves would overlap.

    Args:
        one: (m, s) as `lds` takes it.
        other: (m, s) another prediction.
        actual: (m, s) the losses at the retrained models.
    """
    tables = (*_tables(one, actual), _tables(other, actual)[0])
    return _over_both(
        lambda a, truth, b: _mean_spearman(a, truth) - _mean_spearman(b, truth), tables, seed
    )


def _tables(predicted: Array, actual: Array) -> tuple[Array, Array]:
    one, other = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    if one.shape != other.shape or one.ndim != 2:
        raise GifError(
            f"LDS compares two tables of queries x subsets; got {one.shape} and {other.shape}."
        )
    _refuse_bad(one, other)
    return one, other


def _over_both(measure: Callable[..., float], tables: tuple[Array, ...], seed: int) -> Interval:
    """Return measure(*tables) with its interval over resampled rows and columns."""
    generator = np.random.default_rng(seed)
    queries, subsets = tables[0].shape
    draws = []
    for _ in range(DRAWS // 5):  # a correlation a query each
        rows = generator.integers(queries, size=queries)
        columns = generator.integers(subsets, size=subsets)
        draws.append(measure(*(table[np.ix_(rows, columns)] for table in tables)))
    return _interval(measure(*tables), draws, queries)


def _mean_spearman(one: Array, other: Array) -> float:
    from scipy.stats import rankdata

    ranks = [rankdata(table, axis=1) for table in (one, other)]
    first, second = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    scale = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    varies = scale > 0
    found = (first * second).sum(axis=1)[varies] / scale[varies]
    return float(found.mean()) if len(found) else float("nan")


# --- finding wrong labels -------------------------------------------------------------------------


def auc(scores: Array, wrong: Array) -> float:
    """Return the chance that a wrong label scores above a right one, ties by half.

    NaN where all labels are wrong, or none is.

    >>> auc(np.array([0.9, 0.8, 0.1, 0.2]), np.array([True, False, False, True]))
    0.75
    """
    from scipy.stats import rankdata

    scores, wrong = _labelled(scores, wrong)
    positive = int(wrong.sum())
    negative = len(wrong) - positive
    if positive == 0 or negative == 0:
        return float("nan")
    above = rankdata(scores)[wrong].sum() - positive * (positive + 1) / 2
    return float(above / (positive * negative))


def found_curve(scores: Array, wrong: Array) -> tuple[Array, Array]:
    """Return (share inspected, share of wrong labels found), highest scores first; (n + 1,) each.

    Samples of equal score are inspected together: within them the curve is a straight line.
    """
    scores, wrong = _labelled(scores, wrong)
    if not wrong.any():
        raise GifError("No label is wrong: there is nothing to find; give the true ones.")
    order = np.argsort(-scores, kind="stable")
    found = np.concatenate([[0.0], np.cumsum(wrong[order]) / wrong.sum()])
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan) != 0) + 1  # of runs of equal scores
    ends = np.concatenate([[0], ends])
    places = np.arange(len(found))
    return places / len(scores), np.interp(places, ends, found[ends])


def found_within(scores: Array, wrong: Array, inspected: float) -> float:
    """Return the share of wrong labels among the `inspected` share of highest scores."""
    places, found = found_curve(scores, wrong)
    return float(np.interp(inspected, places, found))


# --- edited against retrained models --------------------------------------------------------------


def histogram(predicted: Array, classes: int) -> Array:
    """Return the share of predictions of each class, (classes,)."""
    if len(predicted) == 0:
        raise GifError("There are no predictions to count; give one or more.")
    return np.bincount(np.asarray(predicted), minlength=classes) / len(predicted)


def total_variation(one: Array, other: Array) -> float:
    """Return half the sum of |p - q|: 0 for equal distributions, 1 for those without overlap.

    Of class histograms, and of predicted probabilities (n, classes) as the mean over rows.

    >>> total_variation(np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5]))
    0.5
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if one.shape != other.shape or one.size == 0:
        raise GifError(
            f"Distributions of shapes {one.shape} and {other.shape} cannot be compared; give the "
            "same classes."
        )
    _refuse_bad(one, other)
    return float(0.5 * np.abs(one - other).sum(axis=-1).mean())


def same_predictions(one: Array, other: Array) -> float:
    """Return the share of samples on which two models predict the same class."""
    if len(one) != len(other) or len(one) == 0:
        raise GifError(f"{len(one)} and {len(other)} predictions cannot be compared.")
    return float((np.asarray(one) == np.asarray(other)).mean())


def distance(one: Array, other: Array) -> float:
    """Return ||theta - theta'|| / ||theta'||, the distance from a retrained model's parameters."""
    one, other = _paired(one, other)
    length = float(np.linalg.norm(other))
    return float(np.linalg.norm(one - other)) / length if length > 0 else float("nan")


# --- how sure -------------------------------------------------------------------------------------


def bootstrap(
    measure: Callable[..., float], *columns: Array, seed: int = 0, draws: int = DRAWS
) -> Interval:
    """Return measure(*columns) with the interval between percentiles over resampled rows.

    Args:
        columns: arrays of one length; row i of all of them belongs together.
        seed: of the resampling.
    """
    count = len(columns[0])
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        rows = generator.integers(count, size=count)
        found.append(measure(*(column[rows] for column in columns)))
    return _interval(measure(*columns), found, count)


def _interval(value: float, draws: list[float], count: int) -> Interval:
    known = np.array([d for d in draws if not np.isnan(d)])
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (np.nan, np.nan)
    return Interval(value, float(low), float(high), count, 1 - len(known) / len(draws))


def _paired(one: Array, other: Array) -> tuple[Array, Array]:
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if one.ndim != 1 or one.shape != other.shape or len(one) < 2:
        raise GifError(
            f"Two columns of 2 or more numbers are compared; got {one.shape} and {other.shape}."
        )
    _refuse_bad(one, other)
    return one, other


def _labelled(scores: Array, wrong: Array) -> tuple[Array, Array]:
    scores, wrong = np.asarray(scores, np.float64), np.asarray(wrong, bool)
    if scores.ndim != 1 or scores.shape != wrong.shape or len(scores) == 0:
        raise GifError(
            f"Give one score and one mark a sample; got {scores.shape} and {wrong.shape}."
        )
    _refuse_bad(scores)
    return scores, wrong


def _refuse_bad(*arrays: Array) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise GifError("Numbers to compare hold NaN or infinity; leave those samples out.")

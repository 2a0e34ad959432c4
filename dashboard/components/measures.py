"""The statistics of the pages and how their numbers are written; of Streamlit only its caches."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import streamlit as st
from scipy import stats

Side = Literal["helpful", "harmful", "strongest"]
SIDES: dict[Side, str] = {
    "helpful": "Most helpful",
    "harmful": "Most harmful",
    "strongest": "Strongest",
}
MANY = 2_000  # values: fewer are sorted sooner than recognised
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_NORMAL_95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


# --- uncertainty ----------------------------------------------------------------------------------


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a proportion; (nan, nan) where nothing was counted.

    >>> low, high = wilson(1, 200)
    >>> round(low, 4), round(high, 4)
    (0.0009, 0.0278)
    """
    if n == 0:
        return math.nan, math.nan
    z2 = _NORMAL_95**2
    share = successes / n
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _NORMAL_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return the rank correlation, ties by mean rank; nan if either side is constant."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return _correlation(_content(first, second), "spearman", first, second)


def kendall(first: np.ndarray, second: np.ndarray) -> float:
    """Return Kendall's tau-b, which counts pairs in the same order; nan if a side is constant."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return _correlation(_content(first, second), "kendall", first, second)


@st.cache_data(max_entries=1024, show_spinner=False)
def _correlation(key: bytes, kind: str, _first: np.ndarray, _second: np.ndarray) -> float:  # noqa: ARG001
    measure = stats.spearmanr if kind == "spearman" else stats.kendalltau
    return float(measure(_first, _second).statistic)


def spearman_interval(rho: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval by Fisher's z with the variance 1.06 / (n - 3).

    Reference: Fieller, Hartley, Pearson 1957. It treats the n samples as independent draws.
    """
    if n < 4 or math.isnan(rho):
        return math.nan, math.nan
    if abs(rho) >= 1:
        return rho, rho
    half = _NORMAL_95 * math.sqrt(1.06 / (n - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


# --- agreement of two rankings --------------------------------------------------------------------


def order(values: np.ndarray, side: Side) -> np.ndarray:
    """Return positions from the most to the least of a side; ties by position.

    Of many values it is sorted once, by their content: shared, and cannot be changed.
    """
    if len(values) < MANY:
        return _sorted(values, side)
    return _order(_content(values), side, values)


@st.cache_resource(max_entries=96, show_spinner=False)
def _order(key: bytes, side: Side, _values: np.ndarray) -> np.ndarray:  # noqa: ARG001
    found = _sorted(_values, side)
    found.flags.writeable = False
    return found


def _sorted(values: np.ndarray, side: Side) -> np.ndarray:
    key = {"helpful": -values, "harmful": values, "strongest": -np.abs(values)}[side]
    return np.argsort(key, kind="stable")


def _content(*arrays: np.ndarray) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.digest()


def overlap(first: np.ndarray, second: np.ndarray, k: int, side: Side) -> int:
    """Return how many samples are among the top k of both."""
    return len(np.intersect1d(order(first, side)[:k], order(second, side)[:k]))


def overlap_curve(
    first: np.ndarray, second: np.ndarray, ks: Sequence[int], side: Side
) -> np.ndarray:
    """Return the shared share of the top k for every k, from two sorts in all."""
    place = np.empty((2, len(first)), dtype=int)
    for row, values in enumerate((first, second)):
        place[row, order(values, side)] = np.arange(len(values))
    both_by = np.bincount(place.max(axis=0), minlength=len(first)).cumsum()
    return np.array([both_by[k - 1] / k for k in ks])


def curve_points(n: int) -> list[int]:
    """Return about 60 distinct values of k from 1 to n, evenly spread on a log axis."""
    return sorted({int(round(k)) for k in np.geomspace(1, max(n, 1), 60)})


# --- what predictions did -------------------------------------------------------------------------


def confusion(label: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return counts (C, C): row true class, column predicted class."""
    flat = np.asarray(label, dtype=int) * classes + np.asarray(predicted, dtype=int)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def row_shares(counts: np.ndarray) -> np.ndarray:
    """Return each row divided by its sum; a class without samples is nan, not 0."""
    totals = counts.sum(axis=1, keepdims=True).astype(float)
    totals[totals == 0] = np.nan
    return counts / totals


# --- how numbers are written ----------------------------------------------------------------------


def exponent(values: np.ndarray) -> int:
    """Return the one power of ten (a multiple of 3) under which a list of scores is shown.

    >>> exponent(np.array([2.5e-5, -4e-7]))
    -6
    """
    largest = float(np.nanmax(np.abs(values), initial=0.0)) if len(values) else 0.0
    if largest == 0 or not math.isfinite(largest):
        return 0
    return 3 * math.floor(math.log10(largest) / 3)


def power(exp: int, unit: str) -> str:
    """Return a unit with its power of ten: `power(-6, "nats")` is "10⁻⁶ nats"."""
    return unit if exp == 0 else f"10{str(exp).translate(_SUPERSCRIPTS)} {unit}"


@dataclass(frozen=True)
class Explained:
    """What the scores of a record are about, in words: by default the loss, in nats."""

    noun: str = "loss"
    unit: str = "nats"
    worse: str = "raise"  # what the removal of a helpful training image does to it
    better: str = "lower"


def explained(info: dict[str, Any]) -> Explained:
    """Return what the scores of this record are about.

    >>> explained({"target": {"name": "margin", "unit": "log odds", "better_high": True}}).worse
    'lower'
    """
    target = info.get("target")
    if target is None:
        return Explained()
    worse, better = ("lower", "raise") if target["better_high"] else ("raise", "lower")
    return Explained(target["name"], target["unit"], worse, better)


def signed(value: float, exp: int = 0) -> str:
    """Return three significant digits, always with a sign: "+25.0", "−0.400", "0".

    >>> signed(2.5e-5, -6), signed(0.0)
    ('+25.0', '0')
    """
    if value == 0:
        return "0"
    return ("+" if value > 0 else "−") + significant(abs(value) / 10.0**exp)


def significant(value: float) -> str:
    """Return three significant digits without an exponent where four zeros are enough.

    >>> significant(12.3456), significant(0.0123456), significant(398090.0), significant(1e-9)
    ('12.3', '0.0123', '398,000', '1.00e-9')
    """
    if not math.isfinite(value) or value == 0:
        return "0" if value == 0 else "n/a"
    place = math.floor(math.log10(abs(value)))
    value = round(value, 2 - place)
    place = math.floor(math.log10(abs(value)))
    if place < -4 or place > 8:
        mantissa, _, exp = f"{value:.2e}".partition("e")
        return f"{mantissa}e{int(exp)}"
    return f"{value:,.{max(0, 2 - place)}f}"


def times(scale: float) -> str:
    """Return a step's scale: `times(12.58)` is "× 12.6", `times(1.0)` is "× 1"."""
    return f"× {scale:,.0f}" if scale >= 100 else f"× {scale:.3g}"


def percent(share: float | None, digits: int = 1) -> str:
    """Return "96.5 %"; "n/a" where nothing was measured."""
    if share is None or math.isnan(share):
        return "n/a"
    return f"{100 * share:.{digits}f} %"


def seconds(value: float) -> str:
    """Return a duration as people say it: "0.4 s", "12 s", "3 min 20 s"."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 90:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"

"""Training samples that are alike, and where one of them stands; pure NumPy, no Streamlit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, eq=False)
class Near:
    """The nearest training samples of one, nearest first.

    Args:
        kind: by what: "gradient" (the sketch), or "influence" on the ranked test images.
        positions: (k,).
        closeness: (k,) the cosine of the gradients, or by how much the influence differs: the
            length of the difference as a share of the sample's own.
    """

    kind: Literal["gradient", "influence"]
    positions: np.ndarray
    closeness: np.ndarray


def by_influence(rankings: Sequence[np.ndarray], sample: int, count: int) -> Near | None:
    """Return the samples whose influence differs least from that of `sample`, ties by position.

    ||I_i - I_j|| / ||I_i|| over all queries, each method's rows in units of their own spread, so
    that one with larger numbers does not decide alone. None where nothing is ranked; empty where
    the sample influences nothing.

    Args:
        rankings: (m, n) of each method.
    """
    known = [values for values in rankings if values.size]
    if not known:
        return None
    n = known[0].shape[1]
    squares, own = np.zeros(n), 0.0
    for values in known:
        spread = float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) or 1.0
        mine = values[:, sample].astype(np.float64) / spread
        own += float(mine @ mine)
        for row, value in zip(values, mine, strict=True):  # row by row: no copy of them all
            squares += (row / spread - value) ** 2
    if own == 0:
        return Near("influence", np.zeros(0, dtype=np.int64), np.zeros(0))
    squares[sample] = np.inf
    order = np.argsort(squares, kind="stable")[: min(count, n - 1)]
    return Near("influence", order, np.sqrt(squares[order] / own))


def standing(values: np.ndarray, sample: int) -> tuple[int, str]:
    """Return a sample's place on its own side of a ranking, from 1, and the side.

    The side is "helpful", "harmful" or, for an influence of 0, "neutral" with place 0.

    >>> standing(np.array([3.0, -1.0, 5.0, 0.0]), 0), standing(np.array([3.0, -1.0, 5.0, 0.0]), 1)
    ((2, 'helpful'), (1, 'harmful'))
    """
    value = values[sample]
    if value == 0:
        return 0, "neutral"
    before = values > value if value > 0 else values < value
    ties = values[:sample] == value
    side = "helpful" if value > 0 else "harmful"
    return int(before.sum() + ties.sum()) + 1, side


def ordinal(number: int) -> str:
    """Return "1st", "12th", "8,022nd".

    >>> [ordinal(n) for n in (1, 2, 3, 11, 112, 8022)]
    ['1st', '2nd', '3rd', '11th', '112th', '8,022nd']
    """
    ends = {1: "st", 2: "nd", 3: "rd"}
    end = "th" if number % 100 in (11, 12, 13) else ends.get(number % 10, "th")
    return f"{number:,}{end}"


def standing_words(values: np.ndarray, sample: int) -> str:
    """Return where a sample stands: "12th most helpful of 8,000".

    >>> standing_words(np.array([3.0, -1.0, 5.0, 0.0]), 1)
    'most harmful of 4'
    """
    place, side = standing(values, sample)
    if side == "neutral":
        return "no influence"
    return f"{'' if place == 1 else ordinal(place) + ' '}most {side} of {len(values):,}"

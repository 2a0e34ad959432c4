"""Confident learning: which labels does a model confidently contradict? Pure functions.

Reference: Northcutt, Jiang, Chuang 2021 (arXiv 1911.00068), section 3.1. Best with probabilities
from models that never saw the sample; a model's own on its training data are surer of their labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gifcore.errors import GifError

Array = NDArray[Any]


def thresholds(probabilities: Array, labels: Array) -> Array:
    """Return t_c, (C,): the mean probability of class c over the samples labelled c.

    Of a class that no sample is labelled, 1: nothing is confidently of it.
    """
    p, y = _checked(probabilities, labels)
    counts = np.bincount(y, minlength=p.shape[1])
    sums = np.bincount(y, weights=p[np.arange(len(y)), y], minlength=p.shape[1])
    return np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)


def margins(probabilities: Array, labels: Array) -> Array:
    """Return max over c != y of (p_c - t_c), less (p_y - t_y), (n,); the largest are suspicious.

    The normalized margin of confident learning, each class measured by its own threshold.

    Args:
        probabilities: (n, C).
        labels: (n,) as they are given.
    """
    p, y = _checked(probabilities, labels)
    above = p - thresholds(p, y)
    rows = np.arange(len(y))
    own = above[rows, y]
    above[rows, y] = -np.inf
    return np.asarray(above.max(axis=1) - own)


def contradicted(probabilities: Array, labels: Array) -> Array:
    """Return (n,) marks: off the diagonal of the confident joint.

    The class is the most probable of those that reach their threshold; it is not the label.
    """
    p, y = _checked(probabilities, labels)
    reached = np.where(p >= thresholds(p, y), p, -np.inf)
    best = reached.argmax(axis=1)
    return np.isfinite(reached.max(axis=1)) & (best != y)


def _checked(probabilities: Array, labels: Array) -> tuple[Array, Array]:
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    if p.ndim != 2 or y.shape != (len(p),) or p.shape[1] < 2 or len(p) == 0:
        raise GifError(
            f"Give probabilities of 2 or more classes and a label a sample; got {p.shape} and "
            f"{y.shape}."
        )
    if not np.isfinite(p).all():
        raise GifError("Probabilities hold NaN or infinity; leave those samples out.")
    if y.min() < 0 or y.max() >= p.shape[1]:
        raise GifError(f"Labels are 0 to {p.shape[1] - 1}; got {int(y.min())} to {int(y.max())}.")
    return p, y

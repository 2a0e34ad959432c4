"""Stratified, seeded splits: every class gets its share of every part."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gifcore.data.dataset import Split


def stratified(
    labels: np.ndarray,  # (n,)
    sizes: Sequence[int],
    *,
    seed: int,
) -> list[NDArray[np.int64]]:
    """Disjoint sorted index arrays of the given sizes, each with the class shares of the whole.

    Every sample gets a random place inside its class, as a fraction of the class; cutting the
    order of those fractions anywhere leaves each class within one sample of its share.

    >>> [part.tolist() for part in stratified(np.array([0, 1, 0, 1]), [2, 2], seed=0)]
    [[2, 3], [0, 1]]
    """
    keys = np.random.Generator(np.random.PCG64(seed)).random(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = members[np.argsort(keys[members], kind="stable")]
        place[order] = (np.arange(len(order)) + 0.5) / len(order)
    order = np.lexsort((keys, place))
    ends = np.cumsum(sizes)
    return [np.sort(order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def halves(split: Split, *, seed: int) -> tuple[Split, Split]:
    """A split cut into two stratified halves (the first is the smaller one)."""
    first = len(split) // 2
    one, two = stratified(split.y, [first, len(split) - first], seed=seed)
    return Split(split.x[one], split.y[one]), Split(split.x[two], split.y[two])

"""What a data set is, in numbers: shapes, class balance, samples that occur twice."""

import hashlib
from itertools import combinations
from typing import Any

import numpy as np

from gifcore.data.dataset import SPLITS, Data, Split

FEW = 5  # training samples below which a class is too small to say much about


def survey(data: Data) -> dict[str, Any]:
    """Return sizes, inputs, samples of every class and duplicates of a data set, as JSON takes it.

    Two samples are duplicates if their inputs are equal to the last bit. Cost: one pass.
    """
    digests = {name: _digests(data.split(name)) for name in SPLITS}
    counts = {
        name: np.bincount(data.split(name).y, minlength=data.n_classes).tolist() for name in SPLITS
    }
    low, high = float(data.train.x.min()), float(data.train.x.max())
    return {
        "name": data.name,
        "source": data.source,
        "hash": data.hash,
        "note": data.note,
        "shape": list(data.shape),
        "dtype": str(data.train.x.dtype),
        "range": [low, high],
        "classes": list(data.classes),
        "sizes": {name: len(data.split(name)) for name in SPLITS},
        "counts": counts,
        "most_frequent": max(counts["test"]) / len(data.test),
        "duplicates": _duplicates(data, digests),
        "warnings": _warnings(data, counts, digests),
    }


def _digests(split: Split) -> np.ndarray:
    """Return 16 bytes a sample that are equal for equal inputs, (n,)."""
    rows = (hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16) for row in split.x)
    return np.array([row.digest() for row in rows], dtype="S16")


def _duplicates(data: Data, digests: dict[str, np.ndarray]) -> dict[str, int]:
    """Return how many samples of the second split occur in the first, and in train itself."""
    found = {
        f"{one} and {other}": int(np.isin(digests[other], digests[one]).sum())
        for one, other in combinations(SPLITS, 2)
    }
    return found | {"train itself": len(data.train) - len(np.unique(digests["train"]))}


def _warnings(
    data: Data, counts: dict[str, list[int]], digests: dict[str, np.ndarray]
) -> list[str]:
    """Return a sentence for each thing that would make results misleading."""
    said = []
    leaked = int(np.isin(digests["test"], digests["train"]).sum())
    if leaked:
        said.append(
            f"{leaked:,} of {len(data.test):,} test samples are training samples too: accuracy on "
            "test is flattered by them."
        )
    wrong = _labelled_twice(data, digests["train"])
    if wrong:
        said.append(f"{wrong:,} training samples occur with two different labels.")
    small = [name for name, n in zip(data.classes, counts["train"], strict=True) if n < FEW]
    if small:
        said.append(
            f"{len(small)} of {data.n_classes} classes have fewer than {FEW} training samples, "
            f"such as {small[0]}."
        )
    unseen = [name for name, n in zip(data.classes, counts["test"], strict=True) if n == 0]
    if unseen:
        said.append(
            f"{len(unseen)} of {data.n_classes} classes have no test sample, such as {unseen[0]}: "
            "what an edit does to them cannot be measured."
        )
    return said


def _labelled_twice(data: Data, digests: np.ndarray) -> int:
    """Return how many training samples share their input with one of another label."""
    _, inverse = np.unique(digests, return_inverse=True)
    low = np.full(inverse.max() + 1, np.iinfo(np.int64).max)
    high = np.full(inverse.max() + 1, -1)
    np.minimum.at(low, inverse, data.train.y)
    np.maximum.at(high, inverse, data.train.y)
    return int((low != high)[inverse].sum())

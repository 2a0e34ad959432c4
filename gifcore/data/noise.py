"""Wrong labels planted in training images at a known rate, to measure how well they are found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gifcore.data.dataset import Data, Split
from gifcore.errors import GifError


@dataclass(frozen=True)
class Mislabelled:
    """A training split with wrong labels in it, and the true ones.

    Args:
        split: the whole split, with the labels as they are given to a model.
        indices: (r,) positions of the wrong labels, sorted.
        labels: (n,) the true labels of the whole split.
    """

    split: Split
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Noise:
    """Symmetric label noise: a share of the training labels becomes another class, all as likely.

    Args:
        rate: share of the training samples that get a wrong label.
        seed: of the draw of samples and of their labels.
    """

    rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the rate.

        Raises:
            GifError: a rate outside (0, 1).
        """
        if not 0 < self.rate < 1:
            raise GifError(f"The rate of wrong labels is {self.rate}; choose one between 0 and 1.")

    def plant(self, data: Data) -> tuple[Data, Mislabelled]:
        """Return the data with wrong labels in its training split, and what was done to it.

        The other splits stay clean, and `data.hash` that of the files. No drawn sample keeps its
        label.

        Raises:
            GifError: one class only, or a rate at which not one label is wrong.
        """
        found = mislabel(data.train, rate=self.rate, classes=data.n_classes, seed=self.seed)
        return replace(data, train=found.split), found

    def words(self) -> str:
        """Return it as `train --noise` takes it.

        >>> Noise(0.1).words()
        'rate=0.1,seed=0'
        """
        return ",".join(f"{key}={value}" for key, value in asdict(self).items())


def mislabel(split: Split, *, rate: float, classes: int, seed: int = 0) -> Mislabelled:
    """Give round(rate n) random samples of a split another label; the split stays as it is.

    Raises:
        GifError: as `Noise.plant`.
    """
    n, count = len(split), round(rate * len(split))
    if classes < 2:
        raise GifError("Labels of one class cannot be wrong; choose data with two classes or more.")
    if not 0 < count < n:
        raise GifError(
            f"A rate of {rate} makes {count} of {n} labels wrong; choose one that makes 1 to "
            f"{n - 1}."
        )
    generator = np.random.default_rng(seed)
    indices = np.sort(generator.permutation(n)[:count])
    labels = split.y.copy()
    labels[indices] = (labels[indices] + generator.integers(1, classes, size=count)) % classes
    return Mislabelled(Split(split.x, labels), indices, split.y.copy())

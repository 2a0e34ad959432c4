"""A backdoor planted in training images: a trigger pattern that stands for one class.

Reference: Lyu et al. 2023 (arXiv 2312.05586), code of the experiment on backdoor recovery, which
adds 16 of 255 to the checkerboard over all of an image.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gifcore.data.dataset import Data, Split
from gifcore.errors import GifError

if TYPE_CHECKING:
    from gifcore.change import Relabel


@dataclass(frozen=True)
class Trigger:
    """A checkerboard that is added to the top left corner of every channel of an image.

    Args:
        size: side of the corner in pixels; None: the whole image, as published.
        strength: what is added, as a share of the range from black to white.
        limits: black and white of float images; bytes have 0 and 255.
    """

    size: int | None = None
    strength: float = 16 / 255
    limits: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            GifError: a size below 2, a strength outside (0, 1] or limits out of order.
        """
        if self.size is not None and self.size < 2:
            raise GifError(f"The trigger's size is {self.size}; it must be 2 pixels or more.")
        if not 0 < self.strength <= 1:
            raise GifError(
                f"The trigger's strength is {self.strength}; choose one above 0 and at most 1."
            )
        if not -np.inf < self.limits[0] < self.limits[1] < np.inf:
            raise GifError(f"The image limits are {self.limits}; give black and white, in order.")

    def pattern(self, height: int, width: int) -> NDArray[np.bool_]:
        """Return where something is added, (H, W): every second pixel, shifted by row.

        >>> Trigger(size=2).pattern(2, 4).astype(int).tolist()
        [[0, 1, 0, 0], [1, 0, 0, 0]]
        """
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[::2, 1::2] = True
        mask[1::2, ::2] = True
        if self.size is not None:
            mask[self.size :], mask[:, self.size :] = False, False
        return mask

    def on(self, images: np.ndarray) -> np.ndarray:
        """Return a copy of images (n, C, H, W) with the pattern added, clamped to the limits."""
        low, high = (0.0, 255.0) if images.dtype == np.uint8 else self.limits
        added = self.strength * (high - low) * self.pattern(*images.shape[-2:])
        if images.dtype == np.uint8:
            return np.minimum(images + np.rint(added).astype(np.int64), 255).astype(np.uint8)
        return np.clip(images + added, low, high).astype(images.dtype)


@dataclass(frozen=True)
class Poisoned:
    """A training split with a backdoor in it, and what is needed to measure and to repair it.

    Args:
        split: the whole split; the poisoned images bear the trigger and the backdoor's label.
        indices: (r,) positions of the poisoned images, sorted.
        labels: (r,) the labels they had before.
        label: the backdoor's label.
    """

    split: Split
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    label: int

    def repair(self) -> Relabel:
        """Return the change back to the original labels.

        A poisoned image that was of the backdoor's class already keeps its label, which is right.

        Raises:
            GifError: all of them were.
        """
        from gifcore.change import Relabel

        wrong = self.labels != self.label
        if not wrong.any():
            raise GifError(
                f"Every poisoned image was of class {self.label} before; there is no label to "
                "repair, so poison more images or choose another class."
            )
        return Relabel(self.indices[wrong].tolist(), self.labels[wrong].tolist())

    def triggered(self) -> Split:
        """Return the poisoned images with their original labels: the published measurement."""
        return Split(self.split.x[self.indices], self.labels)

    def clean(self) -> Split:
        """Return the training images that are not poisoned."""
        rest = np.setdiff1d(np.arange(len(self.split)), self.indices)
        return Split(self.split.x[rest], self.split.y[rest])


def poison(
    split: Split, *, label: int, count: int, classes: int, trigger: Trigger, seed: int = 0
) -> Poisoned:
    """Plant a backdoor in `count` random images of a training split; the split stays as it is.

    Args:
        label: the class that the trigger is to stand for.
        count: r, drawn without replacement from all classes.
        classes: how many there are.

    Raises:
        GifError: a label or a count that is impossible.
    """
    if not 0 <= label < classes:
        raise GifError(f"There is no class {label} for a backdoor; classes are 0 … {classes - 1}.")
    if not 1 <= count < len(split):
        raise GifError(
            f"{count} of {len(split)} images cannot be poisoned; choose 1 … {len(split) - 1}."
        )
    drawn = np.sort(np.random.default_rng(seed).permutation(len(split))[:count])
    x, y = split.x.copy(), split.y.copy()
    x[drawn], y[drawn] = trigger.on(split.x[drawn]), label
    return Poisoned(Split(x, y), drawn, split.y[drawn], label)


def triggered(split: Split, trigger: Trigger) -> Split:
    """Return a copy of a split with the trigger on every image and its true labels."""
    return Split(trigger.on(split.x), split.y)


# --- a backdoor of a whole data set ---------------------------------------------------------------


@dataclass(frozen=True)
class Backdoor:
    """What a backdoor is made of, as a study and the card of its weights state it.

    Args:
        label: the class that the trigger stands for.
        count: poisoned training images, drawn from all classes.
        size: side of the trigger's corner in pixels; None: the whole image.
        strength: what is added, as a share of the range from black to white.
        seed: of the draw.
    """

    label: int
    count: int
    size: int | None = None
    strength: float = 16 / 255
    seed: int = 0

    def trigger(self, data: Data) -> Trigger:
        """Return the trigger, with black and white as they are in this data.

        Raises:
            GifError: a size or strength that is impossible.
        """
        whole = data.train.x.dtype == np.uint8
        limits = (0.0, 1.0) if whole else data.float_range
        return Trigger(self.size, self.strength, limits)

    def plant(self, data: Data) -> tuple[Data, Poisoned]:
        """Return the data with a poisoned training split, and what was done to it.

        The other splits stay clean; `data.hash` stays that of the files.

        Raises:
            GifError: a label, count, size or strength that is impossible.
        """
        poisoned = poison(
            data.train,
            label=self.label,
            count=self.count,
            classes=data.n_classes,
            trigger=self.trigger(data),
            seed=self.seed,
        )
        return replace(data, train=poisoned.split), poisoned

    def words(self) -> str:
        """Return it as `train --backdoor` takes it.

        >>> Backdoor(4, 100, 3, 0.5).words()
        'label=4,count=100,size=3,strength=0.5,seed=0'
        """
        stated = asdict(self).items()
        return ",".join(f"{key}={value}" for key, value in stated if value is not None)

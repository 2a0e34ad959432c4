"""What a loaded data set is: three splits of images, their labels and their names."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gifcore.errors import GifError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Inputs and labels of one split, as stored."""

    x: np.ndarray  # (n, C, H, W) uint8 or float32
    y: NDArray[np.int64]  # (n,) class numbers from 0

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self) -> NDArray[np.float32]:
        """The (n, C, H, W) float32 model inputs: bytes divided by 255, floats as they are."""
        if self.x.dtype == np.uint8:
            return self.x.astype(np.float32) / np.float32(255)
        return self.x.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Data:
    """A data set ready to train on and to show."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]  # one name a class, in the order of the labels
    hash: str  # sha256 (hex) of the content files
    source: str  # the name or path it was loaded from
    note: str  # what a reader should know, e.g. how the validation split was made

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one input."""
        channels, height, width = self.train.x.shape[1:]
        return channels, height, width

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    def split(self, name: str) -> Split:
        """The split called train, validation or test.

        Raises:
            GifError: for any other name.
        """
        if name not in SPLITS:
            raise GifError(f"There is no split '{name}'; the splits are {', '.join(SPLITS)}.")
        chosen: Split = getattr(self, name)
        return chosen

    def images(self, split: str, indices: Sequence[int] | np.ndarray) -> NDArray[np.uint8]:
        """Some inputs as pictures: (m, H, W) uint8, or (m, H, W, 3) if they have 3 channels.

        Floats are scaled from the range of the training inputs; other channel counts are averaged.

        Raises:
            GifError: for an unknown split or an index outside it.
        """
        chosen = self.split(split)
        at = np.asarray(indices, dtype=np.int64).reshape(-1)
        if at.size and (at.min() < 0 or at.max() >= len(chosen)):
            wrong = int(at[(at < 0) | (at >= len(chosen))][0])
            raise GifError(
                f"Image {wrong} does not exist: the {split} split of {self.name} has"
                f" {len(chosen)} images, numbered 0 to {len(chosen) - 1}."
            )
        pixels = self._pixels(chosen.x[at])
        if pixels.shape[1] == 3:
            return pixels.transpose(0, 2, 3, 1)
        if pixels.shape[1] == 1:
            return pixels[:, 0]
        return pixels.mean(axis=1).round().astype(np.uint8)

    def _pixels(self, x: np.ndarray) -> NDArray[np.uint8]:
        if x.dtype == np.uint8:
            return x
        low, high = self.float_range
        return (np.clip((x - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)

    @cached_property
    def float_range(self) -> tuple[float, float]:
        """Black and white of float inputs: 0 and 1, or the range of the training inputs."""
        low, high = float(self.train.x.min()), float(self.train.x.max())
        if low >= 0 and high <= 1:
            return 0.0, 1.0
        return low, high if high > low else low + 1.0

"""What a foreign file holds before it is a data set: its parts, and the splits made of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gifcore.data.splits import stratified
from gifcore.errors import GifError

Progress = Callable[[int, int, str], None]  # (done, total, note)
ALL = "all"  # the part of a file that names no splits
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Reading:
    """How a foreign file is to be read; what does not concern its kind stays unused.

    Args:
        label: the column of a table that holds the label.
        drop: columns of a table that are no inputs.
        size: (H, W) that pictures are scaled to; None: they must all have one size.
        channels: 1 (grey) or 3 (colour); None: grey if every picture is.
        mean, std: one number a channel, or one for all; inputs become (x / 255 - mean) / std.
        seed: of the splits that are drawn.
        validation, test: share of the samples each of them gets where the file names no splits.
    """

    label: str = ""
    drop: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    channels: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    seed: int = 0
    validation: float = 0.15
    test: float = 0.15

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            GifError: naming the one that is impossible.
        """
        if self.size is not None and not all(1 <= side <= 4096 for side in self.size):
            raise GifError(f"The size is {self.size}; give height and width, 1 to 4096 pixels.")
        if self.channels not in (None, 1, 3):
            raise GifError(f"There are {self.channels} channels asked for; choose 1 or 3.")
        if bool(self.mean) != bool(self.std) or any(not 0 < s < np.inf for s in self.std):
            raise GifError("Give mean and std together, every std above 0.")
        if not all(-np.inf < m < np.inf for m in self.mean):
            raise GifError("A mean is not a finite number.")
        if not (0 < self.validation < 1 and 0 < self.test < 1 and self.validation + self.test < 1):
            raise GifError(
                f"The shares of validation and test are {self.validation} and {self.test}; each "
                "must be above 0 and both together below 1."
            )
        if self.seed < 0:
            raise GifError(f"The seed is {self.seed}; it must be 0 or more.")


@dataclass(frozen=True)
class Foreign:
    """Inputs and labels of every part of a file, and what was done to read them."""

    parts: dict[str, tuple[np.ndarray, np.ndarray]]  # of train, validation, test; or ALL alone
    classes: tuple[str, ...]
    notes: tuple[str, ...]  # sentences


def into_splits(found: Foreign, reading: Reading, where: str) -> Foreign:
    """Return the same with train, validation and test; what is missing is drawn and told.

    The draw is stratified and seeded. With a training part, its samples stay exactly those.

    Raises:
        GifError: no training part beside others, or too few samples to draw from.
    """
    parts, notes = dict(found.parts), found.notes
    if set(parts) == {"train"}:
        parts = {ALL: parts["train"]}
    if ALL in parts:
        parts, note = _drawn(*parts[ALL], reading, where)
        return Foreign(parts, found.classes, (*notes, note))
    if "train" not in parts:
        named = " and ".join(sorted(parts))
        raise GifError(f"{where} has {named} but no train; name the training samples too.")
    if set(parts) == {"train", "validation", "test"}:
        note = "Train, validation and test are the file's own."
        return Foreign(parts, found.classes, (*notes, note))
    (given,) = set(parts) - {"train"}
    x, y = parts[given]
    if len(y) < 2:
        raise GifError(f"{where}: {given} has one sample, which cannot be halved; add more.")
    first = len(y) // 2
    one, two = stratified(y, [first, len(y) - first], seed=reading.seed)
    parts |= {"validation": (x[one], y[one]), "test": (x[two], y[two])}
    missing = "validation" if given == "test" else "test"
    note = (
        f"The file has no {missing} part: a stratified half of its {given} samples (seed "
        f"{reading.seed}) is validation, the other half test."
    )
    return Foreign(parts, found.classes, (*notes, note))


def _drawn(
    x: np.ndarray, y: np.ndarray, reading: Reading, where: str
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], str]:
    n = len(y)
    validation, test = max(1, round(n * reading.validation)), max(1, round(n * reading.test))
    if n - validation - test < 2:
        raise GifError(f"{where} has {n} samples, too few to draw three splits; add more.")
    sizes = [n - validation - test, validation, test]
    at = stratified(y, sizes, seed=reading.seed)
    drawn = {
        name: (x[rows], y[rows])
        for name, rows in zip(("train", "validation", "test"), at, strict=True)
    }
    note = (
        f"The file names no splits: {' / '.join(f'{size:,}' for size in sizes)} samples are a "
        f"stratified draw (seed {reading.seed}) into train, validation and test. A model that was "
        "trained on other splits has seen some of the test samples: then name its own."
    )
    return drawn, note

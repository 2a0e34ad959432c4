"""MNIST, SVHN and CIFAR-10 from the files that are published; no pickle is read.

    MNIST      four IDX files, as Fashion-MNIST has them
    SVHN       train_32x32.mat and test_32x32.mat; the label 10 stands for the digit 0
    CIFAR-10   the binary version: 3,073 bytes an image, its label first, then red, green, blue

Looked for in the data folder ($GIF_DATA, else ./data) and its subfolders. All training images
train; the test images are halved into validation and test, as those of Fashion-MNIST are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gifcore.data import idx
from gifcore.data.dataset import Data, Split
from gifcore.data.hashing import sha256_of
from gifcore.data.places import data_folder
from gifcore.data.splits import halves
from gifcore.errors import GifError

HALF_SEED = 0
DIGITS = tuple(str(digit) for digit in range(10))
PICTURE = 3 * 32 * 32


@dataclass(frozen=True)
class Published:
    """One data set: its files, and how they are read."""

    name: str
    title: str
    files: tuple[str, ...]
    folders: tuple[str, ...]  # of the data folder
    classes: tuple[str, ...]
    read: Callable[[Sequence[Path]], tuple[Split, Split]]  # -> training and test images
    fetch: Callable[[Path], None] | None  # downloads into the data folder; None: by hand

    def load(self) -> Data:
        """Return the data set.

        Raises:
            GifError: its files are nowhere and cannot be downloaded, or are damaged.
        """
        files = self._files()
        train, test = self.read(files)
        for split, path in ((train, files[0]), (test, files[-1])):
            if len(split) == 0 or split.y.min() < 0 or split.y.max() >= len(self.classes):
                raise GifError(f"{path} holds labels that are not those of {self.title}.")
        validation, test = halves(test, seed=HALF_SEED)
        note = (
            f"All {len(train):,} training images; validation is a stratified half of the test "
            f"images ({len(validation):,}, seed {HALF_SEED}), the other half is the test."
        )
        return Data(
            self.name, train, validation, test, self.classes, sha256_of(files), self.name, note
        )

    def fingerprint(self) -> str:
        """Return the hash that `load` would give."""
        return sha256_of(self._files())

    def _files(self) -> tuple[Path, ...]:
        found = self._find()
        if found is not None:
            return found
        root = data_folder()
        where = f"put {', '.join(self.files)} into {root} or name their folder in GIF_DATA"
        if self.fetch is None:
            raise GifError(f"{self.title} is not on this machine: {where}.")
        try:
            self.fetch(root)
        except (OSError, RuntimeError, ImportError) as error:
            raise GifError(
                f"{self.title} is not on this machine and the download failed: {where}."
            ) from error
        found = self._find()
        if found is None:
            raise GifError(f"The download of {self.title} left no files in {root}; {where}.")
        return found

    def _find(self) -> tuple[Path, ...] | None:
        root = data_folder()
        for folder in (root, *(root / name for name in self.folders)):
            found = [idx.plain_or_gzip(folder / name) for name in self.files]
            if all(found):
                return tuple(path for path in found if path)
        return None


# --- reading --------------------------------------------------------------------------------------


def _mnist(files: Sequence[Path]) -> tuple[Split, Split]:
    x_train, y_train, x_test, y_test = (idx.read(path) for path in files)
    return _grey(x_train, y_train, files[0]), _grey(x_test, y_test, files[2])


def _grey(x: np.ndarray, y: np.ndarray, path: Path) -> Split:
    if x.ndim != 3 or y.shape != x.shape[:1]:
        raise GifError(
            f"{path} and its labels do not fit together (shapes {x.shape} and {y.shape}); get "
            "them again."
        )
    return Split(x[:, None], y.astype(np.int64))


def _svhn(files: Sequence[Path]) -> tuple[Split, Split]:
    return _mat(files[0]), _mat(files[1])


def _mat(path: Path) -> Split:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found = loadmat(path, variable_names=("X", "y"))
        x, y = np.asarray(found["X"]), np.asarray(found["y"]).reshape(-1).astype(np.int64)
        if x.dtype != np.uint8 or x.ndim != 4 or x.shape[2] != 3 or x.shape[3] != len(y):
            raise ValueError(f"X has shape {x.shape} and {x.dtype}, y {len(y)} labels")
    except (OSError, KeyError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise GifError(f"{path} is not a file of SVHN ({error}); get it again.") from error
    return Split(np.ascontiguousarray(x.transpose(3, 2, 0, 1)), y % 10)


def _cifar(files: Sequence[Path]) -> tuple[Split, Split]:
    train = [_batch(path) for path in files[:-1]]
    x, y = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return Split(x, y), Split(*_batch(files[-1]))


def _batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    raw = np.fromfile(path, dtype=np.uint8)
    if raw.size == 0 or raw.size % (PICTURE + 1):
        raise GifError(
            f"{path} has {raw.size:,} bytes, which is no multiple of {PICTURE + 1:,}: it is not a "
            "batch of CIFAR-10's binary version."
        )
    rows = raw.reshape(-1, PICTURE + 1)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)


# --- downloads ------------------------------------------------------------------------------------


def _fetch_mnist(root: Path) -> None:
    from torchvision.datasets import MNIST

    MNIST(str(root), download=True)


def _fetch_svhn(root: Path) -> None:
    from torchvision.datasets import SVHN

    for split in ("train", "test"):
        SVHN(str(root), split=split, download=True)


SETS = tuple(
    Published(*row)
    for row in (
        ("mnist", "MNIST", idx.FILES, ("mnist", "MNIST/raw"), DIGITS, _mnist, _fetch_mnist),
        (
            "svhn", "SVHN", ("train_32x32.mat", "test_32x32.mat"), ("svhn", "SVHN"), DIGITS, _svhn,
            _fetch_svhn,
        ),
        (
            "cifar-10", "CIFAR-10 (binary version)",
            (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"),
            ("cifar-10-batches-bin", "cifar-10"),
            (
                "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                "truck",
            ),
            _cifar, None,
        ),
    )
)  # fmt: skip

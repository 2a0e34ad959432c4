"""Data sets by name or by path; one row of DATASETS an entry, no torch on import."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gifcore.data import digits, fashion, published
from gifcore.data.dataset import Data, Split
from gifcore.data.hashing import sha256_of
from gifcore.data.npz import read_npz
from gifcore.errors import GifError

__all__ = ["DATASETS", "Data", "DatasetRow", "Split", "fingerprint", "load", "read_npz"]


@dataclass(frozen=True)
class DatasetRow:
    """One data set that can be loaded by name."""

    name: str
    title: str
    text: str  # one line for people
    load: Callable[[], Data]
    fingerprint: Callable[[], str]  # the hash that load() would give, without decoding


TEXTS = {
    "mnist": "70,000 handwritten digits, 28 x 28 grey, 10 classes; from disk or a download.",
    "svhn": "99,289 house numbers, 32 x 32 colour, 10 classes; from disk or a download.",
    "cifar-10": "60,000 photos, 32 x 32 colour, 10 classes; the binary version, from disk.",
}
DATASETS: dict[str, DatasetRow] = {
    row.name: row
    for row in (
        DatasetRow(
            "fashion-mnist-mini",
            "Fashion-MNIST mini",
            "12,000 photos of clothes, 28 x 28 grey, 10 classes; comes with GIF Studio.",
            fashion.load_mini,
            fashion.fingerprint_mini,
        ),
        DatasetRow(
            "fashion-mnist",
            "Fashion-MNIST",
            "70,000 photos of clothes, 28 x 28 grey, 10 classes; from disk or a download.",
            fashion.load_full,
            fashion.fingerprint_full,
        ),
        DatasetRow(
            "digits",
            "Digits",
            "1,797 handwritten digits, 8 x 8 grey, 10 classes; runs in seconds.",
            digits.load,
            digits.fingerprint,
        ),
        *(
            DatasetRow(one.name, one.title, TEXTS[one.name], one.load, one.fingerprint)
            for one in published.SETS
        ),
    )
}


def load(source: str) -> Data:
    """The data set of a registry name or of a path to an .npz file.

    Raises:
        GifError: if the name is unknown or the file is not acceptable.
    """
    if source in DATASETS:
        return DATASETS[source].load()
    return read_npz(_npz_path(source))


def fingerprint(source: str) -> str:
    """The hash that load(source) would give, without decoding the data.

    Raises:
        GifError: if the name is unknown or the files are not there and cannot be downloaded.
    """
    if source in DATASETS:
        return DATASETS[source].fingerprint()
    return sha256_of([_npz_path(source)])


def _npz_path(source: str) -> Path:
    path = Path(source).expanduser()
    if os.path.isfile(path):
        return path
    if source.endswith(".npz"):
        raise GifError(f"There is no file {source}.")
    raise GifError(
        f"There is no data set '{source}': expected {', '.join(DATASETS)} or the path of an"
        " .npz file."
    )

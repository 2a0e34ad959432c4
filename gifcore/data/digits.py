"""scikit-learn's digits: 1,797 handwritten digits of 8 x 8 pixels, tiny and always there."""

import importlib.util
from pathlib import Path

import numpy as np

from gifcore.data.dataset import Data, Split
from gifcore.data.hashing import sha256_of
from gifcore.data.splits import stratified
from gifcore.errors import GifError

SIZES = (1000, 397, 400)  # train, validation, test
SEED = 0


def load() -> Data:
    """The digits with their 0..16 grey levels scaled to 0..255, split by class share."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = (images.reshape(-1, 1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    y = labels.astype(np.int64)
    train, validation, test = (Split(x[at], y[at]) for at in stratified(y, SIZES, seed=SEED))
    return Data(
        name="digits",
        train=train,
        validation=validation,
        test=test,
        classes=tuple(str(digit) for digit in range(10)),
        hash=fingerprint(),
        source="digits",
        note=f"A stratified split ({' / '.join(map(str, SIZES))}, seed {SEED}) of 1,797 images.",
    )


def fingerprint() -> str:
    """sha256 of scikit-learn's file of digits, without importing scikit-learn.

    Raises:
        GifError: if scikit-learn does not have the file where it always was.
    """
    found = importlib.util.find_spec("sklearn")
    folder = Path(found.origin).parent if found and found.origin else Path()
    file = folder / "datasets" / "data" / "digits.csv.gz"
    if not file.is_file():
        raise GifError("The digits need scikit-learn with its data files; install scikit-learn.")
    return sha256_of([file])

"""What arrays must satisfy before anything is computed with them; each refusal is a sentence."""

import numpy as np

from gifcore.errors import GifError

_ROWS_AT_ONCE = 4096


def check_numbers(key: str, x: np.ndarray, where: str) -> None:
    """Inputs are a non-empty array of finite real numbers.

    Raises:
        GifError: if they are not.
    """
    if x.dtype.kind not in "iufb":
        raise GifError(f"{where}: {key} must hold numbers, found {x.dtype}.")
    if x.ndim == 0 or x.size == 0:
        raise GifError(f"{where}: {key} is empty (shape {x.shape}); every split needs samples.")
    if x.dtype.kind == "f":
        for start in range(0, len(x), _ROWS_AT_ONCE):
            with np.errstate(over="ignore"):
                fine = np.isfinite(x[start : start + _ROWS_AT_ONCE].astype(np.float32)).reshape(-1)
            if not fine.all():
                row = start + int(fine.argmin()) // max(1, x[0].size)
                raise GifError(
                    f"{where}: {key} has a value that is not a finite 32-bit number (NaN or"
                    f" infinity) in sample {row}; replace or remove it."
                )


def check_labels(name: str, y: np.ndarray, n: int, where: str) -> None:
    """Labels are one whole number from 0 a sample.

    Raises:
        GifError: if they are not.
    """
    if y.ndim != 1:
        raise GifError(
            f"{where}: y_{name} must be one label a sample, shape ({n},), found shape {y.shape}."
        )
    if len(y) != n:
        raise GifError(f"{where}: x_{name} has {n} samples but y_{name} has {len(y)} labels.")
    if y.dtype.kind not in "iu":
        raise GifError(f"{where}: y_{name} must be whole numbers (class 0, 1, …), found {y.dtype}.")
    if y.min() < 0:
        raise GifError(
            f"{where}: y_{name} has the negative label {int(y.min())}; number the classes from 0."
        )


def check_one_kind(shapes: dict[str, tuple[int, ...]], where: str) -> None:
    """Every split has inputs of the training shape.

    Raises:
        GifError: naming the first split that differs.
    """
    for name, shape in shapes.items():
        if shape != shapes["train"]:
            raise GifError(
                f"{where}: x_{name} has images of shape {shape} (C, H, W) but x_train has"
                f" {shapes['train']}; all splits need the same shape."
            )


def check_seen(labels: dict[str, np.ndarray], where: str) -> None:
    """Training has two classes or more, and no other split has a class that training has not.

    Raises:
        GifError: if either fails.
    """
    seen = np.unique(labels["train"])
    if len(seen) < 2:
        raise GifError(
            f"{where}: the training split has only class {seen[0]}; at least two classes are"
            " needed."
        )
    for name, y in labels.items():
        new = np.setdiff1d(y, seen)
        if len(new):
            raise GifError(
                f"{where}: y_{name} has label {new[0]}, which never occurs in y_train; remove"
                " these samples or train on that class."
            )

"""NPZ files of one's own: read without pickle, checked, refused in one sentence.

Keys: x_train, y_train, x_test, y_test; optional x_validation, y_validation, classes, note (a text).
Images may be (n, H, W), (n, H, W, C) with 1 or 3 channels, (n, C, H, W) or (n, features).
"""

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from gifcore.data.checks import check_labels, check_numbers, check_one_kind, check_seen
from gifcore.data.dataset import Data, Split
from gifcore.data.hashing import sha256_of
from gifcore.data.limits import MAX_BYTES, MAX_CLASSES
from gifcore.data.names import apart
from gifcore.data.splits import halves
from gifcore.errors import GifError

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
OPTIONAL = ("x_validation", "y_validation", "classes", "note")
MAX_NOTE = 2000  # characters
HALF_SEED = 0

_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    MemoryError,
    RuntimeError,  # an encrypted or oddly compressed archive
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,  # a damaged array header
)


def read_npz(path: str | Path) -> Data:
    """The data set of an NPZ file.

    Without validation arrays, a stratified half of the test images is the validation split: the
    training samples stay exactly those the model was trained on.

    Raises:
        GifError: one sentence for whatever is wrong with the file.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    where = path.name
    x = _one_dtype({key: arrays[key] for key in arrays if key.startswith("x_")}, where)
    splits = {key[2:]: _split(key[2:], x[key], arrays[f"y_{key[2:]}"], where) for key in x}
    check_one_kind({name: split.x.shape[1:] for name, split in splits.items()}, where)
    check_seen({name: split.y for name, split in splits.items()}, where)
    classes = _classes(arrays.get("classes"), splits["train"], where)
    said = _note(arrays.get("note"), where)
    note = said or "The validation split is the file's own."
    validation, test = splits.get("validation"), splits["test"]
    if validation is None:
        validation, test = _halved(test, where)
        halved = (
            f"The file has no validation split: a stratified half of its test images"
            f" ({len(validation)}, seed {HALF_SEED}) is used, the other {len(test)} are the test."
        )
        note = f"{said} {halved}".strip()
    return Data(
        name=path.stem,
        train=splits["train"],
        validation=validation,
        test=test,
        classes=classes,
        hash=sha256_of([path]),
        source=str(path),
        note=note,
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise GifError(f"There is no file {path}.")
    try:
        with zipfile.ZipFile(path) as archive:
            keys = _keys(archive, path.name)
            _check_headers(archive, keys, path.name)
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in keys}
    except _UNREADABLE as error:
        raise GifError(
            f"{path.name} is not an NPZ file that can be read ({_short(error)}); write it with"
            " numpy.savez_compressed(path, x_train=…, y_train=…, x_test=…, y_test=…)."
        ) from error


def _keys(archive: zipfile.ZipFile, where: str) -> list[str]:
    named = [name.removesuffix(".npy") for name in archive.namelist()]
    present = set(named)
    if len(present) < len(named):  # NumPy might read another one than is looked at here
        twice = next(name for at, name in enumerate(named) if name in named[:at])
        raise GifError(f"{where} has two arrays called {twice}; write it again with one of each.")
    missing = [key for key in REQUIRED if key not in present]
    if ("x_validation" in present) != ("y_validation" in present):
        missing.append("y_validation" if "x_validation" in present else "x_validation")
    if missing:
        found = ", ".join(sorted(present)) or "nothing"
        raise GifError(
            f"{where} has no array {missing[0]}: expected {', '.join(REQUIRED)}, found {found}."
        )
    return [key for key in REQUIRED + OPTIONAL if key in present]


def _check_headers(archive: zipfile.ZipFile, keys: list[str], where: str) -> None:
    """Refuse pickles and huge arrays from the headers alone, before anything is unpacked."""
    total = 0
    for key in keys:
        with archive.open(f"{key}.npy") as file:
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(file)
        if dtype.hasobject:
            raise GifError(
                f"{where}: {key} holds Python objects, which are never loaded because they can"
                " run code; save it as numbers (or as text for classes)."
            )
        total += int(np.prod(shape, dtype=object)) * dtype.itemsize
    if total > MAX_BYTES:
        raise GifError(
            f"{where} would take {total / 1e9:.1f} GB in memory; the limit is"
            f" {MAX_BYTES / 1e9:.0f} GB: keep fewer samples or store the images as uint8."
        )


def _one_dtype(x: dict[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """All inputs as uint8 (whole numbers from 0 to 255 in every split) or all as float32."""
    for key, array in x.items():
        check_numbers(key, array, where)
    if all(a.dtype.kind in "iu" and a.min() >= 0 and a.max() <= 255 for a in x.values()):
        return {key: array.astype(np.uint8, copy=False) for key, array in x.items()}
    return {key: array.astype(np.float32, copy=False) for key, array in x.items()}


def _split(name: str, x: np.ndarray, y: np.ndarray, where: str) -> Split:
    check_labels(name, y, len(x), where)
    return Split(_channels_first(f"x_{name}", x, where), y.astype(np.int64))


def _channels_first(key: str, x: np.ndarray, where: str) -> np.ndarray:
    if x.ndim == 2:
        x = x[:, None, None, :]
    elif x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    elif x.ndim != 4:
        raise GifError(
            f"{where}: {key} has shape {x.shape}; expected (n, H, W), (n, H, W, 1 or 3),"
            " (n, C, H, W) or (n, features)."
        )
    if 0 in x.shape:
        raise GifError(f"{where}: {key} has shape {x.shape}, so its images are empty.")
    return np.ascontiguousarray(x)


def _classes(names: np.ndarray | None, train: Split, where: str) -> tuple[str, ...]:
    needed = int(train.y.max()) + 1
    if needed > MAX_CLASSES:
        raise GifError(
            f"{where}: label {needed - 1} would mean {needed} classes; number the classes from 0,"
            f" at most {MAX_CLASSES} of them."
        )
    if names is None:
        return tuple(str(label) for label in range(needed))
    if names.ndim != 1 or names.dtype.kind not in "US" or len(names) < needed:
        raise GifError(
            f"{where}: classes must be a list of at least {needed} names (labels go up to"
            f" {needed - 1}), found shape {names.shape} of {names.dtype}."
        )
    return apart(n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in names)


def _note(note: np.ndarray | None, where: str) -> str:
    """What the file says about itself; brackets out, so that no page can take it for HTML."""
    if note is None:
        return ""
    if note.shape != () or note.dtype.kind != "U":
        raise GifError(f"{where}: note must be one text, found shape {note.shape} of {note.dtype}.")
    return str(note)[:MAX_NOTE].replace("<", "‹").replace(">", "›")


def _halved(test: Split, where: str) -> tuple[Split, Split]:
    if len(test) < 2:
        raise GifError(
            f"{where} has no validation split and only {len(test)} test image, which cannot be"
            " halved; add x_validation and y_validation or more test images."
        )
    return halves(test, seed=HALF_SEED)


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:120]

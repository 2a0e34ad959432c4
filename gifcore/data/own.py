"""Data of one's own into the one form that studies name: an NPZ file, kept by its content."""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gifcore.data import table
from gifcore.data.foreign import Foreign, Progress, Reading, into_splits
from gifcore.data.hashing import sha256_of
from gifcore.data.npz import read_npz
from gifcore.errors import GifError

SUFFIXES = (".npz", ".zip", *table.SUFFIXES)
FOLDER = "own"  # in the workspace
_VERSION = 1  # of the conversion: another one gives other files


def as_npz(path: Path, workspace: Path, reading: Reading, progress: Progress) -> Path:
    """Return the NPZ file of a zip of pictures or a table; one that is NPZ already as it is.

    Kept as WORKSPACE/own/<hash of file, reading and version>/<its name>.npz, so that the same
    question is answered at once.

    Raises:
        GifError: one sentence for whatever is wrong with the file.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise GifError(f"{path.name} is no data file: expected {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise GifError(f"There is no file {path}.")
    if suffix == ".npz" and not reading.mean:
        return path
    known = json.dumps([_VERSION, sha256_of([path]), asdict(reading)], sort_keys=True)
    target = workspace / FOLDER / hashlib.sha256(known.encode()).hexdigest() / f"{path.stem}.npz"
    if not target.is_file():
        _write(
            target,
            _arrays(into_splits(_read(path, reading, progress), reading, path.name), reading),
        )
    return target


def _read(path: Path, reading: Reading, progress: Progress) -> Foreign:
    suffix = path.suffix.lower()
    if suffix in table.SUFFIXES:
        return table.read_table(path, reading, progress)
    if suffix == ".npz":
        data = read_npz(path)
        parts = {name: data.split(name) for name in ("train", "validation", "test")}
        return Foreign({n: (s.x, s.y) for n, s in parts.items()}, data.classes, (data.note,))
    from gifcore.data.image_zip import read_image_zip

    return read_image_zip(path, reading, progress)


def _arrays(found: Foreign, reading: Reading) -> dict[str, np.ndarray]:
    notes = list(found.notes)
    arrays = {}
    for name, (x, y) in found.parts.items():
        arrays[f"x_{name}"] = _normalised(x, reading)
        arrays[f"y_{name}"] = y
    if reading.mean:
        notes.append(
            f"Inputs are normalised: (x / 255 - mean) / std with mean {_list(reading.mean)} and "
            f"std {_list(reading.std)}."
        )
    arrays["classes"] = np.array(found.classes)
    arrays["note"] = np.array(" ".join(notes))
    return arrays


def _normalised(x: np.ndarray, reading: Reading) -> np.ndarray:
    if not reading.mean:
        return x
    channels = x.shape[1]
    for name, values in (("mean", reading.mean), ("std", reading.std)):
        if len(values) not in (1, channels):
            raise GifError(
                f"The {name} has {len(values)} numbers and the inputs {channels} channels; give "
                "one a channel, or one for all."
            )
    mean = np.array(reading.mean, dtype=np.float32).reshape(1, -1, 1, 1)
    std = np.array(reading.std, dtype=np.float32).reshape(1, -1, 1, 1)
    inputs = x.astype(np.float32) / np.float32(255 if x.dtype == np.uint8 else 1)
    return (inputs - mean) / std


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _write(target: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write under a temporary name, look at it as a reader would, then rename."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as folder:
            made = Path(folder) / target.name
            with made.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            read_npz(made)
            os.replace(made, target)
    except OSError as error:
        raise GifError(
            f"The data could not be written to {target.parent} ({error.strerror or error})."
        ) from error

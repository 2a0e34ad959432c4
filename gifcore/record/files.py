"""The names of a record's files, and what they hold in common."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from gifcore.errors import GifError

SCHEMA = 1
RECORD, STUDY = "record.json", "study.toml"
SCORES, SAMPLES, UPDATES, CURVES, THUMBNAILS = (
    "scores.parquet",
    "samples.parquet",
    "updates.safetensors",
    "curves.parquet",
    "thumbnails.npz",
)
SELF_INFLUENCE = "self_influence.parquet"
LOSS = {"name": "loss", "unit": "nats", "better_high": False}  # the target where none is stated
MISLABEL = "mislabel.parquet"  # where a study looks for wrong labels
UNITS = "units.parquet"
TRAIN = "train.parquet"
SKETCH = "sketch.npz"
DEFERRED = (SKETCH,)  # verified when it is read: a record is a result without it
RECALL, SPEED = "recall.parquet", "speed.parquet"  # where a study measures FastIF
INDEX = "neighbors.faiss"  # beside such a record: made again if it is gone, so not listed in it
BEFORE = "before"  # the method name under which samples.parquet holds the unedited model
RETRAINED = "retrained"  # that of retrained models; the step is then "seed-1", …
NATURAL, SEARCHED = "natural", "searched"  # the two steps of an edit


Content = bytes | Callable[[BinaryIO], None]  # of a file, or what writes it part by part


class RecordError(GifError):
    """The folder is no record, or no longer the one that was written."""


def sha256(path: Path) -> str:
    """Return the hash of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

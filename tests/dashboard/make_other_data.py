"""Small records of data that is not the digits: grey, colour, rows of numbers, one class alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from gifcore.record import RECORD
from gifcore.study import parse
from tests.dashboard.make_record import make_record

CLASSES = ("a_b", "<b>two</b>", "three")
SHAPES = {"grey": (12, 12), "colour": (12, 12, 3), "table": (13,), "one-class": (12, 12)}
SIZES = {"train": 90, "validation": 30, "test": 30}


def make_data(path: Path, kind: str) -> Path:
    """Write an NPZ of three classes; of "one-class" only the removed class is ever tested."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {"classes": np.array(CLASSES)}
    for split, n in SIZES.items():
        shape = (n, *SHAPES[kind])
        numbers = rng.normal(size=shape).astype(np.float32)
        arrays[f"x_{split}"] = numbers if kind == "table" else rng.integers(0, 256, shape, np.uint8)
        alone = kind == "one-class" and split != "train"
        arrays[f"y_{split}"] = np.full(n, 1) if alone else np.arange(n) % len(CLASSES)
    np.savez(path, **arrays)
    return path


def make_other(folder: Path, kind: str) -> Path:
    """Write `data.npz` and, beside it, a record in the folder `one` of the workspace."""
    folder.mkdir(parents=True)
    source = make_data(folder.parent / f"{kind}.npz", kind)
    study = parse(
        {
            "title": f"Other data: {kind}",
            "methods": ["if", "gif"],
            "data": {"source": str(source)},
            "model": {"name": "lenet" if kind != "table" else "fcn"},
            "change": {"label": 1},
            "ranking": {"queries": [3, 17]},
        }
    )
    path = make_record(folder / "one", study=study)
    if kind == "one-class":
        _only_the_removed(path / RECORD)
    return path


def _only_the_removed(file: Path) -> None:
    """Say in every metric that no other image was tested."""
    info: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    steps = [step for entry in info["methods"].values() for step in entry["steps"].values()]
    for entry in (info["before"], *steps):
        for split in ("validation", "test"):
            found = entry[split]
            found |= {"retain": None, "retain_n": 0, "retain_loss": None, "score": None}
            found |= {"self_n": SIZES[split], "per_class": [None, found["self"], None]}
    file.write_text(json.dumps(info), encoding="utf-8")

"""Records made by the engine itself, once for all tests that look at real results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gifcore import runner
from gifcore.cli import app
from gifcore.record import Record
from gifcore.study import Study, parse

COMBINATIONS = {
    "g10": ("highest-k-gradients", 0.1),
    "g25": ("highest-k-gradients", 0.25),
    "r10": ("random", 0.1),
}


def small_study(selector: str, ratio: float) -> Study:
    """A study of the bundled digits and fcn that takes a second or two."""
    return parse(
        {
            "title": "Forget class 8 (digits)",
            "data": {"source": "digits"},
            "model": {"name": "fcn"},
            "change": {"label": 8},
            "selection": {"selector": selector, "ratio": ratio},
            "curvature": {"samples": 128},
            "solver": {"iterations": 5},
            "ranking": {"count": 2},
        }
    )


@pytest.fixture(scope="session")
def engine_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of three real records of one family; only to be read, copy it to change it."""
    workspace = tmp_path_factory.mktemp("engine") / "runs"
    for name, combination in COMBINATIONS.items():
        first = workspace / next(iter(COMBINATIONS))
        reuse = first if name != first.name else None
        prepared = runner.prepare(small_study(*combination))
        runner.run(prepared, workspace / name, workspace=workspace, reuse=reuse)
    return workspace


KINDS: dict[str, dict[str, Any]] = {  # a change of every kind but remove-class, on the digits
    "remove-samples": {"kind": "remove-samples", "indices": [3, 57, 999]},
    "relabel": {"kind": "relabel", "indices": [3, 57], "labels": [0, 1]},
    "reweight": {"kind": "reweight", "indices": [3, 57], "weights": [4.0, 0.25]},
    "add-samples": {"kind": "add-samples", "source": "digits", "count": 4},
    "backdoor": {"kind": "backdoor", "label": 4, "count": 100, "strength": 0.25},
    "union": {
        "kind": "union",
        "changes": [
            {"kind": "remove-class", "label": 8},
            {"kind": "relabel", "indices": [4], "labels": [0]},
        ],
    },
}


def study_of_kind(kind: str, **sections: Any) -> Study:
    """A study of this kind of change that takes about a second."""
    values = {
        "title": f"Kind {kind}",
        "data": {"source": "digits"},
        "model": {"name": "fcn" if kind == "backdoor" else "logistic"},
        "change": KINDS[kind],
        "selection": {"selector": "highest-k-outputs", "ratio": 0.1},
        "curvature": {"samples": 64},
        "solver": {"iterations": 4},
        "ranking": {"count": 1},
    }
    return parse(values | sections)


@pytest.fixture(scope="session")
def kind_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a real record of every kind; only to be read, copy it to change it."""
    workspace = tmp_path_factory.mktemp("kinds") / "runs"
    for kind in KINDS:
        more: dict[str, Any] = {}
        if kind in ("relabel", "reweight", "add-samples"):
            more = {"methods": ["gif"], "ranking": {"count": 0}}
        if kind == "remove-samples":
            methods = ["if", "gif", "gradient"]
            more = {"curvature": {"samples": 64, "draws": 3}, "methods": methods}
        prepared = runner.prepare(study_of_kind(kind, **more))
        runner.run(prepared, workspace / kind, workspace=workspace)
    return workspace


SOLVE = {"iterations": 30, "batch_size": 4, "damp": 0.01, "scale": 100}
FASTIF = {"k": [20, 200], "depths": [10], "previews": [8], "loop": 4, "solves": [SOLVE]}


def fastif_study(methods: tuple[str, ...] = ("if",), **fast: Any) -> Study:
    """A study that measures FastIF on the digits in a second or two."""
    return parse(
        {
            "title": "FastIF (digits)",
            "methods": methods,
            "data": {"source": "digits"},
            "model": {"name": "logistic"},
            "change": {"label": 8},
            "curvature": {"samples": 60, "damping": 0.05},
            "solver": {"iterations": 30},
            "ranking": {"count": 4},
            "edit": {"enabled": False},
            "fastif": FASTIF | fast,
        }
    )


@pytest.fixture(scope="session")
def fastif_record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real record with FastIF measured for IF and GIF; only to be read, copy it to change it."""
    workspace = tmp_path_factory.mktemp("fastif") / "runs"
    prepared = runner.prepare(fastif_study(("if", "gif")))
    return runner.run(prepared, workspace / "fastif", workspace=workspace).path


def mislabel_study(**section: Any) -> Study:
    """A study that looks for the wrong labels of the bundled digits in a second or two."""
    return parse(
        {
            "title": "Wrong labels (digits)",
            "methods": ["gradient"],
            "data": {"source": "digits"},
            "model": {"name": "fcn"},
            "selection": {"selector": "all"},
            "ranking": {"count": 0},
            "edit": {"enabled": False},
            "mislabel": {"rate": 0.1} | section,
        }
    )


@pytest.fixture(scope="session")
def mislabel_record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A real record of wrong labels that are known; only to be read, copy it to change it."""
    workspace = tmp_path_factory.mktemp("mislabel") / "runs"
    prepared = runner.prepare(mislabel_study())
    return runner.run(prepared, workspace / "wrong", workspace=workspace)


@pytest.fixture(scope="session")
def numbers_record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The same of a small table of numbers, trained by the command, with held-out models."""
    folder = tmp_path_factory.mktemp("numbers")
    source, weights = _numbers(folder / "numbers.npz"), folder / "numbers.safetensors"
    words = ["train", "--data", str(source), "--model", "logistic", "--noise", "rate=0.2,seed=1"]
    words += ["--epochs", "20", "--lr", "0.5", "--out", str(weights)]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    study = mislabel_study(rate=0.2, seed=1, folds=3).model_dump() | {
        "title": "Numbers",
        "data": {"source": str(source)},
        "model": {"name": "logistic", "weights": str(weights)},
        "change": {"kind": "remove-samples", "indices": [0]},
    }
    workspace = folder / "runs"
    return runner.run(runner.prepare(parse(study)), workspace / "numbers", workspace=workspace)


def _numbers(path: Path) -> Path:
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, n in (("train", 90), ("validation", 30), ("test", 30)):
        y = np.arange(n) % 3
        x = np.eye(3)[y].repeat(2, axis=1) + 0.4 * generator.standard_normal((n, 6))
        arrays |= {f"x_{split}": x.astype(np.float32), f"y_{split}": y}
    np.savez(path, **arrays)
    return path

"""Records made by the engine itself, once for all tests that look at real results."""

from __future__ import annotations

from pathlib import Path

import pytest

from gifcore import runner
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

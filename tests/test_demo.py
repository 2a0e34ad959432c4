"""The bundled demo: 5 selectors x 4 ratios, one family, of this very engine, model and data."""

from __future__ import annotations

from pathlib import Path

import pytest

from gifcore import runner, study
from gifcore.assets_path import asset
from gifcore.record import Record

RATIOS = (0.01, 0.05, 0.1, 0.25)
SELECTORS = (
    "highest-k-gradients",
    "highest-k-outputs",
    "lowest-k-gradients",
    "lowest-k-outputs",
    "random",
)
QUERIES = 16
MEGABYTES = 40
FOLDERS = sorted(path for path in asset("demo").iterdir() if path.is_dir())


def test_every_combination_is_there_once() -> None:
    chosen = [Record.open(folder).info["selection"] for folder in FOLDERS]
    assert sorted((c["selector"], c["ratio"]) for c in chosen) == sorted(
        (selector, ratio) for selector in SELECTORS for ratio in RATIOS
    )
    assert len({Record.open(folder).info["family"] for folder in FOLDERS}) == 1


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_record_is_what_this_engine_would_compute(folder: Path) -> None:
    """Another hash would put what visitors compute into a family of its own, out of the pickers."""
    record = Record.open(folder)
    assert runner.prepare(study.read(folder / "study.toml")).hash == record.hash
    assert record.methods == ["if", "gif"]
    assert len(record.queries) == QUERIES
    for method in record.methods:
        for query in record.queries:
            assert (
                len(record.scores(method, query["index"])) == record.info["data"]["sizes"]["train"]
            )


def test_it_is_small_and_names_no_folder_of_the_machine_that_made_it() -> None:
    files = [path for path in asset("demo").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MEGABYTES * 10**6
    for path in files:
        if path.suffix in (".json", ".toml"):
            assert '"/' not in path.read_text(encoding="utf-8"), path

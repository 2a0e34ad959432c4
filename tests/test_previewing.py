"""The stage preview: what a study leaves for previews in its record, and what it says of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from gifcore import previewing, runner
from gifcore.cli import app
from gifcore.errors import Cancelled, GifError
from gifcore.methods import METHODS
from gifcore.preview import measured_words, recall, words
from gifcore.previewing import why_fewer
from gifcore.record import SKETCH, Record, list_workspace
from gifcore.study import Study, parse
from tests import cases

TINY: dict[str, Any] = {
    "title": "Previews",
    "methods": ["if", "gif", "second-order"],
    "data": {"source": "digits"},
    "model": {"name": "logistic"},
    "change": {"label": 8},
    "selection": {"ratio": 0.2},
    "curvature": {"samples": 100, "batch_size": 64},
    "solver": {"iterations": 6},
    "ranking": {"queries": [3, 7]},
    "edit": {"enabled": False},
}
ASKED = {"rank": 24, "held_out": 3}


def study(**changes: Any) -> Study:
    return parse(TINY | changes)


def run(asked: Study, out: Path, **options: Any) -> Record:
    return runner.run(runner.prepare(asked), out, workspace=out.parent, **options)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`plain` without a sketch; `sketched`: the same with one, all else taken from it."""
    folder = tmp_path_factory.mktemp("previews")
    run(study(), folder / "plain")
    run(study(preview=ASKED), folder / "sketched", reuse=folder / "plain")
    return folder


@pytest.fixture
def copied(workspace: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(workspace / "sketched", tmp_path / "sketched"))


def test_a_sketch_is_added_and_no_number_changes(workspace: Path) -> None:
    plain, sketched = (Record.open(workspace / name) for name in ("plain", "sketched"))
    assert SKETCH in sketched.info["files"]
    assert SKETCH not in plain.info["files"]
    assert plain.hash != sketched.hash
    assert plain.info["family"] == sketched.info["family"]
    for method in ("if", "gif"):
        for query in (3, 7):
            one, other = (r.scores(method, query) for r in (plain, sketched))
            assert one.equals(other)
    assert plain.sketch() is None
    assert words(plain.info) == []


def test_the_recall_is_measured_on_the_rankings_of_the_study_and_on_drawn_images(
    workspace: Path,
) -> None:
    record = Record.open(workspace / "sketched")
    sketch, said = record.sketch(), record.info["preview"]
    assert sketch is not None
    assert len(said["held_out"]) == 3
    assert {3, 7} < set(said["held_out"])
    assert (said["rank"], said["asked"], said["notes"]) == (24, 24, [])
    assert said["bytes"] == sketch.nbytes
    assert said["bytes_per_sample"] == 24 * 2 + 4
    for method in ("if", "gif"):
        found = []
        for query in (3, 7):
            exact = record.scores(method, query).sort_values("train_index")["influence"]
            found.append(recall(exact.to_numpy(), sketch.scores(query, method))["largest"])
        mean = said["recall"][method]["largest"]["mean"]
        assert mean == pytest.approx((sum(found) + _third(record, method)) / 3)


def _third(record: Record, method: str) -> float:
    """The recall of the drawn image, ranked exactly by a study of its own."""
    sketch = record.sketch()
    assert sketch is not None
    (drawn,) = set(sketch.info["held_out"]) - {3, 7}
    asked = study(methods=[method], ranking={"queries": [drawn]})
    other = run(asked, record.path.parent / f"{method}-{drawn}")
    exact = other.scores(method, drawn).sort_values("train_index")["influence"]
    return recall(exact.to_numpy(), sketch.scores(drawn, method))["largest"]


def test_a_method_without_a_preview_is_named(workspace: Path) -> None:
    record = Record.open(workspace / "sketched")
    assert list(record.info["preview"]["left_out"]) == ["second-order"]
    shown = CliRunner().invoke(app, ["show", str(record.path)]).output
    assert "Previews of every test image: rank 24, 52 bytes a sample" in shown
    assert "Second-order has no preview: it gives an update and no ranking." in shown
    assert "GIF: recall@100" in shown


@pytest.mark.parametrize(("mean", "said"), [(0.7, "0.60)"), (0.6, "0.60; no better than that: ")])
def test_a_recall_no_better_than_by_gradients_is_called_that(mean: float, said: str) -> None:
    largest = {"mean": mean, "min": 0.1, "control": 0.6}
    found = measured_words({"queries": 4, "depth": 100, "largest": largest})
    assert found.startswith(f"recall@100 {mean:.2f} measured on 4 held-out images (least 0.10; ")
    assert f"by gradients alone {said}" in found


def test_the_methods_without_a_preview_are_those_that_a_sketch_refuses() -> None:
    refused = {name for name, row in METHODS.items() if row.adjoint is None or row.checkpoints}
    assert set(previewing.NO_PREVIEW) == refused


@pytest.mark.parametrize(
    ("memory", "asked", "made", "note"),
    [
        (4096, 9, 9, None),
        (4096, 9, 8, "rank 8 instead of 9: gradients and their products"),
        (4096, 99, 10, "rank 10 instead of 99: there are 10 training samples"),
        (0.0, 9, 0, "rank 0 instead of 9: 0 MB hold no more vectors of "),
    ],
)
def test_fewer_numbers_than_were_asked_for_have_a_reason(
    memory: float, asked: int, made: int, note: str | None
) -> None:
    problem = cases.problem("convolution").narrowed(torch.arange(10))
    found = why_fewer(problem, asked, made, memory)
    assert len(found) == (note is not None)
    assert all(one.startswith(str(note)) for one in found)


@pytest.mark.parametrize(("memory", "rank"), [(0.2, 23), (0.0, None)])
def test_a_rank_beyond_the_memory_is_made_smaller_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: float, rank: int | None
) -> None:
    monkeypatch.setattr(previewing, "MEMORY_MB", memory)
    asked = study(methods=["gradient"], ranking={"queries": [3]}, preview={"rank": 5000})
    record = run(asked, tmp_path / "one")
    assert record.info["preview"]["notes"][0].startswith(f"rank {rank or 0} instead of 5000: ")
    assert record.info["preview"].get("rank") == rank
    assert (record.sketch() is None) == (rank is None)


def test_a_preview_that_fails_leaves_the_rest_of_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise GifError("A product with the curvature is NaN or infinite; raise `damping`.")

    monkeypatch.setattr(previewing, "unmeasured", fail)
    record = run(study(preview=ASKED), tmp_path / "failed", reuse=workspace / "plain")
    assert SKETCH not in record.info["files"]
    assert record.ranked("gif") == [3, 7]
    (note,) = record.info["preview"]["notes"]
    assert note.startswith("No preview: A product with the curvature is NaN")
    assert words(record.info)[-1] == f"  {note}"


def test_a_run_that_was_stopped_keeps_its_sketch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, out = study(methods=["gradient"], preview=ASKED), tmp_path / "stopped"

    def stop(*_: object, **__: object) -> None:
        raise Cancelled("asked to")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    with monkeypatch.context() as patch:
        patch.setattr(previewing, "measured", stop)
        with pytest.raises(Cancelled):
            run(asked, out)
    (kept,) = out.rglob("preview-*.npz")
    assert kept.name == "preview-sketch.npz"
    with np.load(kept) as arrays:
        train = arrays["train"]
    monkeypatch.setattr(previewing, "unmeasured", refuse)
    sketch = run(asked, out).sketch()
    assert sketch is not None
    np.testing.assert_array_equal(sketch.train, train)
    assert sketch.recall("gradient")["queries"] == 3


def test_without_its_sketch_a_record_is_still_a_result(copied: Path) -> None:
    (copied / SKETCH).write_bytes(b"PK")
    with pytest.raises(GifError, match="damaged, sketch.npz is not the file that was written"):
        Record.open(copied).sketch()
    (copied / SKETCH).unlink()
    record = Record.open(copied)
    assert len(record.scores("gif", 3)) == record.info["data"]["sizes"]["train"]
    assert [entry.status for entry in list_workspace(copied.parent)] == ["finished"]
    with pytest.raises(GifError, match="sketch.npz is missing"):
        record.sketch()

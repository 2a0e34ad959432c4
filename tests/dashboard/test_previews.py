"""The preview of any test image on the page Samples, from the entry point."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboard import jobs, library, settings
from dashboard.components import measures
from dashboard.views import samples
from gifcore import record as records
from gifcore.preview import Sketch
from gifcore.previewing import described
from gifcore.record import SKETCH, Record
from gifcore.study import EditSection, PreviewSection, RankingSection, Study
from tests.dashboard.make_record import QUERIES, make_record, make_study
from tests.dashboard.opened import captions, figures, go, keys, open_page, said

OTHER = 5  # a test image that is not ranked
RANK = 6


def invented(record: Record, methods: tuple[str, ...] = ("if", "gif")) -> Sketch:
    """A sketch of random numbers with a recall that was never measured."""
    sizes, rng = record.info["data"]["sizes"], np.random.default_rng(0)
    n, t = sizes["train"], sizes["test"]

    def rows(count: int) -> np.ndarray:
        return rng.standard_normal((count, RANK)).astype(np.float16)

    side = {"mean": 0.801, "min": 0.52, "control": 0.61}
    measured = {"queries": 16, "depth": 100, "largest": side, "helpful": side, "harmful": side}
    return Sketch(
        train=rows(n),
        lengths=np.full(n, 1e-4, np.float32),
        factors=np.full(n, 1.0, np.float32),
        mean=np.zeros(RANK, np.float32),
        positions=np.arange(n),
        solves={method: rows(t) for method in methods},
        solve_lengths={method: np.ones(t, np.float32) for method in methods},
        info={
            "model": record.info["model"]["hash"],
            "data": record.info["data"]["hash"],
            "rank": RANK,
            "numbers": "float16",
            "held_out": list(range(16)),
            "seconds": {"space": 1.0},
            "methods": {method: {"recall": measured} for method in methods},
        },
    )


def add_sketch(path: Path, sketch: Sketch, **entry: Any) -> None:
    """Put a sketch into a record as the engine does."""
    content = sketch.content()
    (path / SKETCH).write_bytes(content)
    info = json.loads((path / records.RECORD).read_text())
    info["preview"] = {"asked": RANK, "left_out": {}, "notes": []} | described(sketch) | entry
    info["files"][SKETCH] = records.listing(content)
    records.write_json(path / records.RECORD, info)


def made(workspace: Path, methods: tuple[str, ...] = ("if", "gif"), name: str = "one") -> Record:
    study = make_study("highest-k-gradients", 0.05, methods)
    return Record.open(make_record(workspace / name, study=study))


@pytest.fixture
def sketched(empty_workspace: Path) -> Record:
    record = made(empty_workspace)
    add_sketch(record.path, invented(record))
    return Record.open(record.path)


def previewed(index: int = OTHER) -> Any:
    at = open_page("samples")
    at.number_input(key="preview").set_value(index).run()
    assert not at.exception
    return at


@pytest.mark.usefixtures("sketched")
def test_the_table_of_a_preview_is_marked_as_one() -> None:
    at = open_page("samples", tab="table")
    at.number_input(key="preview").set_value(OTHER).run()
    assert "The whole ranking (approximate)" in said(at)
    names = [button.label for button in at.get("download_button")]
    assert "The approximate ranking as CSV" in names


def test_an_image_that_is_not_ranked_has_a_preview_marked_as_one(sketched: Record) -> None:
    at = previewed()
    text = said(at)
    assert at.markdown[0].value.startswith(
        ":orange-badge[:material/bolt: Preview] Test image **\\#5"
    )
    assert f"Test image \\#{OTHER} is not ranked yet: what you see is approximate" in text
    assert (
        "**GIF**: approximate, recall@100 0.80 measured on 16 held-out images (least 0.52; by "
        "gradients alone 0.61); among the most helpful 0.80 and the most harmful 0.80" in text
    )
    assert "predicted to **raise** the loss" in text
    assert "approximate influence, 10⁻" in text
    assert at.button(key="samples-rank").label.startswith("Compute the exact ranking (about ")
    assert len(figures(at, "Test")) == len(QUERIES)
    assert len(at.get("image")) == 1  # this one
    assert len(figures(at, "Training")) == 4 * 24  # two methods, two sides
    sketch = sketched.sketch()
    assert sketch is not None
    values = {m: sketch.scores(OTHER, m).astype(float) for m in ("if", "gif")}
    exp = measures.exponent(np.concatenate(list(values.values())))
    for scores in values.values():
        for side in ("helpful", "harmful"):
            first = samples.top_of(scores, side)[0]
            value = measures.signed(float(scores[first]), exp)
            assert any(value in c and f"#{first}" in c for c in captions(at))


@pytest.mark.usefixtures("sketched")
def test_a_copied_link_opens_the_same_preview() -> None:
    at = previewed()
    address = {key: at.query_params[key] for key in at.query_params}
    assert "".join(address["preview"]) == str(OTHER)
    copied = open_page("samples", **{key: "".join(value) for key, value in address.items()})
    assert said(copied) == said(at)
    assert figures(copied, "Training") == figures(at, "Training")
    copied.selectbox(key="query").set_value(QUERIES[1]).run()
    assert "Preview" not in said(copied)
    assert "preview" not in copied.query_params


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("number", ["-1", "99999999", "five", ""])
def test_a_link_to_a_test_image_that_is_not_there_shows_the_ranked_one(number: str) -> None:
    at = open_page("samples", preview=number)
    assert "Preview" not in said(at)
    assert "preview" not in at.query_params
    assert at.number_input(key="preview").value is None


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("by", ["thumbnail", "sidebar"])
def test_another_choice_leaves_the_preview(by: str) -> None:
    at = previewed()
    if by == "thumbnail":
        at.button(key=f"query-{QUERIES[0]}").click().run()
        shown = QUERIES[0]
    else:
        at.selectbox(key="query").set_value(QUERIES[1]).run()
        shown = QUERIES[1]
    assert f"#{shown}" in at.markdown[0].value
    assert "Preview" not in said(at)
    assert at.number_input(key="preview").value is None


def test_the_exact_ranking_takes_the_place_of_the_preview(
    sketched: Record, empty_workspace: Path
) -> None:
    at = previewed()
    study = make_study("highest-k-gradients", 0.05).model_copy(
        update={
            "ranking": RankingSection(queries=(OTHER,), count=0),
            "edit": EditSection(enabled=False),
        }
    )
    make_record(records.addition_folder(empty_workspace, sketched.hash, OTHER), study=study)
    at.run()
    assert not at.exception
    assert f"#{OTHER}" in at.markdown[0].value
    assert "Preview" not in said(at)
    assert at.session_state["context"].query == OTHER


def test_a_method_without_a_preview_is_named_and_has_none_alone(empty_workspace: Path) -> None:
    record = made(empty_workspace, ("if", "gif", "tracin"))
    left_out = {"tracin": "its gradients are of many checkpoints"}
    add_sketch(record.path, invented(record), left_out=left_out)
    at = previewed()
    assert "Without a preview: TracIn (its gradients are of many checkpoints)." in said(at)
    at.pills(key="methods").set_value(["tracin"]).run()
    assert "Preview" not in at.markdown[0].value
    assert "Without a preview: TracIn (its" in said(at)


# --- no sketch, or a bad one ----------------------------------------------------------------------


def test_without_a_sketch_the_page_says_how_to_get_one_and_offers_it(
    empty_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = made(empty_workspace)
    asked: list[tuple[Study, Path]] = []

    def start(study: Study, _folder: Path, *, workspace: Path, reuse: Path) -> None:
        assert workspace == empty_workspace
        asked.append((study, reuse))

    monkeypatch.setattr(jobs, "start", start)
    at = previewed()
    assert "No preview: this record holds no sketch." in said(at)
    assert at.button(key="samples-rank").label.startswith("Rank this image")
    at.button(key="make-sketch").click().run()
    ((study, reuse),) = asked
    assert study.preview == PreviewSection(rank=384)
    assert reuse == record.path


def test_a_server_of_the_demo_offers_nothing(
    empty_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(empty_workspace)
    monkeypatch.setenv(settings.DEMO_VARIABLE, "1")
    at = previewed()
    assert "No preview: this record holds no sketch." in said(at)
    assert "make-sketch" not in keys(at)


def test_a_record_that_was_made_without_one_says_why(empty_workspace: Path) -> None:
    path = made(empty_workspace).path
    info = json.loads((path / records.RECORD).read_text())
    info["preview"] = {"asked": 9, "left_out": {}, "notes": ["rank 0 instead of 9: 0 MB"]}
    records.write_json(path / records.RECORD, info)
    assert "rank 0 instead of 9: 0 MB" in said(previewed()).replace("\\", "")


def broken(record: Record, how: str) -> None:
    sketch = invented(record)
    if how == "NaN":
        raw = dict(np.load(record.path / SKETCH)) | {"mean": np.full(RANK, np.nan, np.float32)}
        with (record.path / SKETCH).open("wb") as file:
            np.savez(file, **raw)
        content = (record.path / SKETCH).read_bytes()
    elif how == "another model":
        content = replace(sketch, info={**sketch.info, "model": "0" * 64}).content()
    elif how == "missing":
        (record.path / SKETCH).unlink()
        return
    else:
        (record.path / SKETCH).write_bytes(b"PK")
        return
    (record.path / SKETCH).write_bytes(content)
    info = json.loads((record.path / records.RECORD).read_text())
    info["files"][SKETCH] = records.listing(content)
    records.write_json(record.path / records.RECORD, info)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("missing", "sketch.npz is missing"),
        ("damaged", "sketch.npz is not the file that was written"),
        ("another model", "is a sketch of another model (000000000000 instead of"),
        ("NaN", "The sketch's mean hold NaN or infinity"),
    ],
)
def test_a_bad_sketch_is_one_sentence_and_the_exact_rankings_stay(
    sketched: Record, how: str, sentence: str
) -> None:
    broken(sketched, how)
    at = previewed()
    assert not at.error
    (warning,) = at.warning
    assert sentence in warning.value.replace("\\", "")
    assert warning.value.startswith("No preview: ")
    assert f"#{QUERIES[0]}" in at.markdown[0].value
    assert at.button(key="samples-rank").label.startswith("Rank this image")
    assert "holds no sketch" not in said(at)


def test_of_two_records_that_with_a_sketch_is_shown(empty_workspace: Path) -> None:
    names = ("a", "b", "c")
    for name in names:
        made(empty_workspace, name=name)
    add_sketch(empty_workspace / "b", invented(Record.open(empty_workspace / "b")))
    (family,) = library.families()
    assert [path.name for path in family.paths.values()] == ["b"]


@pytest.mark.usefixtures("sketched")
def test_a_number_beyond_another_records_images_is_forgotten() -> None:
    at = previewed()
    at.session_state["preview"] = 10**6
    go(at, "samples")
    assert "Preview" not in said(at)

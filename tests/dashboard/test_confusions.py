"""Confusion matrices on Before / after, from the entry point: cells, their images, odd records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import settings
from dashboard.components import answers
from dashboard.views import confusions
from gifcore import data as datasets
from gifcore import record as records
from gifcore import runner
from gifcore.record import Record
from gifcore.study import parse
from tests.dashboard.make_record import make_record
from tests.dashboard.opened import charts, figures, keys, open_page, said
from tests.dashboard.opened import words as pictured
from tests.dashboard.test_own import wrapped_weights

BUNDLED = settings.demo_folder()


def opened(**address: Any) -> AppTest:
    return open_page("before-after", **({"tab": "confusions"} | address))


def cell_images(at: AppTest) -> list[int]:
    """The test images of the cell, as their buttons name them."""
    found = [key for key in keys(at) if key.startswith("cell-") and "-open-" in key]
    return [int(key.rsplit("-", 1)[1]) for key in found]


def words(at: AppTest) -> str:
    """What the page says, as people read it."""
    return said(at).replace("\\", "").replace("\u00a0", " ")


def wanted(record: Record, which: tuple[str, str], label: int, predicted: int) -> set[int]:
    rows = record.samples(*which)
    return set(rows[(rows["label"] == label) & (rows["predicted"] == predicted)]["index"])


@pytest.fixture
def record(workspace: Path) -> Record:
    return Record.open(workspace / "g05")


# --- which cell -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "which"), [("3-3", ("gif", "searched")), ("3-3-before", ("before", ""))]
)
def test_a_link_shows_the_images_of_its_cell(
    record: Record, cell: str, which: tuple[str, str]
) -> None:
    at = opened(cell=cell)
    images = wanted(record, which, 3, 3)
    assert len(images) > answers.PER_PAGE == len(cell_images(at))
    assert set(cell_images(at)) <= images
    assert f"{len(images):,} test images of 3 recognised by " in words(at)
    assert at.query_params["cell"] == cell
    assert (at.selectbox(key="cell-label").value, at.selectbox(key="cell-predicted").value) == (
        3,
        3,
    )
    at.session_state[f"cell-{cell}-page"] = 2
    first = cell_images(at)
    at.run()
    assert not at.exception
    assert set(cell_images(at)) <= images - set(first)


def test_a_click_and_the_boxes_pick_the_same_cell(record: Record) -> None:
    at = opened()
    assert "cell" not in at.query_params
    at.session_state["cell"] = "8-1-before"  # as the callback of a click leaves it
    at.run()
    clicked = cell_images(at)
    assert at.query_params["cell"] == "8-1-before"
    other = opened()
    other.selectbox(key="cell-label").set_value(8).run()
    other.selectbox(key="cell-predicted").set_value(1).run()
    assert other.query_params["cell"] == "8-1"
    assert set(cell_images(other)) == wanted(record, ("gif", "searched"), 8, 1)
    other.segmented_control(key="cell-model").set_value("before").run()
    assert other.query_params["cell"] == "8-1-before"
    assert cell_images(other) == clicked


@pytest.mark.parametrize("cell", ["8-77", "8-1-retrained"])
@pytest.mark.usefixtures("workspace")
def test_a_cell_that_is_not_there_is_said_and_the_default_is_shown(cell: str) -> None:
    at = opened(cell=cell)
    assert f"asks for the cell “{cell}”, which is not here" in words(at)
    assert "cell" not in at.query_params
    assert at.selectbox(key="cell-label").value == 8  # the class that was removed
    assert len(cell_images(at)) > 0


def test_an_empty_cell_is_a_message(record: Record) -> None:
    rows = record.samples("gif", "searched")
    row = np.bincount(rows[rows["label"] == 8]["predicted"], minlength=10)
    at = opened(cell=f"8-{np.flatnonzero(row == 0)[0]}")
    assert cell_images(at) == []
    assert "No test image is in this cell" in said(at)


@pytest.mark.usefixtures("workspace")
def test_the_address_names_the_edit_and_what_is_not_here() -> None:
    at = opened(edit="if-natural")
    assert "IF natural" in words(at)
    assert at.segmented_control(key="before-after-method").value == "if"
    assert at.query_params["edit"] == "if-natural"
    at.segmented_control(key="before-after-step").set_value("searched").run()
    assert at.query_params["edit"] == "if-searched"
    at = opened(edit="magic-natural")
    assert "asks for the edit “magic-natural”" in words(at)
    assert at.query_params["edit"] == "gif-searched"


def test_a_class_of_the_sidebar_is_looked_at_everywhere(record: Record) -> None:
    at = opened(**{"class": "3"})
    shares = record.info["before"]["test"]["per_class"]
    assert at.selectbox(key="cell-label").value == 3
    assert at.selectbox(key="class").set_value(None).run().selectbox(key="cell-label").value == 8
    at = opened(tab="edit", **{"class": "3"})
    assert f"▸ 3: {100 * shares[3]:.1f} % before" in words(at)
    at = opened(tab="histogram", **{"class": "3"})
    assert "What images of class 3 are taken for" in words(at)
    assert opened(tab="flips", **{"class": "3"}).selectbox(key="flips-class").value == 3


@pytest.mark.usefixtures("workspace")
def test_change_from_before_is_shown_for_the_edit_alone() -> None:
    at = opened()
    assert charts(at) == 2
    at.segmented_control(key="confusion-shows").set_value("change").run()
    assert not at.exception
    assert charts(at) == 1
    assert "blue + is predicted more often" in said(at)


# --- to Samples -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exact", "picks"),
    [(True, {"query": 7, "preview": None}), (False, {"preview": 7})],
)
def test_an_image_opens_on_samples_exactly_or_as_a_preview(
    monkeypatch: pytest.MonkeyPatch, exact: bool, picks: dict[str, Any]
) -> None:
    turned: list[Any] = []
    monkeypatch.setattr(answers.state, "turn_to", lambda name, **to: turned.append((name, to)))
    monkeypatch.setattr(answers.previews, "asked", lambda: turned.append("asked"))
    answers.open_on_samples(7, exact=exact)
    assert turned[-1] == ("samples", picks)
    assert ("asked" in turned) == (not exact)


def test_groups_of_images_are_no_image_that_is_ranked() -> None:
    queries: list[dict[str, Any]] = [
        {"index": 3},
        {"index": 5, "group": {"name": "fives", "size": 2, "images": [5, 8]}},
    ]
    assert answers.ranked_alone(queries) == {3}


def test_a_ranked_image_is_marked_as_such(monkeypatch: pytest.MonkeyPatch, record: Record) -> None:
    monkeypatch.setattr(answers, "PER_PAGE", 1000)
    index = record.queries[0]["index"]
    row = record.samples("gif", "searched").set_index("index").loc[index].astype(int)
    at = opened(cell=f"{row['label']}-{row['predicted']}")
    buttons = [b for b in at.button if str(b.key).startswith("cell-") and "-open-" in str(b.key)]
    exact = {int(str(b.key).rsplit("-", 1)[1]) for b in buttons if "photo_library" in b.icon}
    assert index in exact < set(cell_images(at))


# --- odd records ----------------------------------------------------------------------------------


def rewritten(folder: Path, classes: int, shape: tuple[int, ...] = (1, 8, 8)) -> Path:
    """A record of another number of classes, whose data set is gone; numbers from a seed."""
    path = make_record(folder / "odd")
    info = json.loads((path / records.RECORD).read_text())
    rng, n = np.random.default_rng(0), 600
    names = [f"kind {i}" for i in range(classes)]
    about = min(8, classes - 1)
    info["data"] |= {"classes": names, "hash": "00" * 32, "shape": list(shape)}
    info["data"]["sizes"]["test"] = n
    info["change"] |= {"label": about, "class_name": names[about]}
    for query in info["queries"]:
        query |= {"label": 0, "predicted": 0}
    metrics = [info["before"], *(s for m in info["methods"].values() for s in m["steps"].values())]
    for entry in metrics:
        for split in ("validation", "test"):
            entry[split]["per_class"] = rng.random(classes).tolist()
    kinds = [("before", "")] + [(m, s) for m in ("if", "gif") for s in ("natural", "searched")]
    true, tables = np.arange(n) % classes, []
    for method, step in kinds:
        said_ = np.where(rng.random(n) < 0.8, true, rng.integers(0, classes, n))
        p = rng.uniform(0.01, 1, n)
        frame = pd.DataFrame({"split": "test", "index": np.arange(n), "label": true})
        frame = frame.assign(method=method, step=step, predicted=said_, p_label=p, loss=-np.log(p))
        tables.append(pa.Table.from_pandas(frame, preserve_index=False))
    content = records.parquet_bytes(tables)
    (path / records.SAMPLES).write_bytes(content)
    info["files"][records.SAMPLES] = records.listing(content)
    (path / records.RECORD).write_text(json.dumps(info))
    return path


def test_of_many_classes_those_most_concerned_are_drawn(empty_workspace: Path) -> None:
    rewritten(empty_workspace, 120)
    at = opened(cell="119-118", **{"class": "77"})
    assert "20 of 120 classes are drawn" in said(at)
    assert len(at.selectbox(key="cell-predicted").options) == 120
    matrices = [
        json.loads(c.proto.spec) for c in at.get("plotly_chart") if "confusion" in c.proto.id
    ]
    assert len(matrices) == 2
    for matrix in matrices:
        drawn = matrix["layout"]["yaxis"]["ticktext"]
        assert len(drawn) == 20
        assert {"<b>▸ kind 77</b>", "kind 118", "kind 119", "kind 8"} <= set(drawn)
    assert "24 of 120 classes are drawn" in said(opened(tab="edit"))


def test_one_class_alone_has_a_matrix_of_one_cell(empty_workspace: Path) -> None:
    rewritten(empty_workspace, 1)
    at = opened()
    assert "600 test images of kind 0 recognised by GIF searched: 100.0 % of its 600" in words(at)
    assert len(cell_images(at)) == answers.PER_PAGE
    assert "changes none of the test predictions" in words(opened(tab="flips"))


def test_images_of_a_lost_data_set_are_cards_with_a_number(empty_workspace: Path) -> None:
    rewritten(empty_workspace, 10)
    for tab in ("confusions", "flips"):
        at = opened(cell="3-3", tab=tab)
        assert said(at).count("is not here, or is another one now") == 1
        assert len(figures(at)) == answers.PER_PAGE
        assert all('src="data:image/png;base64,' in figure for figure in figures(at))


def test_rows_of_a_table_are_told_without_pictures(empty_workspace: Path, tmp_path: Path) -> None:
    digits = datasets.load("digits")
    x, y = digits.train.inputs().reshape(-1, 1, 1, 64), digits.train.y
    table = tmp_path / "table.npz"
    np.savez(table, x_train=x[:300], y_train=y[:300], x_test=x[300:400], y_test=y[300:400])
    values = {
        "title": "Rows of a table",
        "methods": ["gradient"],
        "data": {"source": str(table)},
        "model": {"name": "logistic", "weights": str(wrapped_weights(tmp_path))},
        "change": {"label": 8},
        "selection": {"ratio": 0.1},
        "edit": {"evaluations": 6},
        "ranking": {"count": 1},
    }
    path = empty_workspace / "table"
    runner.run(runner.prepare(parse(values)), path, workspace=empty_workspace)
    at = opened(cell="3-3")
    images = wanted(Record.open(path), ("gradient", "searched"), 3, 3)
    assert set(cell_images(at)) == images
    assert len(images) > 0
    assert len(figures(at)) == len(images)
    assert "<img" not in "".join(figures(at))


# --- retrained models -----------------------------------------------------------------------------


@pytest.mark.usefixtures("empty_workspace")
def test_retrained_models_have_a_matrix_whose_cells_hold_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "demo_folder", lambda: BUNDLED)
    record = Record.open(BUNDLED / "forget-class-retrained")
    study = record.info["family"][:12]
    at = opened(study=study, cell="8-6-retrained")
    several = [record.samples("retrained", f"seed-{seed}") for seed in (1, 2, 3)]
    each = [((rows["label"] == 8) & (rows["predicted"] == 6)).to_numpy() for rows in several]
    taken = np.sum(each, axis=0)
    anyone = set(np.flatnonzero(taken > 0).tolist())
    assert set(cell_images(at)) <= anyone
    assert all(taken[i] == 3 for i in cell_images(at))  # the most agreed upon first
    mean = 100 * taken.sum() / (3 * 200)
    text = words(at)
    shown = " ".join(pictured(figure) for figure in figures(at))
    assert (
        f"{len(anyone)} test images of Bag taken for Shirt by retrained models, by at least one of "
        f"3 (mean {mean:.1f} %)" in text
    )
    assert f"Retrained (3 models): {mean:.1f} % of class Bag are taken for Shirt" in text
    assert "retrained: 3 of 3" in shown
    assert sum("confusion" in chart.proto.id for chart in at.get("plotly_chart")) == 3


def test_matrix_titles_are_findings() -> None:
    shares = np.array([[0.25, 0.75], [np.nan, np.nan]])
    assert (
        confusions.matrix_title(shares, ["a", "b"], 0, "X")
        == "X: 75.0 % of class a are taken for b"
    )
    assert confusions.matrix_title(shares, ["a", "b"], 1, "X") == "X: no test images of class b"
    assert "25.0 % of class a are recognised" in confusions.matrix_title(
        np.array([[0.25, 0.1, 0.1]]), ["a", "b", "c"], 0, "X"
    )

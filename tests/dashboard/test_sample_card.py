"""The card of a training image: from the address, by clicks, beside a pinned one, without data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import cache, cached_rankings
from dashboard.cached_rankings import NEAREST
from dashboard.components import gallery
from dashboard.components.gallery import Pictures
from dashboard.neighbours import standing_words
from gifcore import data as datasets
from gifcore.data import Data
from gifcore.record import RECORD, TRAIN, Record
from tests.dashboard.make_record import make_record, make_study
from tests.dashboard.opened import keys, open_page, said

METHODS = ("if", "gif")


def card(app: AppTest, index: int) -> str:
    """Everything said in the card, its table of opinions included."""
    assert f"card-pin-{index}" in keys(app), keys(app)
    tables = "\n".join(str(table.value) for table in app.table)
    return said(app) + "\n" + tables


def shown(app: AppTest) -> list[int]:
    """The cards that are drawn, from left to right."""
    return [int(key.removeprefix("card-pin-")) for key in keys(app) if "card-pin-" in (key or "")]


def near(app: AppTest, index: int) -> list[int]:
    start = f"near-{index}-"
    return [int(key.removeprefix(start)) for key in keys(app) if (key or "").startswith(start)]


# --- what it says ---------------------------------------------------------------------------------


def test_label_opinions_and_places_are_those_of_the_record(workspace: Path) -> None:
    record, index = Record.open(workspace / "g05"), 12
    app = open_page("samples", sample=str(index))
    words = card(app, index)
    labels = datasets.load("digits").train.y
    assert f"Label: **{labels[index]}**" in words
    (table,) = (t.value for t in app.table if "Before" in t.value.index)
    assert list(table.index) == ["Before", "After IF", "After GIF"]
    before = record.train()
    assert before is not None
    for name, method in (("Before", ""), ("After IF", "if"), ("After GIF", "gif")):
        one = record.train(method, "searched" if method else "")
        assert one is not None
        row = one.iloc[index]
        mark = "✓" if row["predicted"] == labels[index] else "✗"
        assert table.loc[name, "says"] == f"{mark} {int(row['predicted'])}"
        assert float(table.loc[name, "p of its label"]) == pytest.approx(row["p_label"], abs=6e-4)
        assert float(table.loc[name, "loss (nats)"]) == pytest.approx(row["loss"], rel=6e-3)
    change = record.train("gif", "searched")["loss"][index] - before["loss"][index]  # type: ignore[index]
    assert float(table.loc["After GIF", "change"].replace("−", "-")) == pytest.approx(
        change, rel=6e-3
    )
    frame = next(t.value for t in app.dataframe if "test image" in t.value)
    for row, query in enumerate((3, 17)):
        for method, name in (("if", "IF"), ("gif", "GIF")):
            values = cache.influence(workspace / "g05", method, query)
            assert frame[f"{name} place"][row] == standing_words(values.astype(np.float32), index)


def test_the_removed_class_is_named(workspace: Path) -> None:  # noqa: ARG001
    eights = np.flatnonzero(datasets.load("digits").train.y == 8)
    assert "the edit is to forget" in said(open_page("samples", sample=str(eights[0])))
    assert "the edit is to forget" not in said(open_page("samples", sample=str(eights[0] + 1)))


def test_only_the_methods_that_are_shown_are_in_it(workspace: Path) -> None:  # noqa: ARG001
    app = open_page("samples", sample="12", methods="gif")
    (table,) = (t.value for t in app.table if "Before" in t.value.index)
    assert list(table.index) == ["Before", "After GIF"]
    assert not any(column == "IF place" for t in app.dataframe for column in t.value)


@pytest.mark.usefixtures("workspace")
def test_without_a_choice_it_says_how_to_make_one() -> None:
    app = open_page("samples")
    assert "Choose a training image" in said(app)
    assert shown(app) == []


# --- neighbours -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("workspace")
def test_without_a_sketch_neighbours_are_by_influence_and_can_be_chosen() -> None:
    app = open_page("samples", sample="12")
    assert "Nearest by influence" in said(app)
    assert "2 ranked test images by IF and GIF" in said(app)
    found = near(app, 12)
    assert len(found) == NEAREST
    assert 12 not in found
    app.button(key=f"near-12-{found[0]}").click().run()
    assert shown(app) == [found[0]]
    assert app.query_params["sample"] == str(found[0])
    assert app.number_input(key="sample").value == found[0]


def test_with_a_sketch_neighbours_are_by_gradient() -> None:
    from gifcore.assets_path import asset

    path = asset("demo") / "highest-k-gradients-05"
    found = cached_rankings.near(path, ("gif",), 17)
    sketch = Record.open(path).sketch()
    assert found is not None
    assert sketch is not None
    assert found.kind == "gradient"
    assert found.positions.tolist() == sketch.nearest(17, NEAREST)[0].tolist()
    labels = datasets.load("fashion-mnist-mini").train.y
    assert (labels[found.positions] == labels[17]).mean() > 0.5


# --- pinned, marked, closed -----------------------------------------------------------------------


@pytest.mark.usefixtures("workspace")
def test_a_pinned_image_stays_beside_the_next_until_it_is_unpinned() -> None:
    app = open_page("samples", sample="12")
    app.button(key="card-pin-12").click().run()
    assert (shown(app), app.query_params["pin"]) == ([12], "12")
    app.number_input(key="sample").set_value(40).run()
    assert shown(app) == [12, 40]
    app.button(key="card-pin-12").click().run()  # now "Unpin"
    assert shown(app) == [40]
    assert "pin" not in app.query_params
    app.button(key="card-close-40").click().run()
    assert shown(app) == []
    assert "sample" not in app.query_params


@pytest.mark.usefixtures("workspace")
def test_it_is_marked_for_removal_and_taken_out_again() -> None:
    app = open_page("samples", sample="12")
    app.button(key="card-mark-12").click().run()
    assert app.query_params["marked"] == "12"
    assert app.button(key="card-mark-12").label == "Take the mark off"
    app.button(key="card-mark-12").click().run()
    assert "marked" not in app.query_params


# --- what may be missing --------------------------------------------------------------------------


def test_an_older_record_says_that_it_has_no_opinions(workspace: Path) -> None:
    for path in workspace.glob("*/"):
        (path / TRAIN).unlink()
        info = json.loads((path / RECORD).read_text())
        del info["files"][TRAIN]
        (path / RECORD).write_text(json.dumps(info))
    app = open_page("samples", sample="12")
    assert "before the model’s opinion of training images was kept" in card(app, 12)
    assert not any("Before" in t.value.index for t in app.table)


def test_a_study_that_only_ranked_has_the_opinion_before_alone(empty_workspace: Path) -> None:
    study = make_study("highest-k-gradients", 0.05)
    study = study.model_copy(update={"edit": study.edit.model_copy(update={"enabled": False})})
    make_record(empty_workspace / "r", study=study)
    app = open_page("samples", sample="12")
    (table,) = (t.value for t in app.table if "Before" in t.value.index)
    assert list(table.index) == ["Before"]
    assert "change" not in table
    assert "No edit was made" in card(app, 12)


def test_without_the_data_set_the_card_has_a_number_and_no_label(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "data", lambda *_: None)
    app = open_page("samples", sample="900")
    words = card(app, 900)
    assert "Its label is unknown here." in words
    (table,) = (t.value for t in app.table if "Before" in t.value.index)
    row = Record.open(workspace / "g05").train().iloc[900]  # type: ignore[union-attr]
    assert table.loc["Before", "says"] == str(int(row["predicted"]))  # neither right nor wrong


def remade(kind: str) -> Data:
    """The digits with as many inputs of another kind."""
    digits = datasets.load("digits")
    n, rng = len(digits.train), np.random.default_rng(0)
    inputs: dict[str, Any] = {
        "grey bytes": rng.integers(0, 256, (n, 1, 12, 12)).astype(np.uint8),
        "colour": rng.integers(0, 256, (n, 3, 12, 12)).astype(np.uint8),
        "tabular": rng.normal(size=(n, 1, 1, 13)).astype(np.float32),
    }
    return replace(digits, train=replace(digits.train, x=inputs[kind]))


@pytest.mark.parametrize("kind", ["grey bytes", "colour", "tabular"])
def test_pictures_of_every_kind_of_data(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    made = remade(kind)
    for path in workspace.glob("*/"):
        info = json.loads((path / RECORD).read_text())
        info["data"]["shape"] = list(made.shape)
        (path / RECORD).write_text(json.dumps(info))
    known = Pictures(made, {}, list(made.classes))
    monkeypatch.setattr(gallery, "pictures", lambda _context: known)
    app = open_page("samples", sample="12", pin="13")
    assert shown(app) == [13, 12]
    alts = [image.proto.imgs[0] for image in app.get("image")]
    assert len(alts) >= 2 + 2 * NEAREST
    assert ("A row of 13 numbers" in said(app)) == (kind == "tabular")

"""All training images on Samples, from the entry point: filters, tiles, marks, the card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import cache, filters
from dashboard.components import browse
from dashboard.filters import Known
from gifcore import data as datasets
from gifcore import record as records
from gifcore.data import Data, fingerprint
from gifcore.record import RECORD, SEARCHED, TRAIN, Record
from gifcore.study import RankingSection
from tests.dashboard.make_record import QUERIES, make_record, make_study
from tests.dashboard.opened import figures, go, keys, open_page, said, words
from tests.dashboard.test_previews import OTHER, add_sketch, invented
from tests.dashboard.test_samples import forget_data

N, CLASSES = 1000, 10  # of the training images of digits


def answers(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Invented answers of the model, one in seven wrong, and losses."""
    at = np.arange(len(labels))
    return np.where(at % 7 == 0, (labels + 1) % CLASSES, labels), (at * 37 % 101) / 50


def add_answers(path: Path) -> Path:
    """Put what models say of every training image into a record, as the engine does.

    After the edit by GIF every image is taken for a zero.
    """
    predicted, loss = answers(datasets.load("digits").train.y)
    tables = []
    for method, step, given in (("", "", predicted), ("gif", SEARCHED, 0 * predicted)):
        columns = {
            "train_index": pa.array(np.arange(len(loss)), pa.int32()),
            "method": [method] * len(loss),
            "step": [step] * len(loss),
            "predicted": pa.array(given, pa.int16()),
            "p_label": pa.array(np.exp(-loss), pa.float32()),
            "loss": pa.array(loss, pa.float32()),
        }
        tables.append(pa.table(columns))
    content = records.parquet_bytes(tables)
    (path / TRAIN).write_bytes(content)
    info = json.loads((path / RECORD).read_text())
    info["files"][TRAIN] = records.listing(content)
    records.write_json(path / RECORD, info)
    return path


@pytest.fixture
def one(empty_workspace: Path) -> Record:
    """A record that knows the model's answers on training images."""
    return Record.open(add_answers(make_record(empty_workspace / "one")))


def known(record: Record) -> Known:
    """What the page knows of the first test image's scores."""
    labels = datasets.load("digits").train.y
    scores = {m: cache.influence(record.path, m, QUERIES[0]) for m in ("if", "gif")}
    return Known(len(labels), scores, labels, *answers(labels), CLASSES)


def expected(record: Record, text: str) -> list[int]:
    can = filters.fitted(filters.parse(text), known(record))
    return filters.apply(can, known(record)).tolist()


def grid(**address: str) -> AppTest:
    return open_page("samples", **({"filter": "all"} | address))


def asked(at: AppTest, key: str = "filter") -> str:
    """What the address says of a key; AppTest keeps one that the page did not write as a list."""
    value = at.query_params[key]
    return value[0] if isinstance(value, list) else str(value)


def tiles(at: AppTest) -> list[int]:
    """The numbers of the images on the page, in order."""
    return [int(key.removeprefix("tile-")) for key in keys(at) if key.startswith("tile-")]


def training(at: AppTest) -> list[str]:
    """The HTML of every training image, those of a table's rows, which have no picture, too."""
    return [figure for figure in figures(at) if 'alt="Test' not in figure]


# --- which images ---------------------------------------------------------------------------------


def test_the_switch_shows_all_images_and_the_address_says_so(one: Record) -> None:
    at = open_page("samples")
    assert tiles(at) == []
    assert "filter" not in at.query_params
    at.segmented_control(key="browse-browse").set_value("all").run()
    assert tiles(at) == expected(one, "all")[:24]
    assert asked(at) == "all"
    assert "All **1,000** training images, strongest first" in said(at)
    at.segmented_control(key="browse-browse").set_value("table").run()
    assert "filter" not in at.query_params
    assert at.query_params["tab"] == "table"
    (table,) = [frame.value for frame in at.dataframe if "image" in frame.value]
    best = one.scores("gif", QUERIES[0]).sort_values("rank")["train_index"]
    assert table["number"].tolist() == best.tolist()[: len(table)]
    assert not figures(at, "Training")
    at.segmented_control(key="browse-browse").set_value("few").run()
    assert len(figures(at, "Training")) == 4 * 24
    assert not {"filter", "tab"} & set(at.query_params)


@pytest.mark.parametrize(
    "text",
    [
        "all~said.4~right~by.if~helpful",
        "all~label.1.3~wrong~apart.either~sort.loss",
        "all~harmful~strongest.25~apart.signs~sort.apart",
    ],
)
def test_a_link_with_a_filter_opens_it(one: Record, text: str) -> None:
    at = grid(filter=text)
    matches = expected(one, text)
    assert 0 < len(matches) < N
    assert f"**{len(matches):,} of {N:,}** training images match: " in said(at)
    assert tiles(at) == matches[:24]
    assert asked(at) == text


def test_fields_write_the_filter_and_a_new_session_reads_it(one: Record) -> None:
    at = grid(filter="all~page.9")
    assert tiles(at) == expected(one, "all")[192:216]
    at.multiselect(key="browse-labels").set_value([3, 8]).run()
    assert asked(at) == "all~label.3.8"  # from the first page again
    at.segmented_control(key="browse-right").set_value("wrong").run()
    at.selectbox(key="browse-by").set_value("if").run()
    at.segmented_control(key="browse-sign").set_value("harmful").run()
    at.selectbox(key="browse-sort").set_value("loss").run()
    at.segmented_control(key="browse-size").set_value("large").run()
    text = "all~label.3.8~wrong~by.if~harmful~sort.loss~large"
    assert asked(at) == text
    assert tiles(at) == expected(one, text)[:12]
    assert "label 3 or 8; the model is wrong; harmful by IF" in said(at)
    again = grid(filter=text)
    assert tiles(again) == tiles(at)
    assert again.multiselect(key="browse-labels").value == [3, 8]
    assert again.selectbox(key="browse-by").value == "if"


def test_the_filter_survives_other_pages_and_a_change_of_the_test_image(one: Record) -> None:
    at = grid(filter="all~label.3~wrong")
    at.button(key=f"query-{QUERIES[1]}").click().run()
    assert asked(at) == "all~label.3~wrong"
    assert f"Influence on test image #{QUERIES[1]} by GIF" in said(at)
    go(at, "compare")
    go(at, "samples")
    assert sorted(tiles(at)) == sorted(expected(one, "all~label.3~wrong"))


def test_answers_after_the_edit_are_those_of_the_method_whose_score_counts(one: Record) -> None:
    at = grid(filter="all~label.3~after")
    assert all("<br>✗ 0<" in figure for figure in training(at))
    assert "the answer of the model edited by GIF" in said(at)
    at.segmented_control(key="browse-right").set_value("right").run()
    assert "No training image fits" in at.info[0].value
    assert "the model edited by GIF is right" in said(at)
    at.selectbox(key="browse-by").set_value("if").run()  # after its edit nothing is kept
    assert asked(at) == "all~label.3~right~by.if"
    assert tiles(at) == expected(one, "all~label.3~right~by.if")[:24]
    assert "browse-after" not in [box.key for box in at.selectbox]


@pytest.mark.usefixtures("one")
def test_none_left_is_a_message_with_a_way_out() -> None:
    at = grid(filter="all~label.3~said.5~large~sort.loss")
    assert "No training image fits all of these filters at once" in at.info[0].value
    assert tiles(at) == []
    at.button(key="browse-clear").click().run()
    assert len(tiles(at)) == 12
    assert asked(at) == "all~sort.loss~large"
    assert "browse-clear" not in keys(at)


def test_the_class_of_the_sidebar_filters_too_and_is_cleared_with_the_rest(one: Record) -> None:
    at = grid(**{"class": "4", "filter": "all~wrong"})
    assert sorted(tiles(at)) == sorted(expected(one, "all~label.4~wrong"))
    assert at.multiselect(key="browse-labels").disabled
    assert asked(at) == "all~wrong"
    at.button(key="browse-clear").click().run()
    assert tiles(at) == expected(one, "all")[:24]
    assert "class" not in at.query_params


def test_pages_are_turned_and_one_too_far_is_the_last(one: Record) -> None:
    at = grid(filter="all~small~page.99")
    assert tiles(at) == expected(one, "all")[960:]
    assert asked(at) == "all~small~page.21"
    at.get("pagination")[0].set_value(2).run()
    assert tiles(at) == expected(one, "all")[48:96]
    assert asked(at) == "all~small~page.2"
    at.segmented_control(key="browse-sign").set_value("helpful").run()
    assert asked(at) == "all~helpful~small"
    assert at.get("pagination")[0].value == 1


def test_without_the_models_answers_a_line_says_so_and_two_fields_are_missing(one: Record) -> None:
    info = json.loads((one.path / RECORD).read_text())
    del info["files"][TRAIN]  # as of a record made before they were kept
    (one.path / RECORD).write_text(json.dumps(info))
    at = grid(filter="all~wrong~said.3~label.2~sort.loss")
    assert "before the model’s answers on training images were kept" in said(at)
    assert "Left out, because this record does not know it here: the model’s answer" in said(at)
    assert asked(at) == "all~label.2"
    fields = [box.key for box in at.multiselect]
    assert "browse-labels" in fields
    assert "browse-predicted" not in fields
    assert "loss" not in at.selectbox(key="browse-sort").options


# --- kinds of data and of records -----------------------------------------------------------------


def other_data(record: Path, folder: Path, shape: tuple[int, ...]) -> None:
    """Make the record one of other inputs with the same labels."""
    digits, rng = datasets.load("digits"), np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split in ("train", "validation", "test"):
        y = digits.split(split).y
        arrays |= {f"x_{split}": rng.random((len(y), *shape), np.float32), f"y_{split}": y}
    np.savez(folder / "own.npz", **arrays)
    info = json.loads((record / RECORD).read_text())
    source = str(folder / "own.npz")
    info["data"] |= {"source": source, "hash": fingerprint(source)}
    (record / RECORD).write_text(json.dumps(info))


@pytest.mark.parametrize(
    ("shape", "pictures"), [((6, 6), True), ((6, 6, 3), True), ((5,), False)], ids=str
)
def test_grey_and_colour_images_and_rows_of_a_table(
    one: Record, tmp_path: Path, shape: tuple[int, ...], pictures: bool
) -> None:
    other_data(one.path, tmp_path, shape)
    at = grid(filter="all~label.3")
    assert tiles(at) == expected(one, "all~label.3")[:24]
    assert all(("<img" in figure) == pictures for figure in training(at))
    assert all(" 3 " in f" {words(figure)} " for figure in training(at))


def test_without_the_data_set_there_are_grey_cards_and_no_labels(one: Record) -> None:
    forget_data(one.path)
    at = grid(filter="all~label.3~wrong~said.4")
    assert "Left out, because this record does not know it here: label and right or wrong" in said(
        at
    )
    assert len(tiles(at)) == 24
    assert all("label unknown<br>→ 4<" in figure for figure in training(at))
    assert asked(at) == "all~said.4"


def test_without_a_ranked_test_image_labels_still_filter(empty_workspace: Path) -> None:
    study = make_study("highest-k-gradients", 0.05).model_copy(
        update={"ranking": RankingSection(queries=(), count=0)}
    )
    add_answers(make_record(empty_workspace / "one", study=study))
    at = grid(filter="all~label.3~harmful")
    labels = datasets.load("digits").train.y
    assert tiles(at) == np.flatnonzero(labels == 3)[:24].tolist()
    assert "No test image is ranked here, so images have no score" in said(at)
    assert asked(at) == "all~label.3"


def test_a_method_without_a_ranking_leaves_images_without_a_score(empty_workspace: Path) -> None:
    study = make_study("highest-k-gradients", 0.05, ("if", "second-order"))
    make_record(empty_workspace / "one", study=study)
    at = grid(methods="second-order")
    assert tiles(at) == list(range(24))
    assert "Second-order gives no ranking, so images have no score here" in said(at)


def test_of_three_methods_any_two_are_compared(empty_workspace: Path) -> None:
    study = make_study("highest-k-gradients", 0.05, ("if", "gif", "gradient"))
    path = make_record(empty_workspace / "one", study=study)
    at = grid(filter="all~apart.signs~sort.number")
    at.selectbox(key="browse-pair").set_value(("if", "gradient")).run()
    first, second = (cache.influence(path, m, QUERIES[0]) for m in ("if", "gradient"))
    assert tiles(at) == np.flatnonzero(first * second < 0)[:24].tolist()
    assert asked(at) == "all~apart.signs~pair.if.gradient~sort.number"


def test_a_preview_is_browsed_and_called_approximate(one: Record) -> None:
    add_sketch(one.path, invented(one))
    at = grid(preview=str(OTHER))
    scores = cache.previewed(one.path, "gif", OTHER)
    assert tiles(at) == np.argsort(-np.abs(scores), kind="stable")[:24].tolist()
    assert f"Approximate influence on test image #{OTHER} by GIF" in said(at)


def test_only_the_images_of_the_page_are_drawn(
    one: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    images = Data.images

    def counted(data: Data, split: str, indices: Any) -> Any:
        if split == "train":
            drawn.extend(indices)
        return images(data, split, indices)

    monkeypatch.setattr(Data, "images", counted)
    at = grid(filter="all~large~page.2")
    assert drawn == tiles(at) == expected(one, "all")[12:24]


# --- tiles ----------------------------------------------------------------------------------------


def test_a_click_on_a_tile_opens_its_card_as_the_field_in_the_sidebar_does(one: Record) -> None:
    at = grid(filter="all~label.3")
    first, second = tiles(at)[:2]
    at.button(key=f"tile-{first}").click().run()
    assert asked(at, "sample") == str(first)
    assert f"Training image \\#{first}" in said(at)
    assert tiles(at) == expected(one, "all~label.3")[:24]
    at.number_input(key="sample").set_value(second).run()
    assert f"Training image \\#{second}" in said(at)
    assert asked(at, "sample") == str(second)


@pytest.mark.usefixtures("one")
def test_the_size_holds_for_the_few_too() -> None:
    at = open_page("samples", filter="top~small")
    assert len(figures(at, "Training")) == 4 * 24
    assert all('width="72"' in figure for figure in training(at))
    at.segmented_control(key="browse-size").set_value("large").run()
    assert all('width="168"' in figure for figure in training(at))
    assert asked(at) == "top~large"


# --- the basket and the downloads -----------------------------------------------------------------


def test_marked_images_become_a_new_study(one: Record) -> None:
    at = grid(filter="all~label.3~wrong")
    matches = expected(one, "all~label.3~wrong")
    at.toggle(key="browse-marking").set_value(True).run()
    assert tiles(at) == []  # boxes take the place of the buttons
    at.checkbox(key=f"marked-{matches[2]}").check().run()
    at.checkbox(key=f"marked-{matches[0]}").check().run()
    assert asked(at, "marked") == f"{matches[2]},{matches[0]}"
    assert "Marked: 2" in said(at)
    at.button(key="basket-remove").click().run()
    assert at.session_state["new_change_samples"] == f"{matches[2]}, {matches[0]}"
    assert at.session_state["new_change"] == "remove-samples"


def test_a_page_or_all_that_match_are_marked_at_once(one: Record) -> None:
    at = grid(filter="all~wrong~large")
    at.toggle(key="browse-marking").set_value(True).run()
    at.button(key="mark-first").click().run()
    assert asked(at, "marked") == ",".join(map(str, expected(one, "all~wrong")[:12]))
    at.button(key="mark-every").click().run()
    assert f"Marked: {len(expected(one, 'all~wrong'))}" in said(at)
    at.button(key="unmark").click().run()
    assert "Marked: 0" in said(at)


def test_the_downloaded_table_is_the_filtered_one_in_its_order(one: Record) -> None:
    about = known(one)
    positions = np.array(expected(one, "all~wrong~sort.loss"))
    table = browse.table(positions, about, list("abcdefghij"))
    assert table["train_index"].tolist() == positions.tolist()
    assert about.labels is not None
    assert table["label"].tolist() == ["abcdefghij"[c] for c in about.labels[positions]]
    assert not table["right"].any()
    assert table["loss"].is_monotonic_decreasing
    np.testing.assert_array_equal(table["gif_influence"], about.scores["gif"][positions])
    ranks = pd.Series(-about.scores["if"]).rank(method="first").astype(int) - 1
    assert table["if_rank"].tolist() == ranks[positions].tolist()


@pytest.mark.usefixtures("one")
def test_the_downloads_say_how_many_rows_they_hold() -> None:
    at = grid(filter="all~label.3")
    count = int((datasets.load("digits").train.y == 3).sum())
    assert f"These {count} images as CSV" in [button.label for button in at.get("download_button")]


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize(
    ("cell", "text"),
    [("3-4-before", "all~label.3~said.4"), ("3-0", "all~label.3~said.0~after~by.gif")],
)
def test_a_cell_of_a_confusion_matrix_leads_to_its_training_images(cell: str, text: str) -> None:
    at = open_page("before-after", tab="confusions", cell=cell, edit="gif-searched")
    links = [link.proto for link in at.get("page_link")]
    (found,) = [link for link in links if link.label.startswith("Training images of 3 that")]
    assert parse_qs(found.query_string)["filter"] == [text]
    none_kept = open_page("before-after", tab="confusions", cell="3-0", edit="if-searched")
    assert not [link for link in none_kept.get("page_link") if "Training" in link.proto.label]

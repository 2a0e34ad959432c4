"""The page Samples, from the entry point."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dashboard import cache, jobs
from dashboard.charts.style import Palette
from dashboard.components import gallery, measures, ranking, sheet
from dashboard.components.gallery import Pictures
from dashboard.views import samples
from gifcore import record as records
from gifcore.data import Data, Split
from gifcore.record import Record
from gifcore.study import EditSection, RankingSection
from tests.dashboard.make_record import QUERIES, make_record, make_study
from tests.dashboard.opened import again_until, captions, figures, go, keys, open_page, said, words


def forget_data(record: Path) -> None:
    """Make the record's data set another one than the one that is here."""
    info = json.loads((record / records.RECORD).read_text())
    info["data"]["hash"] = "0" * 64
    (record / records.RECORD).write_text(json.dumps(info))


@pytest.mark.usefixtures("workspace")
def test_it_says_whether_the_methods_agree_and_shows_24_of_each_side() -> None:
    at = open_page("samples")
    assert "of the 24 most helpful" in said(at)
    assert len(figures(at, "Test")) == len(QUERIES)
    assert len(figures(at, "Training")) == 4 * 24  # two methods, two sides


@pytest.mark.usefixtures("workspace")
def test_sign_and_unit_are_stated() -> None:
    text = said(open_page("samples"))
    assert "predicted to **raise** the loss" in text
    assert "predicted to **lower** the loss" in text
    assert "10⁻⁶ nats" in text


@pytest.mark.usefixtures("workspace")
def test_a_query_button_switches_the_test_image() -> None:
    at = open_page("samples")
    assert f"#{QUERIES[0]}" in at.markdown[0].value
    at.button(key=f"query-{QUERIES[1]}").click().run()
    assert not at.exception
    assert f"#{QUERIES[1]}" in at.markdown[0].value
    assert at.query_params["query"] in ([str(QUERIES[1])], str(QUERIES[1]))


@pytest.mark.usefixtures("workspace")
def test_another_image_offers_to_be_ranked_and_a_ranked_one_to_be_shown() -> None:
    at = open_page("samples")
    at.number_input(key="preview").set_value(5).run()
    assert at.button(key="samples-rank").label.startswith("Rank this image (about ")
    at.number_input(key="preview").set_value(QUERIES[1]).run()
    at.button(key="samples-show").click().run()
    assert f"#{QUERIES[1]}" in at.markdown[0].value


def test_ranking_another_image_adds_it_to_the_record(computed: Path) -> None:
    at = open_page("samples")
    taken = [query["index"] for query in at.session_state["context"].record.queries]
    other = next(index for index in range(20) if index not in taken)
    at.number_input(key="preview").set_value(other).run()
    at.button(key="samples-rank").click().run()
    (folder,) = jobs.started(computed)
    again_until(at, lambda at: "samples-show" in keys(at))
    at.button(key="samples-show").click().run()
    assert f"#{other}" in at.markdown[0].value
    assert "of the 24 most helpful" in at.markdown[0].value
    assert [query["index"] for query in records.Record.open(folder).queries] == [other]


def on_its_way(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody ranks test image 7."""
    folder = records.addition_folder(workspace, Record.open(workspace / "g05").hash, 7)
    running = {"status": "running", "title": "t", "message": "", "stages": [], "eta_seconds": 3.0}
    monkeypatch.setattr(jobs, "started", lambda _workspace: [folder])
    monkeypatch.setattr(jobs, "status", lambda *_: running)


def test_a_refresh_finds_a_ranking_on_its_way(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = open_page("samples")
    at.number_input(key="preview").set_value(7).run()
    on_its_way(workspace, monkeypatch)
    at.run()
    assert "cancel-test-7" in keys(at)
    address = {key: "".join(at.query_params[key]) for key in at.query_params}
    again = open_page("samples", **address)  # a new session, as after a refresh
    assert again.number_input(key="preview").value == 7
    assert "cancel-test-7" in keys(again)


@pytest.mark.parametrize("address", [{}, {"query": str(QUERIES[1])}])
def test_a_ranking_of_somebody_else_is_not_taken_over(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, address: dict[str, str]
) -> None:
    on_its_way(workspace, monkeypatch)
    at = open_page("samples", **address)
    assert at.number_input(key="preview").value is None
    assert "cancel-test-7" not in keys(at)
    assert "preview" not in at.query_params


@pytest.mark.usefixtures("workspace")
def test_an_empty_filter_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    both = np.linspace(1, 2, 1000)
    monkeypatch.setattr(samples.cache, "influence", lambda *_: both)
    at = open_page("samples", tab="table")
    at.session_state["ranking-sign"] = "harmful"
    at.run()
    assert not at.exception
    assert "No training image fits this filter" in said(at)


def test_one_method_is_shown_alone(empty_workspace: Path) -> None:
    make_record(empty_workspace / "one", study=make_study("highest-k-gradients", 0.05, ("gif",)))
    at = open_page("samples")
    assert "no second method" in said(at)
    assert len(figures(at, "Training")) == 2 * 24


def test_a_diamond_is_for_images_that_all_methods_name(empty_workspace: Path) -> None:
    methods = ("if", "gif", "gradient")
    make_record(empty_workspace / "one", study=make_study("highest-k-gradients", 0.05, methods))
    at = open_page("samples")
    record = Record.open(empty_workspace / "one")
    scores = {m: cache.influence(record.path, m, QUERIES[0]) for m in methods}
    named = [set(samples.top_of(values, "helpful").tolist()) for values in scores.values()]
    named_harmful = [set(samples.top_of(values, "harmful").tolist()) for values in scores.values()]
    expected = 3 * (len(set.intersection(*named)) + len(set.intersection(*named_harmful)))
    assert sum("◆" in str(caption) for caption in captions(at)) == expected


def test_no_ranked_image_still_offers_to_rank_one(empty_workspace: Path) -> None:
    study = make_study("highest-k-gradients", 0.05).model_copy(
        update={"ranking": RankingSection(queries=(), count=0)}
    )
    make_record(empty_workspace / "one", study=study)
    at = open_page("samples")
    assert "has not ranked" in said(at)
    assert at.number_input(key="preview").value is None


def test_without_the_data_set_thumbnails_of_the_record_and_cards_are_shown(
    empty_workspace: Path,
) -> None:
    forget_data(make_record(empty_workspace / "one"))
    at = open_page("samples")
    assert "is not here, or is another one now" in said(at)
    assert len(figures(at, "Training")) == 4 * 24


def test_an_addition_is_offered_and_shown(empty_workspace: Path) -> None:
    record = records.Record.open(make_record(empty_workspace / "one"))
    study = make_study("highest-k-gradients", 0.05).model_copy(
        update={
            "ranking": RankingSection(queries=(7,), count=0),
            "edit": EditSection(enabled=False),
        }
    )
    make_record(records.addition_folder(empty_workspace, record.hash, 7), study=study)
    at = open_page("samples", query="7")
    assert "#7" in at.markdown[0].value
    go(at, "compare")
    assert "#7" in said(at)


# --- parts ----------------------------------------------------------------------------------------


def _data(channels: int) -> Data:
    x = np.random.default_rng(0).integers(0, 255, (3, channels, 4, 4), dtype=np.uint8)
    split = Split(x, np.array([0, 1, 1]))
    return Data("tiny", split, split, split, ("a", "b"), "h", "tiny", "")


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_pictures_of_any_channel_count_are_enlarged_by_whole_factors(channels: int) -> None:
    png = Pictures(_data(channels), {}, ["a", "b"]).png("train", 1, 9)
    image = Image.open(io.BytesIO(png))
    assert image.size == (8, 8)
    assert image.mode == ("RGB" if channels == 3 else "L")


def test_a_hundred_large_pictures_stay_below_two_megabytes() -> None:
    x = np.random.default_rng(0).integers(0, 255, (1, 3, 224, 224), dtype=np.uint8)
    split = Split(x, np.array([0]))
    source = Pictures(Data("big", split, split, split, ("a",), "h", "big", ""), {}, ["a"])
    uri = source.uri("train", 0, 112)
    assert 100 * len(uri) < 2_000_000
    assert Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size == (112, 112)
    assert uri.startswith("data:image/jpeg;base64,")


def test_a_missing_picture_is_a_card() -> None:
    source = Pictures(None, {"train.index": np.array([4]), "train.images": np.ones((1, 4, 4))}, [])
    assert source.png("train", 5) == gallery.placeholder(5, gallery.SIDE)
    assert source.png("train", 4) != gallery.placeholder(4, gallery.SIDE)
    assert source.label("train", 5) == ""


def test_a_card_says_score_sign_word_and_class() -> None:
    source = Pictures(_data(3), {}, ["a", "<b> & c"])
    card = samples.card(1, -2.5e-6, -6, source, shared=True)
    assert card.alt == "Training image 1, <b> & c: influence −2.50 10⁻⁶ nats, harmful"
    figure = sheet.figure(card, Palette())
    assert words(figure) == "−2.50 harmful ◆ <b> & c #1"
    assert 'alt="Training image 1, &lt;b&gt; &amp; c: influence' in figure
    png = base64.b64decode(re.findall(r'src="data:image/png;base64,([^"]*)"', figure)[0])
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    np.testing.assert_array_equal(pixels, np.moveaxis(_data(3).train.x[1], 0, -1))


def test_the_ranking_selects_by_class_sign_and_disagreement() -> None:
    source = Pictures(_data(1), {}, ["a", "b"])
    scores = {"if": np.array([3.0, -1.0, 2.0]), "gif": np.array([-1.0, -2.0, 5.0])}
    table = ranking.build(scores, source)
    assert table["gif_rank"].tolist() == [1, 2, 0]
    assert ranking.select(table, "gif", "all", [])["train_index"].tolist() == [2, 0, 1]
    assert ranking.select(table, "gif", "harmful", [])["train_index"].tolist() == [1, 0]
    assert ranking.select(table, "gif", "split", [])["train_index"].tolist() == [0]
    assert ranking.select(table, "if", "helpful", ["b"])["train_index"].tolist() == [2]


def test_a_row_of_a_page_names_its_training_image() -> None:
    table = ranking.build({"gif": np.array([1.0, 3.0, 2.0])}, Pictures(None, {}, []))
    part = ranking.select(table, "gif", "all", []).iloc[1:]
    assert [ranking.chosen([row], part) for row in range(3)] == [2, 0, None]
    assert ranking.chosen([], part) is None


def test_one_power_of_ten_stands_in_the_header() -> None:
    table = ranking.build({"gif": np.array([2e-6, -1e-7])}, Pictures(None, {}, []))
    shown = ranking.scaled(table, measures.exponent(np.array([2e-6])))
    assert shown["GIF influence (10⁻⁶ nats)"].tolist() == pytest.approx([2.0, -0.1])


def test_a_side_only_holds_scores_of_its_sign() -> None:
    values = np.array([0.5, 0.0, 2.0])
    assert samples.top_of(values, "helpful").tolist() == [2, 0]
    assert samples.top_of(values, "harmful").tolist() == []


@pytest.mark.parametrize(
    ("helpful", "harmful", "words"),
    [
        (24, 20, "largely agree"),
        (3, 4, "largely disagree"),
        (12, 12, "agree in part"),
    ],
)
def test_agreement_is_one_word(helpful: int, harmful: int, words: str) -> None:
    assert samples.agreement(helpful, harmful, 24) == words

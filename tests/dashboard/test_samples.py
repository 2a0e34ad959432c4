"""The page Samples, from the entry point."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dashboard.components import gallery, measures, ranking
from dashboard.components.gallery import Pictures
from dashboard.views import samples
from gifcore import record as records
from gifcore.data import Data, Split
from gifcore.study import EditSection, RankingSection
from tests.dashboard.make_record import QUERIES, make_record, make_study
from tests.dashboard.opened import go, open_page, words


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    make_record(folder / "one")
    return folder


def forget_data(record: Path) -> None:
    """Make the record's data set another one than the one that is here."""
    info = json.loads((record / records.RECORD).read_text())
    info["data"]["hash"] = "0" * 64
    (record / records.RECORD).write_text(json.dumps(info))


def test_it_says_whether_the_methods_agree_and_shows_24_of_each_side(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = open_page("samples", workspace, monkeypatch)
    assert "of the 24 most helpful" in words(at)
    images = [image for image in at.get("image")]
    assert len(images) == len(QUERIES) + 4 * 24  # queries; two methods, two sides


def test_sign_and_unit_are_stated(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = words(open_page("samples", workspace, monkeypatch))
    assert "predicted to **raise** the loss" in text
    assert "predicted to **lower** the loss" in text
    assert "10⁻⁶ nats" in text


def test_a_query_button_switches_the_test_image(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = open_page("samples", workspace, monkeypatch)
    assert f"#{QUERIES[0]}" in at.markdown[0].value
    at.button(key=f"query-{QUERIES[1]}").click().run()
    assert not at.exception
    assert f"#{QUERIES[1]}" in at.markdown[0].value
    assert at.query_params["query"] in ([str(QUERIES[1])], str(QUERIES[1]))


def test_another_image_offers_to_be_ranked_and_a_ranked_one_to_be_shown(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = open_page("samples", workspace, monkeypatch)
    at.number_input(key="samples-other").set_value(5).run()
    assert at.button(key="samples-rank").label.startswith("Rank this image (about ")
    at.number_input(key="samples-other").set_value(QUERIES[1]).run()
    at.button(key="samples-show").click().run()
    assert f"#{QUERIES[1]}" in at.markdown[0].value


@pytest.mark.usefixtures("fake_engine")
def test_ranking_another_image_adds_it_to_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_record(tmp_path / "one")
    at = open_page("samples", tmp_path, monkeypatch)
    at.number_input(key="samples-other").set_value(5).run()
    at.button(key="samples-rank").click().run()
    assert not at.exception
    until = time.monotonic() + 60
    while "samples-show" not in [button.key for button in at.button]:
        assert time.monotonic() < until, words(at)
        time.sleep(0.3)
        at.run()
        assert not at.error, [error.value for error in at.error]
    at.button(key="samples-show").click().run()
    assert "#5" in at.markdown[0].value
    assert "of the 24 most helpful" in at.markdown[0].value


def test_an_empty_filter_is_a_message(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = np.linspace(1, 2, 1000)
    monkeypatch.setattr(samples.cache, "influence", lambda *_: both)
    at = open_page("samples", workspace, monkeypatch)
    at.session_state["ranking-sign"] = "harmful"
    at.run()
    assert not at.exception
    assert "No training image fits this filter" in words(at)


def test_one_method_is_shown_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_record(tmp_path / "one", study=make_study("highest-k-gradients", 0.05, ("gif",)))
    at = open_page("samples", tmp_path, monkeypatch)
    assert "no second method" in words(at)
    assert len(at.get("image")) == len(QUERIES) + 2 * 24


def test_no_ranked_image_still_offers_to_rank_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study("highest-k-gradients", 0.05).model_copy(
        update={"ranking": RankingSection(queries=(), count=0)}
    )
    make_record(tmp_path / "one", study=study)
    at = open_page("samples", tmp_path, monkeypatch)
    assert "has not ranked" in words(at)
    assert at.number_input(key="samples-other").value is None


def test_without_the_data_set_thumbnails_of_the_record_and_cards_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_data(make_record(tmp_path / "one"))
    at = open_page("samples", tmp_path, monkeypatch)
    assert "is not here, or is another one now" in words(at)
    assert len(at.get("image")) == len(QUERIES) + 4 * 24


def test_an_addition_is_offered_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = records.Record.open(make_record(tmp_path / "one"))
    study = make_study("highest-k-gradients", 0.05).model_copy(
        update={
            "ranking": RankingSection(queries=(7,), count=0),
            "edit": EditSection(enabled=False),
        }
    )
    make_record(records.addition_folder(tmp_path, record.hash, 7), study=study)
    at = open_page("samples", tmp_path, monkeypatch, query="7")
    assert "#7" in at.markdown[0].value
    go(at, "compare")
    assert "#7" in words(at)


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


def test_a_missing_picture_is_a_card() -> None:
    source = Pictures(None, {"train.index": np.array([4]), "train.images": np.ones((1, 4, 4))}, [])
    assert source.png("train", 5) == gallery.placeholder(5, gallery.SIDE)
    assert source.png("train", 4) != gallery.placeholder(4, gallery.SIDE)
    assert source.label("train", 5) == ""


def test_a_tile_says_score_sign_word_and_class() -> None:
    tile = samples.tile(1, -2.5e-6, -6, Pictures(_data(1), {}, ["a", "b"]), both=True)
    assert "−2.50** harmful" in tile.caption
    assert "b" in tile.caption
    assert "◆" in tile.caption
    assert tile.alt == "Training image 1, b: influence −2.50 10⁻⁶ nats, harmful"


def test_the_ranking_selects_by_class_sign_and_disagreement() -> None:
    source = Pictures(_data(1), {}, ["a", "b"])
    scores = {"if": np.array([3.0, -1.0, 2.0]), "gif": np.array([-1.0, -2.0, 5.0])}
    table = ranking.build(scores, source)
    assert table["gif_rank"].tolist() == [1, 2, 0]
    assert ranking.select(table, "gif", "all", [])["train_index"].tolist() == [2, 0, 1]
    assert ranking.select(table, "gif", "harmful", [])["train_index"].tolist() == [1, 0]
    assert ranking.select(table, "gif", "split", [])["train_index"].tolist() == [0]
    assert ranking.select(table, "if", "helpful", ["b"])["train_index"].tolist() == [2]


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

"""What the engine computed is what the pages show: another ratio or selector, other numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboard.components import measures
from dashboard.components.measures import percent, significant, times
from dashboard.views import home, samples
from gifcore.record import Record
from tests.conftest import COMBINATIONS
from tests.dashboard.opened import again_until, captions, keys, open_page, said

PAIRS = [("g10", "g25"), ("g10", "r10")]  # only the ratio changes; only the selector
METHODS = ("if", "gif")


def records_of(workspace: Path) -> dict[str, Record]:
    return {name: Record.open(workspace / name) for name in COMBINATIONS}


def moved(record: Record) -> set[int]:
    indices, _ = record.update("gif")
    assert indices is not None
    return set(indices.tolist())


def scores(record: Record, method: str) -> np.ndarray:
    frame = record.scores(method, record.queries[0]["index"]).sort_values("train_index")
    return frame["influence"].to_numpy()


# --- the records ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS)
def test_ratio_and_selector_alone_change_selection_update_and_scores(
    engine_records: Path, pair: tuple[str, str]
) -> None:
    first, other = (Record.open(engine_records / name) for name in pair)
    assert first.info["family"] == other.info["family"]
    assert first.hash != other.hash
    assert moved(first) != moved(other)
    assert first.info["methods"]["gif"]["norm"] != other.info["methods"]["gif"]["norm"]
    assert not np.array_equal(scores(first, "gif"), scores(other, "gif"))
    assert np.array_equal(scores(first, "if"), scores(other, "if"))  # knows no selection


def test_k_is_the_ratio_of_the_parameters_and_gradients_nest(engine_records: Path) -> None:
    found = records_of(engine_records)
    for name, (_, ratio) in COMBINATIONS.items():
        selection = found[name].info["selection"]
        assert selection["k"] == len(moved(found[name]))
        assert selection["k"] == pytest.approx(ratio * selection["p"], rel=0.01)
    assert moved(found["g10"]) < moved(found["g25"])
    assert len(moved(found["g10"]) & moved(found["r10"])) < len(moved(found["g10"])) / 2


# --- the pages ------------------------------------------------------------------------------------


def on_samples(record: Record) -> list[str]:
    """The captions of the first images of both sides, by GIF."""
    values = {method: scores(record, method) for method in METHODS}
    exp = measures.exponent(np.concatenate(list(values.values())))
    return [
        measures.signed(values["gif"][samples.top_of(values["gif"], side)[0]], exp)
        for side in ("helpful", "harmful")
    ]


def on_parameters(record: Record) -> list[str]:
    k, p = record.info["selection"]["k"], record.info["selection"]["p"]
    norm = significant(record.info["methods"]["gif"]["norm"])
    return [f"**GIF** moves {k:,} of {p:,} numbers by ‖Δ‖ = {norm}"]


def on_before_after(record: Record) -> list[str]:
    step = record.info["methods"]["gif"]["steps"]["searched"]
    after = step["test"]
    return [
        f", searched step ({times(step['scale'])}): ",
        f"({percent(after['self'])} left, ",
        f"({percent(after['retain'])}, ",
    ]


def on_compare(record: Record) -> list[str]:
    x, y = (scores(record, method) for method in METHODS)
    shared = measures.overlap(x, y, 50, "helpful")
    return [
        f"share {shared} of their 50 most helpful training images",
        f"ρ = **{measures.spearman(x, y):.3f}**",
    ]


PAGES: dict[str, Callable[[Record], list[str]]] = {
    "samples": on_samples,
    "parameters": on_parameters,
    "before-after": on_before_after,
    "compare": on_compare,
}


@pytest.mark.parametrize("page", PAGES)
def test_the_pickers_switch_between_what_the_records_say(computed: Path, page: str) -> None:
    found = records_of(computed)
    wanted = {name: PAGES[page](record) for name, record in found.items()}
    app = open_page(page, selector="highest-k-gradients", ratio="0.1")
    seen = {"g10": shown(app, wanted["g10"])}
    app.select_slider(key="ratio").set_value(0.25).run()
    seen["g25"] = shown(app, wanted["g25"])
    app.select_slider(key="ratio").set_value(0.1).run()
    app.selectbox(key="selector").set_value("random").run()
    seen["r10"] = shown(app, wanted["r10"])
    for first, other in PAIRS:
        assert seen[first] != seen[other]
        assert wanted[first] != wanted[other]


def shown(app: AppTest, wanted: list[str]) -> str:
    assert not app.exception
    text = "\n".join([said(app), *captions(app)]).replace("\u00a0", " ")
    for words in wanted:
        assert words in text
    return text


def test_home_says_the_real_headline(computed: Path) -> None:
    info = records_of(computed)["g10"].info
    app = open_page()
    assert app.subheader[1].value == home.headline(info, "gif")
    after = info["methods"]["gif"]["steps"]["searched"]["test"]
    assert percent(after["self"]) in app.subheader[1].value


def test_a_missing_combination_is_computed_in_place(computed: Path) -> None:
    app = open_page("parameters", selector="highest-k-gradients", ratio="0.05")
    assert "Not computed yet" in said(app)
    app.button(key="compute").click().run()
    again_until(app, lambda app: "**GIF** moves" in said(app))
    record = app.session_state["context"].record
    assert record.path.parent == computed
    assert record.info["selection"]["ratio"] == 0.05
    assert shown(app, on_parameters(record))
    assert "compute" not in keys(app)

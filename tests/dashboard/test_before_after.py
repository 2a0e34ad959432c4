"""The page Before / after, from the entry point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import cells
from dashboard.charts.per_class import Series, per_class, shown
from dashboard.charts.style import Palette
from dashboard.charts.taken_for import TakenFor, taken_for
from dashboard.components import verdict as lines
from dashboard.views import before_after, flips, one_edit, predicted
from gifcore.outcome import outcome
from gifcore.record import Record
from gifcore.study import EditSection
from gifcore.verdict import verdicts
from tests.dashboard.make_record import make_record, make_study
from tests.dashboard.opened import charts, figures, keys, open_page, said


@pytest.mark.usefixtures("workspace")
def test_counts_intervals_and_the_validation_split_are_stated() -> None:
    at = open_page("before-after")
    assert "18 images of the removed class" in said(at)
    assert "95 % Wilson intervals" in said(at)
    assert "chosen on the validation split" in said(at)
    table = at.dataframe[0].value
    assert table["model"].tolist()[0] == "Before"
    assert len(table) == 5


TABS = {  # what each tab draws
    "accuracies": ["accuracies"],
    "retrained": ["same-before-after"],
    "edit": ["per-class", "step-search"],
    "confusions": ["confusion-before", "confusion-edited", "confusion-retrained"],
    "histogram": ["taken-for"],
    "flips": [],
}


def drawn(at: AppTest) -> list[str]:
    """The names of the charts that are drawn."""
    names = [str(chart.proto.id).split("chart-")[-1] for chart in at.get("plotly_chart")]
    return sorted(names)


@pytest.mark.parametrize("tab", TABS)
def test_only_the_open_tab_is_drawn_under_the_verdict(empty_workspace: Path, tab: str) -> None:
    record = Record.open(make_record(empty_workspace / "one", seeds=(1, 2)))
    at = open_page("before-after", tab=tab)
    assert drawn(at) == TABS[tab]
    assert at.query_params["tab"] == tab
    verdict = lines.first(verdicts(record.info, ["if", "gif"])[0])
    assert at.markdown[0].value == verdict
    taken = [button.label for button in at.get("download_button")]
    assert ("These accuracies as CSV" in taken) == (tab == "accuracies")
    assert ("Every test prediction as CSV" in taken) == (
        tab in ("confusions", "histogram", "flips")
    )


@pytest.mark.usefixtures("workspace")
def test_a_tab_that_is_turned_to_is_in_the_address_and_no_other_charts_stay() -> None:
    at = open_page("before-after", tab="edit,moves")  # another page's too
    assert drawn(at) == TABS["edit"]
    turn(at, "flips,moves")
    assert drawn(at) == []
    assert at.query_params["tab"] == "flips,moves"
    turn(at, "moves")
    assert drawn(at) == ["accuracies"]
    assert at.query_params["tab"] == "moves"


@pytest.mark.usefixtures("workspace")
def test_method_and_step_are_the_same_on_every_tab() -> None:
    at = open_page("before-after", tab="flips")
    at.segmented_control(key="before-after-method").set_value("if").run()
    at.segmented_control(key="before-after-step").set_value("natural").run()
    for tab in ("edit", "accuracies", "confusions", "retrained", "flips", "histogram", "edit"):
        turn(at, tab)
        assert at.query_params["edit"] == "if-natural"
        shown = {one.key: one.value for one in at.segmented_control}
        with_step = tab in ("confusions", "flips")
        assert shown.get("before-after-method") == ("if" if with_step or tab == "edit" else None)
        assert shown.get("before-after-step") == ("natural" if with_step else None)
    assert "**IF\\: the step" in said(at)


@pytest.mark.usefixtures("workspace")
def test_a_link_names_the_edit_for_the_tabs_that_are_opened_later() -> None:
    at = open_page("before-after", edit="if-natural")
    assert at.query_params["edit"] == "if-natural"
    turn(at, "flips")
    assert "IF’s natural step changes" in said(at)


def turn(at: AppTest, tab: str) -> None:
    """Open a tab, as a click on it does."""
    at.query_params["tab"] = tab
    at.run()
    assert not at.exception


@pytest.mark.usefixtures("workspace")
def test_another_ratio_changes_the_numbers() -> None:
    first = open_page("before-after").markdown[0].value
    other = open_page("before-after", ratio="0.1").markdown[0].value
    assert first != other


@pytest.mark.parametrize("method", ["if", "gif"])
@pytest.mark.parametrize("step", ["natural", "searched"])
@pytest.mark.usefixtures("workspace")
def test_every_edit_can_be_looked_at(method: str, step: str) -> None:
    at = open_page("before-after", tab="flips")
    at.session_state["before-after-method"] = method
    at.session_state["before-after-step"] = step
    at.run()
    assert not at.exception
    assert f"’s {step} step changes" in said(at)


@pytest.mark.usefixtures("workspace")
def test_flipped_images_can_be_filtered_down_to_a_message() -> None:
    at = open_page("before-after", tab="flips")
    assert len(figures(at)) > 0
    at.session_state["before-after-step"] = "natural"
    at.session_state["flips-kind"] = "gained"
    for name in range(10):
        at.selectbox(key="flips-class").set_value(name).run()
        assert not at.exception
        drawn = any(key.startswith("flips-") and "-open-" in key for key in keys(at))
        assert drawn != ("No image fits" in said(at))


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("before-after", "no edit was made"),
        ("parameters", "no parameter was moved"),
        ("compare?tab=costs", "What each cost"),
        ("samples", "most helpful"),
    ],
)
def test_a_record_without_an_edit_says_so(empty_workspace: Path, page: str, words: str) -> None:
    study = make_study("highest-k-gradients", 0.05).model_copy(
        update={"edit": EditSection(enabled=False)}
    )
    make_record(empty_workspace / "one", study=study)
    page, _, tab = page.partition("?tab=")
    at = open_page(page, tab=tab)
    assert words in said(at)
    assert page in ("compare", "samples") or charts(at) == 0


def test_unmeasured_shares_are_left_out_and_not_called_zero(workspace: Path) -> None:
    info = Record.open(workspace / "g05").info
    metrics = info["before"]["test"] | {"self": None, "self_n": 0}
    models = [("Before", "before", "", metrics)]
    judged = outcome(info["change"])
    assert before_after.dots(models, judged.own) == []
    assert before_after.table(models, judged)["removed (self)"].tolist() == ["n/a"]


def test_flips_are_sorted_into_lost_gained_and_moved() -> None:
    before = pd.DataFrame(
        {
            "index": [0, 1, 2, 3],
            "label": [0, 0, 0, 0],
            "predicted": [0, 1, 1, 0],
            "p_label": [0.9, 0.2, 0.3, 0.8],
            "loss": [0.1, 1, 1, 0.2],
        }
    )
    after = before.assign(predicted=[1, 0, 2, 0], p_label=[0.1, 0.6, 0.2, 0.7])
    found = flips.changed(cells.together(before, after))
    assert dict(zip(found["index"], found["kind"], strict=True)) == {
        0: "lost",
        1: "gained",
        2: "moved",
    }
    assert found["index"].tolist()[0] == 0  # the largest change first


@pytest.mark.parametrize(
    ("tried", "said"), [("x < 12", "longest one tried"), ("x > 13", "shortest one tried")]
)
@pytest.mark.usefixtures("workspace")
def test_the_search_at_its_end_is_said(
    monkeypatch: pytest.MonkeyPatch, tried: str, said: str
) -> None:
    real = before_after.cache.curves
    monkeypatch.setattr(
        before_after.cache,
        "curves",
        lambda path, method: real(path, method).query(f"curve == 'residual' or {tried}"),
    )
    at = open_page("before-after", tab="edit")
    assert any(said in warning.value for warning in at.warning)


SCORES = pd.DataFrame({"curve": ["score"] * 3, "x": [0.1, 1.0, 12.6], "value": [0.1, 0.25, 0.9]})


@pytest.mark.parametrize(
    ("curves", "chosen", "title"),
    [
        (
            SCORES,
            12.6,
            "GIF: × 12.6 scores best on validation: F1 90.0 %, 25.0 % at the natural st",
        ),
        (SCORES[SCORES["x"] != 1.0], 12.6, "GIF: × 12.6 scores best on validation: F1 90.0 %"),
        (SCORES, 3.0, "GIF: the step × 3 was chosen on the validation split"),
        (SCORES, None, "GIF: only the natural step × 1 was evaluated (F1 25.0 %)"),
        (SCORES[:0], None, "GIF: only the natural step × 1 was evaluated"),
    ],
)
def test_the_step_is_told_by_its_score_beside_that_of_the_natural_one(
    curves: pd.DataFrame, chosen: float | None, title: str
) -> None:
    found = one_edit.search_title(curves, "GIF", chosen)
    assert found.startswith(title)
    assert ("natural" in found) == ("natural" in title)


def test_the_class_that_is_looked_at_has_a_band_and_a_mark() -> None:
    series = [Series("Before", "before", "", [0.5, None, 0.9])]
    plain, picked = (
        per_class(series, ["a", "b", "c"], 1, "T", Palette(), picked=klass) for klass in (None, 2)
    )
    assert not plain.layout.shapes
    assert [(band.y0, band.y1) for band in picked.layout.shapes] == [(1.5, 2.5)]
    assert picked.layout.yaxis.ticktext == ("a", "<b>b (removed)</b>", "<b>▸ c</b>")


def test_of_many_classes_those_whose_accuracy_differs_most_are_drawn() -> None:
    before: list[float | None] = [0.9] * 50
    after = before.copy()
    after[7], after[30] = 0.1, None
    series = [Series("Before", "before", "", before), Series("GIF", "gif", "searched", after)]
    assert shown(series, [45, None], most=2) == [7, 45]
    assert shown(series, [], most=60) == list(range(50))


def test_without_retrained_models_the_bars_are_the_model_before() -> None:
    before = TakenFor("Before", "before", "", np.array([1.0, 0.0]))
    gif = TakenFor("GIF searched × 3", "gif", "searched", np.array([0.25, 0.75]))
    title = predicted.from_before_title(before, [gif], ["a", "b"], 0)
    assert title == (
        "After GIF’s edit a is taken for b most often (75 %); total variation from before: GIF 0.75"
    )
    figure = taken_for(
        [gif], before.shares[None], ["a", "b"], 0, title, Palette(), bars="Before", word=""
    )
    assert [trace.name for trace in figure.data] == ["Before", "GIF searched × 3"]
    assert figure.layout.yaxis.ticktext == ("<b>a</b>", "b")

"""The page Before / after, from the entry point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dashboard import cells
from dashboard.charts.per_class import Series, per_class, shown
from dashboard.charts.style import Palette
from dashboard.charts.taken_for import TakenFor, taken_for
from dashboard.views import before_after, flips, one_edit, predicted
from gifcore.outcome import outcome
from gifcore.record import Record
from gifcore.study import EditSection
from tests.dashboard.make_record import make_record, make_study
from tests.dashboard.opened import charts, keys, open_page, said


@pytest.mark.usefixtures("workspace")
def test_counts_intervals_and_the_validation_split_are_stated() -> None:
    at = open_page("before-after")
    assert "18 images of the removed class" in said(at)
    assert "95 % Wilson intervals" in said(at)
    assert "chosen on the validation split" in said(at)
    table = at.dataframe[0].value
    assert table["model"].tolist()[0] == "Before"
    assert len(table) == 5
    assert charts(at) == 6


@pytest.mark.usefixtures("workspace")
def test_another_ratio_changes_the_numbers() -> None:
    first = open_page("before-after").markdown[0].value
    other = open_page("before-after", ratio="0.1").markdown[0].value
    assert first != other


@pytest.mark.parametrize("method", ["if", "gif"])
@pytest.mark.parametrize("step", ["natural", "searched"])
@pytest.mark.usefixtures("workspace")
def test_every_edit_can_be_looked_at(method: str, step: str) -> None:
    at = open_page("before-after")
    at.session_state["before-after-method"] = method
    at.session_state["before-after-step"] = step
    at.run()
    assert not at.exception
    assert f"’s {step} step changes" in said(at)


@pytest.mark.usefixtures("workspace")
def test_flipped_images_can_be_filtered_down_to_a_message() -> None:
    at = open_page("before-after")
    assert len(at.get("image")) > 0
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
        ("compare", "What each cost"),
        ("samples", "most helpful"),
    ],
)
def test_a_record_without_an_edit_says_so(empty_workspace: Path, page: str, words: str) -> None:
    study = make_study("highest-k-gradients", 0.05).model_copy(
        update={"edit": EditSection(enabled=False)}
    )
    make_record(empty_workspace / "one", study=study)
    at = open_page(page)
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
    at = open_page("before-after")
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

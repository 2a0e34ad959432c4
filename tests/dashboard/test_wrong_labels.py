"""The page Wrong labels, from the entry point: every kind of record, the marks, the new study."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboard.charts.found_curve import Line, found_curve, shown
from dashboard.charts.style import Palette, heading
from dashboard.components import basket, mislabel_form, suspects
from dashboard.views import wrong_labels as view
from gifcore.mislabel_section import MislabelSection
from gifcore.record import MISLABEL, RECORD, Record
from gifcore.study import parse, read
from tests.dashboard.opened import captions, charts, go, keys, open_page, said


@pytest.fixture
def looked(empty_workspace: Path, mislabel_record: Record) -> Record:
    return Record.open(shutil.copytree(mislabel_record.path, empty_workspace / "wrong"))


def page(**address: str) -> AppTest:
    return open_page("wrong-labels", selector="all", **address)


def changed(record: Record, change: Any, table: pd.DataFrame | None = None) -> None:
    """Rewrite a record as if the engine had written it so."""
    info = json.loads((record.path / RECORD).read_text())
    change(info)
    if table is not None:
        table.to_parquet(record.path / MISLABEL)
        content = (record.path / MISLABEL).read_bytes()
        info["files"][MISLABEL] = {
            "bytes": len(content),
            "sha256": sha256(content).hexdigest(),
        }
    (record.path / RECORD).write_text(json.dumps(info))


def wrong_in_first(record: Record, score: str, k: int) -> int:
    table = record.suspects().sort_values(score, ascending=False, kind="stable").head(k)
    return int((table["given"] != table["true"]).sum())


def test_the_answer_counts_the_wrong_labels_among_the_first(looked: Record) -> None:
    at = page()
    found = wrong_in_first(looked, "gradient", 100)
    text = said(at)
    assert "Of 1,000 training labels, 100 were made wrong" in text
    assert f"first **100** images by **Self-influence by Gradient** hold **{found}**" in text
    assert "(by chance 10)" in text
    assert charts(at) == 1
    at.selectbox(key="suspects-score").set_value("tracin").run()
    at.select_slider(key="suspects-k").set_value(50).run()
    assert f"hold **{wrong_in_first(looked, 'tracin', 50)}** of them (by chance 5)" in said(at)
    assert "50 of the first 50 images" in said(at)


def test_captions_say_given_predicted_and_true_label(looked: Record) -> None:
    row = looked.suspects().sort_values("gradient", ascending=False, kind="stable").iloc[0]
    first = captions(page())[0]
    assert first.startswith("1. +")
    assert f"labelled {row['given']}" in first
    assert f"→ model: {row['predicted']}" in first
    assert f"✗ truly {row['true']}" in first


def test_filters_and_none_left(looked: Record) -> None:
    at = page()
    at.select_slider(key="suspects-k").set_value(10).run()
    at.session_state["suspects-shown"] = "wrong"
    at.run()
    assert all("✗" in caption for caption in captions(at))
    assert f"{wrong_in_first(looked, 'gradient', 10)} of the first 10 images" in said(at)
    top = looked.suspects().sort_values("gradient", ascending=False).head(10)["given"]
    gone = next(c for c in range(10) if c not in set(top))
    at.multiselect(key="suspects-classes").set_value([gone]).run()
    assert "None of the first 10 images fits this filter" in at.info[0].value
    assert captions(at) == []
    assert at.button(key="mark-first").disabled


def test_marks_survive_a_page_switch_and_a_link(looked: Record) -> None:
    at = page()
    assert at.button(key="basket-remove").disabled
    at.checkbox[1].check().run()
    at.checkbox[0].check().run()
    order = np.argsort(-looked.suspects()["gradient"].to_numpy(), kind="stable")
    assert at.query_params["marked"] == f"{order[1]},{order[0]}"
    assert "Marked: 2" in said(at)
    go(at, "samples")
    go(at, "wrong-labels")
    assert [box.value for box in at.checkbox[:3]] == [True, True, False]
    at.checkbox[1].uncheck().run()
    assert at.query_params["marked"] == f"{order[0]}"
    at.button(key="unmark").click().run()
    assert "marked" not in at.query_params
    linked = page(marked=f"{order[2]},99999,x")
    assert [box.value for box in linked.checkbox[:4]] == [False, False, True, False]
    assert "Marked: 1" in said(linked)


@pytest.mark.usefixtures("looked")
def test_many_marks_are_kept_but_not_in_the_address() -> None:
    at = page()
    at.button(key="mark-first").click().run()
    assert "Marked: 100" in said(at)
    assert "marked" not in at.query_params
    go(at, "samples")
    go(at, "wrong-labels")
    assert "Marked: 100" in said(at)


def test_a_new_study_removes_what_is_marked(looked: Record) -> None:
    at = page()
    at.select_slider(key="suspects-k").set_value(10).run()
    at.button(key="mark-first").click().run()
    at.button(key="basket-remove").click().run()
    assert not at.exception
    go(at, "new-study")
    order = np.argsort(-looked.suspects()["gradient"].to_numpy(), kind="stable")[:10]
    assert at.text_input(key="new_change_samples").value == ", ".join(map(str, order))
    assert at.selectbox(key="new_change").value == "remove-samples"
    assert (at.selectbox(key="new_model").value, at.selectbox(key="new_data").value) == (
        "fcn",
        "digits",
    )
    at.number_input(key="new_ranking_count").set_value(0)
    at.number_input(key="new_curvature_samples").set_value(64)
    at.button(key="check").click().run(timeout=300)  # a process of its own that imports torch
    assert not at.error, at.error[0].value
    checked = at.session_state["new_checked"]
    assert checked.change.indices == tuple(order)
    assert checked.mislabel == looked_section(looked)  # the same labels are planted in it
    assert {metric.label: metric.value for metric in at.metric}["Accuracy on test"] == "93.2 %"


def looked_section(record: Record) -> Any:
    return read(record.path / "study.toml").mislabel.planted


def test_a_new_study_relabels_each_to_the_most_probable_other_class(looked: Record) -> None:
    at = page()
    at.select_slider(key="suspects-k").set_value(10).run()
    at.button(key="mark-first").click().run()
    at.button(key="basket-relabel").click().run()
    go(at, "new-study")
    order = np.argsort(-looked.suspects()["gradient"].to_numpy(), kind="stable")[:10]
    suggested = looked.suspects()["suggested"].to_numpy()[order]
    assert at.text_input(key="new_relabel_each").value == ", ".join(map(str, suggested))
    assert not at.error


def test_the_form_keeps_files_of_ones_own() -> None:
    study = parse(
        {
            "data": {"source": "/data/mine.npz"},
            "model": {"name": "fcn", "weights": "/w/fcn.safetensors", "weight_decay": 0.1},
        }
    )
    values = basket.form(study, [3, 1], None)
    assert values["new_data"] == "own"
    assert values["new_data_saved"] == ("mine.npz", "/data/mine.npz")
    assert values["new_weights_saved"][1] == "/w/fcn.safetensors"
    assert values["new_own_weights"]
    assert values["new_weight_decay"] == 0.1
    assert values["new_change_samples"] == "3, 1"
    assert values["new_mislabel"] == "As they are"


@pytest.mark.usefixtures("workspace")
def test_a_record_without_it_says_what_to_add() -> None:
    at = open_page("wrong-labels")
    assert "did not look for wrong labels" in said(at)
    assert "[mislabel]\nrate = 0.0" in at.info[0].value
    assert charts(at) == 0
    assert "mark-first" not in keys(at)


@pytest.mark.usefixtures("workspace")
def test_a_record_without_it_leads_to_one_that_has_it(looked: Record) -> None:
    at = open_page("wrong-labels", study=other_family(looked))
    assert "did not look for wrong labels" in said(at)
    (link,) = at.get("page_link")
    assert link.proto.label == "Wrong labels (digits): looked for there"
    assert looked.info["family"][:12] in link.proto.query_string


def other_family(record: Record) -> str:
    return str(Record.open(record.path.parent / "g05").info["family"][:12])


def test_self_influence_alone_is_shown_as_a_ranking(looked: Record) -> None:
    labels = looked.suspects()

    def without(info: dict[str, Any]) -> None:
        del info["mislabel"], info["files"][MISLABEL]

    changed(looked, without)
    at = page()
    assert "Which of the 1,000 training labels are wrong is not known here" in said(at)
    assert charts(at) == 0
    order = np.argsort(-looked.self_influence("gradient")["value"].to_numpy(), kind="stable")
    assert at.checkbox[0].label == f"mark #{order[0]}"
    row = labels.iloc[order[0]]
    assert row["given"] != row["true"]  # the label that the model was given is shown
    assert f"labelled {row['given']}" in captions(at)[0]
    assert "basket-relabel" not in keys(at)  # nobody says what they should be
    at.button(key="mark-first").click().run()
    assert "Marked: 50" in said(at)


def test_without_the_data_the_record_still_says_its_labels(looked: Record) -> None:
    changed(looked, lambda info: info["data"].update(hash="0" * 64))
    at = page()
    assert "is not here, or is another one now" in said(at)
    assert "labelled" in captions(at)[0]

    def without(info: dict[str, Any]) -> None:
        del info["mislabel"], info["files"][MISLABEL]

    changed(looked, without)
    assert "label unknown" in captions(page())[0]


def test_one_class_alone(looked: Record) -> None:
    table = looked.suspects().assign(given=0, true=0, predicted=0, suggested=0)

    def one(info: dict[str, Any]) -> None:
        info["data"].update(classes=["only"], hash="0" * 64)
        info["mislabel"].update(wrong=0, contradicted={"count": 0, "wrong": 0})
        for entry in info["mislabel"]["methods"].values():
            del entry["auc"], entry["found_20"], entry["curve"]

    changed(looked, one, table)
    at = page()
    assert "is not known here" in said(at)
    assert "labelled only" in captions(at)[0]


def test_a_table_of_numbers(empty_workspace: Path, numbers_record: Record) -> None:
    shutil.copytree(numbers_record.path, empty_workspace / "numbers")
    at = page()
    assert "Of 90 training labels, 18 were made wrong" in said(at)
    assert len(captions(at)) == 20
    at.selectbox(key="suspects-score").set_value("held_confident").run()
    assert "models trained without the sample" in said(at)


def test_how_sure_says_what_it_rests_on(looked: Record) -> None:
    info = looked.info
    found = suspects.Suspects(looked.suspects(), looked.mislabel)
    info["methods"]["gradient"]["self_influence"] |= {
        "checked": 8,
        "median_relative_error": 0.4,
        "words": "approximate: in a sketch of rank 2 of 9",
    }

    class Context:
        def __init__(self) -> None:
            self.info = info

    lines = view.certainty(Context(), found)  # type: ignore[arg-type]
    assert lines[0].startswith("**100 of 1,000 training labels were made wrong")
    assert "Confident learning contradicts" in lines[1]
    assert "8 checked by solves of full size, half of them within 40 %" in lines[2]
    table = suspects.measures(found, 100)
    assert table["AUC"].is_monotonic_decreasing
    assert set(table["score"]) == {found.name(score) for score in found.scores}


def test_better_and_worse_are_said_only_beyond_the_intervals(looked: Record) -> None:
    found = suspects.Suspects(looked.suspects(), looked.mislabel)
    for own, expected in (
        ({"value": 0.9, "low": 0.89, "high": 0.91}, "worse."),
        ({"value": 0.9, "low": 0.8, "high": 1.0}, "no difference beyond chance."),
        ({"value": 1.0, "low": 0.9999, "high": 1.0}, "better."),
    ):
        found.info["methods"]["gradient"]["auc"] = own
        assert view.answer(found, "gradient", 50).endswith(expected)


@pytest.mark.parametrize("palette", [Palette(), Palette(dark=True, background="#12161c")])
def test_the_figure_has_chance_and_the_best_possible(palette: Palette) -> None:
    share = np.linspace(0, 1, 101)
    lines = [
        Line("gif", "GIF", "self-influence", np.minimum(1, 5 * share).tolist()),
        Line("loss", "Loss", "baseline", np.minimum(1, 2 * share).tolist()),
    ]
    figure = found_curve(lines, chosen="gif", share=0.1, at=0.3, title="T", palette=palette)
    drawn = {trace.name: trace for trace in figure.data}
    assert drawn["GIF"].y[20] == pytest.approx(100)
    assert drawn["GIF"].line.width > drawn["Loss"].line.width
    assert drawn["GIF"].line.dash != drawn["Loss"].line.dash
    assert list(drawn["best possible"].x) == [0, 10, 100]
    assert list(drawn["by chance"].y) == [0, 100]
    assert figure.layout.shapes[0].x0 == pytest.approx(30)
    assert figure.layout.xaxis.range == (0, pytest.approx(55))  # where the last line is full
    assert shown([Line("a", "A", "baseline", [0.0] * 101)], 0.1) == 100
    assert heading(figure) == "T"


def asked_for(**fields: Any) -> dict[str, Any]:
    """What the form says of [mislabel] with these fields."""

    def script() -> None:
        import streamlit as st

        from dashboard.components import mislabel_form

        st.session_state["said"] = mislabel_form.fields()
        st.session_state["planted"] = mislabel_form.planted_section()

    at = AppTest.from_function(script, default_timeout=60)
    for key, value in fields.items():
        at.session_state[f"new_mislabel{key}"] = value
    at.run()
    assert not at.exception
    planted = at.session_state["planted"]
    return {"said": at.session_state["said"], "planted": planted}


def test_the_form_says_what_the_section_does() -> None:
    assert asked_for() == {"said": {}, "planted": {}}
    assert asked_for(_look=True) == {"said": {"rate": 0.0, "folds": 0}, "planted": {}}
    planted = {"rate": 0.1, "seed": 0, "measured": False}
    made_wrong = mislabel_form.PLANTED
    assert asked_for(**{"": made_wrong}) == {"said": planted, "planted": planted}
    found = asked_for(**{"": made_wrong, "_rate": 0.2, "_seed": 3, "_look": True, "_folds": 4})
    section = MislabelSection(**found["said"])
    assert section == MislabelSection(rate=0.2, seed=3, folds=4)
    again = asked_for(**{
        key.removeprefix("new_mislabel"): value
        for key, value in mislabel_form.values(section).items()
    })  # fmt: skip
    assert MislabelSection(**again["said"]) == section


@pytest.mark.usefixtures("looked")
def test_the_demo_server_starts_no_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIF_STUDIO_DEMO", "1")
    at = page()
    assert "only shows the demo" in said(at)
    assert "basket-remove" not in keys(at)

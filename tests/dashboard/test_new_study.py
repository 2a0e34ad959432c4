"""New study: from the form to a checked study, a run, its progress and its result."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, get_args

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard import jobs
from dashboard.components import group_lines, possible, study_form, uploads
from dashboard.texts import options
from dashboard.views import new_study
from gifcore import record as records
from gifcore import run_state
from gifcore.models import bundled
from gifcore.models.bundle import checkpoints_beside
from gifcore.study import (
    METHODS,
    SELECTORS,
    CurvatureSection,
    RankedTarget,
    SolverSection,
    Study,
    parse,
)
from tests.dashboard.opened import again_until, keys, open_page, said

DIGITS = {"new_model": "fcn", "new_data": "digits"}
QUICK = {"new_curvature_samples": 64, "new_solver_iterations": 3, "new_ranking_count": 1}
LONG = {
    "new_curvature_samples": 1000,
    "new_solver_iterations": 10_000,
    "new_solver_tolerance": 0.0,
    "new_ranking_count": 60,
}


def filled(numbers: dict[str, float]) -> AppTest:
    """The form, about the bundled digits and fcn, with some numbers of the group Advanced."""
    app = open_page("new-study")
    for key, value in DIGITS.items():
        app.selectbox(key=key).set_value(value)
    for key, number in numbers.items():
        app.number_input(key=key).set_value(number)
    return app.run()


def checked(numbers: dict[str, float]) -> AppTest:
    app = filled(numbers)
    app.button(key="check").click().run()
    assert not app.exception
    return app


def facts(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


@pytest.mark.usefixtures("empty_workspace")
def test_check_measures_and_the_time_follows_the_form_without_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = filled(LONG)
    assert "run" not in keys(app)
    app.button(key="check").click().run()
    assert not app.error
    shown = facts(app)
    assert float(shown["Accuracy on test"].removesuffix(" %")) > 90
    assert shown["Parameters"] == "17,226"
    assert "h" in shown["Time, about"]

    monkeypatch.setattr(jobs, "doctor", lambda *_, **__: pytest.fail("asked again"))
    app.select_slider(key="new_ratio").set_value(0.1).run()
    assert "run" in keys(app)
    app.number_input(key="new_solver_iterations").set_value(5).run()
    assert "run" in keys(app)
    assert facts(app) == shown | {"Time, about": facts(app)["Time, about"]}
    assert "h" not in facts(app)["Time, about"]
    app.selectbox(key="new_label").set_value(3).run()
    assert "run" not in keys(app)  # another question: to be checked


def test_run_progress_cancel_and_a_refresh_in_between(empty_workspace: Path) -> None:
    app = checked(LONG)
    app.button(key="run").click().run()
    name = app.query_params["run"]
    folder = empty_workspace / name
    until(folder, empty_workspace, "running")
    again = open_page("new-study", run=name)
    assert "Load model and data" in said(again) + str([p.proto.text for p in again.get("progress")])
    again.button(key=f"cancel-{name}").click().run()
    until(folder, empty_workspace, "cancelled")
    assert json.loads((folder / records.RECORD).read_text())["status"] == "cancelled"
    pid = json.loads((folder / run_state.RUN).read_text())["pid"]
    end = time.monotonic() + 20
    while run_state.process_started(pid) is not None:
        assert time.monotonic() < end
        jobs.reap()
    assert "Cancelled" in said(open_page("new-study", run=name))


def test_a_finished_run_leads_to_its_record_and_is_not_offered_again(
    empty_workspace: Path,
) -> None:
    app = checked(QUICK)
    app.button(key="run").click().run()
    folder = empty_workspace / app.query_params["run"]
    again_until(app, lambda app: "Finished" in said(app))
    record = records.Record.open(folder)
    assert record.info["selection"]["p"] == 17_226
    assert "check" not in keys(app)
    app.button(key="another").click().run()
    assert "Already computed" in said(app)
    assert "run" not in keys(app)
    assert "See the result" in str([link.proto.label for link in app.get("page_link")])


@pytest.mark.usefixtures("empty_workspace")
def test_what_the_engine_refuses_is_one_sentence() -> None:
    app = filled({})
    app.text_input(key="new_ranking_queries").set_value("3, 4000").run()
    app.button(key="check").click().run()
    assert "there is no test image 4000" in app.error[0].value.replace("\\", "")


@pytest.mark.usefixtures("empty_workspace")
def test_impossible_values_are_one_sentence() -> None:
    app = filled({})
    app.text_input(key="new_ranking_queries").set_value("3, three").run()
    assert "'three' is not a position" in app.error[0].value
    app.text_input(key="new_ranking_queries").set_value("3, 3").run()
    assert "distinct positions" in app.error[0].value
    app.text_input(key="new_ranking_queries").set_value("").run()
    app.get("button_group")[0].set_value([]).run()
    assert "name one or more methods" in app.error[0].value


@pytest.mark.usefixtures("empty_workspace")
def test_the_demo_server_offers_no_new_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIF_STUDIO_DEMO", "1")
    app = open_page("new-study")
    assert "switched off" in app.info[0].value
    assert not app.selectbox


@pytest.mark.parametrize(
    "name", ["../elsewhere", ".incoming", "/etc", "nothing", "", "\0", "x" * 5000, "some-file"]
)
def test_an_address_cannot_name_what_is_no_run_of_this_workspace(
    empty_workspace: Path, name: str
) -> None:
    (empty_workspace / "some-file").write_text("{}")
    app = open_page("new-study", run=name)
    assert not app.error
    assert not app.warning
    assert "check" in keys(app)
    assert not any(key.startswith("resume-") for key in keys(app))


@pytest.mark.usefixtures("empty_workspace")
def test_own_data_and_weights_are_uploaded_or_picked() -> None:
    app = open_page("new-study")
    app.selectbox(key="new_data").set_value(study_form.OWN).run()
    assert "Choose the files above" in said(app)
    app.segmented_control(key="new_data_way").set_value(uploads.PICK).run()
    assert "`--data-root DIR`" in said(app)


# --- everything that a study can name -------------------------------------------------------------


def asked(app: AppTest) -> Study:
    """The study that the form describes, as the check takes it."""
    app.button(key="check").click().run()
    assert not app.exception
    study: Study = app.session_state["new_checked"]
    return study


@pytest.fixture
def unchecked(empty_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The engine is not asked: a check only takes the study down."""
    monkeypatch.setattr(jobs, "doctor", lambda *_, **__: {"ok": False, "error": "not asked"})
    return empty_workspace


def methods(app: AppTest, *names: str) -> AppTest:
    app.get("button_group")[0].set_value(list(names)).run()
    assert not app.exception
    return app


@pytest.mark.usefixtures("unchecked")
def test_the_form_as_it_stands_is_the_study_as_it_was() -> None:
    app = open_page("new-study")
    assert app.selectbox(key="new_selector").options == [
        study_form.selector_line(name) for name in SELECTORS
    ]
    assert app.selectbox(key="new_selector").options[0] == (
        "Highest-k gradients: units whose mean output gradient on the target data is largest"
    )
    study = asked(app)
    assert study == parse(
        {"title": study.title, "model": {"weight_decay": None}, "methods": ["if", "gif"]}
    )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("selector", SELECTORS)
def test_every_selector_can_be_asked_for(selector: str) -> None:
    app = open_page("new-study")
    app.selectbox(key="new_selector").set_value(selector).run()
    assert asked(app).selection.selector == selector


@pytest.mark.usefixtures("unchecked")
def test_all_methods_that_can_run_are_taken_in_one_order() -> None:
    able = [m for m in study_form.ORDER if m != "tracin"]
    app = methods(open_page("new-study"), *reversed(able))
    for name in able:
        assert study_form.method_line(name) in said(app)
    assert asked(app).methods == tuple(able)
    assert set(study_form.ORDER) == set(METHODS)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("section", "key", "choices"),
    [
        (CurvatureSection, "kind", options.CURVATURES),
        (CurvatureSection, "sampler", options.SAMPLERS),
        (SolverSection, "kind", options.SOLVERS),
        (SolverSection, "preconditioner", options.PRECONDITIONERS),
    ],
)
def test_every_choice_has_words_and_reaches_the_study(
    section: Any, key: str, choices: dict[str, tuple[str, str]]
) -> None:
    assert set(choices) == set(get_args(section.model_fields[key].annotation))
    where = "curvature" if section is CurvatureSection else "solver"
    app = open_page("new-study")
    for choice, (_, words) in choices.items():
        app.selectbox(key=f"new_{where}_{key}").set_value(choice).run()
        assert words in said(app)
        assert getattr(getattr(asked(app), where), key) == choice


@pytest.mark.usefixtures("unchecked")
def test_a_sketch_is_made_only_where_it_is_asked_for() -> None:
    app = open_page("new-study")
    assert asked(app).preview.rank == 0
    app.number_input(key="new_preview_rank").set_value(384).run()
    assert asked(app).preview.rank == 384


@pytest.mark.usefixtures("unchecked")
def test_fastif_is_measured_only_where_it_is_asked_for() -> None:
    app = open_page("new-study")
    assert not asked(app).fastif.enabled
    app.text_input(key="new_fastif_k").set_value("100, 10").run()
    assert (asked(app).fastif.k, asked(app).fastif.iterations) == ((10, 100), None)
    app.number_input(key="new_fastif_solves").set_value(1)
    app.text_input(key="new_fastif_previews").set_value("64").run()
    app.number_input(key="new_0_fastif_solves_iterations").set_value(70)
    app.number_input(key="new_0_fastif_solves_scale").set_value(40.0).run()
    found = asked(app).fastif
    assert [(one.iterations, one.batch_size, one.scale) for one in found.solves] == [(70, 16, 40.0)]
    assert found.previews == (64,)
    app.text_input(key="new_fastif_k").set_value("ten").run()
    assert "'ten'" in app.error[0].value


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("solver", "settings"),
    [
        ("lsmr", {"iterations", "tolerance", "ridge", "probes"}),
        ("cg", {"iterations", "tolerance"}),
        ("minres", {"iterations", "tolerance"}),
        ("neumann", {"iterations", "tolerance"}),
        ("p-lissa", {"iterations", "tolerance"}),
        ("lissa", {"iterations", "batch_size", "chains", "damp", "scale"}),
        ("dense", {"ridge"}),
    ],
)
def test_a_solver_shows_only_its_own_settings(solver: str, settings: set[str]) -> None:
    app = open_page("new-study")
    app.selectbox(key="new_solver_kind").set_value(solver).run()
    drawn = {field.key for field in app.number_input}
    own = {key.removeprefix("new_solver_") for key in drawn if key.startswith("new_solver_")}
    assert own == settings
    boxes = {box.key for box in app.selectbox}
    assert ("new_solver_preconditioner" in boxes) == (solver == "lsmr")
    if solver == "lsmr":
        app.selectbox(key="new_solver_preconditioner").set_value("kronecker").run()
        assert "new_solver_probes" not in {field.key for field in app.number_input}
    if solver == "lissa":
        assert "Effective damping: damp × scale = 50." in said(app)
        app.number_input(key="new_solver_damp").set_value(0.01).run()
        found = asked(app).solver
        assert (found.iterations, found.chains, found.damp, found.scale) == (1000, 1, 0.01, 1e4)


@pytest.mark.usefixtures("unchecked")
def test_damping_is_by_hand_or_automatic() -> None:
    app = open_page("new-study")
    app.number_input(key="new_curvature_damping").set_value(0.25).run()
    assert asked(app).curvature.damping == 0.25
    app.segmented_control(key="new_curvature_damping_way").set_value("Automatic").run()
    assert "new_curvature_damping" not in {field.key for field in app.number_input}
    assert asked(app).curvature.damping == "auto"


@pytest.mark.usefixtures("unchecked")
def test_tracin_without_checkpoints_says_so_before_run() -> None:
    app = open_page("new-study")
    sentence = "there is no `tinynet-fashion-mnist-mini.checkpoints.safetensors` beside"
    assert sentence in said(app)  # before it is picked
    methods(app, "gif", "tracin")
    assert "TracIn cannot run here" in app.error[0].value
    assert "check" not in keys(app)


def test_tracin_with_checkpoints_beside_the_weights_can_run(
    unchecked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = unchecked / "mine.safetensors"
    checkpoints_beside(weights).write_bytes(b"some")
    monkeypatch.setattr(possible.cache, "weights_file", lambda _: weights)
    app = methods(open_page("new-study"), "gif", "tracin")
    assert "TracIn cannot run" not in said(app)
    assert asked(app).methods == ("gif", "tracin")


@pytest.mark.usefixtures("unchecked")
def test_exclusive_selectors_say_that_half_is_their_limit() -> None:
    app = open_page("new-study")
    app.selectbox(key="new_selector").set_value("exclusive-k-outputs").run()
    app.select_slider(key="new_ratio").set_value(0.5).run()
    assert "check" in keys(app)
    app.select_slider(key="new_ratio").set_value(1.0).run()
    assert "up to a ratio of 50 %, not at 100 %" in app.error[0].value
    assert "check" not in keys(app)


@pytest.mark.usefixtures("workspace")
def test_a_missing_combination_that_cannot_be_says_so_in_place_of_the_button() -> None:
    app = open_page("samples", selector="exclusive-k-gradients", ratio="1")
    assert "up to a ratio of 50 %" in app.warning[0].value
    assert "compute" not in keys(app)
    assert "compute" in keys(open_page("samples", selector="exclusive-k-gradients", ratio="0.5"))


def study(**values: Any) -> Study:
    return parse({"data": {"source": "digits"}, "model": {"name": "fcn"}} | values)


def test_the_limits_of_the_dense_solver_are_those_of_the_engine() -> None:
    from gifcore.solvers import Dense

    assert (Dense().limit, Dense().memory_mb) == (possible.DENSE_UNKNOWNS, possible.DENSE_MB)


@pytest.mark.parametrize(
    ("names", "ratio", "parameters", "refused"),
    [
        (["if", "gif"], 0.05, 1_898, ""),
        (["if", "gif"], 0.05, 17_226, "IF here is a system of 17,226 x 17,226"),
        (["gif", "tracin"], 0.1, 17_226, "checkpoints"),
        (["gif", "ekfac", "gradient"], 0.1, 17_226, ""),
        (["gif"], 0.25, 17_226, "GIF here is a system of 17,226 x 4,306"),
        (["gif"], 0.005, 398_090, "398,090 x 1,990"),  # 6 GB
        (["freeze"], 0.005, 398_090, ""),
        (["gif"], 0.005, None, ""),  # not known yet
    ],
)
def test_what_is_too_large_for_the_dense_solver(
    names: list[str], ratio: float, parameters: int | None, refused: str
) -> None:
    said = possible.refusal(
        study(methods=names, selection={"ratio": ratio}, solver={"kind": "dense"}), parameters
    )
    assert refused in said
    assert bool(said) == bool(refused)


def test_a_ridge_is_for_gif_alone_where_the_solver_is_dense() -> None:
    solver = {"kind": "dense", "ridge": 0.1}
    assert "leave IF and Freeze out" in possible.refusal(
        study(methods=["if", "gif", "freeze"], solver=solver)
    )
    assert possible.refusal(study(methods=["gif"], solver=solver)) == ""
    lsmr = study(methods=["if", "gif"], solver={"ridge": 0.1})
    assert possible.refusal(lsmr) == ""


@pytest.mark.usefixtures("empty_workspace")
def test_what_does_not_fit_is_said_after_the_check() -> None:
    app = filled({})
    app.selectbox(key="new_solver_kind").set_value("dense").run()
    app.button(key="check").click().run()
    assert "IF here is a system of 17,226 x 17,226" in app.warning[0].value
    assert "run" not in keys(app)
    methods(app, "gif")
    assert "run" in keys(app)  # no other check


def test_checkpoints_belong_to_what_is_checked() -> None:
    plain, summed = study(methods=["gif"]), study(methods=["gif", "tracin"])
    assert new_study._facts_of(plain) == new_study._facts_of(study(methods=["if"]))
    assert new_study._facts_of(plain) != new_study._facts_of(summed)
    assert bundled("fcn", "digits") is not None


def test_the_line_before_run_names_what_is_asked() -> None:
    words = study_form.said(
        study(
            title="T",
            methods=["if", "gif", "ekfac"],
            curvature={"kind": "ggn", "damping": "auto"},
            solver={"kind": "cg", "iterations": 7},
        )
    )
    assert words.replace("\\", "") == (
        "T: IF, GIF and EK-FAC, highest-k gradients at 5 %, CG with 7 iterations, Gauss-Newton of "
        "512 samples, damping by itself"
    )


def until(folder: Path, workspace: Path, wanted: str) -> None:
    end = time.monotonic() + 60
    while (state := jobs.status(folder, workspace))["status"] != wanted:
        assert time.monotonic() < end, f"{state['status']}: {state['message']}"
        time.sleep(0.05)


# --- every kind of change -------------------------------------------------------------------------


def of_kind(kind: str, **fields: Any) -> AppTest:
    """The form about the bundled digits and fcn, with a kind of change and its fields."""
    app = filled({})
    app.selectbox(key="new_change").set_value(kind).run()
    for key, value in fields.items():
        widgets: list[Any] = [*app.text_input, *app.number_input, *app.selectbox]
        next(w for w in widgets if w.key == f"new_{key}").set_value(value).run()
    assert not app.exception
    return app


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("kind", "fields", "change", "title"),
    [
        (
            "remove-samples",
            {"change_samples": "3, 57"},
            {"kind": "remove-samples", "indices": [3, 57]},
            "Remove 2 samples (Digits)",
        ),
        (
            "relabel",
            {"change_samples": "3 57", "relabel": 2},
            {"kind": "relabel", "indices": [3, 57], "labels": [2, 2]},
            "Relabel 2 samples to 2 (Digits)",
        ),
        (
            "backdoor",
            {"backdoor_size": 3, "backdoor_label": 7},
            {"kind": "backdoor", "label": 7, "size": 3, "strength": 0.25},
            "Take back the backdoor for 7 (Digits)",
        ),
        (
            "reweight",
            {"change_samples": "3 57", "reweight": "0.5"},
            {"kind": "reweight", "indices": [3, 57], "weights": [0.5, 0.5]},
            "Weigh 2 samples anew (Digits)",
        ),
        (
            "add-samples",
            {"added": "digits", "added_count": 5},
            {"kind": "add-samples", "source": "digits", "count": 5},
            "Add 5 samples of Digits (Digits)",
        ),
        (
            "union",
            {"1_change": "relabel", "1_change_samples": "3", "1_relabel": 2, "0_label": 7},
            {
                "kind": "union",
                "changes": [
                    {"kind": "remove-class", "label": 7},
                    {"kind": "relabel", "indices": [3], "labels": [2]},
                ],
            },
            "Forget 7 + Relabel 1 sample to 2 (Digits)",
        ),
        ("remove-class", {"label": 3}, {"label": 3}, "Forget 3 (Digits)"),
    ],
)
def test_every_kind_of_change_can_be_asked_for(
    kind: str, fields: dict[str, Any], change: dict[str, Any], title: str
) -> None:
    app = of_kind(kind, **fields)
    assert options.CHANGES[kind][1] in said(app)
    study = asked(app)
    assert study.change == parse({"change": change}).change
    assert study.title == title


@pytest.mark.usefixtures("unchecked")
def test_samples_that_are_not_named_or_no_numbers() -> None:
    app = of_kind("remove-samples")
    assert "name the training images" in said(app)
    assert "check" not in keys(app)
    app.text_input(key="new_change_samples").set_value("3, -4").run()
    assert "'-4' is not a position" in app.error[0].value
    assert "Training images" in app.error[0].value
    app.text_input(key="new_change_samples").set_value("3, 3").run()
    assert "each once" in app.error[0].value
    app.text_input(key="new_change_samples").set_value("3").run()
    methods(app, "gif", "second-order")
    assert "check" in keys(app)
    app.selectbox(key="new_change").set_value("relabel").run()
    assert "second-order is for remove-class and remove-samples" in app.error[0].value


@pytest.mark.usefixtures("unchecked")
def test_a_backdoor_without_weights_that_come_along_says_what_to_train() -> None:
    app = open_page("new-study")
    app.selectbox(key="new_change").set_value("backdoor").run()
    assert "train --backdoor" in said(app)
    assert "check" not in keys(app)


@pytest.mark.usefixtures("empty_workspace")
def test_the_engine_refuses_weights_of_another_backdoor_in_a_sentence() -> None:
    app = of_kind("backdoor", backdoor_count=99)
    app.button(key="check").click().run()
    assert "was trained on digits with the backdoor label=4,count=99" in app.error[0].value.replace(
        "\\", ""
    )
    assert "run" not in keys(app)


# --- the section ranking --------------------------------------------------------------------------


def ranking_of(app: AppTest) -> dict[str, Any]:
    """The section as the form has it now: what the page would hand to the engine."""
    assert not app.exception
    assert not app.error, [error.value for error in app.error]
    return asked_of(app).ranking.model_dump(by_alias=True)


def asked_of(app: AppTest) -> Study:
    study = app.session_state["seen_study"]
    assert isinstance(study, Study)
    return study


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = study_form.draw

    def draw() -> Study | None:
        study = inner()
        st.session_state["seen_study"] = study
        return study

    monkeypatch.setattr(study_form, "draw", draw)


@pytest.mark.usefixtures("empty_workspace", "seen")
def test_groups_self_influence_and_target_are_fields() -> None:
    app = filled({"new_ranking_count": 1})
    plain = ranking_of(app)
    assert (plain["groups"], plain["self_influence"], plain["target"]) == ((), False, "loss")
    lines = ["class 8", "Threes: class 3", "8 > 6", "3>5", "", "17, 256", "3"]
    app.text_area(key="new_ranking_groups").set_value("\n".join(lines))
    app.selectbox(key="new_ranking_target").set_value("margin")
    app.toggle(key="new_ranking_self_influence").set_value(True).run()
    section = ranking_of(app)
    assert (section["count"], section["self_influence"], section["target"]) == (1, True, "margin")
    wanted = [
        ("all of class 8", {"class": 8}),
        ("Threes", {"class": 3}),
        ("class 8 taken for class 6", {"cell": (8, 6)}),
        ("class 3 taken for class 5", {"cell": (3, 5)}),
        ("images 17, 256", {"samples": (17, 256)}),
        ("images 3", {"samples": (3,)}),
    ]
    for group, (name, what) in zip(section["groups"], wanted, strict=True):
        assert group["name"] == name
        assert {key: group[key] for key in what} == what


@pytest.mark.usefixtures("empty_workspace")
@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("class 11", "there is no class 11; 0 … 9 exist"),
        ("class Bag", "'Bag' is not a position"),
        ("class 8 3", "is not of the form class 8"),
        ("8-6", "'8-6' is not a position"),
        ("8 > ", "is not of the form 8 > 6"),
        (": class 8", "has nothing before its colon"),
        ("3, 3", "name each test image once"),
        ("class 3\nclass 3", "each group has a name of its own"),
    ],
)
def test_groups_that_are_none_are_one_sentence(typed: str, words: str) -> None:
    app = filled({})
    app.text_area(key="new_ranking_groups").set_value(typed).run()
    assert not app.exception
    assert words in app.error[0].value.replace("\\", "")


def test_the_form_offers_every_target_of_a_study() -> None:
    assert set(options.TARGETS) == set(get_args(RankedTarget))


@pytest.mark.parametrize("names", [None, ["T-shirt", "Bag"]])
def test_a_long_group_keeps_a_name_that_a_study_takes(names: list[str] | None) -> None:
    group = group_lines.parsed(", ".join(str(i) for i in range(500)), names)
    assert len(group["name"]) <= group_lines.LONGEST
    assert group["name"].endswith(" …")
    cell = group_lines.parsed("1 > 0", names)
    assert cell["name"] == ("Bag taken for T-shirt" if names else "class 1 taken for class 0")
    parse({"ranking": {"groups": [group, cell]}})

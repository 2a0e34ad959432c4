"""The form New study can ask for everything that a study can name, every kind of change too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from dashboard import jobs
from dashboard.components import possible, study_form
from dashboard.texts import options
from gifcore.models.bundle import checkpoints_beside
from gifcore.study import METHODS, SELECTORS, CurvatureSection, SolverSection, parse
from tests.dashboard.form import asked, methods, of_kind
from tests.dashboard.opened import keys, open_page, said


@pytest.fixture
def unchecked(empty_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The engine is not asked: a check only takes the study down."""
    monkeypatch.setattr(jobs, "doctor", lambda *_, **__: {"ok": False, "error": "not asked"})
    return empty_workspace


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


# --- every kind of change -------------------------------------------------------------------------


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

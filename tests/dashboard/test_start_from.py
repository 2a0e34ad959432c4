"""A preset, a study file or an earlier study fills the form; what differs from it is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.components import preset_buttons, study_fill
from dashboard.presets import PRESETS, applied, seconds
from dashboard.study_options import everything
from gifcore.record import Listed
from gifcore.study import Study, dumps, parse
from tests.dashboard.opened import go, open_page, said
from tests.dashboard.test_study_form import drawn


def press(app: AppTest, key: str) -> AppTest:
    app.button(key=key).click().run()
    assert not app.exception
    return app


# --- presets --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("empty_workspace")
def test_a_preset_sets_its_fields_where_they_are_seen_and_differences_are_named() -> None:
    app = press(open_page("new-study"), "preset-quick")
    assert app.number_input(key="new_solver_iterations").value == 8
    assert app.number_input(key="new_curvature_samples").value == 128
    assert "As in the preset Quick look" in said(app)
    app.number_input(key="new_solver_iterations").set_value(7).run()
    assert "Not as in the preset Quick look: Iterations 7 instead of 8" in said(app)
    app.selectbox(key="new_label").set_value(3).run()  # of no preset's concern
    press(app, "preset-thorough")
    found = drawn(app)
    assert (found.solver.iterations, found.retrain.seeds, found.preview.rank) == (60, 3, 384)
    assert found.change.label == 3  # type: ignore[union-attr]
    press(app, "preset-balanced")
    assert drawn(app) == parse({"title": drawn(app).title, "change": {"label": 3}})


@pytest.mark.usefixtures("empty_workspace")
def test_the_presets_of_questions_are_studies() -> None:
    app = press(open_page("new-study"), "preset-labels")
    assert drawn(app).mislabel.enabled
    press(app, "preset-fastif")
    assert (drawn(app).fastif.k, drawn(app).mislabel.enabled) == ((10, 100, 1000), True)
    app = press(open_page("new-study"), "preset-backdoor")
    assert drawn(app).change.kind == "backdoor"
    assert "check" in keys_of_buttons(app)


def keys_of_buttons(app: AppTest) -> list[str]:
    return [str(button.key) for button in app.button]


def test_the_presets_of_effort_set_the_same_options_and_cost_ever_more() -> None:
    effort = [PRESETS[name] for name in ("quick", "balanced", "thorough")]
    assert len({tuple(preset.values) for preset in effort}) == 1
    known = everything()
    assert all(path in known for preset in PRESETS.values() for path in preset.values)
    costs = {"hvp_per_sample": 1e-3, "jvp_per_sample": 1e-4, "forward_per_sample": 1e-5}
    sizes = {"train": 12_000, "validation": 2000, "test": 2000}
    times = [seconds(applied(preset, Study()), sizes, costs) for preset in effort]
    assert times[0] < 0.6 * times[1] < 0.06 * times[2]
    assert applied(PRESETS["balanced"], Study()) == Study()


def test_costs_are_those_of_the_middle_record_of_the_same_model_and_data() -> None:
    def entry(hvp: float, model: str = "tinynet", status: str = "finished") -> Listed:
        info = {
            "costs": {"hvp_per_sample": hvp},
            "data": {"name": "fashion-mnist-mini", "sizes": {"train": 1}},
            "model": {"name": model},
        }
        return Listed(Path("x"), status, "t", "", "", info)

    listed = [entry(9.0), entry(1.0), entry(2.0), entry(5.0, "fcn"), entry(0.1, status="failed")]
    found = preset_buttons.known_costs(Study(), listed)
    assert found is not None
    assert found[1]["hvp_per_sample"] == 2.0
    assert preset_buttons.known_costs(parse({"model": {"name": "lenet"}}), listed) is None


# --- study files ----------------------------------------------------------------------------------


WANTED = parse(
    {
        "title": "From afar",
        "data": {"source": "digits"},
        "model": {"name": "fcn"},
        "change": {"kind": "relabel", "indices": [3, 9], "labels": [1, 2]},
        "selection": {"selector": "random", "ratio": 0.07},
        "solver": {"kind": "cg", "iterations": 33},
    }
)


def pasted(text: str) -> AppTest:
    app = open_page("new-study")
    app.text_area(key="start_text").set_value(text).run()
    app.button(key="start_fill").click().run()
    assert not app.exception
    return app


@pytest.mark.usefixtures("empty_workspace")
def test_a_pasted_or_uploaded_file_fills_the_form() -> None:
    app = pasted(dumps(WANTED))
    assert drawn(app) == WANTED
    assert app.select_slider(key="new_ratio").value == 0.07  # also one between the steps
    assert "As in the pasted file" in said(app)
    other = open_page("new-study")
    other.file_uploader(key="start_file").upload("mine.toml", dumps(WANTED).encode(), "text/plain")
    press(other.run(), "start_fill")
    assert drawn(other) == WANTED
    assert "As in mine.toml" in said(other).replace("\\", "")


@pytest.mark.usefixtures("empty_workspace")
def test_what_the_form_cannot_take_from_a_file_is_named() -> None:
    text = dumps(WANTED).replace("ridge = 0.0", "ridge = 0.5")  # CG has no ridge
    app = pasted(text)
    assert "Not as in the pasted file: Ridge 0 instead of 0.5" in said(app)
    assert drawn(app) == WANTED


@pytest.mark.usefixtures("empty_workspace")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[data", "is not a TOML file"),
        (" ", "choose a study file or paste its text"),
        ("[data]\nsauce = 1", "unknown key 'data.sauce'"),
        ("[solver]\niterations = 0", "solver.iterations = 0 is not possible"),
        ("#" * 200_001, "has 200,001 characters"),
        ('[model]\nname = "nonsense"', "There is no model nonsense"),
    ],
)
def test_a_file_that_is_no_study_is_one_sentence(text: str, words: str) -> None:
    app = pasted(text)
    assert words in app.error[0].value.replace("\\", "")
    assert drawn(app) == parse({"title": drawn(app).title})
    assert not app.run().error  # said once


@pytest.mark.usefixtures("empty_workspace")
def test_a_file_from_elsewhere_reads_no_file_of_the_server(tmp_path: Path) -> None:
    secret = tmp_path / "secret.npz"
    secret.write_bytes(b"x")
    study = parse(
        {
            "data": {"source": str(secret)},
            "model": {"name": "fcn", "weights": str(tmp_path / "w.pt")},
        }
    )
    app = pasted(dumps(study))
    told = "\n".join(error.value for error in app.error).replace("\\", "")
    assert "secret.npz is not in a folder that this server opens" in told
    assert "w.pt is not in a folder that this server opens" in told
    assert "Choose the files above" in said(app)
    assert "check" not in keys_of_buttons(app)
    assert "new_drawn" not in app.session_state or "secret" not in str(drawn(app))


# --- an earlier study -----------------------------------------------------------------------------


def test_an_earlier_study_fills_the_form(computed: Path) -> None:
    app = open_page("studies")
    app.selectbox(key="studies-again").set_value(str(computed / "g25")).run()
    press(app, "studies-again-button")
    go(app, "new-study")
    found = drawn(app)
    assert (found.selection.ratio, found.curvature.samples, found.model.name) == (0.25, 128, "fcn")
    assert found.title == "Forget class 8 (digits)"
    assert "As in the study Forget class 8" in said(app).replace("\\", "")


def test_every_difference_has_words() -> None:
    now = study_fill.flat(Study())
    assert study_fill.differing(Study(), now) == []
    meant = {
        "curvature.kind": "ggn",
        "ranking.self_influence": True,
        "fastif.k": [5, 6],
        "solver.probes": 4,
        "change": {"kind": "x"},
    }
    assert study_fill.differing(Study(), meant) == [
        "Curvature Hessian instead of Gauss-Newton",
        "Training images on themselves off instead of on",
        "Measure FastIF with so many candidates empty instead of 5, 6",
        "Probes empty instead of 4",
        "another change",
    ]

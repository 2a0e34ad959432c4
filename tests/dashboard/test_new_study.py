"""New study: from the form to a checked study, a run, its progress and its result."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import jobs
from dashboard.components import study_form, uploads
from dashboard.views import new_study
from gifcore import record as records
from gifcore import run_state
from gifcore.models import bundled
from tests.dashboard.form import LONG, QUICK, checked, filled, methods, study
from tests.dashboard.opened import again_until, keys, open_page, said


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

"""New study: from the form to a checked study, a run, its progress and its result."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import jobs
from dashboard.components import study_form, uploads
from gifcore import record as records
from gifcore import run_state
from gifcore.errors import GifError
from tests.dashboard.opened import again_until, keys, open_page, said

DIGITS = {"new_model": "fcn", "new_data": "digits"}
QUICK = {"new_samples": 64, "new_iterations": 3, "new_count": 1}
LONG = {"new_samples": 0, "new_iterations": 10_000, "new_tolerance": 0.0, "new_count": 60}


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
    app.number_input(key="new_iterations").set_value(5).run()
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
    app.text_input(key="new_queries").set_value("3, 4000").run()
    app.button(key="check").click().run()
    assert "there is no test image 4000" in app.error[0].value.replace("\\", "")


@pytest.mark.usefixtures("empty_workspace")
def test_impossible_values_are_one_sentence() -> None:
    app = filled({})
    app.text_input(key="new_queries").set_value("3, three").run()
    assert "'three' is not a position" in app.error[0].value
    app.text_input(key="new_queries").set_value("3, 3").run()
    assert "distinct positions" in app.error[0].value
    app.text_input(key="new_queries").set_value("").run()
    app.get("button_group")[0].set_value([]).run()
    assert "name one or more methods" in app.error[0].value


@pytest.mark.usefixtures("empty_workspace")
def test_the_demo_server_offers_no_new_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIF_STUDIO_DEMO", "1")
    app = open_page("new-study")
    assert "switched off" in app.info[0].value
    assert not app.selectbox


@pytest.mark.parametrize("name", ["../elsewhere", ".incoming", "/etc", "nothing", ""])
@pytest.mark.usefixtures("empty_workspace")
def test_an_address_cannot_name_a_folder_elsewhere(name: str) -> None:
    app = open_page("new-study", run=name)
    assert not app.error
    assert not app.warning


@pytest.mark.usefixtures("empty_workspace")
def test_own_data_and_weights_by_path(tmp_path: Path) -> None:
    app = open_page("new-study")
    app.selectbox(key="new_data").set_value(study_form.OWN).run()
    assert "Choose the files above" in said(app)
    app.segmented_control(key="new_data_way").set_value("Path on this machine").run()
    app.text_input(key="new_data_path").set_value(str(tmp_path / "none.npz")).run()
    assert "There is no file" in app.error[0].value


def test_an_upload_is_kept_once_under_its_hash(empty_workspace: Path) -> None:
    first = uploads.save("mine.npz", b"content")
    assert first.parent.parent == empty_workspace / "uploads"
    assert first.name == "mine.npz"
    assert uploads.save("other name.NPZ", b"content") == first
    assert first.read_bytes() == b"content"


@pytest.mark.usefixtures("empty_workspace")
def test_too_large_an_upload_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_MB", 0.000001)
    with pytest.raises(GifError, match="at most"):
        uploads.save("mine.npz", b"content")
    monkeypatch.setattr(uploads, "MAX_MB", 200)
    monkeypatch.setattr(uploads, "MAX_FOLDER_MB", 0.000001)
    with pytest.raises(GifError, match="delete some"):
        uploads.save("mine.npz", b"content")


@pytest.mark.parametrize(
    ("path", "problem"),
    [("/none/a.pkl", "kinds allowed"), ("a.npz", "whole path"), ("/none/a.npz", "no file")],
)
def test_a_path_that_cannot_be_is_one_sentence(path: str, problem: str) -> None:
    assert problem in uploads.path_problem(Path(path), ("npz",))


def until(folder: Path, workspace: Path, wanted: str) -> None:
    end = time.monotonic() + 60
    while (state := jobs.status(folder, workspace))["status"] != wanted:
        assert time.monotonic() < end, f"{state['status']}: {state['message']}"
        time.sleep(0.05)

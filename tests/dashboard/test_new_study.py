"""New study: from the form to a checked study, a run, its progress and its result."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import jobs
from dashboard.components import study_form, uploads
from gifcore.errors import GifError
from tests.dashboard.opened import open_page, said

DIGITS = {"new_model": "logistic", "new_data": "digits"}


def filled() -> AppTest:
    app = open_page("new-study")
    for key, value in DIGITS.items():
        app.selectbox(key=key).set_value(value)
    return app.run()


@pytest.mark.usefixtures("fake_engine")
@pytest.mark.usefixtures("empty_workspace")
def test_check_shows_the_facts_and_then_offers_run() -> None:
    app = filled(open_page)
    assert not [button for button in app.button if button.key == "run"]
    app.button(key="check").click().run()
    assert not app.exception
    facts = {metric.label: metric.value for metric in app.metric}
    assert facts["Accuracy on test"] == "97.1 %"
    assert facts["Time, about"] == "21 s"
    assert app.button(key="run")
    app.select_slider(key="new_ratio").set_value(0.1).run()
    assert not [button for button in app.button if button.key == "run"]  # another study now


@pytest.mark.usefixtures("fake_engine")
def test_run_progress_cancel_and_a_refresh_in_between(
    empty_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "30")
    app = filled(open_page)
    app.button(key="check").click().run()
    app.button(key="run").click().run()
    name = app.query_params["run"]
    folder = empty_workspace / name
    until(folder, empty_workspace, "running")
    again = open_page("new-study", run=name)
    assert "Load model and data" in said(again) + str([p.text for p in again.get("progress")])
    again.button(key=f"cancel-{name}").click().run()
    until(folder, empty_workspace, "cancelled")
    assert "Cancelled" in "".join(w.value for w in open_page("new-study", run=name).warning)


@pytest.mark.usefixtures("fake_engine")
def test_a_finished_run_leads_to_its_record_and_is_not_offered_again(empty_workspace: Path) -> None:
    app = filled(open_page)
    app.button(key="check").click().run()
    app.button(key="run").click().run()
    until(empty_workspace / app.query_params["run"], empty_workspace, "finished")
    app.run()
    assert "Finished" in said(app)
    assert not [button for button in app.button if button.key == "check"]
    app.button(key="another").click().run()
    assert "Already computed" in said(app)
    assert not [button for button in app.button if button.key == "run"]
    assert "See the result" in str([link.proto.label for link in app.get("page_link")])


@pytest.mark.usefixtures("fake_engine")
@pytest.mark.usefixtures("empty_workspace")
def test_what_the_engine_refuses_is_one_sentence() -> None:
    app = open_page("new-study")
    app.button(key="check").click().run()
    assert "There is no data set" in app.error[0].value.replace("\\", "")


@pytest.mark.usefixtures("empty_workspace")
def test_impossible_values_are_one_sentence() -> None:
    app = filled(open_page)
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
    end = time.monotonic() + 20
    while (state := jobs.status(folder, workspace))["status"] != wanted:
        assert time.monotonic() < end, f"{state['status']}: {state['message']}"
        time.sleep(0.05)

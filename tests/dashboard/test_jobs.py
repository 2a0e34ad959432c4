"""Studies as processes: one run for equal questions, found again, cancelled, never lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dashboard import jobs
from gifcore.errors import GifError
from gifcore.record import Record
from gifcore.run_state import process_started, read_state
from tests.dashboard.make_record import WEIGHTS_HASH, make_study

pytestmark = pytest.mark.usefixtures("fake_engine")


def wait(folder: Path, workspace: Path, wanted: str, seconds: float = 20) -> dict[str, object]:
    end = time.monotonic() + seconds
    while (state := jobs.status(folder, workspace))["status"] != wanted:
        assert time.monotonic() < end, f"still {state['status']}, not {wanted}"
        time.sleep(0.05)
    return state


def folder_of(workspace: Path) -> Path:
    study = make_study("random", 0.05)
    return jobs.folder_for(study, "d" * 64, WEIGHTS_HASH, workspace)


def test_a_study_runs_to_its_record(empty_workspace: Path) -> None:
    folder = folder_of(empty_workspace)
    study = make_study("random", 0.05)
    jobs.start(study, folder, workspace=empty_workspace)
    assert jobs.status(folder, empty_workspace)["status"] in jobs.LIVE
    wait(folder, empty_workspace, "finished")
    assert Record.open(folder).info["selection"]["selector"] == "random"


def test_the_same_study_asked_twice_is_one_process(
    empty_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "30")
    folder, study = folder_of(empty_workspace), make_study("random", 0.05)
    jobs.start(study, folder, workspace=empty_workspace)
    first = wait(folder, empty_workspace, "running")["pid"]
    jobs.start(study, folder, workspace=empty_workspace)
    assert jobs.status(folder, empty_workspace)["pid"] == first
    jobs.cancel(folder, empty_workspace)
    wait(folder, empty_workspace, "cancelled")


def test_a_finished_study_is_not_started_again(empty_workspace: Path) -> None:
    folder, study = folder_of(empty_workspace), make_study("random", 0.05)
    jobs.start(study, folder, workspace=empty_workspace)
    wait(folder, empty_workspace, "finished")
    launched = len(jobs._children)
    jobs.start(study, folder, workspace=empty_workspace)
    assert len(jobs._children) == launched


def test_cancel_ends_the_process_and_resume_starts_another(
    empty_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "30")
    folder = folder_of(empty_workspace)
    jobs.start(make_study("random", 0.05), folder, workspace=empty_workspace)
    pid = wait(folder, empty_workspace, "running")["pid"]
    assert jobs.cancel(folder, empty_workspace)
    wait(folder, empty_workspace, "cancelled")
    deadline = time.monotonic() + 5
    while process_started(int(str(pid))) and time.monotonic() < deadline:
        jobs.reap()
    assert process_started(int(str(pid))) is None
    state = read_state(folder)
    assert state is not None
    assert state["status"] == "cancelled"
    monkeypatch.setenv("FAKE_SECONDS", "0.5")
    jobs.resume(folder, workspace=empty_workspace)
    assert jobs.status(folder, empty_workspace)["status"] in jobs.LIVE  # not the old "cancelled"
    wait(folder, empty_workspace, "finished")


def test_cancel_before_the_engine_has_loaded(
    empty_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_command", lambda _given: ["sleep", "30"])
    folder = folder_of(empty_workspace)
    jobs.start(make_study("random", 0.05), folder, workspace=empty_workspace)
    assert jobs.status(folder, empty_workspace)["status"] == "starting"
    assert jobs.cancel(folder, empty_workspace)
    wait(folder, empty_workspace, "cancelled")


def test_a_process_that_dies_at_once_leaves_its_last_line(
    empty_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DIES", "1")
    folder = folder_of(empty_workspace)
    jobs.start(make_study("random", 0.05), folder, workspace=empty_workspace)
    state = wait(folder, empty_workspace, "failed")
    assert state["message"] == "There is no checkpoint for this model."


def test_a_restarted_server_finds_the_run_again(
    empty_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "2")
    folder = folder_of(empty_workspace)
    jobs.start(make_study("random", 0.05), folder, workspace=empty_workspace)
    children, jobs._children[:] = list(jobs._children), []  # as a new server: no memory of it
    assert jobs.started(empty_workspace) == [folder]
    assert jobs.status(folder, empty_workspace)["status"] in jobs.LIVE
    wait(folder, empty_workspace, "finished")
    for child in children:
        child.wait()


def test_another_test_image_runs_beside_the_record(workspace: Path) -> None:
    record = Record.open(workspace / "g05")
    folder = jobs.start_query(record, 5, workspace=workspace)
    wait(folder, workspace, "finished")
    assert [query["index"] for query in Record.open(folder).queries] == [5]
    assert jobs.started(workspace) == [folder]


def test_a_folder_outside_the_workspace_is_refused(tmp_path: Path, empty_workspace: Path) -> None:
    with pytest.raises(GifError, match="not in the workspace"):
        jobs.start(make_study("random", 0.05), tmp_path / "else", workspace=empty_workspace)


def test_the_check_answers_and_a_silent_engine_is_one_sentence(
    empty_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study("random", 0.05)
    assert jobs.doctor(study, workspace=empty_workspace)["ok"]
    assert not list((empty_workspace / jobs.INCOMING).glob("doctor-*"))
    monkeypatch.setattr(jobs, "_command", lambda _given: ["sh", "-c", "echo broken >&2"])
    with pytest.raises(GifError, match="no answer: broken"):
        jobs.doctor(study, workspace=empty_workspace)

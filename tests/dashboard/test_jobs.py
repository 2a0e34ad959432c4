"""Studies as processes of the engine: one for equal questions, found again, cancelled, resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dashboard import jobs
from gifcore import record as records
from gifcore import run_state, runner
from gifcore.data import load
from gifcore.errors import GifError
from gifcore.models import bundled
from gifcore.record import Record
from gifcore.run_state import process_started
from gifcore.study import Study
from tests.conftest import small_study
from tests.dashboard.opened import ROOT, open_page, said

SMALL = small_study("highest-k-gradients", 0.1)


def with_(study: Study, section: str, **values: object) -> Study:
    changed = getattr(study, section).model_copy(update=values)
    return study.model_copy(update={section: changed})


def long_study(iterations: int = 10_000) -> Study:
    """A study that takes minutes; the test that starts it ends it."""
    study = with_(SMALL, "solver", iterations=iterations, tolerance=0.0)
    return with_(study, "curvature", samples="all").model_copy(update={"title": "Long"})


@pytest.fixture
def workspace(empty_workspace: Path) -> Iterator[Path]:
    """An empty workspace; what still runs in it afterwards is ended."""
    yield empty_workspace
    for folder in jobs.started(empty_workspace):
        jobs.cancel(folder, empty_workspace)
        ended(folder, empty_workspace)


def begin(study: Study, workspace: Path) -> Path:
    prepared = runner.prepare(study)
    folder = jobs.folder_for(study, prepared.data_hash, prepared.weights_hash, workspace)
    return jobs.start(study, folder, workspace=workspace)


def until(check: Callable[[], Any], said: Callable[[], object], seconds: float = 90) -> Any:
    """Wait for something true; `said` tells what there is instead."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, said()
        time.sleep(0.05)
    return found


def wait(folder: Path, workspace: Path, *wanted: str) -> dict[str, Any]:
    def state() -> dict[str, Any]:
        return jobs.status(folder, workspace)

    until(lambda: state()["status"] in wanted, state)
    return state()


def ended(folder: Path, workspace: Path) -> None:
    wait(folder, workspace, "finished", *jobs.STOPPED)


def computing(folder: Path, workspace: Path) -> dict[str, Any]:
    """Wait until the run is inside the stage solve."""

    def stages() -> dict[str, str]:
        run = jobs.status(folder, workspace)
        return {stage["name"]: stage["state"] for stage in run["stages"]}

    until(lambda: stages().get("solve") == "running", stages)
    return jobs.status(folder, workspace)


def gone(pid: int) -> None:
    """Wait until the process is no longer there."""

    def looked_up() -> bool:
        jobs.reap()
        return process_started(pid) is None

    until(looked_up, lambda: f"process {pid} is still there", 20)


def other_server(code: str, workspace: Path) -> Any:
    """The JSON that a new process prints which knows nothing but the workspace."""
    script = f"""
import json, sys
from pathlib import Path
from dashboard import jobs
from gifcore.study import read
workspace = Path(sys.argv[1])
folders = jobs.started(workspace)
{code}
"""
    answer = subprocess.run(
        [sys.executable, "-c", script, str(workspace)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


# --- one life -----------------------------------------------------------------------------------


def test_a_study_runs_to_its_record_once(workspace: Path) -> None:
    folder = begin(SMALL, workspace)
    assert jobs.status(folder, workspace)["status"] in jobs.LIVE
    wait(folder, workspace, "finished")
    assert Record.open(folder).info["selection"]["selector"] == SMALL.selection.selector
    gone(json.loads((folder / run_state.RUN).read_text())["pid"])
    begin(SMALL, workspace)
    assert jobs.status(folder, workspace)["status"] == "finished"  # nothing was started


def test_a_run_is_shared_found_again_waited_for_and_cancelled(workspace: Path) -> None:
    first = begin(long_study(), workspace)
    pid = wait(first, workspace, "running")["pid"]
    second = begin(SMALL, workspace)
    waiting = wait(second, workspace, "waiting")

    # asked twice, here and by a server that was started meanwhile: still the one process
    begin(long_study(), workspace)
    found = other_server(
        "for f in folders: jobs.start(read(f / 'study.toml'), f, workspace=workspace)\n"
        "print(json.dumps([[f.name, jobs.status(f, workspace)] for f in folders]))",
        workspace,
    )
    assert [(name, run["status"], run["pid"]) for name, run in found] == [
        (first.name, "running", pid),
        (second.name, "waiting", waiting["pid"]),
    ]
    assert waiting["pid"] != pid

    # a page opened anew, as after a refresh
    computing(first, workspace)
    page = open_page("new-study", run=first.name)
    assert "Select parameters" in said(page)
    assert page.get("progress")
    assert "Waiting for the study before it" in said(open_page("new-study", run=second.name))
    listed = open_page("studies")
    assert {f"cancel-{f.name}" for f in (first, second)} <= {b.key for b in listed.button}

    # cancelled by the other server: the process is gone, the record says so, the pages say so
    assert other_server("print(json.dumps(jobs.cancel(folders[0], workspace)))", workspace)
    gone(pid)
    assert json.loads((first / records.RECORD).read_text())["status"] == "cancelled"
    with pytest.raises(records.RecordError):
        Record.open(first)
    for page in (open_page("new-study", run=first.name), open_page("studies")):
        assert "Cancelled" in said(page)

    # and now it is the second one's turn
    wait(second, workspace, "finished")
    assert Record.open(second).info["seconds"] > 0


def test_a_cancelled_run_goes_on_from_where_it_stopped(workspace: Path) -> None:
    study = with_(long_study(60), "ranking", count=1)
    folder = begin(study, workspace)

    def kept() -> dict[str, int]:
        parts = (folder / runner.STAGES_FOLDER).rglob("*.npz")
        return {part.name: part.stat().st_mtime_ns for part in parts}

    until(lambda: "update-if.npz" in kept(), kept)
    pid = jobs.status(folder, workspace)["pid"]
    assert jobs.cancel(folder, workspace)
    wait(folder, workspace, "cancelled")
    gone(pid)
    before = kept()
    assert "update-gif.npz" not in before
    jobs.resume(folder, workspace=workspace)
    assert jobs.status(folder, workspace)["status"] in jobs.LIVE  # not the old "cancelled"
    until(lambda: "update-gif.npz" in kept(), kept)
    assert before.items() <= kept().items()  # read back, not computed again
    wait(folder, workspace, "finished")
    assert Record.open(folder).methods == list(study.methods)


def test_cancel_before_the_engine_has_loaded(workspace: Path) -> None:
    folder = begin(SMALL, workspace)
    assert jobs.status(folder, workspace)["status"] == "starting"
    assert jobs.cancel(folder, workspace)
    wait(folder, workspace, "cancelled")
    assert "Cancelled" in said(open_page("studies"))


# --- processes that end by themselves -------------------------------------------------------------


def test_a_process_that_refuses_at_once_leaves_its_sentence(
    workspace: Path, tmp_path: Path
) -> None:
    folder = workspace / "refused"
    study = with_(SMALL, "model", weights=str(tmp_path / "none.pt"))
    jobs.start(study, folder, workspace=workspace)
    assert wait(folder, workspace, "failed")["message"].startswith("There is no checkpoint")
    assert "There is no checkpoint" in said(open_page("studies"))


def test_a_killed_process_is_called_interrupted(workspace: Path) -> None:
    folder = begin(long_study(), workspace)
    pid = computing(folder, workspace)["pid"]
    os.kill(pid, signal.SIGKILL)
    gone(pid)
    sentence = wait(folder, workspace, "interrupted")["message"]
    assert sentence == "Its process ended without finishing; running it again goes on from there."
    page = open_page("studies")
    assert sentence in said(page)
    assert page.button(key=f"resume-{workspace.name}-{folder.name}")


def test_a_folder_outside_the_workspace_is_refused(tmp_path: Path, workspace: Path) -> None:
    with pytest.raises(GifError, match="not in the workspace"):
        jobs.start(SMALL, tmp_path / "else", workspace=workspace)


def test_studies_whose_names_have_dots_have_files_of_their_own(workspace: Path) -> None:
    files = {jobs.incoming(workspace / name, workspace, ".json").name for name in ("v1.2", "v1.3")}
    assert files == {"v1.2.json", "v1.3.json"}
    for name in ("..", "../v1", "a/../../v1"):
        with pytest.raises(GifError, match="not in the workspace"):
            jobs.incoming(workspace / name, workspace, ".json")


# --- asking before running ------------------------------------------------------------------------


def one_class(folder: Path) -> Study:
    digits, arrays = load("digits"), {}
    for name in ("train", "validation", "test"):
        split = digits.split(name)
        chosen = split.y == 3 if name == "train" else split.y >= 0
        arrays |= {f"x_{name}": split.x[chosen], f"y_{name}": split.y[chosen]}
    np.savez(folder / "one.npz", **arrays)
    return with_(with_weights(own_weights()), "data", source=str(folder / "one.npz"))


def own_weights() -> Path:
    found = bundled("fcn", "digits")
    assert found
    return found


def with_weights(path: Path) -> Study:
    return with_(SMALL, "model", weights=str(path))


def wrong_shape(_folder: Path) -> Study:
    found = bundled("logistic", "digits")
    assert found
    return with_weights(found)


def not_finite(folder: Path) -> Study:
    tensors = load_file(own_weights())
    name = sorted(tensors)[0]
    tensors[name].flat[0] = np.nan
    save_file(tensors, folder / "nan.safetensors")
    return with_weights(folder / "nan.safetensors")


def unknown_class(_folder: Path) -> Study:
    return with_(SMALL, "change", label=10)


BAD: dict[Callable[[Path], Study], str] = {
    unknown_class: "class 10",
    one_class: "has only class 3; at least two classes are needed",
    wrong_shape: "shape",
    not_finite: "NaN",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the engine says of every study, asked by two sessions at a time."""
    folder = tmp_path_factory.mktemp("doctor")
    workspace = folder / "runs"
    workspace.mkdir()
    studies = {"good": SMALL} | {make.__name__: make(folder) for make in BAD}
    with ThreadPoolExecutor(2) as sessions:
        found = sessions.map(
            lambda study: jobs.doctor(study, workspace=workspace), studies.values()
        )
        answers = dict(zip(studies, found, strict=True))
    assert not list((workspace / jobs.INCOMING).glob("doctor-*"))
    return answers


def test_the_check_of_a_good_study_answers_with_what_it_measured(
    answers: dict[str, dict[str, Any]],
) -> None:
    answer = answers["good"]
    assert answer["ok"]
    assert answer["accuracy"]["test"] > 0.9
    assert answer["costs"]["hvp_per_sample"] > 0


@pytest.mark.parametrize("make", BAD)
def test_the_check_of_a_bad_study_answers_with_one_sentence(
    answers: dict[str, dict[str, Any]], make: Callable[[Path], Study]
) -> None:
    answer = answers[make.__name__]
    assert not answer["ok"]
    assert BAD[make] in answer["error"]
    assert "\n" not in answer["error"].strip()


def test_the_engine_looks_for_data_where_the_dashboard_does(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It works in the workspace; ./data is still the folder beside which the server was started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GIF_DATA", raising=False)
    show = "import os; print(os.getcwd(), os.environ['GIF_DATA'])"
    monkeypatch.setattr(jobs, "_command", lambda _given: [sys.executable, "-c", f"{show}; 1 / 0"])
    monkeypatch.setattr(jobs, "_answer", lambda answer: {"said": answer.stdout.split()})
    answer = jobs.doctor(SMALL, workspace=workspace)
    assert answer == {"said": [str(workspace), str(tmp_path / "data")]}


def test_a_silent_engine_is_one_sentence(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_command", lambda _given: ["sh", "-c", "echo broken >&2"])
    with pytest.raises(GifError, match="no answer: broken"):
        jobs.doctor(SMALL, workspace=workspace)

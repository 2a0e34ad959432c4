"""Several studies at once: who waits for whom, one run for one question, what a failure leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard import jobs
from dashboard.components import progress
from gifcore import run_state
from gifcore.study import Study
from tests.dashboard.form import LONG, checked
from tests.dashboard.opened import go, open_page, said
from tests.dashboard.test_jobs import (
    SMALL,
    begin,
    computing,
    ended,
    gone,
    long_study,
    other_server,
    until,
    wait,
    with_,
)


@pytest.fixture
def workspace(empty_workspace: Path) -> Iterator[Path]:
    """An empty workspace; what still runs in it afterwards is ended."""
    yield empty_workspace
    for folder in jobs.started(empty_workspace):
        jobs.cancel(folder, empty_workspace)
        ended(folder, empty_workspace)


def called(study: Study, title: str, **solver: object) -> Study:
    return with_(study, "solver", **solver).model_copy(update={"title": title})


def test_two_wait_in_order_and_the_line_moves_up(workspace: Path) -> None:
    first = begin(long_study(), workspace)
    computing(first, workspace)
    second = begin(called(SMALL, "Second", iterations=4), workspace)
    wait(second, workspace, "waiting")
    third = begin(called(SMALL, "Third", iterations=3), workspace)
    wait(third, workspace, "waiting")

    line = jobs.queue(workspace)
    assert [(one.folder, one.place) for one in line] == [(first, 0), (second, 1), (third, 2)]
    page = open_page("studies")
    words = said(page)
    assert words.index("Long") < words.index("Second") < words.index("Third")
    assert "Next in line" in words
    assert "Number 2 in line" in words
    assert "Solve the systems" in str([bar.proto.text for bar in page.get("progress")])

    # a server that was started meanwhile, and a page of its own, see the same
    found = other_server(
        "print(json.dumps([[str(o.folder), o.place] for o in jobs.queue(workspace)]))", workspace
    )
    assert found == [[str(one.folder), one.place] for one in line]

    # the one that waits is cancelled: the next moves up, nothing of it was computed
    page.button(key=f"cancel-{second.name}").click().run()
    wait(second, workspace, "cancelled")
    gone(json.loads((second / run_state.RUN).read_text())["pid"])
    assert [(one.folder, one.place) for one in jobs.queue(workspace)] == [(first, 0), (third, 1)]
    again = open_page("studies")
    assert "Number 2 in line" not in said(again)

    # the one that computes is cancelled: the last one has its turn
    again.button(key=f"cancel-{first.name}").click().run()
    wait(third, workspace, "finished")
    assert jobs.queue(workspace) == []


def test_the_time_until_a_turn_adds_up_what_is_before(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {"title": "T", "hash": "", "message": "", "stages": [], "eta_seconds": None, "pid": 1}
    runs = {
        "b": plain | {"status": "waiting", "created": "2026-01-02"},
        "c": plain | {"status": "waiting", "created": "2026-01-03"},
        "a": plain | {"status": "running", "created": "2026-01-04", "eta_seconds": 30.0},
        "d": plain | {"status": "starting"},
        "x": plain | {"status": "finished"},
    }
    for name in runs:
        (workspace / name).mkdir()
    monkeypatch.setattr(jobs, "status", lambda folder, _: runs[folder.name])
    monkeypatch.setattr(jobs, "started", lambda _: [])
    monkeypatch.setattr(
        jobs, "_launched", lambda folder, _: {"b": {"expected": 12.0}}.get(folder.name)
    )
    line = jobs.queue(workspace)
    assert [(one.folder.name, one.place, one.begins_in) for one in line] == [
        ("a", 0, 0.0),
        ("b", 1, 30.0),
        ("c", 2, 42.0),
        ("d", 3, None),  # nobody said how long c takes
    ]
    assert progress.in_line(2, 42.0) == "Number 2 in line, begins in about 42 s."


def test_two_people_who_ask_the_same_share_one_run_whatever_they_call_it(workspace: Path) -> None:
    one = checked(LONG)
    one.button(key="run").click().run()
    name = one.query_params["run"]
    wait(workspace / name, workspace, "running")
    other = checked(LONG)
    other.text_input(key="new_title").set_value("Mine, quite another name").run()
    assert other.button(key="run").label == "On its way already: show its progress"
    other.button(key="run").click().run()
    assert other.query_params["run"] == name
    assert [run.folder.name for run in jobs.queue(workspace)] == [name]
    launched = json.loads(next((workspace / jobs.INCOMING).glob("*.json")).read_text())
    assert launched["expected"] > 100  # what the check said, for those who wait behind it


def test_a_run_that_loads_is_known_by_its_folder(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "some-0123456789"[:13]).mkdir()
    state = {"status": "starting", "hash": "", "eta_seconds": None}
    monkeypatch.setattr(jobs, "status", lambda *_: state)
    assert jobs.live_of("01234567" + "0" * 56, workspace) == workspace / "some-01234567"
    assert jobs.live_of("11234567" + "0" * 56, workspace) is None
    state["hash"] = "01234567" + "f" * 56  # it has loaded, and is another study after all
    assert jobs.live_of("01234567" + "0" * 56, workspace) is None


def test_a_failure_is_a_sentence_with_details_to_copy_and_can_be_changed(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = workspace / "refused"
    study = with_(SMALL, "model", weights=str(tmp_path / "none.pt"))
    jobs.start(study, folder, workspace=workspace)
    until(lambda: jobs.status(folder, workspace)["status"] == "failed", lambda: "not failed")
    page = open_page("studies")
    assert "There is no checkpoint" in said(page)
    (code,) = page.code
    for words in ("Status: failed", "Engine: ", "none.pt", SMALL.title):
        assert words in code.value
    assert "Traceback" not in said(page)
    page.button(key=f"change-{workspace.name}-refused").click().run()
    go(page, "new-study")
    assert page.toggle(key="new_own_weights").value
    assert page.number_input(key="new_solver_iterations").value == SMALL.solver.iterations
    monkeypatch.setenv("GIF_STUDIO_DEMO", "1")
    assert not open_page("studies").code  # nothing of the server's inside is shown to visitors

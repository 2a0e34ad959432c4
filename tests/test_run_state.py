"""run.json: whose process it is, whether it lives, whose turn it is, and who may be signalled."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gifcore import run_state
from gifcore.errors import Cancelled, GifError
from gifcore.run_state import RUN, RunState, cancel, is_alive, locked, process_started, read_state

STAGES = ["load", "solve"]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def written(folder: Path, **values: Any) -> Path:
    """A run.json of this very process, apart from `values`."""
    folder.mkdir(exist_ok=True, parents=True)
    state = {
        "status": "running",
        "title": "T",
        "hash": "h",
        "message": "",
        "created": "2026-01-01T00:00:00.000",
        "pid": os.getpid(),
        "pid_started": process_started(os.getpid()),
        "stages": [],
    }
    (folder / RUN).write_text(json.dumps(state | values))
    return folder


def test_a_living_run_is_running(tmp_path: Path) -> None:
    assert read_state(written(tmp_path))["status"] == "running"


@pytest.mark.parametrize("status", ["running", "waiting"])
def test_a_dead_process_means_interrupted(tmp_path: Path, status: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    started = process_started(process.pid)
    process.wait()
    folder = written(tmp_path, status=status, pid=process.pid, pid_started=started)
    state = read_state(folder)
    assert state["status"] == "interrupted"
    assert "running it again goes on" in state["message"]


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 10
    while process_started(process.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process_started(process.pid) is None  # ended, not yet reaped
    process.wait()


def test_a_reused_id_is_another_process(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    folder = written(tmp_path, pid=sleeper.pid, pid_started="1")
    assert not is_alive(json.loads((folder / RUN).read_text()))
    assert read_state(folder)["status"] == "interrupted"
    assert cancel(folder) is False
    assert sleeper.poll() is None  # never signalled


@pytest.mark.parametrize("status", ["finished", "failed", "cancelled"])
def test_an_ended_run_is_never_signalled(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], status: str
) -> None:
    started = process_started(sleeper.pid)
    folder = written(tmp_path, pid=sleeper.pid, pid_started=started, status=status)
    assert cancel(folder) is False
    assert sleeper.poll() is None


def test_cancel_ends_the_very_process(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    folder = written(tmp_path, pid=sleeper.pid, pid_started=process_started(sleeper.pid))
    assert cancel(folder) is True
    assert sleeper.wait(10) == -signal.SIGTERM
    assert cancel(folder) is False


def test_nothing_to_cancel(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    assert cancel(tmp_path) is False


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "3", "{}", '{"pid": 1}', '{"pid": "x", "pid_started": "1"}',
     '{"status": "running", "title": "t", "hash": "h", "pid": null, "pid_started": null}'],
)  # fmt: skip
def test_a_damaged_file_counts_as_interrupted(tmp_path: Path, content: str) -> None:
    (tmp_path / RUN).write_text(content)
    state = read_state(tmp_path)
    assert state["status"] == "interrupted"
    assert state["message"]
    assert cancel(tmp_path) is False


def test_binary_garbage_counts_as_interrupted(tmp_path: Path) -> None:
    (tmp_path / RUN).write_bytes(b"\xff\x00\xfe")
    assert read_state(tmp_path)["status"] == "interrupted"


# --- the writing side ----------------------------------------------------------------------------


def test_ticks_are_seen_by_readers_and_listeners(tmp_path: Path) -> None:
    heard: list[str] = []
    state = RunState(tmp_path, "T", "h", STAGES, lambda values: heard.append(values["status"]))
    state.expect({"load": 2.0, "solve": 10.0})
    state.values["status"] = "running"
    state.tick("load", 0, 4, "data")
    state.write()
    seen = read_state(tmp_path)
    assert (seen["status"], seen["stages"][0]["state"]) == ("running", "running")
    assert seen["eta_seconds"] == pytest.approx(12.0)
    state.tick("load", 2, 4, "half")
    assert state.values["eta_seconds"] < 12
    state.finish("load")
    state.end("finished")
    seen = read_state(tmp_path)
    assert (seen["status"], seen["stages"][0]["done"]) == ("finished", 4)
    assert heard[-1] == "finished"
    assert [path.name for path in tmp_path.iterdir()] == [RUN]  # no temporary file is left


def test_stages_that_take_turns_share_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Solve and rank alternate: their seconds add up to the clock, and so does the time left."""
    clock = [100.0]
    monkeypatch.setattr(run_state.time, "monotonic", lambda: clock[0])
    state = RunState(tmp_path, "T", "h", ["solve", "rank"], None)
    state.tick("solve", 0, 4, "")
    for done in (1, 2):
        for name, seconds in (("solve", 3.0), ("rank", 1.0)):
            clock[0] += seconds
            state.tick(name, done, 4, "")
    assert [s["seconds"] for s in state.values["stages"]] == [6.0, 2.0]
    assert state.values["eta_seconds"] == pytest.approx(8.0)
    clock[0] += 8.0
    state.finish("solve")
    state.finish("rank")
    assert sum(s["seconds"] for s in state.values["stages"]) == pytest.approx(clock[0] - 100)


def test_a_cancel_is_raised_at_the_next_tick(tmp_path: Path) -> None:
    state = RunState(tmp_path, "T", "h", STAGES, None)
    state.tick("load", 0, 1, "")
    state.cancelled.set()
    with pytest.raises(Cancelled, match="finished stages are kept"):
        state.tick("load", 1, 1, "")


def test_a_folder_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    state = RunState(tmp_path / "gone", "T", "h", STAGES, None)
    with pytest.raises(GifError, match=r"Cannot write run\.json to .*gone: No such file"):
        state.write()


def test_a_lock_is_for_one_and_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with locked(path, "busy"), pytest.raises(GifError, match="busy"), locked(path, "busy"):
        pass
    with locked(path, "busy"):
        pass


def test_turns_go_first_come_first_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two wait for a third; the older one goes first, although the younger asks as often."""
    monkeypatch.setattr(run_state, "WRITE_EVERY", 0.01)
    order: list[str] = []
    states = {}
    for name, created in (("third", "1"), ("younger", "3"), ("older", "2")):
        (tmp_path / name).mkdir()
        states[name] = RunState(tmp_path / name, name, "h", STAGES, None)
        states[name].values["created"] = created

    def take(name: str) -> None:
        with run_state.turn(tmp_path, states[name]):
            states[name].values["status"] = "running"
            states[name].write()
            order.append(name)
            while not all((tmp_path / other / run_state.RUN).exists() for other in states):
                time.sleep(0.005)  # the first keeps its turn until the others wait
        states[name].end("finished")

    threads = [threading.Thread(target=take, args=(name,)) for name in states]
    threads[0].start()
    while not order:
        time.sleep(0.005)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert order == ["third", "older", "younger"]


def test_waiting_says_so_and_can_be_cancelled(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    written(tmp_path / "older", status="waiting", created="1")
    state = RunState(tmp_path / "mine", "T", "h", STAGES, None)
    threading.Timer(0.2, state.cancelled.set).start()
    with pytest.raises(Cancelled), run_state.turn(tmp_path, state):
        pass
    assert read_state(tmp_path / "mine")["message"] == "Waiting for the study before it."


def test_a_dead_run_that_waited_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    written(tmp_path / "dead", status="waiting", created="1", pid_started="1")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / RUN).write_text("{")
    state = RunState(tmp_path / "mine", "T", "h", STAGES, None)
    with run_state.turn(tmp_path, state):
        pass

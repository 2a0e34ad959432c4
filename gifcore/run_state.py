"""run.json: what a running study tells the outside, which process it is, and whose turn it is.

The process id is kept with the process's start time, so that a reused id is never signalled.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gifcore.errors import Cancelled, GifError

RUN = "run.json"
LIVE = ("waiting", "running")


def process_started(pid: int) -> str | None:
    """Return the start time of a live process as the system words it, None if it is gone."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    answer = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None


def is_alive(state: dict[str, Any]) -> bool:
    """Is the very process that wrote this state still there?"""
    started = state["pid_started"]
    return started is not None and process_started(state["pid"]) == started


def read_state(folder: Path) -> dict[str, Any] | None:
    """Return run.json with the truth about its process: a dead "running" is "interrupted".

    Returns None where there is none; a damaged one counts as interrupted.
    """
    try:
        state = json.loads((folder / RUN).read_text(encoding="utf-8"))
        alive = is_alive(state)
        state["status"], state["title"], state["hash"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        state = {"status": "interrupted", "title": folder.name, "hash": "", "stages": []}
        alive = False
    if state["status"] in LIVE and not alive:
        state["status"] = "interrupted"
    state["message"] = state.get("message") or _SENTENCES.get(state["status"], "")
    return state


_SENTENCES = {
    "waiting": "Waiting for the study before it.",
    "running": "Running.",
    "cancelled": "Cancelled; finished stages are kept, running it again goes on from there.",
    "failed": "Failed.",
    "interrupted": "Its process ended without finishing; running it again goes on from there.",
}


def cancel(folder: Path) -> bool:
    """Send SIGTERM to the process of this run; False if it is no longer there."""
    state = read_state(folder)
    if state is None or state["status"] not in LIVE:
        return False
    try:
        os.kill(state["pid"], signal.SIGTERM)
    except ProcessLookupError:
        return False
    return True


# --- the writing side: the process that runs the study -------------------------------------------

WRITE_EVERY = 0.3  # seconds between two writes of run.json
Listener = Callable[[dict[str, Any]], None]


class RunState:
    """The state of this process's run: written to run.json, checked for a cancel at every tick."""

    def __init__(
        self, folder: Path, title: str, study_hash: str, stages: list[str], listen: Listener | None
    ) -> None:
        self.folder, self.listen = folder, listen
        self.cancelled = threading.Event()
        self._written = 0.0
        self._spent: dict[str, float] = {}
        self._reported: float | None = None  # when any stage last said something
        self.values: dict[str, Any] = {
            "status": "waiting",
            "title": title,
            "hash": study_hash,
            "message": "",
            "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "pid": os.getpid(),
            "pid_started": process_started(os.getpid()),
            "eta_seconds": None,
            "stages": [
                {
                    "name": name,
                    "done": 0,
                    "total": 0,
                    "note": "",
                    "seconds": 0.0,
                    "state": "todo",
                    "expected": 0.0,
                }
                for name in stages
            ],
        }

    def stage(self, name: str) -> dict[str, Any]:
        return next(stage for stage in self.values["stages"] if stage["name"] == name)

    def expect(self, seconds: dict[str, float]) -> None:
        """Say how long each stage is thought to take; the time left is made from it."""
        for stage in self.values["stages"]:
            stage["expected"] = seconds.get(stage["name"], 0.0)

    def tick(self, name: str, done: float, total: float, note: str) -> None:
        """Report one stage's progress.

        Raises:
            Cancelled: the run was asked to stop.
        """
        self._spend(name)
        self.stage(name).update(
            done=round(done, 3), total=round(total, 3), note=note, state="running"
        )
        self.values["eta_seconds"] = self._time_left()
        self.check()
        if time.monotonic() - self._written > WRITE_EVERY:
            self.write()

    def finish(self, name: str, state: str = "done") -> None:
        self._spend(name)
        stage = self.stage(name)
        stage |= {"state": state, "done": stage["total"], "note": ""}
        self.write()

    def _spend(self, name: str) -> None:
        """Count the time since the last report to this stage: solve and rank take turns."""
        now = time.monotonic()
        since = 0.0 if self._reported is None else now - self._reported
        self._spent[name] = self._spent.get(name, 0.0) + since
        self._reported = now
        self.stage(name)["seconds"] = round(self._spent[name], 2)

    def check(self) -> None:
        """Raise Cancelled if the run was asked to stop."""
        if self.cancelled.is_set():
            raise Cancelled("The study was cancelled; its finished stages are kept.")

    def end(self, status: str, message: str = "") -> None:
        self.values |= {"status": status, "message": message, "eta_seconds": None}
        self.write()

    def write(self) -> None:
        self._written = time.monotonic()
        content = json.dumps(self.values).encode()
        temporary = self.folder / f".{RUN}.tmp"
        try:
            temporary.write_bytes(content)
            temporary.replace(self.folder / RUN)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise GifError(f"Cannot write {RUN} to {self.folder}: {error.strerror}.") from None
        if self.listen:
            self.listen(self.values)

    def _time_left(self) -> float:
        left = 0.0
        for stage in self.values["stages"]:
            if stage["state"] == "todo":
                left += stage["expected"]
            elif stage["state"] == "running" and stage["total"]:
                share = stage["done"] / stage["total"]
                measured = stage["seconds"] * (1 - share) / share if share > 0.1 else None
                expected = stage["expected"] * (1 - share)
                left += expected if measured is None else measured
        return round(left, 1)


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file for as long as the block runs; it is freed when the process dies.

    Raises:
        GifError: with the sentence `busy`, if another process holds it.
    """
    with _opened(path) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise GifError(busy) from None
        yield


@contextmanager
def turn(workspace: Path, state: RunState) -> Iterator[None]:
    """Wait until no other study of the workspace runs; first come, first served."""
    with _opened(workspace / ".queue.lock") as handle:
        while not _first(workspace, state) or not _try(handle):
            state.values["message"] = "Waiting for the study before it."
            state.write()
            state.check()
            time.sleep(WRITE_EVERY)
        state.values["message"] = ""
        yield


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    except OSError as error:
        raise GifError(f"Cannot write to {path.parent}: {error.strerror}.") from None
    try:
        yield handle
    finally:
        os.close(handle)


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _first(workspace: Path, state: RunState) -> bool:
    """Is no other live, waiting study of the workspace older than this one?"""
    mine = (state.values["created"], state.values["pid"])
    folders = [*workspace.glob("*/"), *workspace.glob(".additions/*/*/")]
    others = [read_state(folder) for folder in folders if folder != state.folder]
    return not any(
        other["status"] == "waiting" and (other["created"], other["pid"]) < mine
        for other in others
        if other is not None
    )

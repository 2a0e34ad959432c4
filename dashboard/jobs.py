"""Studies as separate processes: start, find again, cancel; all truth is in the folders.

    WORKSPACE/<slug>-<hash8>/          the run: run.json while it goes on, record.json at the end
    WORKSPACE/.incoming/<name>.toml    what was asked
    WORKSPACE/.incoming/<name>.log     what the process printed
    WORKSPACE/.incoming/<name>.json    which process was started for it

No Streamlit here: a page refresh or a server restart finds every run again from these files.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gifcore import record as records
from gifcore import run_state
from gifcore.data.places import data_folder
from gifcore.errors import GifError
from gifcore.models import plugins
from gifcore.record import Record
from gifcore.study import Study, dumps, for_query, read, study_hash
from gifcore.version import ENGINE_VERSION

INCOMING = ".incoming"
KEPT = (".toml", ".log", ".json")  # there, of every run that was started from here
LIVE = ("starting", *run_state.LIVE)
STOPPED = ("cancelled", "failed", "interrupted")
DOCTOR_SECONDS = 180
ENDED_WELL = ("Record: ", "Already computed: ")  # what the engine prints last
LOG_SHOWN = 10_000  # characters of what a process printed, from its end

lock = threading.Lock()  # two sessions that ask at once start one process
_children: list[subprocess.Popen[bytes]] = []  # to be reaped, so that a dead one is really gone


def slug(title: str) -> str:
    """Return a folder name made of a title.

    >>> slug("Forget class 8 (Bag)!")
    'forget-class-8-bag'
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-") or "study"


def folder_for(study: Study, data_hash: str, weights_hash: str, workspace: Path) -> Path:
    """Return where this study runs: equal studies have equal folders."""
    return workspace / f"{slug(study.title)}-{study_hash(study, data_hash, weights_hash)[:8]}"


# --- starting -----------------------------------------------------------------------------------


def start(
    study: Study,
    folder: Path,
    *,
    workspace: Path,
    reuse: Path | None = None,
    expected: float | None = None,
) -> Path:
    """Start a study in its folder, unless it runs there already or is finished.

    Args:
        reuse: a record of the same family, whose classic influence is taken over.
        expected: how long it will take [s]; tells those who wait behind it.

    Raises:
        GifError: the workspace cannot be written.
    """
    with lock:
        if status(folder, workspace)["status"] in (*LIVE, "finished"):
            return folder
        records.write_atomically(incoming(folder, workspace, ".toml"), dumps(study).encode())
        _launch(study.title, folder, workspace, reuse, expected)
    return folder


def start_query(record: Record, query: int, *, workspace: Path) -> Path:
    """Start the ranking of one more test image with the settings of a record."""
    study = for_query(read(record.path / records.STUDY), query)
    folder = records.addition_folder(workspace, record.hash, query)
    return start(study, folder, workspace=workspace)


def resume(folder: Path, *, workspace: Path) -> Path:
    """Start a study again that was cancelled, interrupted or failed; finished stages are kept."""
    study = read(asked(folder, workspace))
    launched = _launched(folder, workspace) or {}
    return start(study, folder, workspace=workspace, expected=launched.get("expected"))


def asked(folder: Path, workspace: Path) -> Path:
    """Return the study file of a run: what was asked for from here, else that of its folder."""
    here = incoming(folder, workspace, ".toml")
    return here if here.is_file() else folder / records.STUDY


def _launch(
    title: str, folder: Path, workspace: Path, reuse: Path | None, expected: float | None
) -> None:
    arguments = ["run", str(incoming(folder, workspace, ".toml")), "--out", str(folder)]
    arguments += ["--workspace", str(workspace)]
    arguments += ["--reuse", str(reuse)] if reuse else []
    launched = spawn(arguments, workspace, incoming(folder, workspace, ".log"))
    launched |= {"folder": str(folder.relative_to(workspace)), "title": title}
    launched |= {"expected": expected}
    records.write_json(incoming(folder, workspace, ".json"), launched)


def spawn(
    arguments: Sequence[str], workspace: Path, log: Path, errors: Path | None = None
) -> dict[str, Any]:
    """Start the engine in a process group of its own; return its "pid" and "pid_started".

    What it says goes to `log`; what it says of errors too, or to a file of their own.
    """
    with log.open("wb") as said, (errors or log).open("ab") as wrong:
        child = subprocess.Popen(  # noqa: S603 - our own command line, no shell
            _command(arguments),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=wrong if errors else subprocess.STDOUT,
            cwd=workspace,
            env=_environment(),
            start_new_session=True,
        )
    _children.append(child)
    return {"pid": child.pid, "pid_started": run_state.process_started(child.pid)}


def _command(arguments: Sequence[str]) -> list[str]:
    nice = shutil.which("nice")
    priority = [nice, "-n", "5"] if nice else []  # pages stay quick while a study computes
    return [*priority, sys.executable, "-m", "gifcore", *arguments]


def _environment() -> dict[str, str]:
    """The environment of this process, with this dashboard's engine and its data folder.

    The engine works in the workspace, where ./data would be another folder.
    """
    ours = str(Path(records.__file__).resolve().parents[1])
    paths = [ours, os.environ.get("PYTHONPATH", "")]
    paths += [str(Path.cwd())] if plugins.allowed() else []  # where whoever named them stood
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "GIF_DATA": str(data_folder().resolve()),
    }


def incoming(folder: Path, workspace: Path, suffix: str) -> Path:
    """Return the file about a run of a kind of `KEPT`; a link has files of its own.

    Raises:
        GifError: the run is not of this workspace.
    """
    named = folder.parent.resolve() / folder.name
    if ".." in named.parts or not named.is_relative_to(workspace.resolve()):
        raise GifError(f"{folder} is not in the workspace {workspace}.")
    parts = named.relative_to(workspace.resolve()).parts
    return workspace / INCOMING / ("-".join(part.lstrip(".") for part in parts) + suffix)


# --- looking ------------------------------------------------------------------------------------


def status(folder: Path, workspace: Path) -> dict[str, Any]:
    """Return the state of a folder's run: the keys of run.json, status also "none" or "starting".

    A process that died before it wrote run.json is "failed", with the last line it printed.
    """
    reap()
    state = run_state.read_state(folder)
    launched = _launched(folder, workspace)
    if state is not None and state["status"] in run_state.LIVE:
        return state
    if launched and run_state.is_alive(launched) and not _is_of(state, launched):
        return _plain(launched["title"], "starting", "The engine is loading.")
    if launched and not _is_of(state, launched) and not _has_result(folder):
        return _died(folder, workspace, launched)
    if _has_result(folder):
        return _plain(folder.name, "finished", "Finished.")
    return state or _plain(folder.name, "none", "")


def started(workspace: Path) -> list[Path]:
    """Return the folders of all runs started from here, oldest first, additions included."""
    found = []
    for path in sorted((workspace / INCOMING).glob("*.json"), key=lambda p: p.stat().st_mtime):
        try:
            found.append(workspace / json.loads(path.read_text(encoding="utf-8"))["folder"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


@dataclass(frozen=True)
class InLine:
    """A run on its way and its place in the queue."""

    folder: Path
    run: dict[str, Any]  # as `status` has it
    place: int  # 0: it computes; 1: it is next
    begins_in: float | None  # seconds; None: what is before it cannot be told


def queue(workspace: Path) -> list[InLine]:
    """Return every run on its way, of this dashboard or a terminal, in the order of their turns."""
    places = [*started(workspace), *workspace.glob("*/"), *workspace.glob(".additions/*/*/")]
    runs = {folder: status(folder, workspace) for folder in dict.fromkeys(places)}
    live = [(folder, run) for folder, run in runs.items() if run["status"] in LIVE]
    live.sort(key=lambda one: _turn(one[1]))
    found: list[InLine] = []
    before: float | None = 0.0
    waiting = 0
    for folder, run in live:
        computes = run["status"] == "running"
        waiting += not computes
        found.append(InLine(folder, run, 0 if computes else waiting, before))
        left = run["eta_seconds"] if computes else None
        if left is None:
            left = (_launched(folder, workspace) or {}).get("expected")
        before = None if before is None or left is None else before + left
    return found


def _turn(run: dict[str, Any]) -> tuple[int, str, int]:
    """Order runs as they take turns: what computes, what waits by age, what is still loading."""
    order = ("running", "waiting", "starting")
    return (order.index(run["status"]), run.get("created", ""), run.get("pid", 0))


def live_of(study_hash_: str, workspace: Path) -> Path | None:
    """Return the run on its way of this very study, whatever it is called; None if there is none.

    While its engine loads, only its folder's name tells.
    """
    for one in queue(workspace):
        told = one.run["hash"]
        named = one.folder.name.endswith(f"-{study_hash_[:8]}")
        if told == study_hash_ or (not told and named):
            return one.folder
    return None


def detail(folder: Path, workspace: Path) -> str:
    """Return what is known of a run that stopped, to be copied into a report of the problem."""
    run = status(folder, workspace)
    lines = [f"Study: {run['title']} ({folder.name})", f"Status: {run['status']}"]
    lines += [f"Message: {run['message']}", f"Engine: {ENGINE_VERSION}"]
    for stage in run["stages"]:
        if stage["state"] != "skipped":
            lines.append(f"Stage {stage['name']}: {stage['state']}, {stage.get('seconds', 0):g} s")
    try:
        log = incoming(folder, workspace, ".log").read_text("utf-8", "replace")
    except (OSError, GifError):
        log = ""
    return "\n".join([*lines, *(["", "Printed:", log[-LOG_SHOWN:].strip()] if log.strip() else [])])


def _has_result(folder: Path) -> bool:
    """Is there a finished record? One of a cancelled run says that it is none."""
    try:
        text = (folder / records.RECORD).read_text(encoding="utf-8")
        return bool(json.loads(text)["status"] == "finished")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_of(state: dict[str, Any] | None, launched: dict[str, Any]) -> bool:
    """Was run.json written by the process that was started last?"""
    return state is not None and state.get("pid") == launched["pid"]


def _launched(folder: Path, workspace: Path) -> dict[str, Any] | None:
    try:
        path = incoming(folder, workspace, ".json")
        launched = json.loads(path.read_text(encoding="utf-8"))
        int(launched["pid"]), launched["pid_started"], launched["title"]
        return dict(launched)
    except (OSError, ValueError, KeyError, TypeError, GifError):
        return None


def _died(folder: Path, workspace: Path, launched: dict[str, Any]) -> dict[str, Any]:
    if launched.get("cancelled"):
        return _plain(launched["title"], "cancelled", "Cancelled before it began.")
    line = last_line(incoming(folder, workspace, ".log"))
    if line.startswith(ENDED_WELL) and not folder.exists():
        return _plain(folder.name, "none", "")  # it was finished, and deleted by hand since
    message = line or "Its process ended at once and printed nothing."
    return _plain(launched["title"], "failed", message)


def _plain(title: str, name: str, message: str) -> dict[str, Any]:
    return {
        "status": name,
        "title": title,
        "hash": "",
        "message": message,
        "stages": [],
        "eta_seconds": None,
    }


def last_line(log: Path) -> str:
    """Return the last line of a log that says something, "" if there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip(" \t─│╭╮╰╯")]
    return said[-1].removeprefix("Error: ") if said else ""


def reap() -> None:
    """Collect ended children, so that their process ids do not look alive."""
    _children[:] = [child for child in _children if child.poll() is None]


# --- ending -------------------------------------------------------------------------------------


def cancel(folder: Path, workspace: Path) -> bool:
    """Ask the run's process to stop; False if it was no longer there."""
    if run_state.cancel(folder):
        return True
    launched = _launched(folder, workspace)
    if not launched or not run_state.is_alive(launched):
        return False
    path = incoming(folder, workspace, ".json")
    records.write_json(path, launched | {"cancelled": True})
    try:
        os.kill(launched["pid"], signal.SIGTERM)
    except ProcessLookupError:
        return False
    return True


# --- asking before running ----------------------------------------------------------------------


def doctor(study: Study, *, workspace: Path) -> dict[str, Any]:
    """Return what the engine says about a study before it is run (see `gif doctor --json`).

    Raises:
        GifError: the engine did not answer.
    """
    path = workspace / INCOMING / f"doctor-{os.getpid()}-{threading.get_ident()}.toml"
    records.write_atomically(path, dumps(study).encode())
    try:
        answer = subprocess.run(  # noqa: S603 - our own command line, no shell
            _command(["doctor", str(path), "--json"]),
            capture_output=True,
            text=True,
            timeout=DOCTOR_SECONDS,
            cwd=workspace,
            env=_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise GifError(f"The check took more than {DOCTOR_SECONDS} s and was stopped.") from None
    finally:
        path.unlink(missing_ok=True)
    return _answer(answer)


def _answer(answer: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    for line in reversed(answer.stdout.splitlines()):
        if line.startswith("{"):
            try:
                return dict(json.loads(line))
            except ValueError:
                break
    said = [line for line in answer.stderr.splitlines() if line.strip()]
    raise GifError(f"The check gave no answer: {said[-1].strip() if said else 'no output'}")

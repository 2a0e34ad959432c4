"""What the engine understands of a model and data of one's own: asked as a process, kept in files.

    WORKSPACE/.incoming/own/<key>.json   which process, and what was asked
    WORKSPACE/.incoming/own/<key>.out    its progress and, last, its answer: a line of JSON each
    WORKSPACE/.incoming/own/<key>.err    what went wrong unexpectedly

The key follows from the question and the files, so that two visitors who ask the same share one
process, and a refreshed page finds it again. No Streamlit here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboard import jobs, settings
from gifcore import record as records
from gifcore import run_state
from gifcore.errors import GifError

FOLDER = "own"
KEY = re.compile(r"[0-9a-f]{16}")
MAX_LIVE = 2  # questions answered at a time, of all visitors
KEPT_DAYS = 30  # an answer that nobody looked at for so long is forgotten

_lock = threading.Lock()


@dataclass(frozen=True)
class Check:
    """How far a question has come."""

    live: bool
    share: float  # done, 0 to 1
    note: str
    answer: dict[str, Any] | None  # see `gifcore.understood`; "ok" False: it does not fit
    asked: dict[str, Any]  # what the page asked for


def key_of(arguments: Sequence[str], files: Sequence[Path]) -> str:
    """Return the name of a question about files as they are now."""
    stamps = [(str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files if f.is_file()]
    return hashlib.sha256(json.dumps([list(arguments), stamps]).encode()).hexdigest()[:16]


def ask(
    arguments: Sequence[str], files: Sequence[Path], asked: dict[str, Any], *, workspace: Path
) -> str:
    """Ask unless it is asked or answered already; return the question's key.

    Raises:
        GifError: MAX_LIVE other questions are being answered, or this server only shows the demo.
    """
    if settings.demo_only():
        raise GifError("This server only shows the demo: it computes nothing.")
    if any(not argument.startswith("--") or "=" not in argument for argument in arguments):
        raise GifError("A question to the engine has an argument that is not --name=value.")
    key = key_of(arguments, files)
    with _lock:
        found = look(key, workspace)
        if found is not None and (found.live or (found.answer or {}).get("ok")):
            return key
        _forget_old(workspace)
        if _live(workspace) >= MAX_LIVE:
            raise GifError(
                f"{MAX_LIVE} files are being looked at on this server already; try again when one "
                "is done."
            )
        base = _base(key, workspace)
        base.parent.mkdir(parents=True, exist_ok=True)
        base.with_suffix(".err").unlink(missing_ok=True)
        command = ["own", *arguments, "--workspace", str(workspace), "--json"]
        out, err = base.with_suffix(".out"), base.with_suffix(".err")
        launched = jobs.spawn(command, workspace, out, err)
        records.write_json(base.with_suffix(".json"), launched | {"asked": asked})
    return key


def look(key: str, workspace: Path) -> Check | None:
    """Return how far a question has come, None if there is none or its files are gone."""
    if not KEY.fullmatch(key):
        return None
    jobs.reap()
    base = _base(key, workspace)
    try:
        launched = json.loads(base.with_suffix(".json").read_text(encoding="utf-8"))
        asked = dict(launched["asked"])
        alive = run_state.is_alive(launched)  # first: what it says at its end is then there
        lines = base.with_suffix(".out").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with suppress(OSError):
        os.utime(base.with_suffix(".json"))  # it is in use
    said = [one for line in lines if (one := _parsed(line)) is not None]
    if said and "ok" in said[-1]:
        if _gone(said[-1]):
            return None
        return Check(False, 1.0, "", said[-1], asked)
    if alive:
        starting: dict[str, Any] = {"progress": 0.0, "note": "the engine is starting"}
        last = said[-1] if said else starting
        return Check(True, float(last["progress"]), str(last["note"]), None, asked)
    if launched.get("cancelled"):
        return Check(False, 0.0, "", None, asked)
    line = jobs.last_line(base.with_suffix(".err")) or "Its process ended and printed nothing."
    return Check(False, 0.0, "", {"ok": False, "step": "data", "error": line}, asked)


def cancel(key: str, workspace: Path) -> None:
    """End the process of a question, if it still runs."""
    found = look(key, workspace)
    if found is None or not found.live:
        return
    path = _base(key, workspace).with_suffix(".json")
    launched = json.loads(path.read_text(encoding="utf-8"))
    records.write_json(path, launched | {"cancelled": True})
    try:
        os.kill(launched["pid"], signal.SIGTERM)
    except ProcessLookupError:
        return


def _live(workspace: Path) -> int:
    """Count the questions that are being answered; what those that ended said is not read."""
    found = (look(path.stem, workspace) for path in _questions(workspace) if _alive(path))
    return sum(check is not None and check.live for check in found)


def _forget_old(workspace: Path) -> None:
    """Remove what nobody looked at for KEPT_DAYS; it can be asked again, of the same files."""
    oldest = time.time() - KEPT_DAYS * 24 * 3600
    for path in _questions(workspace):
        with suppress(OSError):  # another server may do the same
            if path.stat().st_mtime < oldest and not _alive(path):
                for suffix in (".out", ".err", ".json"):
                    path.with_suffix(suffix).unlink(missing_ok=True)


def _questions(workspace: Path) -> list[Path]:
    return list((workspace / jobs.INCOMING / FOLDER).glob("*.json"))


def _alive(path: Path) -> bool:
    try:
        return run_state.is_alive(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _gone(answer: dict[str, Any]) -> bool:
    """Was a file deleted that the answer is about?"""
    named = [answer.get("data", {}).get("source"), answer.get("model", {}).get("weights")]
    return any(name and Path(name).is_absolute() and not Path(name).is_file() for name in named)


def _base(key: str, workspace: Path) -> Path:
    return workspace / jobs.INCOMING / FOLDER / key


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None  # a line that is being written
    return found if isinstance(found, dict) else None

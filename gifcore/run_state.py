"""run.json: what a running study tells the outside, and which process it is.

The process id is kept with the process's start time, so that a reused id is never signalled.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

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
    return state["pid_started"] is not None and process_started(state["pid"]) == state["pid_started"]


def read_state(folder: Path) -> dict[str, Any] | None:
    """Return run.json with the truth about its process: a dead "running" is "interrupted".

    Returns None where there is none; a damaged one counts as interrupted.
    """
    try:
        state = json.loads((folder / RUN).read_text(encoding="utf-8"))
        alive = is_alive(state)
        state["status"], state["title"], state["hash"]
    except FileNotFoundError:
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

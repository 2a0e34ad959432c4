"""A workspace: a folder of records, of runs on their way, and of what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gifcore.record.files import DEFERRED, RECORD, STUDY, RecordError
from gifcore.record.reading import Record, read_info
from gifcore.run_state import RUN, read_state


@dataclass(frozen=True)
class Listed:
    """One folder of a workspace: a record, a run on its way, or what is wrong with it."""

    path: Path
    status: str  # finished, waiting, running, cancelled, failed, interrupted, damaged
    title: str
    hash: str
    message: str  # one sentence where the status is not finished
    info: dict[str, Any]  # record.json if finished, else run.json, else {}


def list_workspace(workspace: Path) -> list[Listed]:
    """Return every study folder of a workspace, newest first; a damaged one says so."""
    if not workspace.is_dir():
        return []
    entries = [_listed(folder) for folder in _study_folders(workspace)]
    return sorted(entries, key=lambda e: str(e.info.get("created", "")), reverse=True)


def _study_folders(workspace: Path) -> Iterator[Path]:
    for folder in sorted(workspace.iterdir()):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        if any((folder / name).exists() for name in (RECORD, RUN, STUDY)):
            yield folder


def _listed(folder: Path) -> Listed:
    state = read_state(folder)
    if state is not None and state["status"] != "finished":
        return Listed(
            folder, state["status"], state["title"], state["hash"], state["message"], state
        )
    try:
        info = read_info(folder)
        for name, entry in info["files"].items():
            if name not in DEFERRED and (folder / name).stat().st_size != entry["bytes"]:
                raise RecordError(f"{folder.name}: damaged, {name} was cut short.")
    except RecordError as error:
        return Listed(folder, "damaged", folder.name, "", str(error), {})
    except OSError as error:
        return Listed(folder, "damaged", folder.name, "", f"{folder.name}: damaged, {error}.", {})
    return Listed(folder, info["status"], info["title"], info["hash"], "", info)


def addition_folder(workspace: Path, record_hash: str, query: int) -> Path:
    """Where a later ranked test image of a record lives: a record of its own, kept out of lists."""
    return workspace / ".additions" / record_hash[:16] / f"test-{query}"


def additions(workspace: Path, record: Record) -> dict[int, Record]:
    """Return the finished later rankings of a record, by test image; damaged ones are left out."""
    found = {}
    folder = workspace / ".additions" / record.hash[:16]
    for path in sorted(folder.glob("test-*")):
        try:
            found[int(path.name.removeprefix("test-"))] = Record.open(path)
        except (RecordError, ValueError):
            continue
    return found

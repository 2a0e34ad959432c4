"""A workspace: a folder of records, of runs on their way, and of what went wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gifcore.errors import GifError
from gifcore.record.files import DEFERRED, RECORD, STUDY, RecordError
from gifcore.record.reading import Record, read_info
from gifcore.run_state import LIVE, RUN, read_state


@dataclass(frozen=True)
class Listed:
    """One folder of a workspace: a record, a run on its way, or what is wrong with it."""

    path: Path
    status: str  # finished, waiting, running, cancelled, failed, interrupted, damaged
    title: str
    hash: str
    message: str  # one sentence where the status is not finished
    info: dict[str, Any]  # record.json if finished, else run.json, else {}


def list_workspace(workspace: Path, look: Callable[[Path], Listed] | None = None) -> list[Listed]:
    """Return every study folder of a workspace, newest first; a damaged one says so.

    `look`: what says it of one folder, by default `look_at`.
    """
    if not workspace.is_dir():
        return []
    entries = [(look or look_at)(folder) for folder in _study_folders(workspace)]
    return sorted(entries, key=lambda e: str(e.info.get("created", "")), reverse=True)


def _study_folders(workspace: Path) -> Iterator[Path]:
    for folder in sorted(workspace.iterdir()):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        if any((folder / name).exists() for name in (RECORD, RUN, STUDY)):
            yield folder


def look_at(folder: Path) -> Listed:
    """Return what there is in one folder."""
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


# --- deleting, and taking it back ----------------------------------------------------------------

TRASH = ".trash"  # of a workspace; what lies there can be taken back


def discard(workspace: Path, folder: Path) -> Path:
    """Move a study into the workspace's trash and return where it lies now.

    Raises:
        GifError: it is not of this workspace, is running, or another record shares its rows.
    """
    if folder.parent.resolve() != workspace.resolve() or not (
        folder.exists() or folder.is_symlink()
    ):
        raise GifError(f"{folder.name} is no study of this workspace.")
    state = read_state(folder)
    if state is not None and state["status"] in LIVE and not folder.is_symlink():
        raise GifError(f"{folder.name} is on its way: cancel it first.")
    users = [] if folder.is_symlink() else _users(workspace, folder)
    if users:
        raise GifError(f"{folder.name} is needed by {', '.join(users)}: delete those first.")
    trash = workspace / TRASH
    number = 0
    while (place := trash / f"{number}-{folder.name}").exists() or place.is_symlink():
        number += 1
    try:
        trash.mkdir(exist_ok=True)
        folder.rename(place)
    except OSError as error:
        raise GifError(f"Cannot delete {folder.name}: {error.strerror}.") from None
    return place


def restore(workspace: Path, place: Path) -> Path:
    """Take a study back from the trash and return its folder.

    Raises:
        GifError: it is no longer there, or its place is taken.
    """
    folder = workspace / place.name.partition("-")[2]
    if folder.exists() or folder.is_symlink():
        raise GifError(f"{folder.name} is there again: rename or delete that one first.")
    try:
        place.rename(folder)
    except OSError as error:
        raise GifError(f"Cannot take {folder.name} back: {error.strerror}.") from None
    return folder


def empty_trash(workspace: Path, keep: Path | None = None) -> None:
    """Remove for good what was deleted from a workspace, but for one place of the trash."""
    for place in (workspace / TRASH).glob("*"):
        if place == keep:
            continue
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=True)
        else:
            with suppress(OSError):
                place.unlink()


def _users(workspace: Path, folder: Path) -> list[str]:
    """Return the records that hold rows of this one, or are a link to it."""
    found = []
    for other in sorted(workspace.iterdir()):
        if other == folder or other.name.startswith("."):
            continue
        if other.is_symlink():
            shared = other.resolve() == folder.resolve()
        else:
            entry = look_at(other) if (other / RECORD).exists() else None
            methods = entry.info.get("methods", {}) if entry else {}
            shared = isinstance(methods, dict) and any(
                one.get("folder") == f"../{folder.name}" for one in methods.values()
            )
        if shared:
            found.append(other.name)
    return found

"""Deleting a study and taking it back: its folder, what was asked for it, and what it printed.

    WORKSPACE/.trash/<place>                 the folder
    WORKSPACE/.trash/.incoming/<place>.*     its files of WORKSPACE/.incoming

No Streamlit here.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from dashboard import jobs
from gifcore import record as records
from gifcore.errors import GifError


def discard(folder: Path, workspace: Path) -> Path:
    """Move a study into the trash, which holds nothing else then; return where it lies now.

    Raises:
        GifError: it is on its way, or cannot be deleted; the trash is then as it was.
    """
    with jobs.lock:  # nobody goes on with it meanwhile
        _refuse_live(folder, workspace)
        if folder.parent == workspace and folder in jobs.started(workspace):
            with suppress(OSError):
                folder.mkdir(exist_ok=True)  # its process ended before it made one
        place = records.discard(workspace, folder)
        records.empty_trash(workspace, keep=place)
        for suffix in jobs.KEPT:
            _move(jobs.incoming(folder, workspace, suffix), _beside(place, suffix))
    return place


def restore(place: Path, workspace: Path) -> None:
    """Take a study back from the trash.

    Raises:
        GifError: it is no longer there, or its place is taken.
    """
    folder = workspace / place.name.partition("-")[2]
    with jobs.lock:
        _refuse_live(folder, workspace)
        records.restore(workspace, place)
        for suffix in jobs.KEPT:
            _move(_beside(place, suffix), jobs.incoming(folder, workspace, suffix))
        with suppress(OSError):
            folder.rmdir()  # if it was made to be deleted


def _refuse_live(folder: Path, workspace: Path) -> None:
    """Refuse what runs or is loading; to a link nothing happens that its target would notice."""
    if not folder.is_symlink() and jobs.status(folder, workspace)["status"] in jobs.LIVE:
        raise GifError(f"{folder.name} is on its way: cancel it first.")


def _beside(place: Path, suffix: str) -> Path:
    return place.parent / jobs.INCOMING / (place.name + suffix)


def _move(source: Path, target: Path) -> None:
    with suppress(OSError):  # there may be none
        target.parent.mkdir(exist_ok=True)
        source.replace(target)

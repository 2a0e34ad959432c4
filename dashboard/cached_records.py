"""The records of the server, each opened and verified once, and the test images they rank."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import settings
from gifcore import record as records
from gifcore.record import Listed, Record
from gifcore.run_state import read_state

Stamp = tuple[int, int]  # time of change [ns] and size of a file, (0, 0) if it is not there


def stamp_of(folder: Path) -> Stamp:
    """Return what changes when the record of a folder does."""
    return file_stamp(folder / records.RECORD)


def file_stamp(path: Path) -> Stamp:
    """Return what changes when a file does."""
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return (stat.st_mtime_ns, stat.st_size)


def open_record(path: str | Path) -> Record:
    """Return the verified record; a record.json that changed is read and verified again.

    Raises:
        RecordError: what is wrong with the folder, in one sentence.
    """
    path = Path(path).resolve()
    return opened(str(path), stamp_of(path))


@st.cache_resource(max_entries=64, show_spinner=False)
def opened(path: str, stamp: Stamp) -> Record:  # noqa: ARG001 - the stamp is part of the key
    """Return the record of a resolved path, whose stamp is known: read and verified once."""
    return Record.open(path)


def bundled() -> list[Listed]:
    """Return the records of the demo; they do not change while the server runs."""
    folder = settings.demo_folder()
    return _listing(str(folder), folder.stat().st_mtime_ns) if folder.is_dir() else []


@st.cache_resource(max_entries=2, show_spinner=False)
def _listing(folder: str, stamp: int) -> list[Listed]:  # noqa: ARG001
    return records.list_workspace(Path(folder))


def listed(workspace: Path) -> list[Listed]:
    """Return every study of a workspace, newest first; what is finished is read once."""
    return records.list_workspace(workspace, _look)


def _look(folder: Path) -> Listed:
    """Look at a folder anew while a run may change it, else only if a file in it changed."""
    state = read_state(folder)
    if state is not None and state["status"] != "finished":
        return records.look_at(folder)
    try:
        files = tuple(sorted((entry.name, *_stat(entry)) for entry in os.scandir(folder)))
    except OSError:
        return records.look_at(folder)
    return _finished(str(folder), files)


def _stat(entry: os.DirEntry[str]) -> Stamp:
    stat = entry.stat()
    return stat.st_mtime_ns, stat.st_size


@st.cache_resource(max_entries=512, show_spinner=False)
def _finished(folder: str, files: tuple[tuple[str, int, int], ...]) -> Listed:  # noqa: ARG001
    return records.look_at(Path(folder))


def additions(record: Record) -> dict[int, Record]:
    """Return the test images of a record that were ranked later, each as its own record."""
    folder = records.addition_folder(settings.workspace(), record.hash, 0).parent
    stamps = tuple((path.name, *stamp_of(path)) for path in sorted(folder.glob("test-*")))
    return _additions(str(settings.workspace()), str(record.path), stamps, record)


@st.cache_resource(max_entries=64, show_spinner=False)
def _additions(
    workspace: str,
    path: str,  # noqa: ARG001 - part of the key
    stamps: tuple[Any, ...],  # noqa: ARG001
    _record: Record,
) -> dict[int, Record]:
    return records.additions(Path(workspace), _record)


def queries(record: Record) -> list[dict[str, Any]]:
    """Return every ranked test image: index, label, predicted, p_label, loss.

    Also `added` (ranked later) and `certificates`, {method: how far its ranking can be trusted}.
    The entries are shared, not to be changed.
    """
    later = additions(record)
    stamps = tuple((index, *stamp_of(addition.path)) for index, addition in sorted(later.items()))
    return list(_queries(str(record.path), stamp_of(record.path), stamps, record, later))


@st.cache_resource(max_entries=64, show_spinner=False)
def _queries(
    path: str,  # noqa: ARG001 - part of the key, as the stamps are
    stamp: Stamp,  # noqa: ARG001
    stamps: tuple[tuple[int, int, int], ...],  # noqa: ARG001
    _record: Record,
    _later: dict[int, Record],
) -> list[dict[str, Any]]:
    own = [_with_certificates(query, _record, added=False) for query in _record.queries]
    known = {query["index"] for query in own}
    return own + [
        _with_certificates(query, addition, added=True)
        for index, addition in sorted(_later.items())
        for query in addition.queries
        if index not in known and query["index"] == index
    ]


def _with_certificates(query: dict[str, Any], record: Record, *, added: bool) -> dict[str, Any]:
    certificates = {
        method: entry.get("query_certificates", {}).get(str(query["index"]))
        for method, entry in record.info["methods"].items()
    }
    found = {method: value for method, value in certificates.items() if value is not None}
    return query | {"added": added, "certificates": found}

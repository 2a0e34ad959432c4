"""The records of the server, each opened and verified once, and the test images they rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import settings
from gifcore import record as records
from gifcore.record import Listed, Record

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
    """
    own = [_with_certificates(query, record, added=False) for query in record.queries]
    known = {query["index"] for query in own}
    later = [
        _with_certificates(query, addition, added=True)
        for index, addition in sorted(additions(record).items())
        for query in addition.queries
        if index not in known and query["index"] == index
    ]
    return own + later


def _with_certificates(query: dict[str, Any], record: Record, *, added: bool) -> dict[str, Any]:
    certificates = {
        method: entry.get("query_certificates", {}).get(str(query["index"]))
        for method, entry in record.info["methods"].items()
    }
    found = {method: value for method, value in certificates.items() if value is not None}
    return query | {"added": added, "certificates": found}

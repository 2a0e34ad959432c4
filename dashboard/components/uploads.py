"""Files of one's own: by path on this machine, or uploaded into the workspace."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import streamlit as st

from dashboard import settings
from dashboard.components import messages
from gifcore import record as records
from gifcore.errors import GifError

MAX_MB = 200  # one file; the server refuses larger requests too
MAX_FOLDER_MB = 4000  # all uploads of a workspace together


def pick(kind: str, label: str, extensions: tuple[str, ...]) -> str | None:
    """Draw "upload or path" for one file and return its path, None while there is none."""
    way = st.segmented_control(
        f"{label}: from where?",
        ["Upload", "Path on this machine"],
        default="Upload",
        required=True,
        key=f"new_{kind}_way",
        persist_state="session",
    )
    if way == "Upload":
        return _uploaded(kind, label, extensions)
    return _by_path(kind, label, extensions)


def _uploaded(kind: str, label: str, extensions: tuple[str, ...]) -> str | None:
    file = st.file_uploader(
        label, type=list(extensions), key=f"new_{kind}_file", max_upload_size=MAX_MB
    )
    if file is not None:
        try:
            st.session_state[f"new_{kind}_saved"] = (
                file.name,
                str(save(file.name, file.getvalue())),
            )
        except GifError as problem:
            messages.error(problem)
    saved: tuple[str, str] | None = st.session_state.get(f"new_{kind}_saved")
    if saved and file is None:
        st.caption(f"Using the file uploaded before: {messages.plain(saved[0])}")
    return saved[1] if saved else None


def _by_path(kind: str, label: str, extensions: tuple[str, ...]) -> str | None:
    typed = st.text_input(
        f"{label}: path",
        key=f"new_{kind}_path",
        placeholder="/folder/file." + extensions[0],
        persist_state="session",
    )
    if not typed.strip():
        return None
    path = Path(typed.strip()).expanduser()
    problem = path_problem(path, extensions)
    if problem:
        st.error(messages.plain(problem), icon=":material/error:")
        return None
    return str(path.resolve())


def path_problem(path: Path, extensions: tuple[str, ...]) -> str:
    """Return what is wrong with a path as one sentence, "" if nothing is."""
    if path.suffix.lstrip(".").lower() not in extensions:
        return f"{path.name} is not one of the kinds allowed here: .{', .'.join(extensions)}."
    if not path.is_absolute():
        return f"Give the whole path of {path.name}, from the root of this machine's disk."
    if not path.is_file():
        return f"There is no file {path} on the machine that runs the dashboard."
    return ""


def save(name: str, content: bytes) -> Path:
    """Keep an upload as uploads/<sha256 of its content>/<its name>, and return where.

    Equal contents are kept once, under the first name.

    Raises:
        GifError: it is too large, the uploads are, or the disk is full.
    """
    uploads = settings.workspace() / "uploads"
    if len(content) > MAX_MB * 1_000_000:
        raise GifError(f"{name} has {len(content) / 1e6:,.0f} MB; at most {MAX_MB} MB are taken.")
    folder = uploads / hashlib.sha256(content).hexdigest()
    suffix = Path(name).suffix.lower()
    for path in sorted(folder.glob(f"[!.]*{suffix}")):
        return path
    kept = sum(file.stat().st_size for file in uploads.glob("*/*"))
    if kept + len(content) > MAX_FOLDER_MB * 1_000_000:
        raise GifError(
            f"The uploads of this workspace reached {MAX_FOLDER_MB} MB; delete some in {uploads}."
        )
    path = folder / (safe_stem(name) + suffix)
    records.write_atomically(path, content)
    return path


def safe_stem(name: str) -> str:
    """Return the stem of a file name with nothing in it that a path could trip over.

    >>> safe_stem("../my data (2).npz"), safe_stem("…")
    ('my-data-2', 'file')
    """
    return re.sub(r"[^A-Za-z0-9_]+", "-", Path(name).stem).strip("-")[:60] or "file"

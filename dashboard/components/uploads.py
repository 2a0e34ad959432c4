"""Files of one's own: uploaded into the workspace, or picked from folders the server allows."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import streamlit as st

from dashboard import settings
from dashboard.components import messages
from gifcore import record as records
from gifcore.data.own import FOLDER as CONVERTED
from gifcore.errors import GifError

MAX_MB = 200  # one file; the server refuses larger requests too
MAX_FOLDER_MB = 4000  # all uploads of a workspace together, and what was made of them
MAX_LISTED = 500  # files offered for picking
MAX_DEPTH = 5  # folders deep
UPLOAD, PICK = "Upload", "Folder of this server"
INSIDE = ("uploads", CONVERTED, "models")  # of the workspace


def pick(kind: str, label: str, extensions: tuple[str, ...]) -> str | None:
    """Draw "upload or pick" for one file and return its path, None while there is none."""
    way = st.segmented_control(
        f"{label}: from where?",
        [UPLOAD, PICK],
        default=UPLOAD,
        required=True,
        key=f"new_{kind}_way",
        persist_state="session",
    )
    if way == UPLOAD:
        return _uploaded(kind, label, extensions)
    return _picked(kind, label, extensions)


def fields(kind: str, path: str) -> dict[str, object]:
    """Return the session's values with which `pick` shows a file, as if it had been uploaded."""
    return {f"new_{kind}_way": UPLOAD, f"new_{kind}_saved": (Path(path).name, path)}


def _uploaded(kind: str, label: str, extensions: tuple[str, ...]) -> str | None:
    file = st.file_uploader(
        label, type=list(extensions), key=f"new_{kind}_file", max_upload_size=MAX_MB
    )
    if file is not None:
        try:
            kept = str(save(file.name, file.getvalue(), extensions))
            st.session_state[f"new_{kind}_saved"] = (file.name, kept)
        except GifError as problem:
            messages.error(problem)
            return None
    saved: tuple[str, str] | None = st.session_state.get(f"new_{kind}_saved")
    if saved and not saved[1].lower().endswith(extensions):
        return None
    if saved and file is None:
        st.markdown(f":material/check_circle: In use: **{messages.plain(saved[0])}**")
    return saved[1] if saved else None


def _picked(kind: str, label: str, extensions: tuple[str, ...]) -> str | None:
    offered = {str(path): name for path, name in listed(extensions)}
    if not offered:
        st.caption(_nothing(extensions))
        return None
    chosen = st.selectbox(
        f"{label}: which file?",
        list(offered),
        index=None,
        format_func=lambda path: offered.get(path, Path(path).name),
        placeholder="Choose a file",
        key=f"new_{kind}_path",
        persist_state="session",
    )
    if not chosen:
        return None
    problem = path_problem(Path(chosen), extensions)  # a browser may send any text
    if problem:
        st.error(messages.plain(problem), icon=":material/error:")
        return None
    return str(Path(chosen).resolve())


def _nothing(extensions: tuple[str, ...]) -> str:
    kinds = ", ".join(f".{one}" for one in extensions)
    folder = settings.data_root()
    if folder is None:
        return (
            f"There is no {kinds} file in this server's workspace. Whoever starts the dashboard "
            "can open a folder for picking with `--data-root DIR`."
        )
    return f"There is no {kinds} file in {messages.plain(str(folder))}."


# --- which files may be read ---------------------------------------------------------------------


def roots() -> list[Path]:
    """Return the folders that files may be picked from: --data-root, and the workspace's own."""
    folder, workspace = settings.data_root(), settings.workspace()
    return ([folder] if folder else []) + [workspace / name for name in INSIDE]


def path_problem(path: Path, extensions: tuple[str, ...]) -> str:
    """Return what is wrong with a path as one sentence, "" if nothing is.

    Links are followed first: what they point to must be inside an allowed folder too.
    """
    if not path.name.lower().endswith(tuple(f".{one}" for one in extensions)):
        return f"{path.name} is not one of the kinds allowed here: .{', .'.join(extensions)}."
    real = path.resolve()
    if not path.is_absolute() or not any(real.is_relative_to(root.resolve()) for root in roots()):
        return f"{path.name} is not in a folder that this server opens for picking."
    if not real.is_file():
        return f"There is no file {path.name} any more."
    return ""


def listed(extensions: tuple[str, ...]) -> list[tuple[Path, str]]:
    """Return the files that may be picked and how they are called, at most MAX_LISTED."""
    found: list[tuple[Path, str]] = []
    for root in roots():
        for path in _files(root, extensions):
            if not path_problem(path, extensions):
                megabytes = path.stat().st_size / 1e6
                found.append((path, f"{_shown(path, root)} · {megabytes:,.1f} MB"))
            if len(found) >= MAX_LISTED:
                return found
    return found


def _files(root: Path, extensions: tuple[str, ...]) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        deep = len(Path(folder).relative_to(root).parts)
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if deep < MAX_DEPTH else []
        for name in sorted(names):
            if not name.startswith(".") and name.lower().endswith(
                tuple(f".{one}" for one in extensions)
            ):
                yield Path(folder, name)


def _shown(path: Path, root: Path) -> str:
    """Return a path as people read it: without the hashes that hold uploads apart."""
    inside = path.relative_to(root)
    if root.name in ("uploads", CONVERTED) and len(inside.parts) == 2:
        return f"{root.name}: {inside.parts[1]}"
    return str(inside) if root == settings.data_root() else f"{root.name}: {inside}"


# --- keeping uploads -----------------------------------------------------------------------------


def save(name: str, content: bytes, extensions: tuple[str, ...]) -> Path:
    """Keep an upload as uploads/<sha256 of its content>/<its name>, and return where.

    Equal contents are kept once, under the first name.

    Raises:
        GifError: it is of another kind or too large, the uploads are, this server takes none, or
            the disk is full.
    """
    if settings.demo_only():
        raise GifError("This server only shows the demo: it takes no uploads.")
    suffix = Path(name).suffix.lower()
    if suffix.lstrip(".") not in extensions:
        raise GifError(f"{name} is not one of the kinds taken here: .{', .'.join(extensions)}.")
    uploads = settings.workspace() / "uploads"
    if len(content) > MAX_MB * 1_000_000:
        raise GifError(f"{name} has {len(content) / 1e6:,.0f} MB; at most {MAX_MB} MB are taken.")
    folder = uploads / hashlib.sha256(content).hexdigest()
    for path in sorted(folder.glob(f"[!.]*{suffix}")):
        return path
    if kept_bytes() + len(content) > MAX_FOLDER_MB * 1_000_000:
        raise GifError(
            f"The uploads of this workspace reached {MAX_FOLDER_MB} MB; delete some in {uploads}."
        )
    path = folder / (safe_stem(name) + suffix)
    records.write_atomically(path, content)
    return path


def kept_bytes() -> int:
    """Return how many bytes uploads and what was made of them take."""
    workspace = settings.workspace()
    folders = (workspace / "uploads", workspace / CONVERTED)
    return sum(file.stat().st_size for folder in folders for file in folder.glob("*/*"))


def safe_stem(name: str) -> str:
    """Return the stem of a file name with nothing in it that a path could trip over.

    >>> safe_stem("../my data (2).npz"), safe_stem("…")
    ('my-data-2', 'file')
    """
    return re.sub(r"[^A-Za-z0-9_]+", "-", Path(name).stem).strip("-")[:60] or "file"

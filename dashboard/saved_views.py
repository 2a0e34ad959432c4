"""Views that visitors named: kept in the workspace for everybody who uses it; no Streamlit.

One small JSON file, written whole and renamed. What is not a view in it is passed over and kept;
a file that cannot be read is never written over.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gifcore.errors import GifError
from gifcore.record import write_atomically
from gifcore.run_state import locked

FILE, LOCK = "saved-views.json", ".saved-views.lock"
MOST = 50  # views of a workspace
LONGEST = 80  # letters of a name
LARGEST = 1_000_000  # bytes of the file: beyond it is none of ours
LARGEST_VIEW = LARGEST // MOST - 200  # bytes: so there is room for the most of them
BUSY = "Somebody else is saving a view just now; try again."


@dataclass(frozen=True)
class View:
    """A page and the picks of its address, under a name."""

    name: str
    page: str  # as the address has it: "before-after"
    picks: dict[str, str]
    made: str  # when, UTC


def read(workspace: Path) -> list[View]:
    """Return the views of a workspace, the newest first; none where the file is not readable."""
    try:
        return _views(_entries(workspace))
    except GifError:
        return []


def _entries(workspace: Path) -> list[Any]:
    """Return what the file lists, views or not; nothing where there is no file.

    Raises:
        GifError: there is a file that is not ours to read.
    """
    file = workspace / FILE
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError
        entries = json.loads(file.read_text(encoding="utf-8"))["views"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        entries = None
    if not isinstance(entries, list):
        raise GifError(
            f"The saved views of this workspace cannot be read: {FILE} in it is damaged. Nothing "
            "was changed; repair or remove that file first."
        )
    return entries


def _views(entries: list[Any]) -> list[View]:
    return [view for entry in entries if (view := _view(entry)) is not None][:MOST]


def _view(entry: Any) -> View | None:
    """Return a view whose every part is a text of a sane length, None else."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("picks"), Mapping):
        return None
    picks = {key: text for key, text in entry["picks"].items() if isinstance(text, str)}
    texts = [entry.get(key) for key in ("name", "page", "made")]
    if not all(isinstance(text, str) and len(text) <= LONGEST for text in texts):
        return None
    name, page, made = map(str, texts)
    return View(name, page, picks, made) if name.strip() else None


def save(
    workspace: Path, name: str, page: str, picks: Mapping[str, str], keys: Collection[str]
) -> View:
    """Keep a view under a name that is not taken.

    Args:
        keys: of the picks that belong to a view; others are left out.

    Raises:
        GifError: the name is empty, too long or taken, the picks are too long, there are too many
            views, or the file is damaged or not writable.
    """
    name = " ".join(name.split())
    if not name or not name.isprintable():
        raise GifError("A view needs a name: a few words by which you will know it again.")
    if len(name) > LONGEST:
        raise GifError(f"That name has {len(name)} letters; {LONGEST} are enough.")
    kept = {key: text for key, text in picks.items() if key in keys}
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    view = View(name, page, kept, made)
    if len(_text(asdict(view))) > LARGEST_VIEW:
        raise GifError(
            f"That view says more than the {LARGEST_VIEW:,} bytes that are kept of one: mark or "
            "filter less."
        )
    with locked(workspace / LOCK, BUSY):
        entries = _entries(workspace)
        there = _views(entries)
        if any(one.name.casefold() == name.casefold() for one in there):
            raise GifError(f"There is a view “{name}” already: take another name, or delete it.")
        if len(there) >= MOST:
            raise GifError(f"There are {MOST} saved views, which is the most: delete one first.")
        _write(workspace, [asdict(view), *entries])
    return view


def delete(workspace: Path, name: str) -> None:
    """Forget a view; one that is gone already is no error.

    Raises:
        GifError: the file is damaged or not writable.
    """
    with locked(workspace / LOCK, BUSY):
        entries = _entries(workspace)
        _write(workspace, [one for one in entries if not _called(one, name)])


def _called(entry: Any, name: str) -> bool:
    view = _view(entry)
    return view is not None and view.name == name


def _write(workspace: Path, entries: list[Any]) -> None:
    text = _text({"views": entries})
    if len(text) > LARGEST:
        raise GifError("The saved views of this workspace are full: delete one first.")
    write_atomically(workspace / FILE, text)


def _text(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()

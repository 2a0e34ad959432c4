"""What the pages say in longer words: Markdown files, and the help of every option."""

from __future__ import annotations

from pathlib import Path


def text(name: str) -> str:
    """Return the Markdown of a page, e.g. `text("home")`."""
    return Path(__file__).with_name(f"{name}.md").read_text(encoding="utf-8")

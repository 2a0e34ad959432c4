"""What the pages say in longer words: Markdown files, and the help of every option."""

from __future__ import annotations

from pathlib import Path


def text(name: str) -> str:
    """Return the Markdown of a page, e.g. `text("home")`."""
    return Path(__file__).with_name(f"{name}.md").read_text(encoding="utf-8")


def sections(name: str) -> dict[str, str]:
    """Return the parts of a file under `## name`, by name; what stands above the first is left out.

    The headings are keys for the program, not shown.
    """
    parts = text(name).split("\n## ")[1:]
    split = (part.partition("\n") for part in parts)
    return {key.strip(): body.strip() for key, _, body in split}

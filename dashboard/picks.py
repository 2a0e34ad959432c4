"""Picks as the texts of an address, and back; what a link asks for that is not here. No Streamlit.

Texts are short and checked when they are read: an address is anybody's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PARAMS = (
    "study",
    "selector",
    "ratio",
    "query",
    "methods",
    "k",
    "tab",
    "layer",
    "unit",
    "class",
    "sample",
    "pin",
    "filter",
    "cell",
    "edit",
    "other",
    "record",
    "marked",
    "preview",
    "story",
    "step",
    "present",
)
OPTIONAL = (
    "tab",
    "layer",
    "unit",
    "class",
    "sample",
    "pin",
    "filter",
    "cell",
    "edit",
    "other",
    "preview",
)  # what a view can be without, so that an address without it takes it back
WORDS = {
    "study": "the study",
    "selector": "the selector",
    "ratio": "the ratio",
    "query": "test image",
    "preview": "test image",
    "methods": "the method",
    "tab": "the tab",
    "layer": "layer",
    "unit": "unit",
    "class": "class",
    "sample": "training image",
    "pin": "training image",
    "other": "the study to compare with",
    "cell": "the cell",
    "edit": "the edit",
}
SEVERAL = ("methods", "tab")  # picks that can name more than one thing

Pick = str | float | list[str] | None


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


_PARSERS: dict[str, Any] = {
    "study": str,
    "selector": str,
    "ratio": float,
    "query": int,
    "methods": _names,
    "k": int,
    "tab": _names,  # those open that are not a page's first
    "layer": str,
    "unit": int,
    "class": int,  # a class by its number
    "sample": int,  # the training image looked at
    "pin": int,  # another, kept beside it
    "filter": str,  # of the grid of training images, see dashboard.filters
    "cell": str,  # of the confusion matrices: "8-6" is label 8, predicted 6
    "edit": str,  # looked at on Before / after: "gif-searched"
    "other": str,  # the view that Compare holds against: "study:selector:ratio"
    "record": str,  # the first digits of the hash of the record shown
    "preview": int,
    "story": str,
    "step": int,
    "present": int,
    "marked": lambda text: [word for word in text.split(",") if word.isdecimal()],
}


def parse(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the picks that an address names; what cannot be read is left out."""
    values: dict[str, Any] = {}
    for key, text in texts.items():
        try:
            values[key] = _PARSERS[key](text)
        except ValueError:
            continue
    return values


def text(value: Pick) -> str:
    """Return how an address names a pick."""
    if isinstance(value, list):
        return ",".join(value)
    return number(value) if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """Return a number in few digits that are read back as exactly this one.

    >>> number(0.05), number(1.0), number(1 / 3)
    ('0.05', '1', '0.3333333333333333')
    """
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def left_out(said: dict[str, str], written: dict[str, str]) -> dict[str, None]:
    """Return what the last address named and this one, of an earlier view, does not.

    An address without any pick, as the links between pages have, is of no view.

    >>> left_out({"study": "a"}, {"study": "a", "sample": "3"}), left_out({}, {"sample": "3"})
    ({'sample': None}, {})
    """
    return {k: None for k in OPTIONAL if k in written and k not in said} if said else {}


def gone(missing: Mapping[str, str]) -> str:
    """Return in one sentence what is asked for and is not here; "" if all of it is.

    >>> gone({"methods": "ekfac,tracin"})
    'This view asks for the methods “ekfac, tracin”, which are not here; what is here is shown.'
    """
    lists = {key: value for key, value in missing.items() if key in SEVERAL and "," in value}
    found = [
        f"{WORDS.get(key, key)}{'s' if key in lists else ''} “{value.replace(',', ', ')}”"
        for key, value in missing.items()
    ]
    if not found:
        return ""
    are = "are" if lists or len(found) > 1 else "is"
    return f"This view asks for {', '.join(found)}, which {are} not here; what is here is shown."

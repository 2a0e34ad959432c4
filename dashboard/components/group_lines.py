"""Groups of test images as lines of text: `class 8`, `8 > 6`, `17, 256`, with or without a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard.components.option_fields import numbers
from dashboard.study_options import field
from gifcore.errors import GifError

GROUPS = field("ranking.groups")
LONGEST = 80  # characters of a group's name


def draw(names: list[str] | None) -> list[dict[str, Any]]:
    """Draw the field of many lines and return the groups.

    Args:
        names: of the classes, where they are known; groups without a name are called by them.

    Raises:
        GifError: a line that is none of the three.
    """
    listed = st.text_area(
        f"{GROUPS.title}, one a line",
        placeholder="class 8\n8 > 6\nBags: 17, 256",
        key=GROUPS.key,
        help=GROUPS.help,
        persist_state="session",
    )
    return [parsed(line, names) for line in listed.splitlines() if line.strip()]


def parsed(line: str, names: list[str] | None) -> dict[str, Any]:
    """Return the group of a line.

    >>> parsed("Bags: class 8", None)
    {'name': 'Bags', 'class': 8}
    >>> parsed("8 > 6", None)
    {'name': 'class 8 taken for class 6', 'cell': (8, 6)}

    Raises:
        GifError: it is none, or of a class that does not exist.
    """
    before, colon, after = line.rpartition(":")
    own, what = before.strip(), after.strip()
    if colon and not own:
        raise GifError(f"{GROUPS.title}: '{line.strip()}' has nothing before its colon.")
    if what.lower().startswith("class"):
        labels = numbers(what[5:], GROUPS.title)
        if len(labels) != 1:
            raise GifError(f"{GROUPS.title}: '{what}' is not of the form class 8.")
        return {"name": own or f"all of {_named(labels[0], names)}"[:LONGEST], "class": labels[0]}
    label, sign, predicted = what.partition(">")
    if sign:
        pair = numbers(label, GROUPS.title) + numbers(predicted, GROUPS.title)
        if len(pair) != 2:
            raise GifError(
                f"{GROUPS.title}: '{what}' is not of the form 8 > 6 (label > prediction)."
            )
        true, said = (_named(number, names) for number in pair)
        return {"name": own or f"{true} taken for {said}"[:LONGEST], "cell": pair}
    images = numbers(what, GROUPS.title)
    name = f"images {', '.join(map(str, images))}"
    short = name if len(name) <= LONGEST else f"{name[: LONGEST - 2].rstrip(', ')} …"
    return {"name": own or short, "samples": images}


def line_of(group: dict[str, Any]) -> str:
    """Return the line of a group, its name included.

    >>> line_of({"name": "Bags", "class": 8, "cell": None, "samples": ()})
    'Bags: class 8'
    """
    if group.get("class") is not None:
        what = f"class {group['class']}"
    elif group.get("cell"):
        what = "{} > {}".format(*group["cell"])
    else:
        what = ", ".join(map(str, group["samples"]))
    return f"{group['name']}: {what}"


def stored(groups: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the session holds for these groups."""
    return {GROUPS.key: "\n".join(map(line_of, groups))}


def _named(label: int, names: list[str] | None) -> str:
    """Return the name of a class.

    Raises:
        GifError: a number that no class has, where the classes are known.
    """
    if names is None:
        return f"class {label}"
    if label >= len(names):
        raise GifError(f"{GROUPS.title}: there is no class {label}; 0 … {len(names) - 1} exist.")
    return names[label] if names[label] != str(label) else f"class {label}"

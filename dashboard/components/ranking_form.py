"""The fields of a study's section [ranking]: test images, groups of them, what of them is asked."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import cache
from dashboard.components.change_form import positions
from dashboard.texts.options import HELP, TARGETS
from gifcore.errors import GifError

TARGET, ITSELF = "new_target", "new_self_influence"
QUERIES, CLASSES, CELLS, LISTED = (
    f"new_{name}" for name in ("queries", "group_classes", "group_cells", "group_images")
)
LONGEST = 80  # characters of a group's name


def fields(source: str | None) -> dict[str, Any]:
    """Draw the fields and return the section.

    Args:
        source: the data set, whose classes name the groups; None while it is not chosen.

    Raises:
        GifError: positions, classes or cells that are none.
    """
    count = st.number_input(
        "Test images to explain", 0, 1000, 2, key="new_count", help=HELP["count"],
        persist_state="session",
    )  # fmt: skip
    queries = positions(_line("… or these ones", QUERIES, "17, 256, 1024", "queries"))
    names = _names(source)
    groups = [
        *_classes(_line("Whole classes, by number", CLASSES, "8, 3", "groups"), names),
        *_cells(_line("Classes taken for another", CELLS, "8 > 6, 6 > 0", "group_cells"), names),
        *_images(_line("Images taken together", LISTED, "17, 256; 3, 5, 9", "group_images")),
    ]
    target = st.selectbox(
        "What of them is explained",
        list(TARGETS),
        format_func=lambda name: TARGETS[name][0],
        key=TARGET,
        help=HELP["target"],
        persist_state="session",
    )
    st.caption(TARGETS[target][1])
    itself = st.toggle(
        "Training images on themselves",
        key=ITSELF,
        help=HELP["self_influence"],
        persist_state="session",
    )
    return {
        "count": count,
        "queries": queries,
        "groups": groups,
        "target": target,
        "self_influence": itself,
    }


def _line(label: str, key: str, example: str, help_of: str) -> str:
    return st.text_input(
        label, key=key, placeholder=example, help=HELP[help_of], persist_state="session"
    )


def _names(source: str | None) -> list[str] | None:
    """Return the names of the classes where they are known."""
    if source is None:
        return None
    return cache.class_names(source) or st.session_state.get("new_classes", {}).get(source)


def _named(label: int, names: list[str] | None, what: str) -> str:
    """Return the name of a class.

    Raises:
        GifError: a number that no class has, where the classes are known.
    """
    if names is None:
        return f"class {label}"
    if label >= len(names):
        raise GifError(f"{what}: there is no class {label}; 0 … {len(names) - 1} exist.")
    return names[label] if names[label] != str(label) else f"class {label}"


def _classes(listed: str, names: list[str] | None) -> list[dict[str, Any]]:
    what = "Whole classes"
    return [
        {"name": f"all of {_named(label, names, what)}"[:LONGEST], "class": label}
        for label in positions(listed, what)
    ]


def _cells(listed: str, names: list[str] | None) -> list[dict[str, Any]]:
    """Return a group for each "label > prediction"."""
    what, groups = "Classes taken for another", []
    for one in listed.split(",") if listed.strip() else ():
        label, sign, predicted = one.partition(">")
        pair = positions(label, what) + positions(predicted, what)
        if not sign or len(pair) != 2:
            raise GifError(
                f"{what}: '{one.strip()}' is not of the form 8 > 6 (label > prediction); separate "
                "several by commas."
            )
        true, said = (_named(number, names, what) for number in pair)
        groups.append({"name": f"{true} taken for {said}"[:LONGEST], "cell": pair})
    return groups


def _images(listed: str) -> list[dict[str, Any]]:
    """Return a group for each list of positions; lists are separated by semicolons."""
    groups = []
    for one in filter(str.strip, listed.split(";")):
        images = positions(one, "Images taken together")
        name = f"images {', '.join(map(str, images))}"
        short = name if len(name) <= LONGEST else f"{name[: LONGEST - 2].rstrip(', ')} …"
        groups.append({"name": short, "samples": images})
    return groups

"""Widgets made from the options of a study: one a field, by its type, limits and words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from dashboard.study_options import LARGEST, Option, choice_label, options
from dashboard.texts.options import CHOICES
from gifcore.errors import GifError

BY_NUMBER = "By hand"
WORDS = {"auto": "Automatic", "all": "All"}
MOST_TABLES = 8
Names = Mapping[str, Sequence[str]]  # what a field of names offers, by path
FIRST: dict[str, Any] = {  # where a table starts, better suited to small data than the config's
    "fastif.solves.iterations": 200,
    "fastif.solves.batch_size": 16,
    "fastif.solves.damp": 0.01,
    "fastif.solves.scale": 100.0,
}


def section(
    found: Mapping[str, Option],
    names: Names,
    *,
    refuse: Mapping[str, str],
    changed: Mapping[str, Callable[[], None]],
) -> dict[str, Any]:
    """Draw the options of a section that count, in three columns; name the others below, and why.

    Args:
        names: what the fields of names offer, by path.
        refuse: options that are not for this study, by path, and why.
        changed: what else follows when a choice changes, by path.

    Returns:
        The values by name; the default where an option does not count.

    Raises:
        GifError: positions that are none.
    """
    values: dict[str, Any] = {}
    hidden: dict[str, list[str]] = {}
    columns = st.columns(3, gap="large")
    drawn = 0
    for option in found.values():
        why = refuse.get(option.path, "")
        if not why and not option.counts(values):
            why = f"only where {option.why_not(found, values)}"
        if why:
            hidden.setdefault(why, []).append(option.title)
            values[option.name] = option.default
            continue
        with columns[drawn % 3]:
            offered = names.get(option.path, ())
            values[option.name] = draw(option, offered, changed=changed.get(option.path))
        drawn += 1
    for why, titles in hidden.items():
        st.caption(f"Not asked: {', '.join(titles)} – {why}.")
    return values


def draw(
    option: Option,
    names: Sequence[str] = (),
    *,
    changed: Callable[[], None] | None = None,
) -> Any:
    """Draw the widget of an option and return its value as a study has it."""
    for key, value in stored(option, option.default).items():
        st.session_state.setdefault(key, value)
    match option.kind:
        case "flag":
            return st.toggle(
                option.title, key=option.key, help=option.help, persist_state="session"
            )
        case "choice":
            return _choice(option, changed)
        case "choices":
            return tuple(_several(option))
        case "whole" | "real":
            return _number(option)
        case "numbers":
            return numbers(_line(option), option.title)
        case "reals":
            return reals(_line(option), option.title)
        case "names":
            return tuple(_names(option, names))
        case "text":
            return _line(option).strip() or option.default
        case _:
            return _tables(option)


def stored(option: Option, value: Any) -> dict[str, Any]:
    """Return what the session holds for this value, by the key of the widget.

    A number that the widget cannot hold is left out.
    """
    match option.kind:
        case "whole" | "real":
            return _stored_number(option, value)
        case "numbers" | "reals":
            return {option.key: ", ".join(f"{one!r}" for one in value or ())}
        case "choices" | "names":
            return {option.key: list(value or ())}
        case "text":
            return {option.key: value or ""}
        case "tables":
            return _stored_tables(option, value or ())
        case _:
            return {option.key: value}


def numbers(listed: str, what: str) -> tuple[int, ...]:
    """Return whole numbers typed with commas or blanks between them.

    >>> numbers("17, 256 3", "Test images")
    (17, 256, 3)

    Raises:
        GifError: something that is not a whole number.
    """
    words = listed.replace(",", " ").split()
    wrong = [word for word in words if not (word.isascii() and word.isdecimal())]
    if wrong:
        raise GifError(
            f"{what}: '{wrong[0]}' is not a position; give whole numbers from 0, "
            "separated by commas."
        )
    return tuple(int(word) for word in words)


def reals(listed: str, what: str) -> tuple[float, ...]:
    """Return numbers typed with commas or blanks between them.

    >>> reals("0.5, 2", "Weights")
    (0.5, 2.0)

    Raises:
        GifError: something that is not a number.
    """
    try:
        return tuple(float(word) for word in listed.replace(",", " ").split())
    except ValueError:
        raise GifError(f"{what}: give numbers such as 0.5, separated by commas.") from None


# --- one widget each ------------------------------------------------------------------------------


def _choice(option: Option, changed: Callable[[], None] | None) -> str | None:
    words = CHOICES.get(option.path, {})
    chosen = st.selectbox(
        option.title,
        option.choices,
        index=None if option.optional else 0,
        placeholder=option.empty,
        format_func=lambda one: choice_label(option.path, one),
        key=option.key,
        help=option.help,
        on_change=changed or "rerun",
        persist_state="session",
    )
    if chosen in words and words[chosen][1]:
        st.caption(words[chosen][1])
    return chosen


def _several(option: Option) -> list[str]:
    return st.multiselect(
        option.title,
        option.choices,
        format_func=lambda one: choice_label(option.path, one),
        placeholder=option.empty,
        key=option.key,
        help=option.help,
        persist_state="session",
    )


def _names(option: Option, names: Sequence[str]) -> list[str]:
    return st.multiselect(
        option.title,
        list(names),
        placeholder=option.empty,
        accept_new_options=True,
        key=option.key,
        help=option.help,
        persist_state="session",
    )


def _line(option: Option) -> str:
    return st.text_input(
        option.title,
        placeholder=option.empty,
        key=option.key,
        help=option.help,
        persist_state="session",
    )


def _number(option: Option) -> Any:
    if option.word:
        words = [BY_NUMBER, WORDS[option.word]]
        way = st.segmented_control(
            option.title,
            words,
            required=True,
            key=f"{option.key}_way",
            help=option.help,
            persist_state="session",
        )
        if way == WORDS[option.word]:
            return option.word
    low, high = _range(option)
    whole = option.kind == "whole"
    return st.number_input(
        option.title + (" by hand" if option.word else ""),
        min_value=low,
        max_value=high,
        value=None if option.optional else "min",
        step=1 if whole else 0.001,
        format=None if whole else "%g",
        placeholder=option.empty or None,
        key=option.key,
        help=option.help,
        persist_state="session",
    )


def _range(option: Option) -> tuple[float, float]:
    """Return the bounds of the widget; where the config has none, those of a browser."""
    if option.kind == "whole":
        return int(option.low or 0), int(min(option.high or LARGEST, LARGEST))
    return float(option.low or 0.0), 1e12 if option.high is None else float(option.high)


def _stored_number(option: Option, value: Any) -> dict[str, Any]:
    if option.word and value == option.word:
        return {f"{option.key}_way": WORDS[option.word]} | (
            {} if option.default == option.word else {option.key: option.default}
        )
    way = {f"{option.key}_way": BY_NUMBER} if option.word else {}
    low, high = _range(option)
    if value is not None and not low <= value <= high:
        return way
    as_number = float(value) if option.kind == "real" and value is not None else value
    return way | {option.key: as_number}


# --- lists of tables ------------------------------------------------------------------------------


def _tables(option: Option) -> list[dict[str, Any]]:
    """Draw how many tables there are, and the fields of each."""
    count = st.number_input(
        option.title,
        min_value=0,
        max_value=MOST_TABLES,
        key=option.key,
        help=option.help,
        persist_state="session",
    )
    found = []
    for at in range(count):
        with st.container(border=True, gap="xsmall"):
            found.append({one.name: draw(one) for one in _of_table(option, at)})
    return found


def _of_table(option: Option, at: int) -> list[Option]:
    assert option.inner is not None
    found = []
    for one in options(option.inner, option.path).values():
        own = replace(
            one, default=FIRST.get(one.path, one.default), title=f"{at + 1} · {one.title}"
        )
        found.append(own.moved(f"{option.path}.{at}.{one.name}", f"{at}_"))
    return found


def _stored_tables(option: Option, value: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len(value) > MOST_TABLES:
        return {}
    held: dict[str, Any] = {option.key: len(value)}
    for at, table in enumerate(value):
        for one in _of_table(option, at):
            held |= stored(one, table[one.name])
    return held

"""The widgets of what is changed in the training set: a kind and its fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from dashboard import cache
from dashboard.texts.options import CHANGES, HELP
from gifcore.data.backdoor import Backdoor
from gifcore.errors import GifError

FORGET = 8  # the class of the example study, Bag in Fashion-MNIST
EACH = "new_relabel_each"  # the key of the field of many labels
PLANTED = Backdoor(4, 100, None, 0.25, 0)  # that of the weights that come with GIF Studio


@dataclass(frozen=True)
class Asked:
    """A change as the form has it, and what a study of it is called."""

    values: dict[str, Any]
    title: str


def kind() -> str:
    """Draw the picker of the kind of change."""
    chosen = st.selectbox(
        "What to change",
        list(CHANGES),
        format_func=lambda name: CHANGES[name][0],
        key="new_change",
        help=HELP["change"],
        persist_state="session",
    )
    st.caption(CHANGES[chosen][1])
    return chosen


def fields(chosen: str, source: str | None) -> Asked | None:
    """Draw the fields of a kind; None while the samples are not named yet.

    Raises:
        GifError: positions that are none.
    """
    match chosen:
        case "remove-samples":
            return _remove_samples()
        case "relabel":
            return _relabel(source)
        case "backdoor":
            return _backdoor(source)
        case _:
            label, name = one_class(source, "Class to forget", "new_label", FORGET)
            return Asked({"label": label}, f"Forget {name}")


def _remove_samples() -> Asked | None:
    chosen = _samples()
    if not chosen:
        return None
    return Asked({"kind": "remove-samples", "indices": chosen}, f"Remove {_counted(chosen)}")


def _relabel(source: str | None) -> Asked | None:
    chosen = _samples()
    listed = st.text_input(
        "Their labels, one each by number",
        key=EACH,
        placeholder="empty: the one below",
        help=HELP["relabel_each"],
        persist_state="session",
    )
    if each := positions(listed, "Their labels"):
        values = {"kind": "relabel", "indices": chosen, "labels": each}
        return Asked(values, f"Relabel {_counted(chosen)}") if chosen else None
    label, name = one_class(source, "Their label from now on", "new_relabel", 0)
    if not chosen:
        return None
    values = {"kind": "relabel", "indices": chosen, "labels": (label,) * len(chosen)}
    return Asked(values, f"Relabel {_counted(chosen)} to {name}")


def _backdoor(source: str | None) -> Asked:
    label, name = one_class(source, "Class of the backdoor", "new_backdoor_label", PLANTED.label)
    count = _number("backdoor_count", "Poisoned training images", PLANTED.count, 1, 10_000_000)
    size = _number("backdoor_size", "Side of the trigger in pixels (0: whole image)", 0, 0, 10_000)
    strength = _number("backdoor_strength", "Strength of the trigger", PLANTED.strength, 0.0, 1.0)
    seed = _number("backdoor_seed", "Seed of the backdoor", PLANTED.seed, 0, 2**31 - 1)
    values = {"kind": "backdoor", "label": label, "count": count, "size": size or None}
    return Asked(
        values | {"strength": strength, "seed": seed}, f"Take back the backdoor for {name}"
    )


def one_class(source: str | None, heading: str, key: str, first: int) -> tuple[int, str]:
    """Draw the picker of a class: by name where the data set is known, else by number."""
    names = cache.class_names(source) if source else None
    names = names or st.session_state.get("new_classes", {}).get(source)
    if not names:
        number = st.number_input(
            f"{heading}, by number", 0, 9999, 0, key=f"{key}_number", help=HELP["label"]
        )
        st.caption("The names are known after the check.")
        return number, f"class {number}"
    if st.session_state.get(key) not in range(len(names)):
        st.session_state[key] = min(first, len(names) - 1)
    label = st.selectbox(
        heading,
        range(len(names)),
        format_func=lambda at: names[at] if names[at] == str(at) else f"{at} · {names[at]}",
        key=key,
        help=HELP["label"],
        persist_state="session",
    )
    return label, str(names[label])


def _samples() -> tuple[int, ...]:
    listed = st.text_input(
        "Training images, by position",
        key="new_change_samples",
        placeholder="3, 57, 111",
        help=HELP["change_samples"],
        persist_state="session",
    )
    return positions(listed, "Training images")


def _number(name: str, label: str, value: float, low: float, high: float) -> Any:  # noqa: ANN401
    whole = isinstance(value, int)
    return st.number_input(
        label,
        min_value=low,
        max_value=high,
        value=value,
        step=None if whole else 0.01,
        format=None if whole else "%g",
        key=f"new_{name}",
        help=HELP[name],
        persist_state="session",
    )


def _counted(chosen: tuple[int, ...]) -> str:
    return f"{len(chosen):,} sample" + ("s" if len(chosen) != 1 else "")


def positions(listed: str, what: str = "Test images to explain") -> tuple[int, ...]:
    """Return positions typed with commas or blanks between them.

    >>> positions("17, 256 3")
    (17, 256, 3)

    Raises:
        GifError: something that is not a whole number.
    """
    words = listed.replace(",", " ").split()
    wrong = [word for word in words if not word.isdecimal()]
    if wrong:
        raise GifError(
            f"{what}: '{wrong[0]}' is not a position; give whole numbers from 0, "
            "separated by commas."
        )
    return tuple(int(word) for word in words)

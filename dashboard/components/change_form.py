"""The widgets of what is changed in the training set: a kind and its fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import cache, settings
from dashboard.components import option_fields, uploads
from dashboard.components.own_forms import OWN
from dashboard.study_options import Option, field
from dashboard.texts.options import CHANGES
from gifcore.change_section import AnyChange
from gifcore.data import DATASETS
from gifcore.data.backdoor import Backdoor

FORGET = 8  # the class of the example study, Bag in Fashion-MNIST
EACH = "new_relabel_each"  # the key of the field of many labels
PLANTED = Backdoor(4, 100, None, 0.25, 0)  # that of the weights that come with GIF Studio
WHOLE = ("backdoor", "union")  # kinds that are no part of a union
MOST = 6  # changes at once


@dataclass(frozen=True)
class Asked:
    """A change as the form has it, and what a study of it is called."""

    values: dict[str, Any]
    title: str


def kind(at: str = "") -> str:
    """Draw the picker of the kind of change.

    Args:
        at: which of several changes, as a part of the widgets' keys; "" for the only one.
    """
    chosen = st.selectbox(
        "What to change" if not at else "What",
        [name for name in CHANGES if not at or name not in WHOLE],
        format_func=lambda name: CHANGES[name][0],
        key=f"new_{at}change",
        help="What becomes of the training set.",
        persist_state="session",
    )
    st.caption(CHANGES[chosen][1])
    return chosen


def fields(chosen: str, source: str | None, at: str = "") -> Asked | None:
    """Draw the fields of a kind; None while the samples are not named yet.

    Raises:
        GifError: positions that are none.
    """
    match chosen:
        case "remove-samples":
            found = _samples(at)
            values: dict[str, Any] = {"kind": chosen, "indices": found}
            return Asked(values, f"Remove {_counted(found)}") if found else None
        case "relabel":
            return _relabel(source, at)
        case "reweight":
            return _reweight(at)
        case "add-samples":
            return _add(at)
        case "backdoor":
            return _backdoor(source)
        case "union":
            return _union(source)
        case _:
            label, name = one_class(source, "Class to forget", f"new_{at}label", FORGET)
            return Asked({"kind": chosen, "label": label}, f"Forget {name}")


def _relabel(source: str | None, at: str) -> Asked | None:
    chosen = _samples(at)
    values: dict[str, Any] = {"kind": "relabel", "indices": chosen}
    if each := _draw("change.relabel.labels", at):
        return Asked(values | {"labels": each}, f"Relabel {_counted(chosen)}") if chosen else None
    label, name = one_class(source, "Their label from now on", f"new_{at}relabel", 0)
    labels = (label,) * len(chosen)
    title = f"Relabel {_counted(chosen)} to {name}"
    return Asked(values | {"labels": labels}, title) if chosen else None


def _reweight(at: str) -> Asked | None:
    chosen, weights = _samples(at), _draw("change.reweight.weights", at)
    if not chosen or not weights:
        return None
    each = weights * len(chosen) if len(weights) == 1 else weights
    values = {"kind": "reweight", "indices": chosen, "weights": each}
    return Asked(values, f"Weigh {_counted(chosen)} anew")


def _add(at: str) -> Asked | None:
    about = _field("change.add-samples.source", at)
    source: str | None = st.selectbox(
        about.title,
        [*DATASETS] if settings.demo_only() else [*DATASETS, OWN],
        format_func=lambda name: DATASETS[name].title if name in DATASETS else "Load your own …",
        key=about.key,
        help=about.help,
        persist_state="session",
    )
    if source == OWN:
        source = uploads.pick(f"{at}added", "Data to add", ("npz",))
    split = _draw("change.add-samples.split", at)
    listed = _draw("change.add-samples.indices", at) or None
    count = None if listed else _draw("change.add-samples.count", at)
    if source is None:
        return None
    values = {"kind": "add-samples", "source": source, "split": split}
    values |= {"indices": listed, "count": count}
    name = DATASETS[source].title if source in DATASETS else Path(source).stem
    many = _counted(listed) if listed else f"{count:,} samples" if count else "the samples"
    return Asked(values, f"Add {many} of {name}")


def _backdoor(source: str | None) -> Asked:
    label, name = one_class(source, "Class of the backdoor", "new_backdoor_label", PLANTED.label)
    parts = ("count", "size", "strength", "seed")
    first = {"strength": PLANTED.strength}
    found = {one: _draw(f"change.backdoor.{one}", first=first.get(one)) for one in parts}
    values = {"kind": "backdoor", "label": label} | found
    return Asked(values, f"Take back the backdoor for {name}")


def _union(source: str | None) -> Asked | None:
    about = field("change.union.changes")
    st.session_state.setdefault(about.key, 2)
    count = st.number_input(
        about.title, 1, MOST, key=about.key, help=about.help, width=160, persist_state="session"
    )
    found = []
    columns = st.columns(3, gap="large")
    for place in range(count):
        with columns[place % 3].container(border=True, gap="xsmall"):
            at = f"{place}_"
            found.append(fields(kind(at), source, at))
    whole = [one for one in found if one is not None]
    if len(whole) < len(found):
        return None
    values = {"kind": "union", "changes": [one.values for one in whole]}
    return Asked(values, " + ".join(one.title for one in whole)[:70])


# --- one field ------------------------------------------------------------------------------------


def one_class(source: str | None, heading: str, key: str, first: int) -> tuple[int, str]:
    """Draw the picker of a class: by name where the data set is known, else by number."""
    names = class_names(source)
    why = "The class that is forgotten, the new label, or the class the trigger stands for."
    if not names:
        number = st.number_input(
            f"{heading}, by number", 0, 9999, key=f"{key}_number", help=why, persist_state="session"
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
        help=why,
        persist_state="session",
    )
    return label, str(names[label])


def class_names(source: str | None) -> list[str] | None:
    """Return the names of the classes where they are known: at once, or since a check."""
    if source is None:
        return None
    return cache.class_names(source) or st.session_state.get("new_classes", {}).get(source)


def _field(path: str, at: str = "") -> Option:
    option = field(path)
    return option.moved(option.path, at) if at else option


def _draw(path: str, at: str = "", *, first: Any = None) -> Any:
    option = _field(path, at)
    return option_fields.draw(option if first is None else replace(option, default=first))


def _samples(at: str) -> tuple[int, ...]:
    option = replace(_field("change.remove-samples.indices", at), empty="3, 57, 111")
    found: tuple[int, ...] = option_fields.draw(option)
    return found


def _counted(chosen: Sequence[int]) -> str:
    return f"{len(chosen):,} sample" + ("s" if len(chosen) != 1 else "")


# --- a change as the session holds it -------------------------------------------------------------


def stored(change: AnyChange, at: str = "") -> dict[str, Any]:
    """Return the session's values with which the form shows a change."""
    values: dict[str, Any] = {f"new_{at}change": change.kind}
    plain = change.model_dump(exclude={"kind", "change_samples"})
    match change.kind:
        case "union":
            values["new_union"] = len(change.changes)
            for place, one in enumerate(change.changes):
                values |= stored(one, f"{place}_")
            return values
        case "add-samples":
            known = change.source in DATASETS
            values[f"new_{at}added"] = plain.pop("source") if known else OWN
            if not known:
                values |= uploads.fields(f"{at}added", plain.pop("source"))
        case "remove-class" | "backdoor":
            key = f"new_{at}label" if change.kind == "remove-class" else "new_backdoor_label"
            label = plain.pop("label")
            values |= {key: label, f"{key}_number": label}
    for name, value in plain.items():
        values |= option_fields.stored(_field(f"change.{change.kind}.{name}", at), value)
    return values

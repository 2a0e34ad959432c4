"""A study put into the form: the session's values with which the widgets show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.components import (
    advanced_form,
    change_form,
    group_lines,
    mislabel_form,
    option_fields,
    own_forms,
    uploads,
)
from dashboard.components.own_forms import OWN
from dashboard.study_options import SHARED, choice_label, everything, field
from gifcore.data import DATASETS
from gifcore.study import Study

WEIGHTS = ("safetensors", "pt", "pth")
MEANT = "new_meant"  # what the form was filled from: its name and the values it set
GENERATED = {**everything(), SHARED: advanced_form.shared()}


@dataclass(frozen=True)
class Meant:
    """What the form was filled from, to tell later what differs from it."""

    name: str  # "the preset Balanced"
    values: dict[str, Any]  # by path, as `flat` has them


def flat(study: Study) -> dict[str, Any]:
    """Return every field of a study by its path, without the title; a change is one value."""
    found: dict[str, Any] = {}
    for name, value in study.model_dump(mode="json").items():
        if name == "change":
            found[SHARED] = value.pop("change_samples")
            found[name] = value
        elif isinstance(value, dict):
            found |= {f"{name}.{key}": one for key, one in value.items()}
        elif name != "title":
            found[name] = value
    return found


def put(study: Study, name: str, *, trusted: bool) -> list[str]:
    """Fill the form with a study: every field, also those it leaves at their defaults.

    Args:
        name: what it is called when differences are told.
        trusted: its files may be taken as they are: it is a study of this workspace. Any other
            study file may name any path of the server's disk; of those only the ones are taken
            that the server opens for picking.

    Returns:
        What was left out, in sentences.
    """
    values, problems = widgets(study), []
    if study.model.name not in own_forms.model_names():
        del values["new_model"]
        problems.append(f"There is no model {study.model.name} here: choose one.")
    for key, saved in values.items() if not trusted else ():
        if key.endswith("_saved"):
            kinds = WEIGHTS if "weights" in key else ("npz",)
            if problem := uploads.path_problem(Path(saved[1]), kinds):
                values[key] = None
                problems.append(problem)
    st.session_state.update(values)
    st.session_state[MEANT] = Meant(name, flat(study))
    return problems


def put_some(values: Mapping[str, Any], name: str) -> None:
    """Fill some fields of the form, by path; all others stay as they are."""
    for path, value in values.items():
        st.session_state.update(option_fields.stored(GENERATED[path], value))
    plain = {path: list(one) if isinstance(one, tuple) else one for path, one in values.items()}
    st.session_state[MEANT] = Meant(name, plain)


def widgets(study: Study) -> dict[str, Any]:
    """Return the session's values with which the form shows a study."""
    values: dict[str, Any] = {
        "new_title": study.title,
        "new_methods": list(study.methods),
        "new_selector": study.selection.selector,
        "new_ratio": study.selection.ratio,
        "new_model": study.model.name,
        "new_own_weights": study.model.weights is not None,
    }
    source, weights = study.data.source, study.model.weights
    values["new_data"] = source if source in DATASETS else OWN
    if source not in DATASETS:
        values |= uploads.fields("data", source)
    if weights is not None:
        values |= uploads.fields("weights", weights)
    decay = field("model.weight_decay")
    values |= option_fields.stored(decay, study.model.weight_decay)
    values |= change_form.stored(study.change) | mislabel_form.values(study.mislabel)
    for path, option in GENERATED.items():
        value: Any = _at(study, path)
        if path == group_lines.GROUPS.path:
            values |= group_lines.stored([one.model_dump(by_alias=True) for one in value])
        elif option.kind == "tables":
            values |= option_fields.stored(option, [one.model_dump() for one in value])
        else:
            values |= option_fields.stored(option, value)
    return values


def _at(study: Study, path: str) -> Any:
    value: Any = study
    for part in path.split("."):
        value = getattr(value, part)
    return value


# --- what differs ---------------------------------------------------------------------------------


def differing(study: Study, meant: Mapping[str, Any]) -> list[str]:
    """Return in words where a study differs from values by path: "Iterations 7 instead of 20"."""
    now = flat(study)
    return [_said(path, now[path], value) for path, value in meant.items() if now[path] != value]


def _said(path: str, now: Any, meant: Any) -> str:
    if path == "change":
        return "another change"
    return f"{field_title(path)} {_words(path, now)} instead of {_words(path, meant)}"


def field_title(path: str) -> str:
    """Return what a field is called: "Iterations"."""
    option = GENERATED.get(path) or field(path)
    return option.title.partition(" (")[0]


def _words(path: str, value: Any) -> str:
    if value is None or value == []:
        return "empty"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        plain = all(isinstance(one, int | float | str) for one in value)
        return ", ".join(map(str, value)) if plain else f"{len(value)}"
    if isinstance(value, str) and path in GENERATED:
        return choice_label(path, value)
    return f"{value:g}" if isinstance(value, float) else str(value)

"""Every option of a study that is not among the six main fields: drawn from the config, by section.

Wrong labels and groups of test images have widgets of their own; all others are made from what the
config says of its fields (`dashboard.study_options`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard.components import group_lines, mislabel_form, option_fields
from dashboard.study_options import SHARED, Option, field, options, sections
from gifcore.fastif_section import LISSA_SOLVES
from gifcore.retrain_section import RetrainSection
from gifcore.study import METHOD_LABELS

TABS = {
    "curvature": "Curvature",
    "solver": "Solver",
    "selection": "Parameters",
    "ranking": "Test images",
    "preview": "Previews",
    "fastif": "FastIF",
    "mislabel": "Wrong labels",
    "edit": "Edit",
    "retrain": "Retraining",
    "change": "Change, seed",
}
FOR_LISSA = 1000  # iterations that LiSSA begins with; the other solvers need far fewer


def draw(
    methods: list[str],
    *,
    classes: list[str] | None,
    layers: list[str],
    decay: bool,
) -> dict[str, Any]:
    """Draw the tabs and return the sections, each with its values.

    Args:
        methods: as picked; some options are for some methods alone.
        classes: names of the classes, where they are known.
        layers: names of the model's layers, where they are known.
        decay: ask for the weight decay here; with weights of one's own it is asked beside them.

    Raises:
        GifError: positions, groups or numbers that are none.
    """
    found: dict[str, Any] = {}
    kinds = sections()
    for name, tab in zip(TABS, st.tabs(list(TABS.values())), strict=True):
        with tab:
            match name:
                case "mislabel":
                    found[name] = mislabel_form.fields()
                case "change":
                    found |= _of_the_whole(decay=decay)
                case "ranking":
                    found[name] = _section(options(kinds[name], name), methods, {})
                    found[name]["groups"] = group_lines.draw(classes)
                case _:
                    names = {"selection.layers": layers}
                    found[name] = _section(options(kinds[name], name), methods, names)
                    if name == "retrain":
                        found[name] = _one_model(found[name])
                    if found[name].get("kind") == "lissa":
                        damping = found[name]["damp"] * found[name]["scale"]
                        st.caption(f"Effective damping: damp × scale = {damping:g}.")
    return found


def _section(
    found: Mapping[str, Option], methods: list[str], names: Mapping[str, list[str]]
) -> dict[str, Any]:
    """Draw a section in three columns, as a page reads: the rows from left to right."""
    plain = {name: one for name, one in found.items() if one.path != group_lines.GROUPS.path}
    refuse = {}
    if not set(LISSA_SOLVES) & set(methods):
        words = " or ".join(METHOD_LABELS[name] for name in LISSA_SOLVES)
        refuse["fastif.solves"] = f"only with the method {words}"
    changed = {"solver.kind": _solver_changed}
    return option_fields.section(plain, names, refuse=refuse, changed=changed)


def _of_the_whole(*, decay: bool) -> dict[str, Any]:
    """Draw what belongs to no section of its own: how the change is estimated, seed, decay."""
    left, middle, right = st.columns(3, gap="large")
    with left:
        found: dict[str, Any] = {SHARED: option_fields.draw(shared())}
    with middle:
        found["seed"] = option_fields.draw(field("seed"))
    with right:
        if decay:
            found["model.weight_decay"] = option_fields.draw(field("model.weight_decay"))
    return found


def shared() -> Option:
    """Return the option that every kind of change has."""
    one = field("change.union.change_samples")
    return one.at(SHARED)


def _solver_changed() -> None:
    """Set the iterations that a solver begins with, unless they were set to something else."""
    solver, steps = field("solver.kind"), field("solver.iterations")
    lissa = st.session_state[solver.key] == "lissa"
    first, other = (FOR_LISSA, steps.default) if lissa else (steps.default, FOR_LISSA)
    if st.session_state.get(steps.key, other) == other:
        st.session_state[steps.key] = first


def _one_model(values: dict[str, Any]) -> dict[str, Any]:
    """Ask for one model where every seed gives the same one."""
    if not values["seeds"]:
        st.caption(
            "Off: the verdict will say what the edit does to accuracies, and that it was not "
            "held against retrained models. 3 give a mean and a spread."
        )
    alone = {"recipe": values["recipe"], "start": values["start"]}
    if values["seeds"] > 1 and not RetrainSection(**alone).draws:
        st.caption(":orange[Trained so, every seed gives the same model: one is trained.]")
        return values | {"seeds": 1}
    return values

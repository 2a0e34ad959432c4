"""The presets as buttons, each with what it sets and costs; and what differs from the last one."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard import presets
from dashboard.components import messages, study_fill
from dashboard.components.study_form import DRAWN
from dashboard.presets import PRESETS, Preset
from gifcore.errors import GifError
from gifcore.record import Listed
from gifcore.study import Study

Costs = tuple[dict[str, int], dict[str, float]]  # samples by split; seconds by unit
SHOWN = 6  # differences that are named


def draw(listed: list[Listed]) -> None:
    """Draw the buttons, three in a row.

    Args:
        listed: records, of which one may tell what work costs on this model and these data.
    """
    study: Study | None = st.session_state.get(DRAWN)
    costs = known_costs(study, listed) if study else None
    names = list(PRESETS)
    for row in (names[:3], names[3:]):
        for column, name in zip(st.columns(3, gap="medium"), row, strict=True):
            preset = PRESETS[name]
            with column.container(gap="xsmall"):
                st.button(
                    preset.title,
                    key=f"preset-{name}",
                    icon=preset.icon,
                    width="stretch",
                    on_click=_apply,
                    args=(name,),
                )
                st.caption(f"{preset.sets} {_cost(preset, study, costs)}")
    if costs is not None:
        st.caption(
            "Times are for the form as it is, by what such work cost where the records here were "
            "made; Check measures them on this machine."
        )


def differs(study: Study) -> None:
    """Say what in the form is not as in the preset or the file it was filled from."""
    meant: study_fill.Meant | None = st.session_state.get(study_fill.MEANT)
    if meant is None:
        return
    found = study_fill.differing(study, meant.values)
    if not found:
        st.caption(f":material/check: As in {messages.plain(meant.name)}.")
        return
    more = f" · and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    words = " · ".join(found[:SHOWN])
    st.caption(
        f":material/edit: Not as in {messages.plain(meant.name)}: {messages.plain(words)}{more}."
    )


def known_costs(study: Study, listed: list[Listed]) -> Costs | None:
    """Return sizes and unit costs of a record of the same model and data, None if there is none.

    Of several the one in the middle: a machine that was busy measures too much.
    """
    of = (Path(study.data.source).stem, study.model.name)
    found = [
        (entry.info["costs"]["hvp_per_sample"], entry.info["data"]["sizes"], entry.info["costs"])
        for entry in listed
        if entry.status == "finished"
        and (entry.info["data"]["name"], entry.info["model"]["name"]) == of
    ]
    if not found:
        return None
    _, sizes, costs = sorted(found, key=lambda one: float(one[0]))[len(found) // 2]
    return sizes, costs


def _cost(preset: Preset, study: Study | None, costs: Costs | None) -> str:
    if study is None or costs is None or "data" in preset.subject:
        return preset.costs
    try:
        seconds = presets.seconds(presets.applied(preset, study), *costs)
    except GifError:  # it does not go together with what the form says now
        return preset.costs
    return f"About **{messages.duration(seconds)}**."


def _apply(name: str) -> None:
    preset = PRESETS[name]
    called = f"the preset {preset.title}"
    if not preset.subject:
        study_fill.put_some(preset.values, called)
        return
    before: Study = st.session_state.get(DRAWN) or Study()
    try:
        study = presets.applied(preset, before)
    except GifError as problem:
        st.session_state["new_problems"] = [str(problem)]
        return
    study_fill.put(study, called, trusted=True)
    st.session_state["new_title"] = ""

"""The part of Before / after that picks one edit: what each class loses, why this step."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import cache, state
from dashboard.charts.per_class import MOST, Series, per_class
from dashboard.charts.step_search import step_search
from dashboard.charts.style import label
from dashboard.components import look
from dashboard.components.controls import one_of
from dashboard.components.measures import percent, times
from dashboard.components.messages import plain
from dashboard.state import Context
from gifcore.held_against import truth
from gifcore.outcome import Outcome, outcome
from gifcore.record import RETRAINED

METHOD, STEP = "before-after-method", "before-after-step"


def settle(context: Context, methods: list[str]) -> tuple[str, str]:
    """Return which edit is looked at, whatever tab is open; the address says "gif-searched"."""
    _from_address(context, methods)
    method = _chosen(METHOD, methods)
    step = _chosen(STEP, list(context.info["methods"][method]["steps"]))
    st.session_state["edit"] = f"{method}-{step}"
    state.keep("edit")
    state.write_address()
    return method, step


def _chosen(key: str, options: list[str]) -> str:
    """Return what was chosen if it is one of the options, else the last of them."""
    chosen = st.session_state.get(key)
    return chosen if chosen in options else options[-1]


def pick(context: Context, methods: list[str], *, steps_too: bool = True) -> tuple[str, str]:
    """Draw the choice of one edit above the tab that shows it, and return it.

    Args:
        steps_too: is the step to be chosen? Not where all of a method's are drawn.
    """
    method, step = settle(context, methods)
    steps = context.info["methods"][method]["steps"]
    names = {s: f"{s.capitalize()} {times(entry['scale'])}" for s, entry in steps.items()}
    with st.container(horizontal=True):
        one_of("Method", {m: label(m) for m in methods}, method, METHOD)
        if steps_too:
            one_of("Step", names, step, STEP)
    return method, step


def _from_address(context: Context, methods: list[str]) -> None:
    """Give the two choices what an address asked for, or say that it is not here."""
    asked = st.session_state.get("asked", {}).get("edit")
    if asked is None:
        return
    method, _, step = asked.rpartition("-")
    if method in methods and step in context.info["methods"][method]["steps"]:
        st.session_state[METHOD], st.session_state[STEP] = method, step
    else:
        st.session_state["gone"]["edit"] = asked


def section(context: Context, method: str) -> None:
    """Draw accuracy by class and the search of the step, side by side."""
    left, right = st.columns(2)
    with left:
        _per_class(context, method)
    with right:
        _search(context, method)


# --- classes --------------------------------------------------------------------------------------


def _per_class(context: Context, method: str) -> None:
    info = context.info
    classes, judged = info["data"]["classes"], outcome(info["change"])
    removed = judged.label if judged.task == "class" else None
    found = series_of(context, method)
    edits = [one for one in found if one.method != RETRAINED]
    title = per_class_title(edits, classes, removed)
    word = "removed" if judged.task == "class" else "backdoor"
    figure = per_class(
        found, classes, judged.label, title, look.palette(), word, picked=context.klass
    )
    look.chart(figure, "per-class")
    parts = []
    if len(classes) > MOST:
        parts.append(
            f"{MOST} of {len(classes)} classes are drawn, those whose accuracy differs most."
        )
    if context.klass is not None:
        parts.append(f"▸ {picked_words(edits, classes, context.klass)}")
    else:
        parts.append("A class chosen in the sidebar is highlighted here and in the matrices.")
    if len(edits) < len(found):
        parts.append("Retrained: the mean over the models trained again.")
    st.caption(plain(" ".join(parts)))


def series_of(context: Context, method: str) -> list[Series]:
    """Return accuracy by class before, after each step, and of retrained models (their mean)."""
    info = context.info
    found = [Series("Before", "before", "", info["before"]["test"]["per_class"])]
    again = truth(info)
    rows = [] if again is None else [m["test"].get("per_class") for m in again.models]
    known = [row for row in rows if row]
    if known:
        shares = np.array([[np.nan if s is None else s for s in row] for row in known], float)
        mean = [
            None if np.isnan(column).all() else float(np.nanmean(column)) for column in shares.T
        ]
        found.append(Series(f"Retrained ({len(known)})", RETRAINED, "", mean))
    for step, value in info["methods"][method]["steps"].items():
        name = f"{label(method)} {step} {times(value['scale'])}"
        found.append(Series(name, method, step, value["test"]["per_class"]))
    return found


def per_class_title(series: list[Series], classes: list[str], removed: int | None) -> str:
    """Return the finding: the class, but for a removed one, that loses most at the end."""
    changes = [
        (after - before, name)
        for i, (before, after, name) in enumerate(
            zip(series[0].shares, series[-1].shares, classes, strict=True)
        )
        if i != removed and before is not None and after is not None
    ]
    if not changes:
        return "Accuracy per class: there is no other class to measure"
    change, name = min(changes)
    other = "" if removed is None else "other "
    if change >= 0:
        return f"{series[-1].name}: no {other}class loses accuracy"
    return (
        f"{series[-1].name}: of the {other}classes, {name} loses most ({-100 * change:.1f} points)"
    )


def picked_words(series: list[Series], classes: list[str], picked: int) -> str:
    """Return "Bag: 96.5 % before, 85.0 % GIF natural × 1, …"."""
    parts = [
        f"{percent(one.shares[picked])} {'before' if one.method == 'before' else one.name}"
        for one in series
    ]
    return f"{classes[picked]}: {', '.join(parts)}."


# --- step -----------------------------------------------------------------------------------------


def _search(context: Context, method: str) -> None:
    curves = cache.curves(context.shown.path, method)
    judged = outcome(context.info["change"])
    curves = curves[curves["curve"].isin([curve for curve, _ in judged.curves])]
    if curves.empty:
        st.info("No step search was made: only the natural step was evaluated.")
        return
    searched = context.info["methods"][method]["steps"].get("searched")
    chosen = None if searched is None else float(searched["scale"])
    title = search_title(curves, label(method), chosen)
    rows = min(len(context.info["data"]["classes"]), MOST)
    figure = step_search(
        curves, method, chosen, title, look.palette(), judged.curves, height=130 + 26 * rows
    )
    look.chart(figure, "step-search")
    st.caption(plain(search_words(judged, label(method), chosen)))
    if chosen is None:
        return
    if chosen >= 0.999 * curves["x"].max():
        st.warning("The chosen step is the longest one tried: a longer one may do better.")
    elif chosen <= 1.001 * curves["x"].min():
        st.warning(
            "The chosen step is the shortest one tried: on validation no longer step of this "
            "update scored better."
        )


def search_title(curves: pd.DataFrame, name: str, chosen: float | None) -> str:
    """Return the finding: the score of the chosen step beside that of the natural one."""
    score = curves[curves["curve"] == "score"]
    natural = _at(score, 1.0)
    if chosen is None:
        end = "" if natural is None else f" (F1 {percent(natural)})"
        return f"{name}: only the natural step × 1 was evaluated{end}"
    best = _at(score, chosen)
    if best is None:
        return f"{name}: the step {times(chosen)} was chosen on the validation split"
    beside = "" if natural is None else f", {percent(natural)} at the natural step"
    return f"{name}: {times(chosen)} scores best on validation: F1 {percent(best)}{beside}"


def _at(score: pd.DataFrame, scale: float) -> float | None:
    """Return the score at a scale, None if nothing within 1 % of it was tried."""
    rows = score[score["x"] > 0]
    if rows.empty:
        return None
    off = np.abs(np.log(rows["x"].to_numpy(dtype=float) / scale))
    nearest = int(off.argmin())
    return float(rows["value"].iloc[nearest]) if off[nearest] < 0.01 else None


def search_words(judged: Outcome, name: str, chosen: float | None) -> str:
    """Return what the axis, the two marked steps and the score are."""
    parts = [
        f"{name} gives the direction of the change, and × 1, the natural step, its length by the "
        "theory. Each point is a step length that was tried on the validation split."
    ]
    if chosen is not None:
        parts.append(
            f"{times(chosen)} was chosen because its F1 is the highest; the test split had no part "
            "in it."
        )
    parts.append(f"F1: the harmonic mean of {judged.score}.")
    return " ".join(parts)

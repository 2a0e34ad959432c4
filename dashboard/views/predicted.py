"""The part of Before / after that shows what each model takes the images of one class for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import cache
from dashboard.charts.style import label
from dashboard.charts.taken_for import TakenFor, taken_for
from dashboard.components import held, look
from dashboard.components.measures import percent, times
from dashboard.components.messages import plain
from dashboard.state import Context
from gifcore.outcome import outcome
from gifcore.record import BEFORE, RETRAINED


def section(context: Context, methods: Sequence[str], about: int) -> None:
    """Draw the histogram of predicted classes of the test images of class `about`."""
    classes, judged = context.info["data"]["classes"], outcome(context.info["change"])
    name = classes[about]
    st.subheader(f"What images of class {plain(name)} are taken for")
    marks, retrained = histograms(context, methods, about)
    before = next((mark for mark in marks if mark.method == BEFORE), None)
    if before is None:
        st.info(f"There are no test images of class {plain(name)}: choose another in the sidebar.")
        return
    word = "" if about != judged.label else "removed" if judged.task == "class" else "backdoor"
    edits = [mark for mark in marks if mark.method != BEFORE]
    if len(retrained):
        title, bars, shown = taken_for_title(marks, retrained, classes, about), "", marks
    else:
        title, bars, shown = from_before_title(before, edits, classes, about), "Before", edits
    reference = retrained if len(retrained) else before.shares[None]
    figure = taken_for(
        shown, reference, classes, about, title, look.palette(), bars=bars, word=word
    )
    look.chart(figure, "taken-for")
    st.caption(_note(context, before, edits, retrained))


def histograms(
    context: Context, methods: Sequence[str], about: int
) -> tuple[list[TakenFor], np.ndarray]:
    """Return shares of predicted classes of one class: marks, and (models, C) of retrained ones.

    An edit is the longest step of its method: the searched one where it was searched.
    """
    path, classes = context.shown.path, len(context.info["data"]["classes"])
    rows = [
        shares_of(cache.samples(path, RETRAINED, step), about, classes)
        for step, _ in held.steps(context.info)
    ]
    kept = [row for row in rows if row is not None]
    marks, tried = [], [("Before", BEFORE, "")]
    for method in methods:
        step, entry = list(context.info["methods"][method]["steps"].items())[-1]
        tried.append((f"{label(method)} {step} {times(entry['scale'])}", method, step))
    for name, method, step in tried:
        shares = shares_of(cache.samples(path, method, step), about, classes)
        if shares is not None:
            marks.append(TakenFor(name, method, step, shares))
    return marks, np.array(kept)


def shares_of(rows: pd.DataFrame, about: int, classes: int) -> np.ndarray | None:
    """Return (C,) shares of what the images of a class are taken for, None without any."""
    own = rows[rows["label"] == about]["predicted"].to_numpy(dtype=int)
    return np.bincount(own, minlength=classes) / len(own) if len(own) else None


def apart(first: np.ndarray, second: np.ndarray) -> float:
    """Return the total variation of two histograms: half the sum of absolute differences.

    >>> apart(np.array([1.0, 0.0]), np.array([0.25, 0.75]))
    0.75
    """
    return float(0.5 * np.abs(first - second).sum())


def taken_for_title(
    marks: list[TakenFor], retrained: np.ndarray, classes: list[str], about: int
) -> str:
    """Return the finding: where retrained models put the class, and how far each model is off."""
    mean = retrained.mean(axis=0)
    top = int(mean.argmax())
    where = "still itself" if top == about else classes[top]
    words = (
        f"Retrained models take {classes[about]} for {where} most often ({percent(mean[top], 0)})"
    )
    off = distances(marks, mean)
    return f"{words}; total variation from their mean: {off}" if off else words


def from_before_title(
    before: TakenFor, edits: list[TakenFor], classes: list[str], about: int
) -> str:
    """Return the finding without retrained models: how far each edit moves the histogram."""
    if not edits:
        return f"No edit was evaluated on {classes[about]}"
    last = edits[-1]
    top = int(last.shares.argmax())
    where = "itself" if top == about else classes[top]
    return (
        f"After {_short(last)}’s edit {classes[about]} is taken for {where} most often "
        f"({percent(last.shares[top], 0)}); total variation from before: "
        f"{distances(edits, before.shares)}"
    )


def distances(marks: Sequence[TakenFor], reference: np.ndarray) -> str:
    """Return "unedited 0.98, IF 0.12" from a histogram."""
    return ", ".join(f"{_short(mark)} {apart(mark.shares, reference):.2f}" for mark in marks)


def _short(mark: TakenFor) -> str:
    return "unedited" if mark.method == BEFORE else label(mark.method)


def _note(context: Context, before: TakenFor, edits: list[TakenFor], retrained: np.ndarray) -> str:
    parts = [
        "Each bar and mark: the share of the test images of this class that a model predicts as "
        "the class on the left. Total variation: half the sum of the differences of two "
        "histograms, 0 = the same, 1 = nothing in common."
    ]
    if len(retrained):
        parts.append(f"From before: {distances(edits, before.shares)}." if edits else "")
    if len(retrained) > 1:
        pairs = [apart(a, b) for a, b in itertools.combinations(retrained, 2)]
        parts.append(
            f"Retrained models are {np.mean(pairs):.2f} apart from each other on average; "
            "whiskers are ± 1 standard deviation."
        )
    if not len(retrained):
        parts.append("What retrained models would predict was not measured.")
    if context.klass is None:
        parts.append("Another class: choose it in the sidebar.")
    parts.append("Classes below 1 % in every model are left out.")
    return " ".join(part for part in parts if part)

"""The panel "How sure is this?" under every figure: solve, checks, what would make it wrong.

One closed line until it is opened; what it says is read from the record then, and from it alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import streamlit as st

from dashboard import cache, doubts
from dashboard.charts.style import label
from dashboard.components import certificate, held
from dashboard.components.messages import plain
from dashboard.doubt_rules import Facts
from dashboard.doubts import FIGURES
from dashboard.state import Context
from dashboard.texts import sections
from gifcore import mislabel_words
from gifcore.fastif_words import depth_shown, top_kept
from gifcore.held_against import truth
from gifcore.preview import measured_words
from gifcore.record import BEFORE, SEARCHED
from gifcore.solve_words import stabilities

NAME = "How sure is this?"
RANKINGS = ("samples", "compare", "preview")  # figures of the ranking of one test image
EDITS = tuple(name for name in FIGURES if name not in (*RANKINGS, "labels", "speed"))
SECOND = ("layer", "unit", "confusion", "histogram", "step-search", "flips")  # tables are above
UNSOLVED = "This record holds no certificate for what is shown."


def panel(
    context: Context,
    figure: str,
    *,
    key: str = "",
    query: int | None = None,
    methods: Sequence[str] | None = None,
    more: Callable[[], None] | None = None,
) -> None:
    """Draw the panel of a figure; opening it draws nothing else again.

    Args:
        figure: one of `doubts.FIGURES`: it decides what can make it wrong.
        key: tells two panels of one kind of figure on a page apart.
        query: the test image whose ranking is shown.
        methods: None for those picked in the sidebar.
        more: draws what only this figure has, below the plain words.
    """
    shown = list(context.methods if methods is None else methods)
    _panel(context, figure, key or figure, query, shown, more)


@st.fragment
def _panel(
    context: Context,
    figure: str,
    key: str,
    query: int | None,
    methods: list[str],
    more: Callable[[], None] | None,
) -> None:
    with st.expander(NAME, key=f"sure-{key}", icon=":material/verified:", on_change="rerun") as box:
        if box.open:
            _inside(context, figure, key, query, methods, more)


def _inside(
    context: Context,
    figure: str,
    key: str,
    query: int | None,
    methods: list[str],
    more: Callable[[], None] | None,
) -> None:
    facts = facts_of(context, figure, query, methods)
    top = facts.top
    for method, found in facts.certificates.items():
        st.markdown(certificate.sentence(method, found, top))
    if not facts.certificates and figure in (*RANKINGS, *EDITS) and figure != "preview":
        st.write(UNSOLVED)
    for line in known(context, figure, methods, top):
        st.markdown(line)
    if more is not None:
        more()
    lines = doubts.of(facts, figure)
    st.markdown("**What would make this wrong**\n\n" + "\n".join(f"- {line}" for line in lines))
    if figure in SECOND or not (figure in EDITS and held.details(context, methods, key)):
        st.markdown(check(context, figure, methods))
    solved = None if figure in EDITS else query
    if facts.certificates and figure in SECOND:
        certificate.history(context, facts.certificates, key, solved)
    elif facts.certificates:
        certificate.details(context, facts.certificates, key, solved)


def facts_of(context: Context, figure: str, query: int | None, methods: list[str]) -> Facts:
    """Return what the record says of a figure."""
    info = context.info
    asked = next((q for q in cache.queries(context.shown) if q["index"] == query), None)
    entries = {m: info["methods"][m] for m in methods}
    if figure in EDITS:
        certificates = {m: e["certificate"] for m, e in entries.items() if e.get("certificate")}
    else:
        ranked = {} if asked is None else asked["certificates"]
        certificates = {m: ranked[m] for m in methods if m in ranked}
    if asked is None and figure == "preview" and query is not None:
        asked = cache.test_image(context.shown.path, query)
    return Facts(
        info,
        methods,
        certificates,
        asked,
        others=len({selector for selector, _ in context.family} - {context.selector}),
        smallest=smallest_row(context) if figure == "confusion" else None,
        right=_learnt(context) if figure == "labels" else None,
        ends=ends(context, methods) if "edge" in FIGURES[figure] else {},
    )


# --- what is known of the rankings ----------------------------------------------------------------


def known(context: Context, figure: str, methods: Sequence[str], top: int) -> list[str]:
    """Return what was measured of how firm a ranking is and how much cheaper ways find of it."""
    lines = []
    if figure in RANKINGS and figure != "preview":
        lines += [line for m in methods if (line := stability(context.info, m, top))]
    if figure in RANKINGS:
        recalls = (context.info.get("preview") or {}).get("recall") or {}
        lines += [
            f"**Instant previews by {label(m)}** against exact rankings: "
            f"{measured_words(recalls[m])}."
            for m in methods
            if m in recalls
        ]
    if figure in (*RANKINGS, "speed"):
        lines += nearest(context, methods)
    return lines


def stability(info: dict[str, Any], method: str, top: int) -> str:
    """Return how firm the rankings of all test images are; "" where that was not measured."""
    shares = stabilities(info["methods"][method])
    if len(shares) < 2:
        return ""
    return (
        f"**All {len(shares)} ranked test images, {label(method)}**: of the first {top}, "
        f"{round(min(shares) * top)} to {round(max(shares) * top)} were already there at half the "
        f"budget (median {round(statistics.median(shares) * top)})."
    )


def nearest(context: Context, methods: Sequence[str]) -> list[str]:
    """Return how much of the exact top the nearest training images keep, where it was measured."""
    measured = context.shown.fastif
    lines = []
    for method in methods if measured else ():
        if method not in measured["methods"]:
            continue
        recall, _ = cache.fastif(context.shown.path, method)
        n, depth = measured["index"]["n"], depth_shown(measured)
        kept = {k: share for k, share in top_kept(recall, depth).items() if k < n}
        words = ", ".join(f"{k:,} keep {100 * share:.0f} %" for k, share in kept.items())
        if words:
            lines.append(
                f"**Nearest training images instead of all, {label(method)}**: of the exact top "
                f"{depth}, the nearest {words}."
            )
    return lines


# --- facts that are counted -----------------------------------------------------------------------


def smallest_row(context: Context) -> tuple[str, int] | None:
    """Return the class with the fewest test images and their number, None if not kept."""
    rows = cache.samples(context.shown.path, BEFORE)
    if rows.empty:
        return None
    classes = context.info["data"]["classes"]
    counts = np.bincount(rows["label"].to_numpy(dtype=int), minlength=len(classes))
    there = np.flatnonzero(counts)  # an empty class has no row
    least = int(there[counts[there].argmin()])
    return classes[least], int(counts[least])


def ends(context: Context, methods: Sequence[str]) -> dict[str, str]:
    """Return the methods whose chosen step is the first or the last that was tried."""
    found = {}
    for method in methods:
        chosen = (context.info["methods"][method].get("steps") or {}).get(SEARCHED)
        curves = cache.curves(context.shown.path, method) if chosen else None
        tried = None if curves is None else curves[curves["curve"] == "score"]["x"]
        if chosen is None or tried is None or len(tried) < 2:
            continue
        if chosen["scale"] >= 0.999 * tried.max():
            found[method] = "longest"
        elif chosen["scale"] <= 1.001 * tried.min():
            found[method] = "shortest"
    return found


def _learnt(context: Context) -> float | None:
    """Return the share of the training labels that the model predicts, None if not kept."""
    rows = cache.suspects(context.shown.path)
    if rows.empty or not {"given", "predicted"} <= set(rows):
        return None
    return float((rows["given"] == rows["predicted"]).mean())


# --- held against the truth -----------------------------------------------------------------------


def check(context: Context, figure: str, methods: Sequence[str]) -> str:
    """Return against what the figure was held, or that it was not and how to do that."""
    info, texts = context.info, sections("checks")
    found = truth(info)
    match figure:
        case "speed":
            return texts["speed"]
        case "labels":
            entry = info.get("mislabel") or {}
            if not entry.get("wrong"):
                return texts["labels-unknown"]
            labels = plain(mislabel_words.labels_of(entry))
            return texts["labels"].format(labels=labels)
        case _ if figure in RANKINGS:
            if found is None:
                return texts["ranking"]
            return texts["ranking-retrained"].format(counted=held.counted(found))
        case _:
            edited = [m for m in methods if info["methods"][m].get("steps")]
            if edited and found is not None:
                same = plain(held.agreement_title(info, edited, found))
                return texts["edit-retrained"].format(counted=held.counted(found), same=same)
            return texts["edit" if edited else "unedited"]

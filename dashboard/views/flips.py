"""The part of Before / after that shows the single images whose prediction changed."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cache
from dashboard.charts.style import label
from dashboard.components import gallery, sure
from dashboard.components.controls import forget_if_gone, one_of
from dashboard.components.gallery import Pictures, Tile
from dashboard.components.messages import plain
from dashboard.state import Context
from gifcore.outcome import outcome

PER_PAGE = 24
KINDS = {
    "lost": "Lost: right → wrong",
    "gained": "Gained: wrong → right",
    "moved": "Wrong → wrong",
}
OTHERS, EVERY = "All other classes", "All classes"


def section(context: Context, method: str, step: str) -> None:
    """Draw filters and a page of images of one edit."""
    path = context.shown.path
    before, after = cache.samples(path, "before"), cache.samples(path, method, step)
    if before.empty or after.empty:
        return
    found = changed(before, after)
    st.subheader("Images whose prediction changed")
    st.markdown(summary(found, context, f"{label(method)}’s {step} step"))
    if found.empty:
        return
    kind, shown = _filter(context, found)
    if shown.empty:
        st.info("No image fits: nothing of this kind changed. Choose another kind or class.")
        return
    pages = -(-len(shown) // PER_PAGE)
    number = 1
    if pages > 1:
        number = st.pagination(pages, key=f"flips-page-{method}-{step}-{kind}")
    part = shown.iloc[(number - 1) * PER_PAGE : number * PER_PAGE]
    source = gallery.pictures(context)
    gallery.missing_data_note(source, context.info["data"]["name"])
    st.caption("In bold the true class; p is the probability of it, before → after.")
    gallery.rows(
        [_tile(row, source) for row in part.rename(columns={"index": "number"}).itertuples()]
    )
    sure.panel(context, "flips", methods=[method])


def changed(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Return the images whose predicted class changed, the largest change of p(label) first.

    Columns: index, label, predicted, p_label and loss twice (_was, _now), kind (of KINDS), change.
    """
    both = before.merge(after, on=["index", "label"], suffixes=("_was", "_now"))
    both = both[both["predicted_was"] != both["predicted_now"]].copy()
    both["kind"] = "moved"
    both.loc[both["predicted_was"] == both["label"], "kind"] = "lost"
    both.loc[both["predicted_now"] == both["label"], "kind"] = "gained"
    both["change"] = (both["p_label_now"] - both["p_label_was"]).abs()
    return both.sort_values(["change", "index"], ascending=[False, True])


def summary(found: pd.DataFrame, context: Context, edit: str) -> str:
    """Return how many images were lost and gained, in the removed class and in the others."""
    if found.empty:
        return f"{edit} changes none of the test predictions."
    change = context.info["change"]
    lost, gained = found["kind"] == "lost", found["kind"] == "gained"
    if outcome(change).task != "class":
        return (
            f"{edit} changes {len(found):,} of the test predictions: it loses "
            f"{int(lost.sum()):,} images that were right and gains {int(gained.sum()):,}."
        )
    removed, name = change["label"], plain(change["class_name"])
    own = found["label"] == removed
    return (
        f"{edit} changes {len(found):,} of the test predictions: it loses "
        f"{int((own & lost).sum()):,} images of class {name} and {int((~own & lost).sum()):,} of "
        f"the other classes, and gains {int((~own & gained).sum()):,} of the others."
    )


def _filter(context: Context, found: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    classes, judged = context.info["data"]["classes"], outcome(context.info["change"])
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        kind = one_of("Kind", KINDS, "lost", "flips-kind")
    others = [OTHERS] if judged.task == "class" else []
    choices = [*others, EVERY, *classes]
    forget_if_gone("flips-class", choices)
    of = right.selectbox("True class", choices, key="flips-class", persist_state="session")
    shown = found[found["kind"] == kind]
    if of == OTHERS:
        shown = shown[shown["label"] != judged.label]
    elif of != EVERY:
        shown = shown[shown["label"] == classes.index(of)]
    return kind, shown


def _tile(row: Any, source: Pictures) -> Tile:  # noqa: ANN401 - a named tuple of pandas
    names = source.classes
    index, true = row.number, names[row.label]
    was, now = names[row.predicted_was], names[row.predicted_now]
    p = f"p {row.p_label_was:.2f} → {row.p_label_now:.2f}"
    caption = f"**{plain(true)}** \\#{index}  \n{plain(was)} → {plain(now)}  \n{p}"
    alt = f"Test image {index}, class {true}: predicted {was} before, {now} after, {p}"
    return Tile(source.png("test", index), caption, alt)

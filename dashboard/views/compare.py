"""Compare: do two views agree, as rankings, as updates and as edits, and what did each cost?"""

from __future__ import annotations

import streamlit as st

from dashboard import library, state
from dashboard.charts.style import label
from dashboard.components import measures, tabs
from dashboard.components import page as frame
from dashboard.components.messages import plain
from dashboard.components.tabs import Tab
from dashboard.state import Context
from dashboard.views import compare_edits, compare_fit, compare_maps, compare_pick, compare_scores
from dashboard.views.compare_pick import Pair
from dashboard.views.parameters import all_moves


def page() -> None:
    """Draw the page: what is held against what, then a tab for each way of comparing."""
    context = state.context()
    methods = context.shown.methods
    st.title("Compare")
    pair = compare_pick.draw(context)
    if pair is None:
        st.markdown(f"This record holds only {label(methods[0])}: nothing to compare.")
        st.info(more(context))
        compare_edits.costs_section(context.info, methods, None)
        return
    for line in compare_fit.notes(pair):
        st.info(plain(line), icon=":material/info:")
    tabs.draw(
        {
            "rankings": Tab("Scores", lambda: _rankings(pair)),
            "overlap": Tab("Overlap", lambda: compare_scores.overlap_section(pair)),
            "flow": Tab("Rank flow", lambda: compare_scores.flow_section(pair)),
            "every": Tab("All test images", lambda: compare_scores.every(pair)),
            "moves": Tab("Parameters", lambda: _moves(pair)),
            "edits": Tab("Edits", lambda: compare_edits.section(pair)),
            "costs": Tab("Costs", lambda: compare_edits.costs_section(context.info, methods, pair)),
        }
    )


def more(context: Context) -> str:
    """Return what to do where the record holds one method only."""
    above = "Choose another selector, ratio or study above, or start"
    alone = len(context.family) < 2 and len(library.families()) < 2
    return f"{'Start' if alone else above} the study again with two methods, under *New study*."


def _rankings(pair: Pair) -> None:
    scores = compare_scores.section(pair)
    if scores is None:
        return
    columns = [side.column for side in pair.sides]
    units = [measures.explained(info).unit for info in pair.infos]
    found = dict(zip(columns, scores, strict=True))
    named = dict(zip(columns, units, strict=True))
    st.subheader("Take it with you")
    frame.downloads(
        f"scores-test-{pair.first.context.query}-{_stem(pair)}",
        lambda: compare_scores.score_table(found, named),
        "Both scores of every training sample",
    )


def _moves(pair: Pair) -> None:
    moves = compare_maps.section(pair)
    if len(moves) < 2:
        return
    layers = pair.first.info["model"]["layers"]
    by_column = {side.column: moves[side.name] for side in pair.sides}
    st.subheader("Take it with you")
    frame.downloads(
        f"moves-{_stem(pair)}", lambda: all_moves(layers, by_column), "Every moved number"
    )


def _stem(pair: Pair) -> str:
    return f"{pair.first.column}-and-{pair.second.column}"

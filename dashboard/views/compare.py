"""Compare: do two views agree, as rankings, as updates and as edits, and what did each cost?"""

from __future__ import annotations

import streamlit as st

from dashboard import library, state
from dashboard.charts.style import label
from dashboard.components import measures
from dashboard.components import page as frame
from dashboard.state import Context
from dashboard.views import compare_edits, compare_maps, compare_pick, compare_scores
from dashboard.views.compare_pick import Pair
from dashboard.views.compare_scores import Scores
from dashboard.views.layer_maps import Moves
from dashboard.views.parameters import all_moves

CONTENTS = (
    "On this page: the rankings, then [where each moves the model](#where-each-moves-the-model), "
    "[the edits](#as-edits-of-the-model) and [what each cost](#what-each-cost)."
)


def page() -> None:
    """Draw the page: what is held against what, then rankings, parameters, edits and costs."""
    context = state.context()
    methods = context.shown.methods
    st.title("Compare")
    pair = compare_pick.draw(context)
    if pair is None:
        st.markdown(f"This record holds only {label(methods[0])}: nothing to compare.")
        st.info(more(context))
        compare_edits.costs_section(context.info, methods, None)
        return
    st.caption(CONTENTS)
    scores = compare_scores.section(pair)
    moves = compare_maps.section(pair)
    compare_edits.section(pair)
    compare_edits.costs_section(context.info, methods, pair)
    _export(pair, scores, moves)


def more(context: Context) -> str:
    """Return what to do where the record holds one method only."""
    above = "Choose another selector, ratio or study above, or start"
    alone = len(context.family) < 2 and len(library.families()) < 2
    return f"{'Start' if alone else above} the study again with two methods, under *New study*."


def _export(pair: Pair, scores: Scores | None, moves: Moves) -> None:
    if scores is None and len(moves) < 2:
        return
    st.subheader("Take it with you")
    first = pair.first.context
    stem = f"{pair.first.column}-and-{pair.second.column}"
    if scores is not None:
        columns = [side.column for side in pair.sides]
        units = [measures.explained(info).unit for info in pair.infos]
        found = dict(zip(columns, scores, strict=True))
        named = dict(zip(columns, units, strict=True))
        frame.downloads(
            f"scores-test-{first.query}-{stem}",
            lambda: compare_scores.score_table(found, named),
            "Both scores of every training sample",
        )
    if len(moves) == 2:
        layers = pair.first.info["model"]["layers"]
        by_column = {s.column: moves[s.name] for s in pair.sides}
        frame.downloads(f"moves-{stem}", lambda: all_moves(layers, by_column), "Every moved number")

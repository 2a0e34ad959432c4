"""Parameters: which were selected and how far each method moves them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import cache, state
from dashboard.charts.layers import layers as layers_figure
from dashboard.charts.style import label, listed
from dashboard.components import certificate, look, weights
from dashboard.components import page as frame
from dashboard.components.controls import one_of
from dashboard.components.measures import percent, significant
from dashboard.components.messages import plain
from dashboard.state import Context
from dashboard.views import layer_maps
from dashboard.views.layer_maps import Moves
from gifcore.outcome import outcome


def page() -> None:
    """Draw the page: network, then one layer, then one unit of it."""
    context = state.context()
    layers = context.info["model"]["layers"]
    if not all("norm" in context.info["methods"][m] for m in context.methods):
        frame.head("Parameters", "This study only ranked: no parameter was moved.")
        st.info("A study started under *New study* also edits the model.")
        return
    moves = {m: cache.update(context.shown.path, m) for m in context.methods}
    tables = {m: weights.layer_table(layers, *move) for m, move in moves.items()}
    frame.head("Parameters", answer(context, tables))
    _network(context, tables, [m for m, (indices, _) in moves.items() if indices is None])
    layer_maps.section(layers, moves, tables, context.info["data"]["classes"])
    _export(context, layers, moves)


def answer(context: Context, tables: dict[str, pd.DataFrame]) -> str:
    """Return one sentence: how many numbers each method moves, how far, and mostly where."""
    parts = []
    for method, table in tables.items():
        moved, size = int(table["selected"].sum()), int(table["size"].sum())
        squares = table["norm"] ** 2
        norm = float(np.sqrt(squares.sum()))
        count = f"all {size:,}" if moved == size else f"{moved:,} of {size:,}"
        part = f"**{label(method)}** moves {count} numbers by ‖Δ‖ = {significant(norm)}"
        if norm > 0:
            top = int(squares.to_numpy().argmax())
            part += (
                f", mostly in {table['layer'][top]} "
                f"({percent(squares[top] / squares.sum(), 0)} of the squared move)"
            )
        parts.append(part)
    judged = outcome(context.info["change"])
    aim = f"forget {judged.own.noun}" if judged.task == "class" else judged.aim
    return f"To {plain(aim)}, " + "; ".join(parts) + "."


# --- network --------------------------------------------------------------------------------------


def _network(context: Context, tables: dict[str, pd.DataFrame], whole: list[str]) -> None:
    st.subheader("The network, layer by layer")
    measure = one_of(
        "Length of the bars",
        {"norm": "Movement ‖Δ‖ of the layer", "rms": "Typical move of one number"},
        "norm",
        "parameters-measure",
    )
    title = layers_title(tables, measure)
    look.chart(layers_figure(tables, measure, title, look.palette()), "layers")
    note = "At scale 1, the natural step. A searched step multiplies every move by its scale."
    if whole:
        names = listed([label(m) for m in whole])
        note += f" {names} knows no selection: every parameter moves."
    st.caption(note)
    certificate.panel(context, "parameters")


def layers_title(tables: dict[str, pd.DataFrame], measure: str) -> str:
    """Return the finding: the layer each method moves most."""
    tops = {
        label(m): table["layer"][int(table[measure].to_numpy().argmax())]
        for m, table in tables.items()
        if table[measure].max() > 0
    }
    end = "furthest" if measure == "norm" else "furthest per number"
    if len(tops) > 1 and len(set(tops.values())) == 1:
        return f"{listed(list(tops))} move {next(iter(tops.values()))} {end}"
    parts = [f"{method} moves {layer} {end}" for method, layer in tops.items()]
    return ", ".join(parts) or "Nothing moved"


# --- export ---------------------------------------------------------------------------------------


def _export(context: Context, layers: list[dict[str, Any]], moves: Moves) -> None:
    st.subheader("Take it with you")
    stem = f"moves-{context.selector}-{context.ratio:g}"
    frame.downloads(stem, lambda: all_moves(layers, moves), "Every moved number")


def all_moves(layers: list[dict[str, Any]], moves: Moves) -> pd.DataFrame:
    """Return index, layer and one column of moves per method (empty where not selected)."""
    size = sum(layer["size"] for layer in layers)
    table = pd.DataFrame({"index": np.arange(size)})
    table["layer"] = np.repeat([x["name"] for x in layers], [x["size"] for x in layers])
    for method, (indices, delta) in moves.items():
        column = np.full(size, np.nan)
        column[slice(None) if indices is None else indices] = delta
        table[f"{method}_delta"] = column
    moved = table.iloc[:, 2:].notna().any(axis=1)
    return table[moved].reset_index(drop=True)

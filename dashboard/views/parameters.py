"""Parameters: which were selected and how far each method moves them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import cache, state
from dashboard.charts.layers import layers as layers_figure
from dashboard.charts.network import network as network_figure
from dashboard.charts.style import label, listed
from dashboard.components import look, sure, tabs, weights
from dashboard.components import page as frame
from dashboard.components.controls import one_of
from dashboard.components.measures import percent, significant
from dashboard.components.messages import plain
from dashboard.components.tabs import Tab
from dashboard.state import Context
from dashboard.views import layer_maps, unit_maps
from dashboard.views.layer_maps import Moves
from gifcore.outcome import outcome

PICTURES = {
    "map": "Map of the network",
    "norm": "Bars: movement ‖Δ‖ of each layer",
    "rms": "Bars: typical move of one number",
}


def page() -> None:
    """Draw the page; its tabs are the network, one layer of it, one unit of that."""
    context = state.context()
    layers = context.info["model"]["layers"]
    if not all("norm" in context.info["methods"][m] for m in context.methods):
        frame.head("Parameters", "This study only ranked: no parameter was moved.")
        st.info("A study started under *New study* also edits the model.")
        return
    moves = {m: cache.update(context.shown.path, m) for m in context.methods}
    tables = {m: weights.layer_table(layers, *move) for m, move in moves.items()}
    frame.head("Parameters", answer(context, tables))
    layer_maps.seed(layers, tables)
    layer = layer_maps.pick(layers, tables)
    values = {m: weights.layer_values(layer, *move) for m, move in moves.items()}

    def network() -> None:
        whole = [m for m, (indices, _) in moves.items() if indices is None]
        _network(context, tables, whole, layer)
        sure.panel(context, "parameters")
        _export(context, layers, moves)

    def one_layer() -> None:
        layer_maps.section(layer, values)
        sure.panel(context, "layer")

    def one_unit() -> None:
        unit_maps.section(context, layer, values)
        sure.panel(context, "unit")

    titles = ("Network", "One layer", "One unit")
    parts = zip(layer_maps.TABS, titles, (network, one_layer, one_unit), strict=True)
    tabs.draw({name: Tab(title, part) for name, title, part in parts})
    state.write_address()


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


def _network(
    context: Context, tables: dict[str, pd.DataFrame], whole: list[str], layer: dict[str, Any]
) -> None:
    st.subheader("The network, layer by layer")
    picture = one_of("Picture", PICTURES, "map", "parameters-measure")
    note = "At scale 1, the natural step. A searched step multiplies every move by its scale."
    if picture == "map":
        rows = context.info["model"]["layers"]
        modules = {m: weights.module_table(rows, table) for m, table in tables.items()}
        title = layers_title(tables, "norm")
        largest = dict(next(iter(modules.values()))[["module", "layer"]].to_numpy().tolist())
        shown = layer["module"] or layer["name"]
        figure = network_figure(modules, title, look.palette(), shown)
        look.chart(figure, "network", partial(_go, largest))
        note = (
            "A click on a tile opens its layer in the tab One layer; the strong frame marks the "
            "one that is picked. Area: cube root of the number of parameters. " + note
        )
    else:
        title = layers_title(tables, picture)
        look.chart(layers_figure(tables, picture, title, look.palette()), "layers")
    if whole:
        names = listed([label(m) for m in whole])
        note += f" {names} knows no selection: every parameter moves."
    st.caption(note)


def _go(layers: dict[str, str], point: dict[str, Any]) -> None:
    """Open the layer of the tile that was clicked; a unit that was shown was one of another."""
    name = layers.get(point.get("label", ""))
    if name is not None:
        if name != state.picked().get("layer"):
            state.show(unit=None)
        state.show(layer=name)
        tabs.turn("layer", layer_maps.TABS)


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

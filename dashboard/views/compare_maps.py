"""The part of Compare about parameters: how far both move each layer, and one layer as maps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import cache, pairing, state
from dashboard.charts.heatmap import Panel, heatmap
from dashboard.charts.layers import Bar
from dashboard.charts.layers import layers as layers_figure
from dashboard.components import look, pixels, sure, weights
from dashboard.components.controls import one_of
from dashboard.components.measures import significant
from dashboard.components.messages import plain
from dashboard.views import layer_maps
from dashboard.views.compare_pick import Pair, Side
from dashboard.views.layer_maps import Moves, Values
from dashboard.views.parameters import layers_title

BARS = {"norm": "Movement ‖Δ‖ of each layer", "rms": "Typical move of one number"}
DIFFERENCE = "Difference"
PALE = 5  # of two updates on one scale, one that many times shorter is hardly seen


def section(pair: Pair) -> Moves:
    """Draw the updates of both, layer by layer and one layer in full; return them by name."""
    st.subheader("Where each moves the model")
    moved = [side for side in pair.sides if "norm" in side.entry]
    if why := _silent(pair, moved):
        st.markdown(why)
    if not moved or not pairing.same_layers(*pair.infos):
        st.info(
            "To see the updates side by side, choose methods above that edit one model; what a "
            "method moves alone is on *Parameters*."
        )
        return {}
    layers = pair.first.info["model"]["layers"]
    moves = {side.name: cache.update(side.context.shown.path, side.method) for side in moved}
    tables = {name: weights.layer_table(layers, *move) for name, move in moves.items()}
    _network(pair, tables)
    layer_maps.seed(layers, tables)
    layer = layer_maps.pick(layers, tables)
    _layer(layer, {name: weights.layer_values(layer, *move) for name, move in moves.items()})
    _certificates(pair, moved)
    words = "This layer of the sidebar’s view on Parameters, unit by unit"
    state.link("parameters", words, tab=["layer", "moves"])
    return moves


def _silent(pair: Pair, moved: list[Side]) -> str:
    """Return what of the two cannot be drawn side by side, and why; "" if all of it can."""
    if not moved:
        return "Both only ranked: no parameter was moved by either."
    if not pairing.same_layers(*pair.infos):
        names = [plain(info["model"]["name"]) for info in pair.infos]
        which = (
            f"{names[0]} and {names[1]}" if names[0] != names[1] else f"two shapes of {names[0]}"
        )
        return (
            f"The two models have **different layers** ({which}): no number of one is a number of "
            "the other, so the updates cannot be laid over one another."
        )
    if len(moved) == 1:
        gone = next(side for side in pair.sides if side is not moved[0])
        return f"{gone.name} only ranked and moved no parameter: {moved[0].name} is shown alone."
    if pair.infos[0]["model"]["hash"] != pair.infos[1]["model"]["hash"]:
        return (
            "The two models have the same layers but **other weights**: moves are compared by "
            "their places, though they start from different points."
        )
    return ""


# --- all layers -----------------------------------------------------------------------------------


def _network(pair: Pair, tables: dict[str, pd.DataFrame]) -> None:
    measure = one_of("Bars", BARS, "norm", "compare-bars")
    palette = look.palette()
    looks = zip(pair.names, pair.colours(palette), pair.patterns, strict=True)
    bars = {name: Bar(name, colour, pattern) for name, colour, pattern in looks}
    title = layers_title(tables, measure)
    look.chart(layers_figure(tables, measure, title, palette, bars), "compare-layers")
    st.caption(
        "Left the share of each layer’s numbers that may move, right how far they do, both at "
        "scale 1, the natural step. A searched step multiplies every move by its scale."
    )


# --- one layer ------------------------------------------------------------------------------------


def _layer(layer: dict[str, Any], values: Values) -> None:
    matrices = {name: weights.as_matrix(value) for name, value in values.items()}
    if len(values) == 2:
        matrices[DIFFERENCE] = pairing.difference(*matrices.values())
    cut = {name: weights.blocks(matrix) for name, matrix in matrices.items()}
    # The scale is that of the two updates: on it a pale difference is a small one.
    top = weights.limit([cut[name].values for name in values])
    panels = [
        Panel(_heading(name, matrices[name]), one.values, top, layer_maps.cell_texts(one),
              step=(one.rows, one.columns))
        for name, one in cut.items()
    ]  # fmt: skip
    cells = next(iter(cut.values()))
    figure = heatmap(
        panels,
        layer_title(layer["name"], values),
        look.palette(),
        x_title=layer_maps.axis_title("input", cells.columns),
        y_title=layer_maps.axis_title("unit", cells.rows),
        height=layer_maps.height_of(cells),
    )
    look.chart(figure, "compare-layer")
    for name, value in values.items():
        if np.isnan(value).all():
            st.info(f"{name} selected no parameter of this layer: its map is grey all over.")
    st.caption(" ".join([*layer_maps.cell_note(cells), *scale_notes(cut, list(values), top)]))
    if cells.rows * cells.columns > 1:
        pixels.full_resolution(layer["name"], matrices, dict.fromkeys(matrices, top))


def _heading(name: str, matrix: np.ndarray) -> str:
    return f"{name}<br>‖Δ‖ = {significant(float(np.sqrt(np.nansum(matrix**2))))}"


def layer_title(layer: str, values: Values) -> str:
    """Return the finding: how many numbers both, one or none may move, and how alike the moves."""
    names, size = list(values), next(iter(values.values())).size
    if len(names) == 1:
        moved = int((~np.isnan(values[names[0]])).sum())
        return f"{layer}: {names[0]} moves {moved:,} of {size:,} numbers"
    found = pairing.selected(*values.values())
    words = (
        f"{layer}: of {size:,} numbers both move {found.both:,}, {names[0]} alone {found.first:,}, "
        f"{names[1]} alone {found.second:,}, neither {found.none:,}"
    )
    alike = pairing.cosine(*values.values())
    return words if math.isnan(alike) else f"{words}; cosine of the two moves {alike:.2f}"


def scale_notes(cut: dict[str, weights.Blocks], names: list[str], top: float) -> list[str]:
    """Return how to read the colours: the scale, what grey is, who is hardly seen on it."""
    notes = [
        f"One colour scale for all maps, symmetric about 0 and clipped at ± {significant(top)}, "
        "the larger of the 99th percentiles of |Δ| over the cells of both updates.",
        "Grey was not selected and does not move; the background’s colour is a move of 0.",
    ]
    if len(names) == 2:
        notes.append(
            f"Difference: {names[1]} minus {names[0]}, blue where {names[1]} moves a number "
            f"further up, or less far down, than {names[0]}; a number that only one of them "
            "selected counts as 0 in the other, grey is in neither. "
            "The cosine counts these in: 1 is the same direction, 0 none in common."
        )
    own = {name: weights.limit([cut[name].values]) for name in names}
    own = {name: one for name, one in own.items() if not np.isnan(cut[name].values).all()}
    notes += [
        f"The moves of {name} are {significant(max(own.values()) / one)} times smaller here, so "
        "its map is pale; on Parameters each can have its own scale."
        for name, one in own.items()
        if one < max(own.values()) / PALE
    ]
    return notes


def _certificates(pair: Pair, moved: list[Side]) -> None:
    if pair.one_record:
        sure.panel(
            pair.first.context, "layer", key="compare-layer", methods=[s.method for s in moved]
        )
        return
    for number, (column, side) in enumerate(zip(st.columns(2), moved, strict=False)):
        with column:
            st.caption(side.name)
            key = f"compare-layer-{number}"
            sure.panel(side.context, "layer", key=key, methods=(side.method,))

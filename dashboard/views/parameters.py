"""Parameters: which were selected and how far each method moves them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import cache, state
from dashboard.charts.heatmap import Panel, heatmap
from dashboard.charts.layers import layers as layers_figure
from dashboard.charts.style import label
from dashboard.components import certificate, look, measures, weights
from dashboard.components import page as frame
from dashboard.components.controls import forget_if_gone, one_of
from dashboard.components.measures import percent, significant
from dashboard.components.messages import plain
from dashboard.state import Context

Moves = dict[str, tuple[np.ndarray | None, np.ndarray]]  # method -> indices or None, delta


def page() -> None:
    """Draw the page: network, then one layer, then one unit of it."""
    context = state.context()
    layers = context.info["model"]["layers"]
    moves = {m: cache.update(context.shown.path, m) for m in context.methods}
    tables = {m: weights.layer_table(layers, *move) for m, move in moves.items()}
    frame.head("Parameters", answer(context, tables))
    _network(context, tables)
    layer, own = _layer(layers, moves, tables)
    _unit(layer, moves, own=own)
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
    name = plain(context.info["change"]["class_name"])
    return f"To forget class {name}, " + "; ".join(parts) + "."


# --- network --------------------------------------------------------------------------------------


def _network(context: Context, tables: dict[str, pd.DataFrame]) -> None:
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
    whole = [label(m) for m, table in tables.items() if (table["share"] == 1).all()]
    if whole:
        note += f" {' and '.join(whole)} knows no selection: every parameter moves."
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
        return f"{' and '.join(tops)} move {next(iter(tops.values()))} {end}"
    parts = [f"{method} moves {layer} {end}" for method, layer in tops.items()]
    return ", ".join(parts) or "Nothing moved"


# --- one layer ------------------------------------------------------------------------------------


def _layer(
    layers: list[dict[str, Any]], moves: Moves, tables: dict[str, pd.DataFrame]
) -> tuple[dict[str, Any], bool]:
    st.subheader("One layer: units by inputs")
    names = [layer["name"] for layer in layers]
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    partial = [t for t in tables.values() if (t["share"] < 1).any()] or list(tables.values())
    strongest = partial[0]["norm"].to_numpy().argmax()
    forget_if_gone("parameters-layer", names)
    chosen = left.selectbox(
        "Layer",
        names,
        index=int(strongest),
        key="parameters-layer",
        format_func=lambda name: layer_label(layers[names.index(name)], tables),
        persist_state="session",
    )
    own = right.toggle("Each on its own scale", key="parameters-own", persist_state="session")
    layer = layers[names.index(chosen)]
    values = {m: weights.layer_values(layer, *move) for m, move in moves.items()}
    cut = {m: weights.blocks(weights.as_matrix(value)) for m, value in values.items()}
    limits = _limits({m: one.values for m, one in cut.items()}, own=own)
    panels = [
        Panel(
            _panel_name(m, values[m]),
            one.values,
            limits[m],
            _cell_texts(one),
            step=(one.rows, one.columns),
        )
        for m, one in cut.items()
    ]
    title = _layer_title(layer, values)
    figure = heatmap(
        panels,
        title,
        look.palette(),
        x_title=_axis("input", next(iter(cut.values())).columns),
        y_title=_axis("unit", next(iter(cut.values())).rows),
        height=_height(next(iter(cut.values()))),
    )
    look.chart(figure, "layer")
    _layer_notes(values, next(iter(cut.values())), limits, own=own)
    return layer, own


def layer_label(layer: dict[str, Any], tables: dict[str, pd.DataFrame]) -> str:
    """Return "conv2.weight: 64 units × 288 inputs; GIF 4,608 selected"."""
    units = layer["shape"][0] if layer["shape"] else 1
    inputs = layer["size"] // max(units, 1)
    text = f"{layer['name']}: {units:,} units × {inputs:,} input{'s' if inputs != 1 else ''}"
    chosen = {
        m: int(table.loc[table["layer"] == layer["name"], "selected"].iloc[0])
        for m, table in tables.items()
    }
    partial = [
        f"{label(m)} {count:,} selected" for m, count in chosen.items() if count != layer["size"]
    ]
    return "; ".join([text, *partial])


def _limits(cells: dict[str, np.ndarray], *, own: bool) -> dict[str, float]:
    if own:
        return {m: weights.limit([values]) for m, values in cells.items()}
    return dict.fromkeys(cells, weights.limit(list(cells.values())))


def _panel_name(method: str, values: np.ndarray) -> str:
    norm = float(np.sqrt(np.nansum(values**2)))
    return f"{label(method)}: ‖Δ‖ = {significant(norm)} in this layer"


def _cell_texts(cut: weights.Blocks) -> np.ndarray:
    high, wide = cut.values.shape
    texts = np.empty((high, wide), dtype=object)
    rows = [_span("unit", r * cut.rows, cut.rows, cut.units) for r in range(high)]
    columns = [_span("input", c * cut.columns, cut.columns, cut.inputs) for c in range(wide)]
    for r, row in enumerate(rows):
        texts[r] = [f"{row}, {column}" for column in columns]
    return texts


def _span(name: str, start: int, width: int, end: int) -> str:
    last = min(start + width, end) - 1
    return f"{name} {start}" if last == start else f"{name}s {start} to {last}"


def _axis(name: str, width: int) -> str:
    return name if width == 1 else f"{name} ({width} per cell)"


def _height(cut: weights.Blocks) -> int:
    return int(np.clip(140 + 8 * cut.values.shape[0], 320, 620))


def _layer_title(layer: dict[str, Any], values: dict[str, np.ndarray]) -> str:
    parts = []
    for method, value in values.items():
        moved = int((~np.isnan(value)).sum())
        if moved == 0:
            parts.append(f"{label(method)} selected nothing")
        else:
            up = float((value > 0).sum()) / moved
            parts.append(f"{label(method)} increases {percent(up, 0)} of {moved:,} numbers")
    return f"{layer['name']}: " + ", ".join(parts)


def _layer_notes(
    values: dict[str, np.ndarray], cut: weights.Blocks, limits: dict[str, float], *, own: bool
) -> None:
    notes = []
    if cut.rows * cut.columns > 1:
        notes.append(
            f"Each cell stands for up to {cut.rows} × {cut.columns} weights and shows the one "
            "that moves furthest."
        )
    if own:
        ends = ", ".join(f"{label(m)} ± {significant(top)}" for m, top in limits.items())
        notes.append(f"Each scale is clipped at the 99th percentile of its own cells ({ends}).")
    else:
        top = significant(next(iter(limits.values())))
        notes.append(
            f"One scale for all, symmetric about 0 and clipped at ± {top}, the largest of the "
            "methods’ 99th percentiles of |Δ| over these cells."
        )
    notes.append("Grey was not selected and does not move; background colour is a move of 0.")
    for method, value in values.items():
        if np.isnan(value).all():
            st.info(f"{label(method)} selected no parameter of this layer.")
    st.caption(" ".join(notes))


# --- one unit -------------------------------------------------------------------------------------


def _unit(layer: dict[str, Any], moves: Moves, *, own: bool) -> None:
    st.subheader(f"One unit of {layer['name']}")
    values = {m: weights.layer_values(layer, *move) for m, move in moves.items()}
    strengths = {m: weights.unit_strength(value) for m, value in values.items()}
    by_strength = _by_strength(strengths)
    unit = st.selectbox(
        "Unit (the furthest moved first)",
        by_strength,
        key=f"parameters-unit-{layer['name']}",
        format_func=lambda u: _unit_label(u, strengths),
    )
    rows = {m: np.atleast_1d(value[unit]) for m, value in values.items()}
    tiles = {m: weights.unit_tiles(row) for m, row in rows.items()}
    limits = _limits({m: tile.values for m, tile in tiles.items()}, own=own)
    panels = [
        Panel(label(m), tile.values, limits[m], _input_texts(tile, layer), tile.inputs >= 0)
        for m, tile in tiles.items()
    ]
    high, wide = next(iter(tiles.values())).values.shape
    title = f"{layer['name']}, unit {unit}: " + ", ".join(
        f"{label(m)} ‖Δ‖ = {significant(float(s[unit]))}"
        if not np.isnan(s[unit])
        else f"{label(m)} leaves it alone"
        for m, s in strengths.items()
    )
    figure = heatmap(
        panels,
        title,
        look.palette(),
        square=True,
        height=int(np.clip(130 + 400 * high / max(wide, 1), 200, 460)),
    )
    look.chart(figure, "unit")
    st.caption(_unit_caption(layer))
    _strongest_inputs(rows, layer)


def _by_strength(strengths: dict[str, np.ndarray]) -> list[int]:
    partial = [s for s in strengths.values() if np.isnan(s).any()] or list(strengths.values())
    key = np.nan_to_num(partial[0], nan=-1.0)
    return [int(u) for u in np.argsort(-key, kind="stable")]


def _unit_label(unit: int, strengths: dict[str, np.ndarray]) -> str:
    parts = [
        f"{label(m)} " + ("not selected" if np.isnan(s[unit]) else significant(float(s[unit])))
        for m, s in strengths.items()
    ]
    return f"Unit {unit} (‖Δ‖: {', '.join(parts)})"


def _unit_caption(layer: dict[str, Any]) -> str:
    shape = layer["shape"]
    if len(shape) == 4:
        return (
            f"{shape[1]} kernel{'s' if shape[1] > 1 else ''} of {shape[2]} × {shape[3]}, one per "
            "input channel, in reading order."
        )
    if len(shape) == 2:
        return f"The unit’s {shape[1]:,} inputs, in reading order."
    return "One bias."


def _input_names(layer: dict[str, Any]) -> list[str]:
    shape = layer["shape"]
    if len(shape) == 4:
        return [
            f"channel {c}, row {r}, column {k}"
            for c in range(shape[1])
            for r in range(shape[2])
            for k in range(shape[3])
        ]
    return [f"input {i}" for i in range(shape[1])] if len(shape) == 2 else ["bias"]


def _input_texts(tile: weights.Tiles, layer: dict[str, Any]) -> np.ndarray:
    names = np.array([*_input_names(layer), ""], dtype=object)
    return names[tile.inputs]


def _strongest_inputs(rows: dict[str, np.ndarray], layer: dict[str, Any]) -> None:
    table = pd.DataFrame({"input": _input_names(layer)})
    flat = np.stack([row.ravel() for row in rows.values()])
    exp = measures.exponent(flat)
    for method, row in zip(rows, flat, strict=True):
        table[f"{label(method)} Δ ({measures.power(exp, 'parameter units')})"] = row / 10.0**exp
    strongest = np.nan_to_num(np.abs(flat), nan=0.0).max(axis=0)
    table = table.iloc[np.argsort(-strongest, kind="stable")[:50]]
    st.dataframe(
        table,
        width="stretch",
        height=min(38 * (len(table) + 1), 300),
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(format="%+.3g") for name in table.columns[1:]
        },
        alt="The unit's furthest moved weights",
    )
    st.caption("The 50 inputs that move furthest; empty: not selected.")


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

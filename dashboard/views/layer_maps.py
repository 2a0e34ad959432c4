"""The part of Parameters that shows one layer as a map, and one unit of it."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.charts.heatmap import Panel, heatmap
from dashboard.charts.style import label, listed
from dashboard.components import look, measures, weights
from dashboard.components.controls import forget_if_gone
from dashboard.components.measures import percent, significant

Moves = dict[str, tuple[np.ndarray | None, np.ndarray]]  # method -> indices or None, delta
FEW = 3  # methods that a heading can name
PALE = 5  # a method whose moves are this many times smaller is hardly seen on a shared scale


def section(
    layers: list[dict[str, Any]],
    moves: Moves,
    tables: dict[str, pd.DataFrame],
    classes: list[str],
) -> None:
    """Draw a layer and a unit of it, both as picked here."""
    st.subheader("One layer: units by inputs")
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    with left:
        layer = _pick(layers, tables)
    own = right.toggle("Each on its own scale", key="parameters-own", persist_state="session")
    values = {m: weights.layer_values(layer, *move) for m, move in moves.items()}
    _layer(layer, values, own=own)
    st.subheader(f"One unit of {layer['name']}")
    _unit(layer, unit_names(layer, layers, classes), values, own=own)


def _pick(layers: list[dict[str, Any]], tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    by_name = {layer["name"]: layer for layer in layers}
    partial = [t for t in tables.values() if (t["share"] < 1).any()] or list(tables.values())
    forget_if_gone("parameters-layer", list(by_name))
    chosen = st.selectbox(
        "Layer",
        list(by_name),
        index=int(partial[0]["norm"].to_numpy().argmax()),
        key="parameters-layer",
        format_func=lambda name: layer_label(by_name[name], tables),
        persist_state="session",
    )
    return by_name[chosen]


def _layer(layer: dict[str, Any], values: dict[str, np.ndarray], *, own: bool) -> None:
    cut = {m: weights.blocks(weights.as_matrix(value)) for m, value in values.items()}
    cells = {m: one.values for m, one in cut.items()}
    limits = _limits(cells, own=own)
    panels = [
        Panel(
            _panel_name(m, values[m], short=len(cut) > 2),
            one.values,
            limits[m],
            _cell_texts(one),
            step=(one.rows, one.columns),
        )
        for m, one in cut.items()
    ]
    any_cut = next(iter(cut.values()))
    figure = heatmap(
        panels,
        _layer_title(layer, values),
        look.palette(),
        x_title=_axis("input", any_cut.columns),
        y_title=_axis("unit", any_cut.rows),
        height=_height(any_cut),
    )
    look.chart(figure, "layer")
    for method, value in values.items():
        if np.isnan(value).all():
            st.info(f"{label(method)} selected no parameter of this layer.")
    st.caption(" ".join([*_cell_note(any_cut), *_scale_notes(cells, limits, own=own)]))


def layer_label(layer: dict[str, Any], tables: dict[str, pd.DataFrame]) -> str:
    """Return "conv2.weight: 64 units × 288 inputs; GIF 4,608 selected".

    Methods of one selection are not named one by one.
    """
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
    if len(partial) > 1 and len({chosen[m] for m in chosen if chosen[m] != layer["size"]}) == 1:
        count = next(count for count in chosen.values() if count != layer["size"])
        partial = [f"{count:,} selected"]
    return "; ".join([text, *partial])


def _limits(cells: dict[str, np.ndarray], *, own: bool) -> dict[str, float]:
    if own:
        return {m: weights.limit([values]) for m, values in cells.items()}
    return dict.fromkeys(cells, weights.limit(list(cells.values())))


def _panel_name(method: str, values: np.ndarray, *, short: bool) -> str:
    norm = float(np.sqrt(np.nansum(values**2)))
    return f"{label(method)}: ‖Δ‖ = {significant(norm)}" + ("" if short else " in this layer")


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
    if len(values) > FEW:
        return f"{layer['name']}: {_spread(values)}"
    parts = []
    for method, value in values.items():
        moved = int((~np.isnan(value)).sum())
        if moved == 0:
            parts.append(f"{label(method)} selected nothing")
        else:
            up = float((value > 0).sum()) / moved
            parts.append(f"{label(method)} increases {percent(up, 0)} of {moved:,} numbers")
    return f"{layer['name']}: " + ", ".join(parts)


def _spread(values: dict[str, np.ndarray]) -> str:
    """Return how many of the moved numbers increase, from the least to the most of the methods."""
    moved = {m: value[~np.isnan(value)] for m, value in values.items()}
    shares = {m: float((v > 0).mean()) for m, v in moved.items() if len(v)}
    if not shares:
        return "nothing was selected"
    low, high = min(shares, key=lambda m: shares[m]), max(shares, key=lambda m: shares[m])
    return (
        f"of the moved numbers {percent(shares[low], 0)} ({label(low)}) to "
        f"{percent(shares[high], 0)} ({label(high)}) increase"
    )


def _cell_note(cut: weights.Blocks) -> list[str]:
    if cut.rows * cut.columns == 1:
        return []
    return [
        f"Each cell stands for up to {cut.rows} × {cut.columns} weights and shows the one that "
        "moves furthest."
    ]


def _scale_notes(cells: dict[str, np.ndarray], limits: dict[str, float], *, own: bool) -> list[str]:
    tops = _limits(cells, own=True)
    grey = "Grey was not selected and does not move; the background’s colour is a move of 0."
    if own:
        ends = ", ".join(f"{label(m)} ± {significant(top)}" for m, top in limits.items())
        return [f"Each scale is clipped at the 99th percentile of its own cells ({ends}).", grey]
    notes = [
        f"One scale for all, symmetric about 0 and clipped at ± {significant(max(tops.values()))}, "
        "the largest of the methods’ 99th percentiles of |Δ| over these cells.",
        grey,
    ]
    pale = [label(m) for m, top in tops.items() if top < max(tops.values()) / PALE]
    if pale:
        notes.append(
            f"Far shorter moves here: {listed(pale)}; “Each on its own scale” shows their pattern."
        )
    return notes


# --- one unit -------------------------------------------------------------------------------------


def unit_names(
    layer: dict[str, Any], layers: list[dict[str, Any]], classes: list[str]
) -> list[str]:
    """Return the numbers of a layer's units; with the class in the layer that gives the answer."""
    count = layer["shape"][0]
    if layer["module"] == layers[-1]["module"] and count == len(classes):
        return [f"{u} ({name})" for u, name in enumerate(classes)]
    return [str(u) for u in range(count)]


def _unit(
    layer: dict[str, Any], names: list[str], values: dict[str, np.ndarray], *, own: bool
) -> None:
    strengths = {m: weights.unit_strength(value) for m, value in values.items()}
    by_strength = _by_strength(strengths)
    key = f"parameters-unit-{layer['name']}"
    forget_if_gone(key, by_strength)
    unit = st.selectbox(
        "Unit (the furthest moved first)",
        by_strength,
        key=key,
        format_func=lambda u: _unit_label(names[u], u, strengths),
    )
    rows = {m: np.atleast_1d(value[unit]) for m, value in values.items()}
    tiles = {m: weights.unit_tiles(row) for m, row in rows.items()}
    limits = _limits({m: tile.values for m, tile in tiles.items()}, own=own)
    panels = [
        Panel(label(m), tile.values, limits[m], _input_texts(tile, layer), tile.inputs >= 0)
        for m, tile in tiles.items()
    ]
    high, wide = next(iter(tiles.values())).values.shape
    title = f"{layer['name']}, unit {names[unit]}: " + ", ".join(
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


def _unit_label(name: str, unit: int, strengths: dict[str, np.ndarray]) -> str:
    parts = [
        f"{label(m)} " + ("not selected" if np.isnan(s[unit]) else significant(float(s[unit])))
        for m, s in strengths.items()
    ]
    return f"Unit {name}: ‖Δ‖ {', '.join(parts)}"


def _unit_caption(layer: dict[str, Any]) -> str:
    shape = layer["shape"]
    if len(shape) == 4:
        return (
            f"{shape[1]} kernel{'s' if shape[1] > 1 else ''} of {shape[2]} × {shape[3]}, one per "
            "input channel, in reading order."
        )
    if len(shape) > 1:
        return f"The unit’s {prod(shape[1:]):,} inputs, in reading order."
    return "The one number of this unit."


def _input_names(layer: dict[str, Any]) -> list[str]:
    shape = layer["shape"]
    if len(shape) == 4:
        return [
            f"channel {c}, row {r}, column {k}"
            for c in range(shape[1])
            for r in range(shape[2])
            for k in range(shape[3])
        ]
    return ["its one number"] if len(shape) < 2 else [f"input {i}" for i in range(prod(shape[1:]))]


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

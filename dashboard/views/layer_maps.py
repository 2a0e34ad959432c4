"""The tab of Parameters that shows one layer as a map; a click on it opens a unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import state
from dashboard.charts.heatmap import Panel, heatmap
from dashboard.charts.style import label, listed
from dashboard.components import look, pixels, tabs, weights
from dashboard.components.measures import percent, significant

TABS = ["network", "layer", "unit"]  # of Parameters; a click goes to the next
Moves = dict[str, tuple[np.ndarray | None, np.ndarray]]  # method -> indices or None, delta
FEW = 3  # methods that a heading can name
PALE = 5  # a method whose moves are this many times smaller is hardly seen on a shared scale


Values = dict[str, np.ndarray]  # method -> the layer's moves in its own shape, nan: not selected


def section(layer: dict[str, Any], values: Values) -> None:
    """Draw the layer that is picked."""
    left, right = st.columns([2, 1], vertical_alignment="center")
    left.subheader(f"{layer['name']}: units by inputs")
    with right:
        own = own_scale()
    _layer(layer, values, own=own)


def seed(layers: list[dict[str, Any]], tables: dict[str, pd.DataFrame]) -> str:
    """Return the layer that is picked, at first the one that a method with a selection moves most.

    Its picker is drawn by `pick`.
    """
    partial = [t for t in tables.values() if (t["share"] < 1).any()] or list(tables.values())
    most = partial[0]["layer"][int(partial[0]["norm"].to_numpy().argmax())]
    state.seed("layer", [layer["name"] for layer in layers], most)
    return str(st.session_state["layer"])


def own_scale() -> bool:
    """Draw the switch and return whether each method is to be drawn on its own scale."""
    return st.toggle("Each on its own scale", key="parameters-own", persist_state="session")


def pick(layers: list[dict[str, Any]], tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Draw the picker of the layer that is seeded and return what it says."""
    by_name = {layer["name"]: layer for layer in layers}
    before = state.picked().get("layer")
    st.selectbox(
        "Layer",
        list(by_name),
        key="layer",
        format_func=lambda name: layer_label(by_name[name], tables),
        help="A click on a tile of the network’s map on Parameters opens its layer, too.",
    )
    chosen = state.keep("layer")
    if before not in (None, chosen):
        state.forget("unit")  # it was one of another layer
    return by_name[chosen]


def _layer(layer: dict[str, Any], values: Values, *, own: bool) -> None:
    matrices = {m: weights.as_matrix(value) for m, value in values.items()}
    cut = {m: weights.blocks(matrix) for m, matrix in matrices.items()}
    cells = {m: one.values for m, one in cut.items()}
    limits = scale_limits(cells, own=own)
    panels = [
        Panel(
            _panel_name(m, values[m]),
            one.values,
            limits[m],
            step=(one.rows, one.columns),
            whole=(one.units, one.inputs),
        )
        for m, one in cut.items()
    ]
    any_cut = next(iter(cut.values()))
    figure = heatmap(
        panels,
        _layer_title(layer, values),
        look.palette(),
        x_title=axis_title("input", any_cut.columns),
        y_title=axis_title("unit", any_cut.rows),
        height=height_of(any_cut),
        clickable=True,
    )
    by_panel = {panel.name: method for panel, method in zip(panels, cut, strict=True)}

    def clicked(point: dict[str, Any]) -> None:
        method = by_panel.get(point.get("legendgroup", ""), next(iter(cut)))
        unit = weights.unit_at(cut[method], matrices[method], point["y"], point["x"])
        state.show(unit=unit)
        tabs.turn("unit", TABS)

    look.chart(figure, "layer", clicked)
    for method, value in values.items():
        if np.isnan(value).all():
            st.info(f"{label(method)} selected no parameter of this layer.")
    note = "A click on a cell opens its unit in the tab One unit; the tab Network shows all layers."
    scales = _scale_notes(cells, limits, own=own)
    st.caption(" ".join([note, *cell_note(any_cut), *scales]))
    if any_cut.rows * any_cut.columns > 1:
        pixels.full_resolution(layer["name"], matrices, limits)


def layer_label(layer: dict[str, Any], tables: dict[str, pd.DataFrame]) -> str:
    """Return "conv2.weight: 64 units × 288 inputs; GIF 4,608 selected".

    Methods of one selection are not named one by one.
    """
    units = layer["shape"][0] if layer["shape"] else 1
    inputs = layer["size"] // max(units, 1)
    text = f"{layer['name']}: {units:,} units × {inputs:,} input{'s' if inputs != 1 else ''}"
    chosen = {
        m: int(table["selected"].to_numpy()[table["layer"].tolist().index(layer["name"])])
        for m, table in tables.items()
    }
    partial = [
        f"{label(m)} {count:,} selected" for m, count in chosen.items() if count != layer["size"]
    ]
    if len(partial) > 1 and len({chosen[m] for m in chosen if chosen[m] != layer["size"]}) == 1:
        count = next(count for count in chosen.values() if count != layer["size"])
        partial = [f"{count:,} selected"]
    return "; ".join([text, *partial])


def scale_limits(cells: dict[str, np.ndarray], *, own: bool) -> dict[str, float]:
    """Return where each method's colours end: its own 99th percentile, or the largest of them."""
    if own:
        return {m: weights.limit([values]) for m, values in cells.items()}
    return dict.fromkeys(cells, weights.limit(list(cells.values())))


def _panel_name(method: str, values: np.ndarray) -> str:
    """Return two short lines: on a phone panels stand close."""
    return f"{label(method)}<br>‖Δ‖ {significant(float(np.sqrt(np.nansum(values**2))))}"


def cell_texts(cut: weights.Blocks) -> np.ndarray:
    """Return what hovering says of each cell: its units and inputs."""
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


def axis_title(name: str, width: int) -> str:
    """Return an axis and how many of it a cell spans."""
    return name if width == 1 else f"{name} ({width} per cell)"


def height_of(cut: weights.Blocks) -> int:
    """Return the height of a heatmap in pixels."""
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


def cell_note(cut: weights.Blocks) -> list[str]:
    """Return what a cell of many numbers shows; nothing where each is one number."""
    if cut.rows * cut.columns == 1:
        return []
    return [
        f"Each cell stands for up to {cut.rows} × {cut.columns} weights and shows the one that "
        "moves furthest."
    ]


def _scale_notes(cells: dict[str, np.ndarray], limits: dict[str, float], *, own: bool) -> list[str]:
    tops = scale_limits(cells, own=True)
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

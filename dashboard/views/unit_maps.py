"""The tab of Parameters that shows one unit: its moves, its weights, what excites it."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import cache, state
from dashboard.charts.heatmap import ABREAST, WEIGHTS_TITLE, Panel, heatmap
from dashboard.charts.style import label, listed
from dashboard.components import gallery, look, measures, sheet, weights
from dashboard.components import page as frame
from dashboard.components.controls import one_of
from dashboard.components.measures import percent, significant
from dashboard.components.sheet import Card
from dashboard.state import Context
from dashboard.views.layer_maps import Values, own_scale, scale_limits
from gifcore.record import NATURAL, SEARCHED

STRONGEST = 50  # inputs of the table
STEPS = {NATURAL: "Natural step (scale 1)", SEARCHED: "Searched step"}


def unit_names(
    layer: dict[str, Any], layers: list[dict[str, Any]], classes: list[str]
) -> list[str]:
    """Return the numbers of a layer's units; with the class in the layer that gives the answer."""
    count = layer["shape"][0]
    if layer["module"] == layers[-1]["module"] and count == len(classes):
        return [f"{u} ({name})" for u, name in enumerate(classes)]
    return [str(u) for u in range(count)]


def section(context: Context, layer: dict[str, Any], values: Values) -> None:
    """Draw the unit that is picked: how it moves, what it was and becomes, what excites it."""
    info = context.info
    names = unit_names(layer, info["model"]["layers"], info["data"]["classes"])
    st.subheader(f"One unit of {layer['name']}")
    strengths = {m: weights.unit_strength(value) for m, value in values.items()}
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    with left:
        unit = _pick(names, strengths)
    with right:
        own = own_scale()
    rows = {m: np.atleast_1d(value[unit]) for m, value in values.items()}
    norms = {m: float(s[unit]) for m, s in strengths.items()}
    _moves(layer, names[unit], rows, norms, own=own)
    _strongest_inputs(rows, layer)
    _before_and_after(context, layer, unit, names[unit], rows)
    _exciting(context, layer, unit, names[unit])


def _pick(names: list[str], strengths: dict[str, np.ndarray]) -> int:
    by_strength = _by_strength(strengths)
    state.seed("unit", by_strength, by_strength[0])
    st.selectbox(
        "Unit (the furthest moved first)",
        by_strength,
        key="unit",
        format_func=lambda u: _unit_label(names[u], u, strengths),
    )
    return int(state.keep("unit"))


def _moves(
    layer: dict[str, Any],
    name: str,
    rows: dict[str, np.ndarray],
    norms: dict[str, float],
    *,
    own: bool,
) -> None:
    tiles = {m: weights.unit_tiles(row) for m, row in rows.items()}
    limits = scale_limits({m: tile.values for m, tile in tiles.items()}, own=own)
    panels = [
        Panel(label(m), tile.values, limits[m], _input_texts(tile, layer), tile.inputs >= 0)
        for m, tile in tiles.items()
    ]
    title = f"{layer['name']}, unit {name}: " + ", ".join(
        f"{label(m)} leaves it alone" if np.isnan(norm) else f"{label(m)} ‖Δ‖ = {significant(norm)}"
        for m, norm in norms.items()
    )
    look.chart(heatmap(panels, title, look.palette(), square=True, height=_height(tiles)), "unit")
    st.caption(f"{_unit_caption(layer)} The tab One layer shows all units of {layer['name']}.")


def _height(tiles: dict[str, weights.Tiles]) -> int:
    """Return what the pictures need in pixels, as wide as they are side by side."""
    high, wide = next(iter(tiles.values())).values.shape
    each = 820 / min(len(tiles), ABREAST) - 70
    return int(np.clip(110 + each * high / max(wide, 1), 200, 460))


# --- before and after -----------------------------------------------------------------------------


def _before_and_after(
    context: Context, layer: dict[str, Any], unit: int, name: str, rows: dict[str, np.ndarray]
) -> None:
    theta = cache.weights(context.shown.path)
    st.markdown("##### Its weights, before and after")
    if theta is None:
        st.info(
            "The checkpoint of this study is not here, is another one now, or is not a "
            ".safetensors file: the weights before the edit cannot be shown.",
            icon=":material/lock_open_right:",
        )
        return
    step = one_of("Step", STEPS, SEARCHED, "parameters-step")
    whole = theta[layer["offset"] : layer["offset"] + layer["size"]].reshape(layer["shape"])
    before = np.atleast_1d(whole[unit]).astype(float)
    scales = {m: context.info["methods"][m]["steps"][step]["scale"] for m in rows}
    pictures = {"Before": before} | {
        f"After {label(m)}": before + scales[m] * np.nan_to_num(row) for m, row in rows.items()
    }
    tiles = {heading: weights.unit_tiles(values) for heading, values in pictures.items()}
    limit = weights.limit([tile.values for tile in tiles.values()])
    panels = [
        Panel(heading, tile.values, limit, _input_texts(tile, layer), tile.inputs >= 0)
        for heading, tile in tiles.items()
    ]
    figure = heatmap(
        panels,
        after_title(name, before, {m: scales[m] * row for m, row in rows.items()}),
        look.palette(),
        square=True,
        height=_height(tiles),
        scale_title=WEIGHTS_TITLE,
    )
    look.chart(figure, "unit-weights")
    steps = ", ".join(f"{label(m)} × {significant(scale)}" for m, scale in scales.items())
    st.caption(
        f"{STEPS[step]}: {steps}, the multiple of the move above that is added. One scale for "
        f"all, symmetric about 0 and clipped at ± {significant(limit)} (99th percentile)."
    )


def after_title(name: str, before: np.ndarray, added: dict[str, np.ndarray]) -> str:
    """Return the finding: how much of the unit's weights each edit replaces."""
    length = float(np.linalg.norm(before))
    if length == 0:
        return f"Unit {name} had no weights but zeros"
    parts = [
        f"{label(m)} moves it by {percent(float(np.linalg.norm(np.nan_to_num(row))) / length, 0)}"
        for m, row in added.items()
    ]
    return f"Unit {name}: {listed(parts)} of its length"


# --- what excites it ------------------------------------------------------------------------------


def _exciting(context: Context, layer: dict[str, Any], unit: int, name: str) -> None:
    st.markdown("##### The training images that excite it most")
    table = cache.units(context.shown.path)
    if len(table) == 0:
        st.info("Studies made before this was kept do not say what excites a unit; run it again.")
        return
    rows = table[(table["layer"] == layer["module"]) & (table["unit"] == unit)]
    if len(rows) == 0:
        st.caption(f"{layer['module'] or layer['name']} has no output of one number a unit.")
        return
    source = gallery.pictures(context)
    cards = []
    for row in rows.sort_values("place").itertuples():
        index, activation = int(row.train_index), float(row.activation)
        shown = source.label("train", index)
        words = f"training image {index}" + (f", {shown}" if shown else "")
        lines = f"{significant(activation)} · {shown or f'#{index}'}"
        alt = f"{words}: activation {significant(activation)}"
        cards.append(Card(source.uri("train", index), "", "neutral", lines, alt))
    sheet.draw(cards, look.palette())
    st.caption(
        f"Mean output of unit {name} over all places of the image, before the activation "
        "function, in the unedited model; the largest of all training images, no unit."
    )


# --- words and numbers ----------------------------------------------------------------------------


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


@st.fragment
def _strongest_inputs(rows: dict[str, np.ndarray], layer: dict[str, Any]) -> None:
    title = "The inputs that move furthest, as a table"
    with st.expander(
        title, key="unit-strongest", icon=":material/table:", on_change="rerun"
    ) as box:
        if not box.open:
            return
        table = strongest_inputs(rows, layer)
        frame.table(
            table,
            "unit-inputs",
            "The unit's furthest moved weights",
            height=min(38 * (len(table) + 1), 300),
            column_config={
                name: st.column_config.NumberColumn(format="%+.3g") for name in table.columns[1:]
            },
        )
        st.caption(f"{len(table)} of the unit’s inputs; None: not selected.")


def strongest_inputs(rows: dict[str, np.ndarray], layer: dict[str, Any]) -> pd.DataFrame:
    """Return input and move of each method, of the inputs that move furthest."""
    table = pd.DataFrame({"input": _input_names(layer)})
    flat = np.stack([row.ravel() for row in rows.values()])
    exp = measures.exponent(flat)
    for method, row in zip(rows, flat, strict=True):
        table[f"{label(method)} Δ ({measures.power(exp, 'parameter units')})"] = row / 10.0**exp
    strongest = np.nan_to_num(np.abs(flat), nan=0.0).max(axis=0)
    return table.iloc[np.argsort(-strongest, kind="stable")[:STRONGEST]]

"""From a flat update to what a heatmap shows: layers, units and blocks; pure numpy.

A layer is an entry of record.info["model"]["layers"]: name, module, kind, shape, offset, size.
Rows are units (output channels or rows), columns their inputs (input channel x kernel position).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

LARGEST = 64  # cells of a heatmap in each direction
MOST = 1_024  # cells of a heatmap in all: each of them is hovered over and clicked


@dataclass(frozen=True)
class Blocks:
    """A matrix cut into at most 1,024 cells; nan where nothing in the cell was selected."""

    values: np.ndarray  # (rows, columns), the strongest move of each cell, with its sign
    rows: int  # units a cell spans
    columns: int  # inputs a cell spans
    units: int
    inputs: int


@dataclass(frozen=True)
class Tiles:
    """One unit's weights as a picture."""

    values: np.ndarray  # nan where not selected and where there is no input
    inputs: np.ndarray  # the flat input number of each cell, -1 where there is none


def layer_values(
    layer: dict[str, Any], indices: np.ndarray | None, delta: np.ndarray
) -> np.ndarray:
    """Return the layer's moves in its own shape, nan where a number was not selected."""
    start, stop = layer["offset"], layer["offset"] + layer["size"]
    if indices is None:
        return np.asarray(delta[start:stop], dtype=float).reshape(layer["shape"])
    first, last = np.searchsorted(indices, [start, stop])
    values = np.full(layer["size"], np.nan)
    values[indices[first:last] - start] = delta[first:last]
    return values.reshape(layer["shape"])


def as_matrix(values: np.ndarray) -> np.ndarray:
    """Return (units, inputs): biases become one column."""
    return values.reshape(values.shape[0], -1) if values.ndim else values.reshape(1, 1)


def blocks(matrix: np.ndarray, largest: int = LARGEST, most: int = MOST) -> Blocks:
    """Return the strongest move of every cell, so that a sparse selection stays visible.

    Inputs are put together before units are: a click goes to a unit.
    """
    units, inputs = matrix.shape
    rows = math.ceil(units / largest)
    high = math.ceil(units / rows)
    columns = math.ceil(inputs / min(largest, most // high))
    wide = math.ceil(inputs / columns)
    padded = np.full((high * rows, wide * columns), np.nan)
    padded[:units, :inputs] = matrix
    cells = padded.reshape(high, rows, wide, columns).swapaxes(1, 2).reshape(high, wide, -1)
    strength = np.where(np.isnan(cells), -1.0, np.abs(cells))
    strongest = np.take_along_axis(cells, strength.argmax(axis=2)[..., None], axis=2)[..., 0]
    return Blocks(strongest, rows, columns, units, inputs)


def limit(matrices: list[np.ndarray]) -> float:
    """Return the colour limit: the largest of the 99th percentiles of |move|; 1 if all is 0."""
    tops = [0.0]
    for matrix in matrices:
        moved = np.abs(matrix[~np.isnan(matrix)])
        if moved.size:
            tops.append(float(np.percentile(moved, 99)) or float(moved.max()))
    return max(tops) or 1.0


def layer_table(
    layers: list[dict[str, Any]], indices: np.ndarray | None, delta: np.ndarray
) -> pd.DataFrame:
    """Return per layer: layer, size, selected, share, norm, rms (of the selected numbers)."""
    rows = []
    for layer in layers:
        values = layer_values(layer, indices, delta)
        moved = values[~np.isnan(values)]
        norm = float(np.linalg.norm(moved))
        rows.append(
            {
                "layer": layer["name"],
                "size": layer["size"],
                "selected": moved.size,
                "share": moved.size / layer["size"],
                "norm": norm,
                "rms": norm / math.sqrt(moved.size) if moved.size else 0.0,
            }
        )
    return pd.DataFrame(rows)


def module_table(layers: list[dict[str, Any]], table: pd.DataFrame) -> pd.DataFrame:
    """Return `layer_table` with the tensors of one module added up; `layer` is the largest."""
    parts: dict[str, list[dict[Any, Any]]] = {}
    for layer, row in zip(layers, table.to_dict("records"), strict=True):
        parts.setdefault(layer["module"] or layer["name"], []).append(row)
    rows = []
    for module, part in parts.items():
        size, selected = sum(one["size"] for one in part), sum(one["selected"] for one in part)
        rows.append(
            {
                "module": module,
                "layer": max(part, key=lambda one: one["size"])["layer"],
                "size": size,
                "selected": selected,
                "share": selected / size,
                "norm": math.hypot(*(one["norm"] for one in part)),
            }
        )
    return pd.DataFrame(rows)


def unit_at(cut: Blocks, matrix: np.ndarray, unit: float, column: float) -> int:
    """Return the unit that a cell shows: that of its strongest move, its first if none moved.

    `unit` and `column` are places on the axes of the heatmap, as a click reports them.
    """
    row, place = int(unit // cut.rows), int(column // cut.columns)
    cell = matrix[
        row * cut.rows : (row + 1) * cut.rows, place * cut.columns : (place + 1) * cut.columns
    ]
    if np.isnan(cell).all():
        return row * cut.rows
    strength = np.where(np.isnan(cell), -1.0, np.abs(cell))
    return row * cut.rows + int(strength.argmax()) // cell.shape[1]


def unit_tiles(values: np.ndarray) -> Tiles:
    """Return one unit's weights as a picture: kernels side by side, a gap between them.

    A linear unit's inputs are folded into rows of near-square shape.
    """
    inputs = np.arange(values.size).reshape(values.shape)
    if values.ndim == 3:
        where = _tile(inputs)
    else:
        wide = math.ceil(math.sqrt(values.size)) if values.size > LARGEST else max(values.size, 1)
        where = np.full(math.ceil(values.size / wide) * wide, -1)
        where[: values.size] = inputs.ravel()
        where = where.reshape(-1, wide)
    flat = np.append(values.ravel(), np.nan)  # position -1: no input here
    return Tiles(flat[where], where)


def _tile(inputs: np.ndarray) -> np.ndarray:
    count, high, wide = inputs.shape
    across = min(count, math.ceil(math.sqrt(2 * count)))  # twice as wide as high suits a page
    down = math.ceil(count / across)
    picture = np.full((down * (high + 1) - 1, across * (wide + 1) - 1), -1)
    for number, kernel in enumerate(inputs):
        top, left = (number // across) * (high + 1), (number % across) * (wide + 1)
        picture[top : top + high, left : left + wide] = kernel
    return picture


def unit_strength(values: np.ndarray) -> np.ndarray:
    """Return each unit's ||move||_2, nan where nothing of the unit was selected."""
    matrix = as_matrix(values)
    norm = np.sqrt(np.nansum(matrix**2, axis=1))
    norm[np.isnan(matrix).all(axis=1)] = np.nan
    return norm

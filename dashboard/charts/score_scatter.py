"""Two methods' scores for one test image: the strongest as dots, the other samples as shading.

Thousands of dots cost a browser half a second at every click, a raster next to nothing.
"""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, finish

FEW = 300  # samples: so many or fewer are all dots, without a shading
MOST = 150  # dots of more samples, each a node of the page
CELLS = 72  # of the shading, a side
NEAR = 4  # px: a dot that far from the pointer answers, else the cell under it
LEAST_DECADE = 0.3  # of powers of ten: a scale that ends that near the last tick has no other


def thin(first: np.ndarray, second: np.ndarray, most: int = MOST) -> np.ndarray:
    """Return positions to draw as dots: all of few, else the strongest by either score."""
    if len(first) <= max(most, FEW):
        return np.arange(len(first))
    tops = []
    for strength in (np.abs(first), np.abs(second)):
        top = np.argpartition(-strength, most)[:most]
        tops.append(top[np.argsort(-strength[top], kind="stable")])
    in_turn = np.stack(tops, axis=1).ravel()
    _, places = np.unique(in_turn, return_index=True)
    return np.sort(in_turn[np.sort(places)[:most]])


@kept
def score_scatter(
    first: np.ndarray,
    second: np.ndarray,
    *,
    marked: np.ndarray,
    marked_name: str,
    texts: np.ndarray,
    names: tuple[str, str],
    units: tuple[str, str],
    title: str,
    palette: Palette,
) -> go.Figure:
    """Draw scores (already divided by the powers in `units`) with the line of equality.

    Args:
        marked: (n,) True for samples whose dots have their own shape (the query's class).
        texts: what hovering says of each dot, in the order of `thin`.
    """
    dots = thin(first, second)
    figure = go.Figure()
    if len(dots) < len(first):
        _shading(figure, first, second, dots, names, palette)
        figure.layout.hoverdistance = NEAR
    for there, name, colour, symbol in (
        (~marked[dots], "others", palette.muted, "circle"),
        (marked[dots], marked_name, palette.ink, "diamond"),
    ):
        rows = dots[there]
        figure.add_scatter(
            x=first[rows],
            y=second[rows],
            name=f"{name} ({len(rows):,})",
            mode="markers",
            marker={
                "size": 5,
                "color": colour,
                "symbol": symbol,
                "opacity": 0.8,
                "line": {"width": 0.5, "color": palette.background},
            },
            text=texts[there],
            hovertemplate=f"%{{text}}<br>{names[0]} %{{x:+.3g}}, {names[1]} %{{y:+.3g}}"
            "<extra></extra>",
        )
    return _frame(figure, first, second, names=names, units=units, title=title, palette=palette)


# --- the shading ----------------------------------------------------------------------------------


def cells(
    first: np.ndarray, second: np.ndarray, dots: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return counts of the samples that are no dots and the middles of the cells of both scores.

    The cells divide the range of all samples; those around the counted ones are returned, the rows
    of the counts are of the second score.
    """
    x, y = (np.delete(values, dots) for values in (first, second))
    counts, *edges = np.histogram2d(x, y, bins=CELLS, range=[_span(first), _span(second)])
    there = [np.flatnonzero(counts.any(axis=axis)) for axis in (1, 0)]
    columns, rows = (slice(one[0], one[-1] + 1) for one in there)
    middles = [(edge[:-1] + edge[1:]) / 2 for edge in edges]
    return counts[columns, rows].T.astype(np.int32), middles[0][columns], middles[1][rows]


def _span(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    air = 0.0 if high > low else abs(low) / 2 or 0.5
    return low - air, high + air


def _shading(
    figure: go.Figure,
    first: np.ndarray,
    second: np.ndarray,
    dots: np.ndarray,
    names: tuple[str, str],
    palette: Palette,
) -> None:
    counts, columns, rows = cells(first, second, dots)
    top = math.log10(max(counts.max(), 2))
    there = counts > 0
    wide, high = (np.ptp(_span(values)) / CELLS for values in (first, second))
    figure.add_heatmap(
        z=np.where(there, np.log10(np.where(there, counts, 1)), np.nan).astype(np.float32),
        x0=columns[0],
        dx=wide,
        y0=rows[0],
        dy=high,
        zmin=0,
        zmax=top,
        colorscale=[(0, palette.unselected), *palette.sequential[1:]],
        colorbar=_bar(top),
        customdata=counts,
        hoverongaps=False,
        hovertemplate=f"training images here besides dots: %{{customdata:,}}<br>{names[0]} about "
        f"%{{x:+.3g}}, {names[1]} about %{{y:+.3g}}<extra></extra>",
    )


def _bar(top: float) -> dict[str, object]:
    """Return a slim bar whose ticks are counts, though its scale is their logarithm."""
    ticks = [float(power) for power in range(int(top) + 1)]
    if top - ticks[-1] > LEAST_DECADE:
        ticks.append(top)
    return {
        "thickness": 8,
        "len": 1.0,
        "xpad": 4,
        "outlinewidth": 0,
        "tickvals": ticks,
        "ticktext": [f"{round(10**tick):,}" for tick in ticks],
        "tickfont": {"size": 10},
        "title": {
            "text": "training images per cell",
            "side": "right",
            "font": {"size": 11},
        },
    }


# --- axes -----------------------------------------------------------------------------------------


def _frame(
    figure: go.Figure,
    first: np.ndarray,
    second: np.ndarray,
    *,
    names: tuple[str, str],
    units: tuple[str, str],
    title: str,
    palette: Palette,
) -> go.Figure:
    low = max(first.min(), second.min())
    high = min(first.max(), second.max())
    if high > low and units[0] == units[1]:
        figure.add_scatter(
            x=[low, high],
            y=[low, high],
            mode="lines",
            name="equal scores",
            line={"color": palette.muted, "dash": "dash", "width": 1.5},
            hoverinfo="skip",
        )
    zero = {"zeroline": True, "zerolinecolor": palette.grid, "zerolinewidth": 1}
    axes = [f"{name} influence ({unit})" for name, unit in zip(names, units, strict=True)]
    figure.layout.xaxis = {"title": {"text": axes[0]}, **zero}
    figure.layout.yaxis = {"title": {"text": axes[1]}, **zero}
    finish(figure, title, height=460, top=70, legend=1.06)
    return room.fixed(figure, ["−0.000"], y_title=True)

"""A confusion matrix: shares of each true class, counts on hover; a click reports its cell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, finish

READABLE = 12  # up to this many classes the numbers are written into the cells
LONGEST = 12  # letters of a class name beside the matrix; hovering says all of it
CELLS = 232  # px that the cells share, at least
BAR = 78  # px of the bar above them


@dataclass(frozen=True)
class Matrix:
    """Row shares, the counts behind them, and whether it is a difference."""

    shares: np.ndarray  # (C, C), rows true, columns predicted; nan rows have no samples
    counts: np.ndarray
    difference: bool = False
    models: int = 1  # over how many models the counts are summed


@kept
def confusion(
    matrix: Matrix,
    classes: list[str],
    shown: list[int],
    title: str,
    palette: Palette,
    *,
    cell: tuple[int, int] | None = None,
    own: bool = True,
    marked: int | None = None,
    bar: bool = True,
) -> go.Figure:
    """Draw the classes `shown`; unseen markers over the cells report a click as their x and y.

    Args:
        cell: (true, predicted) of the cell that is looked at, framed; not its `own`: dotted.
        marked: the class that is looked at, in bold.
        bar: has it a bar of colours? Of several side by side one is enough.
    """
    percent = 100 * matrix.shares[np.ix_(shown, shown)]
    few = len(shown) <= READABLE
    figure = go.Figure()
    figure.add_heatmap(
        z=percent,
        zmin=-100 if matrix.difference else 0,
        zmax=100,
        colorscale=palette.diverging if matrix.difference else palette.sequential,
        showscale=bar,
        colorbar=_bar(difference=matrix.difference) if bar else None,
        text=_texts(percent, difference=matrix.difference) if few else None,
        texttemplate="%{text}" if few else None,
        textfont={"size": 10},
        hoverinfo="skip",
        xgap=1,
        ygap=1,
    )
    _markers(figure, matrix, classes, shown)
    if cell is not None and set(cell) <= set(shown):
        _frame(figure, shown.index(cell[0]), shown.index(cell[1]), palette, own=own)
    names = [_short(classes[i], bold=i == marked) for i in shown]
    ticks = {"tickvals": list(range(len(shown))), "ticktext": names, "showgrid": False}
    if not few:
        ticks["tickfont"] = {"size": 10}
    ends = [-0.5, len(shown) - 0.5]
    angle = 0 if max(len(classes[i]) for i in shown) <= 2 else -60 if few else -90
    figure.update_xaxes(
        **ticks,
        range=ends,
        tickangle=angle,
        title={"text": "predicted class", "standoff": 12 if few else 26},
        zeroline=False,
    )
    figure.update_yaxes(**ticks, range=ends[::-1], zeroline=False)
    figure.add_annotation(
        x=0,
        xref="paper",
        xanchor="right",
        y=1,
        yref="paper",
        yanchor="bottom",
        text="true class ",
        showarrow=False,
        font={"size": 11},
    )
    figure.update_layout(showlegend=False, hoverdistance=100, dragmode=False)
    turned = math.sin(math.radians(-angle)) * max(map(room.width, names))
    below = room.BELOW + turned + (12 if angle else 0)
    tall = max(CELLS, 17 * len(shown))
    finish(figure, title, height=round(BAR + tall + below), top=BAR)
    return room.fixed(figure, [*names, "true class "], below=below)


def _bar(*, difference: bool) -> dict[str, object]:
    """Return a flat bar under the matrix: the same for all that are drawn side by side."""
    unit = "points (blue + more often)" if difference else "% of the true class"
    return {
        "orientation": "h",
        "y": 1.0,
        "yanchor": "bottom",
        "thickness": 8,
        "len": 1.0,
        "ypad": 4,
        "outlinewidth": 0,
        "tickvals": [-100, 0, 100] if difference else [0, 50, 100],
        "tickfont": {"size": 10},
        "title": {"text": unit, "side": "top", "font": {"size": 11}},
    }


def _markers(figure: go.Figure, matrix: Matrix, classes: list[str], shown: list[int]) -> None:
    """Lay an unseen square over every cell: a heatmap itself reports no clicks."""
    rows, columns = np.mgrid[0 : len(shown), 0 : len(shown)]
    figure.add_scatter(
        x=columns.ravel(),
        y=rows.ravel(),
        mode="markers",
        marker={"symbol": "square", "size": max(8, min(60, 220 // len(shown))), "opacity": 0},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        text=[_hover(matrix, classes, i, j) for i in shown for j in shown],
        hovertemplate="%{text}<extra></extra>",
    )


def _hover(matrix: Matrix, classes: list[str], i: int, j: int) -> str:
    share, count = 100 * matrix.shares[i, j], int(matrix.counts[i, j])
    what = escape(f"true {classes[i]}, predicted {classes[j]}", quote=False) + "<br>"
    if np.isnan(share):
        return what + "no test images of this class"
    sign, unit = ("+", "points") if matrix.difference else ("", "% of the class")
    said = f"{share:{sign}.1f} {unit}, {count:{sign},d}".replace("-", "−")
    over = f" over {matrix.models} models" if matrix.models > 1 else ""
    return f"{what}{said} image{'s' if abs(count) != 1 else ''}{over}"


def _frame(figure: go.Figure, row: int, column: int, palette: Palette, *, own: bool) -> None:
    figure.add_shape(
        type="rect",
        x0=column - 0.5,
        x1=column + 0.5,
        y0=row - 0.5,
        y1=row + 0.5,
        line={"color": palette.ink, "width": 3 if own else 1.5, "dash": "solid" if own else "dot"},
    )


def _short(name: str, *, bold: bool) -> str:
    name = escape(name if len(name) <= LONGEST else name[: LONGEST - 1] + "…", quote=False)
    return f"<b>▸ {name}</b>" if bold else name


def _texts(percent: np.ndarray, *, difference: bool) -> np.ndarray:
    pattern = "{:+.0f}" if difference else "{:.0f}"
    texts = np.full(percent.shape, "", dtype=object)
    shown = np.abs(np.nan_to_num(percent)).round() >= 1
    texts[shown] = [pattern.format(value).replace("-", "−") for value in percent[shown]]
    return texts

"""Confusion matrices: shares of each true class, counts on hover, and their difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.charts.style import Palette, finish

READABLE = 12  # up to this many classes the numbers are written into the cells


@dataclass(frozen=True)
class Matrix:
    """One panel: row shares, the counts behind them, and whether it is a difference."""

    name: str
    shares: np.ndarray  # (C, C), rows true, columns predicted; nan rows have no samples
    counts: np.ndarray
    difference: bool = False


def confusion(
    matrices: list[Matrix], classes: list[str], title: str, palette: Palette
) -> go.Figure:
    """Draw the matrices side by side; rows are true classes, columns predictions."""
    figure = make_subplots(
        rows=1,
        cols=len(matrices),
        shared_yaxes=True,
        horizontal_spacing=0.02,
        subplot_titles=[matrix.name for matrix in matrices],
    )
    for column, matrix in enumerate(matrices, start=1):
        figure.add_trace(_panel(matrix, classes, palette), row=1, col=column)
    ticks = {"tickvals": list(range(len(classes))), "ticktext": classes, "showgrid": False}
    figure.update_xaxes(
        **ticks,
        tickangle=-60 if max(map(len, classes)) > 2 else 0,
        title="predicted",
        zeroline=False,
    )
    figure.update_yaxes(**ticks, autorange="reversed", zeroline=False)
    figure.update_yaxes(title="true class", col=1)
    if len(classes) > 30:
        figure.update_xaxes(tickvals=None, ticktext=None)
        figure.update_yaxes(tickvals=None, ticktext=None)
    height = 200 + min(26 * max(len(classes), 6), 500)
    return finish(figure, title, height=height)


def _panel(matrix: Matrix, classes: list[str], palette: Palette) -> go.Heatmap:
    percent = 100 * matrix.shares
    unit = "points" if matrix.difference else "% of the class"
    names = np.array(classes, dtype=object)
    custom = np.empty((*matrix.counts.shape, 3), dtype=object)
    custom[..., 0], custom[..., 1] = names[:, None], names[None, :]
    custom[..., 2] = np.vectorize(_count(difference=matrix.difference), otypes=[object])(
        matrix.counts
    )
    return go.Heatmap(
        z=percent,
        zmin=-100 if matrix.difference else 0,
        zmax=100,
        colorscale=palette.diverging if matrix.difference else palette.sequential,
        showscale=False,
        customdata=custom,
        text=_texts(percent, difference=matrix.difference) if len(classes) <= READABLE else None,
        texttemplate="%{text}" if len(classes) <= READABLE else None,
        textfont={"size": 10},
        hoverongaps=False,
        hovertemplate="true %{customdata[0]}, predicted %{customdata[1]}<br>%{z:.1f} "
        + unit
        + ", %{customdata[2]}<extra></extra>",
        xgap=1,
        ygap=1,
    )


def _count(*, difference: bool) -> Callable[[int], str]:
    return (lambda n: f"{n:+d} images") if difference else (lambda n: f"{n:d} images")


def _texts(percent: np.ndarray, *, difference: bool) -> np.ndarray:
    pattern = "{:+.0f}" if difference else "{:.0f}"
    texts = np.full(percent.shape, "", dtype=object)
    shown = np.abs(np.nan_to_num(percent)).round() >= 1
    texts[shown] = [pattern.format(value).replace("-", "−") for value in percent[shown]]
    return texts

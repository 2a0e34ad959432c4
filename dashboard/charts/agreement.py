"""Rank correlation of two methods, one dot per ranked test image."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, finish


@kept
def agreement(
    names: list[str],
    rhos: list[float],
    intervals: list[tuple[float, float]],
    *,
    chosen: int,
    title: str,
    palette: Palette,
) -> go.Figure:
    """Draw Spearman's rho with its interval per test image; the `chosen` row is filled."""
    figure = go.Figure()
    figure.add_scatter(
        x=rhos,
        y=names,
        mode="markers",
        marker={
            "size": 10,
            "color": [palette.ink if i == chosen else palette.muted for i in range(len(names))],
            "symbol": ["diamond" if i == chosen else "circle" for i in range(len(names))],
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [high - rho for rho, (_, high) in zip(rhos, intervals, strict=True)],
            "arrayminus": [rho - low for rho, (low, _) in zip(rhos, intervals, strict=True)],
            "color": palette.muted,
        },
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        showlegend=False,
    )
    figure.add_vline(x=0, line={"color": palette.muted, "width": 1, "dash": "dot"})
    lowest = min([0.0, *[low for low, _ in intervals if not math.isnan(low)]])
    figure.update_xaxes(
        title="Spearman's rank correlation (1 = same order)", range=[lowest - 0.05, 1.03]
    )
    figure.update_yaxes(autorange="reversed", type="category")
    return room.fixed(finish(figure, title, height=90 + 26 * max(len(names), 2)), names)

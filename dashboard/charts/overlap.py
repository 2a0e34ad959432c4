"""How many of the top k two methods share, for every k."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, finish, log_range, mark_scale


@kept
def overlap(
    ks: list[int],
    curves: dict[str, np.ndarray],
    *,
    chosen: str,
    k: int,
    n: int,
    title: str,
    palette: Palette,
) -> go.Figure:
    """Draw the shared share (0..1) over k, the chance level k/n, and a line at the chosen k.

    `curves`: heading -> share at each of `ks`; `chosen` is the one drawn strongly.
    """
    figure = go.Figure()
    looks = zip(
        curves.items(),
        ((palette.helpful, "solid"), (palette.harmful, "dash"), (palette.muted, "dashdot")),
        strict=False,
    )
    for (name, shares), (colour, dash) in looks:
        strong = name == chosen
        figure.add_scatter(
            x=ks,
            y=100 * shares,
            name=name,
            mode="lines",
            opacity=1.0 if strong else 0.45,
            line={"color": colour, "dash": dash, "width": 3 if strong else 1.5},
            hovertemplate="top %{x}: %{y:.0f} % shared<extra>" + name + "</extra>",
        )
    figure.add_scatter(
        x=ks,
        y=[100 * one / n for one in ks],
        name="by chance",
        mode="lines",
        line={"color": palette.muted, "dash": "dot", "width": 1.5},
        hovertemplate="top %{x}: %{y:.1f} % by chance<extra></extra>",
    )
    mark_scale(figure, k, f"k = {k:,}", palette, left=k > n / 10)
    figure.layout.xaxis = {
        "type": "log",
        "title": {"text": "k: length of the two lists (log axis)"},
        "range": log_range(ks),
        "dtick": 1,
    }
    figure.layout.yaxis = {"title": {"text": "shared (%)"}, "range": [-2, 103]}
    finish(figure, title, height=460, top=70, legend=1.06)
    return room.fixed(figure, ["100"], y_title=True)

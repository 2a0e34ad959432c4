"""What each step length does on the validation split, where the step is chosen."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from dashboard.charts.style import Palette, finish, log_range, mark_scale

_LINES = {
    "self": ("Removed class (self)", "dash", "circle"),
    "retain": ("Other classes (retain)", "solid", "square"),
    "score": ("Score F1 that chooses", "dot", "diamond"),
}


def step_search(
    curves: pd.DataFrame, method: str, chosen: float | None, title: str, palette: Palette
) -> go.Figure:
    """Draw self, retain and score over the scale (log axis); mark scale 1 and the chosen one.

    `curves`: rows curve ("self", "retain", "score"), x (scale), value (share).
    """
    own = palette.method(method)
    colours = {"self": own, "retain": own, "score": palette.muted}
    figure = go.Figure()
    for curve, (name, dash, symbol) in _LINES.items():
        rows = curves[(curves["curve"] == curve) & (curves["x"] > 0)].sort_values("x")
        figure.add_scatter(
            x=rows["x"],
            y=100 * rows["value"],
            name=name,
            mode="lines+markers",
            line={"color": colours[curve], "dash": dash},
            marker={"symbol": symbol, "size": 6},
            hovertemplate="× %{x:.3g}: %{y:.1f} %<extra>" + name + "</extra>",
        )
    mark_scale(figure, 1.0, "natural × 1", palette, left=chosen is not None and chosen >= 1)
    if chosen is not None:
        mark_scale(figure, chosen, f"chosen × {chosen:.3g}", palette, left=chosen < 1)
    figure.update_xaxes(
        type="log",
        title="scale of the step (log axis; 1 = natural)",
        range=log_range([1.0, *curves["x"]]),
        dtick=1,
    )
    figure.update_yaxes(title="validation (%)", range=[-2, 103])
    return finish(figure, title, height=360, top=70, legend=1.07)

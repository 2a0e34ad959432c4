"""What each step length does on the validation split, where the step is chosen."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, finish, log_range, mark_scale

_LINES = (("dash", "circle"), ("solid", "square"), ("dashdot", "triangle-up"))
_SCORE = ("dot", "diamond")
LEAST = 400  # pixels high


@kept
def step_search(
    curves: pd.DataFrame,
    method: str,
    chosen: float | None,
    title: str,
    palette: Palette,
    names: Sequence[tuple[str, str]],
    *,
    height: int = 0,
) -> go.Figure:
    """Draw each curve and the score over the scale (log axis); mark scale 1 and the chosen one.

    `curves`: rows curve, x (scale), value (share); `names`: (curve, its name), the score last.
    `height`: in pixels, beside a taller figure.
    """
    own = palette.method(method)
    styles = [(*line, own) for line in _LINES[: len(names) - 1]] + [(*_SCORE, palette.muted)]
    figure = go.Figure()
    for (curve, name), (dash, symbol, colour) in zip(names, styles, strict=True):
        rows = curves[(curves["curve"] == curve) & (curves["x"] > 0)].sort_values("x")
        figure.add_scatter(
            x=rows["x"],
            y=100 * rows["value"],
            name=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash},
            marker={"symbol": symbol, "size": 6},
            hovertemplate="× %{x:.3g}: %{y:.1f} %<extra>" + name + "</extra>",
        )
    mark_scale(figure, 1.0, "natural × 1", palette, left=chosen is not None and chosen >= 1)
    if chosen is not None:
        mark_scale(figure, chosen, f"chosen × {chosen:.3g}", palette, left=chosen < 1)
    figure.update_xaxes(
        type="log",
        title="step length (× the update; log axis)",
        range=log_range([1.0, *curves["x"]]),
        dtick=1,
    )
    figure.update_yaxes(title="on the validation split (%)", range=[-2, 103])
    finish(figure, title, height=max(height, LEAST), top=80, legend=1.07)
    return room.fixed(figure, ["100"], y_title=True)

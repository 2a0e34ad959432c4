"""How the solver's residual fell, iteration by iteration."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import SYMBOLS, Palette, finish, label


@kept
def residuals(histories: dict[str, pd.DataFrame], title: str, palette: Palette) -> go.Figure:
    """Draw one line per method from frames with `x` (iteration) and `value` (relative residual)."""
    figure = go.Figure()
    for method, history in histories.items():
        figure.add_scatter(
            x=history["x"],
            y=history["value"],
            name=label(method),
            mode="lines+markers",
            line={"color": palette.method(method)},
            marker={"symbol": SYMBOLS.get(method, "circle"), "size": 6},
            hovertemplate="iteration %{x}: %{y:.3g}<extra>" + label(method) + "</extra>",
        )
    figure.update_yaxes(type="log", title="relative residual", exponentformat="power")
    figure.update_xaxes(title="iteration", rangemode="tozero")
    return room.fixed(finish(figure, title, height=260), ["0.00000"], y_title=True)

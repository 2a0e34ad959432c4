"""Self, retain and overall accuracy before and after, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, abreast, finish, marker


@dataclass(frozen=True)
class Dot:
    """One accuracy of one row: a share, its interval and how many images it counts."""

    row: str  # "Before", "GIF natural (× 1)", ...
    method: str  # "before" or a method
    step: str  # "", "natural" or "searched"
    share: float
    low: float
    high: float
    n: int
    bounds: str = "95 % interval"  # what low and high are


@kept
def accuracies(groups: dict[str, list[Dot]], title: str, palette: Palette) -> go.Figure:
    """Draw one panel per group (its key is the heading), one dot with its interval per row."""
    figure = make_subplots(
        rows=1,
        cols=len(groups),
        shared_yaxes=True,
        subplot_titles=list(groups),
        horizontal_spacing=0.03,
    )
    for column, dots in enumerate(groups.values(), start=1):
        _panel(figure, dots, palette, column)
    figure.update_xaxes(range=[-4, 114], tickvals=[0, 50, 100])
    abreast(figure, len(groups), "accuracy (%)")
    figure.update_yaxes(type="category")
    figure.update_layout(showlegend=False)
    rows = max((len(dots) for dots in groups.values()), default=1)
    figure.update_yaxes(range=[rows - 0.4, -0.9])  # downwards, with room for the first value
    names = [dot.row for dots in groups.values() for dot in dots]
    return room.fixed(finish(figure, title, height=110 + 44 * rows), names)


def _panel(figure: go.Figure, dots: list[Dot], palette: Palette, column: int) -> None:
    """Draw the dots of a panel as one trace: many small ones take longer to draw."""
    figure.add_scatter(
        x=[100 * dot.share for dot in dots],
        y=[dot.row for dot in dots],
        mode="markers+text",
        marker=markers([(dot.method, dot.step) for dot in dots], palette),
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [100 * (dot.high - dot.share) for dot in dots],
            "arrayminus": [100 * (dot.share - dot.low) for dot in dots],
            "color": palette.muted,
            "thickness": 1.5,
        },
        text=[f"{100 * dot.share:.1f}" for dot in dots],
        textposition="top center",
        cliponaxis=False,
        hovertext=[
            f"{dot.row}: {100 * dot.share:.1f} % ({dot.bounds} {100 * dot.low:.1f} to "
            f"{100 * dot.high:.1f}, n = {dot.n:,})"
            for dot in dots
        ],
        hovertemplate="%{hovertext}<extra></extra>",
        row=1,
        col=column,
    )


def markers(models: Sequence[tuple[str, str]], palette: Palette) -> dict[str, Any]:
    """Return the markers of several (method, step) for one trace."""
    looks = [marker(method, step, palette) for method, step in models]
    colours = [look["color"] for look in looks]
    return {
        "color": colours,
        "symbol": [look["symbol"] for look in looks],
        "size": looks[0]["size"] if looks else 0,
        "line": {"width": 2, "color": colours},
    }

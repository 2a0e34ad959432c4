"""Self, retain and overall accuracy before and after, with their intervals."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

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
        for dot in dots:
            _dot(figure, dot, palette, column)
    figure.update_xaxes(range=[-4, 114], tickvals=[0, 50, 100])
    abreast(figure, len(groups), "accuracy (%)")
    figure.update_yaxes(type="category")
    figure.update_layout(showlegend=False)
    rows = max((len(dots) for dots in groups.values()), default=1)
    figure.update_yaxes(range=[rows - 0.4, -0.9])  # downwards, with room for the first value
    return finish(figure, title, height=110 + 44 * rows)


def _dot(figure: go.Figure, dot: Dot, palette: Palette, column: int) -> None:
    look = marker(dot.method, dot.step, palette)
    figure.add_scatter(
        x=[100 * dot.share],
        y=[dot.row],
        mode="markers+text",
        marker=look,
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [100 * (dot.high - dot.share)],
            "arrayminus": [100 * (dot.share - dot.low)],
            "color": look["color"],
            "thickness": 1.5,
        },
        text=[f"{100 * dot.share:.1f}"],
        textposition="top center",
        cliponaxis=False,
        hovertemplate=f"{dot.row}: %{{x:.1f}} % ({dot.bounds} {100 * dot.low:.1f} to "
        f"{100 * dot.high:.1f}, n = {dot.n:,})<extra></extra>",
        row=1,
        col=column,
    )

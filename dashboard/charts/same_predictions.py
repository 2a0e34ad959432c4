"""How often models predict as retrained models do: one dot a retrained model, a mark the mean."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, abreast, finish, marker


@dataclass(frozen=True)
class Same:
    """Shares of images on which a model predicts as each of the retrained models does."""

    row: str
    method: str  # "before", "retrained" (with each other) or a method
    step: str
    shares: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.shares) / len(self.shares)


@kept
def same_predictions(panels: dict[str, list[Same]], title: str, palette: Palette) -> go.Figure:
    """Draw a panel per set of images (its heading the key), a row per model."""
    figure = make_subplots(
        rows=1,
        cols=len(panels),
        shared_yaxes=True,
        subplot_titles=list(panels),
        horizontal_spacing=0.05,
    )
    for column, rows in enumerate(panels.values(), start=1):
        for row in rows:
            _row(figure, row, palette, column)
        figure.update_xaxes(range=_range(rows), nticks=3, row=1, col=column)
    abreast(figure, len(panels), "images with the same prediction (%)")
    most = max(len(rows) for rows in panels.values())
    figure.update_yaxes(type="category", range=[most - 0.4, -0.8])
    figure.update_layout(showlegend=False)
    return finish(figure, title, height=120 + 44 * most)


def _row(figure: go.Figure, row: Same, palette: Palette, column: int) -> None:
    look = marker(row.method, row.step, palette)
    figure.add_scatter(
        x=[100 * share for share in row.shares],
        y=[row.row] * len(row.shares),
        mode="markers",
        marker={"color": look["color"], "size": 5, "opacity": 0.7},
        cliponaxis=False,
        hovertemplate=f"{row.row}: %{{x:.1f}} %<extra></extra>",
        row=1,
        col=column,
    )
    figure.add_scatter(
        x=[100 * row.mean],
        y=[row.row],
        mode="markers+text",
        marker=look,
        text=[f"{100 * row.mean:.1f}"],
        textposition="top center",
        cliponaxis=False,
        hovertemplate=f"{row.row}, mean of {len(row.shares)}: %{{x:.1f}} %<extra></extra>",
        row=1,
        col=column,
    )


def _range(rows: list[Same]) -> list[float]:
    """Return the axis: from a little below the lowest to 100 %; it need not begin at 0."""
    low = min((share for row in rows for share in row.shares), default=0.0)
    air = 0.08 * max(1.0 - low, 0.02)
    return [100 * max(low - 2 * air, -0.04), 100 * (1 + air)]

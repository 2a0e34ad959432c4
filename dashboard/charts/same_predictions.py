"""How often models predict as retrained models do: one dot a retrained model, a mark the mean."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.charts import room
from dashboard.charts.accuracies import markers
from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, abreast, finish


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
        _panel(figure, rows, palette, column)
        figure.update_xaxes(range=_range(rows), nticks=3, row=1, col=column)
    abreast(figure, len(panels), "images with the same prediction (%)")
    most = max(len(rows) for rows in panels.values())
    figure.update_yaxes(type="category", range=[most - 0.4, -0.8])
    figure.update_layout(showlegend=False)
    names = [row.row for rows in panels.values() for row in rows]
    return room.fixed(finish(figure, title, height=120 + 44 * most), names)


def _panel(figure: go.Figure, rows: list[Same], palette: Palette, column: int) -> None:
    """Draw a panel as two traces, the small dots and the means: many take longer to draw."""
    look = markers([(row.method, row.step) for row in rows], palette)
    dots = [
        (100 * share, row.row, colour)
        for row, colour in zip(rows, look["color"], strict=True)
        for share in row.shares
    ]
    figure.add_scatter(
        x=[share for share, _, _ in dots],
        y=[name for _, name, _ in dots],
        mode="markers",
        marker={"color": [colour for _, _, colour in dots], "size": 5, "opacity": 0.7},
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
        row=1,
        col=column,
    )
    figure.add_scatter(
        x=[100 * row.mean for row in rows],
        y=[row.row for row in rows],
        mode="markers+text",
        marker=look,
        text=[f"{100 * row.mean:.1f}" for row in rows],
        customdata=[len(row.shares) for row in rows],
        textposition="top center",
        cliponaxis=False,
        hovertemplate="%{y}, mean of %{customdata}: %{x:.1f} %<extra></extra>",
        row=1,
        col=column,
    )


def _range(rows: list[Same]) -> list[float]:
    """Return the axis: from a little below the lowest to 100 %; it need not begin at 0."""
    low = min((share for row in rows for share in row.shares), default=0.0)
    air = 0.08 * max(1.0 - low, 0.02)
    return [100 * max(low - 2 * air, -0.04), 100 * (1 + air)]

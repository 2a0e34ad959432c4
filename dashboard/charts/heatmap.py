"""Moves of a layer (units by inputs) or of one unit, methods side by side on one scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.charts.style import Palette, finish

SCALE_TITLE = "move Δ (parameter units)<br>blue +: increased<br>orange −: decreased"


@dataclass(frozen=True)
class Panel:
    """One picture of a heatmap figure."""

    name: str
    values: np.ndarray  # (rows, columns), nan where nothing was selected
    limit: float  # colours end at -limit and +limit
    text: np.ndarray | None = None  # what hovering says of a cell, before its value
    there: np.ndarray | None = None  # False: no parameter in this cell (a gap); None: everywhere
    step: tuple[int, int] = (1, 1)  # units and inputs a cell spans, so that axes count those

    @property
    def axes(self) -> dict[str, float]:
        """Where the cells lie: the first centred on its own span."""
        rows, columns = self.step
        return {"y0": (rows - 1) / 2, "dy": rows, "x0": (columns - 1) / 2, "dx": columns}


def heatmap(
    panels: list[Panel],
    title: str,
    palette: Palette,
    *,
    x_title: str = "",
    y_title: str = "",
    height: int = 460,
    square: bool = False,
) -> go.Figure:
    """Draw the panels side by side; one colour bar if all limits are equal, else one each."""
    shared = len({panel.limit for panel in panels}) <= 1
    figure = make_subplots(
        rows=1,
        cols=len(panels),
        subplot_titles=[panel.name for panel in panels],
        horizontal_spacing=0.05 if shared else 0.2 / len(panels),
        shared_yaxes=shared,
    )
    for column, panel in enumerate(panels, start=1):
        _grey(figure, panel, palette, column)
        _moves(figure, panel, palette, column, bar=not shared or column == len(panels))
    figure.update_xaxes(title=x_title or None, showgrid=False, zeroline=False)
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False)
    figure.update_yaxes(title=y_title or None, col=1)
    if square:
        for column in range(1, len(panels) + 1):
            figure.update_yaxes(scaleanchor=f"x{column if column > 1 else ''}", col=column)
            figure.update_xaxes(constrain="domain", showticklabels=False, col=column)
            figure.update_yaxes(constrain="domain", showticklabels=False, col=column)
    return finish(figure, title, height=height)


def _grey(figure: go.Figure, panel: Panel, palette: Palette, column: int) -> None:
    unselected = np.isnan(panel.values)
    if panel.there is not None:
        unselected &= panel.there
    figure.add_heatmap(
        z=np.where(unselected, 1.0, np.nan),
        **panel.axes,
        colorscale=[(0, palette.unselected), (1, palette.unselected)],
        showscale=False,
        hoverongaps=False,
        text=panel.text,
        hovertemplate=("%{text}: " if panel.text is not None else "unit %{y}, input %{x}: ")
        + "not selected<extra></extra>",
        row=1,
        col=column,
    )


def _moves(figure: go.Figure, panel: Panel, palette: Palette, column: int, *, bar: bool) -> None:
    axis = figure.layout["xaxis" if column == 1 else f"xaxis{column}"]
    figure.add_heatmap(
        z=panel.values,
        **panel.axes,
        zmin=-panel.limit,
        zmax=panel.limit,
        colorscale=palette.diverging,
        hoverongaps=False,
        text=panel.text,
        hovertemplate=("%{text}: " if panel.text is not None else "unit %{y}, input %{x}: ")
        + "%{z:+.3g}<extra>"
        + panel.name
        + "</extra>",
        showscale=bar,
        colorbar={
            "title": {"text": SCALE_TITLE, "font": {"size": 11}},
            "x": axis.domain[1] + 0.01,
            "thickness": 14,
            "len": 0.95,
            "exponentformat": "power",
            "nticks": 5,
            "tickformat": "~g",
        },
        row=1,
        col=column,
    )

"""Moves of a layer (units by inputs) or of one unit, methods side by side on one scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, finish

ABREAST = 3  # panels; more of them go into further rows
BETWEEN = 120  # px between two rows, for an axis and a heading
SCALE_TITLE = "move Δ (parameter units)<br>blue +: increased<br>orange −: decreased"
WEIGHTS_TITLE = "weight (parameter units)<br>blue +: positive<br>orange −: negative"


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


@kept
def heatmap(
    panels: list[Panel],
    title: str,
    palette: Palette,
    *,
    x_title: str = "",
    y_title: str = "",
    height: int = 460,
    square: bool = False,
    clickable: bool = False,
    scale_title: str = SCALE_TITLE,
) -> go.Figure:
    """Draw the panels, three abreast; one colour bar if all limits are equal, else one each.

    Args:
        height: of one row of panels, in pixels.
        clickable: unseen markers lie over the cells, since a heatmap reports no clicks.
    """
    shared = len({panel.limit for panel in panels}) <= 1
    columns = min(len(panels), ABREAST)
    rows = math.ceil(len(panels) / columns)
    height = rows * height
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[panel.name for panel in panels],
        horizontal_spacing=0.05 if shared else 0.2 / columns,
        vertical_spacing=min(BETWEEN / height, 0.9 / max(rows - 1, 1)),
        shared_yaxes=shared,
    )
    for number, panel in enumerate(panels):
        place = divmod(number, columns)
        _grey(figure, panel, palette, place, clickable=clickable)
        bar = _bar(figure, place, columns, shared=shared)
        _moves(figure, panel, palette, place, bar, scale_title, clickable=clickable)
        if clickable:
            _markers(figure, panel, place)
    figure.update_xaxes(title=x_title or None, showgrid=False, zeroline=False)
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False)
    figure.update_yaxes(title=y_title or None, col=1)
    if square:
        figure.for_each_yaxis(lambda axis: axis.update(scaleanchor=axis.anchor))
        figure.update_xaxes(constrain="domain", showticklabels=False)
        figure.update_yaxes(constrain="domain", showticklabels=False)
    if columns == ABREAST and rows == 1:  # one title for all inputs: three do not fit on a phone
        figure.update_xaxes(title=None)
        figure.update_xaxes(title=x_title or None, col=2)
    figure.update_annotations(font_size=13)  # the panels' names, close together on a phone
    lines = 1 + max(panel.name.count("<br>") for panel in panels)
    return finish(figure, title, height=height, top=12 + 18 * lines)


Place = tuple[int, int]  # row and column, from 0


def _bar(figure: go.Figure, place: Place, columns: int, *, shared: bool) -> dict[str, float] | None:
    """Return where a panel's colour bar stands; None for all but one of those that share it."""
    row, column = place
    if shared and (row, column) != (0, columns - 1):
        return None
    panel = figure.get_subplot(row + 1, column + 1)
    low, high = (0.0, 1.0) if shared else panel.yaxis.domain
    return {"x": panel.xaxis.domain[1] + 0.01, "y": (low + high) / 2, "len": 0.95 * (high - low)}


def _markers(figure: go.Figure, panel: Panel, place: Place) -> None:
    """Lay an unseen square over every cell: it answers for the cell, and a click reports its place.

    The heatmaps below are made silent, and send no words, since the one that answers is the one
    that is clicked.
    """
    high, wide = panel.values.shape
    axes = panel.axes
    rows, columns = np.mgrid[0:high, 0:wide]
    for trace in figure.data[-2:]:
        trace.update(hoverinfo="skip", hovertemplate=None)
    cells = panel.text if panel.text is not None else np.full((high, wide), "")
    moves = np.where(
        np.isnan(panel.values), "not selected", np.char.mod("%+.3g", panel.values.astype(float))
    )
    figure.add_scattergl(
        x=(axes["x0"] + axes["dx"] * columns).ravel(),
        y=(axes["y0"] + axes["dy"] * rows).ravel(),
        mode="markers",
        marker={"symbol": "square", "size": 9, "opacity": 0},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        text=[f"{cell}: {move}" for cell, move in zip(cells.ravel(), moves.ravel(), strict=True)],
        hovertemplate="%{text}<extra>" + panel.name + "</extra>",
        customdata=np.full(high * wide, panel.name),
        showlegend=False,
        row=place[0] + 1,
        col=place[1] + 1,
    )


def _grey(
    figure: go.Figure, panel: Panel, palette: Palette, place: Place, *, clickable: bool
) -> None:
    unselected = np.isnan(panel.values)
    if panel.there is not None:
        unselected &= panel.there
    figure.add_heatmap(
        z=np.where(unselected, 1.0, np.nan),
        **panel.axes,
        colorscale=[(0, palette.unselected), (1, palette.unselected)],
        showscale=False,
        hoverongaps=False,
        text=None if clickable else panel.text,
        hovertemplate=("%{text}: " if panel.text is not None else "unit %{y}, input %{x}: ")
        + "not selected<extra></extra>",
        row=place[0] + 1,
        col=place[1] + 1,
    )


def _moves(
    figure: go.Figure,
    panel: Panel,
    palette: Palette,
    place: Place,
    bar: dict[str, float] | None,
    scale_title: str,
    *,
    clickable: bool,
) -> None:
    figure.add_heatmap(
        z=panel.values,
        **panel.axes,
        zmin=-panel.limit,
        zmax=panel.limit,
        colorscale=palette.diverging,
        hoverongaps=False,
        text=None if clickable else panel.text,
        hovertemplate=("%{text}: " if panel.text is not None else "unit %{y}, input %{x}: ")
        + "%{z:+.3g}<extra>"
        + panel.name
        + "</extra>",
        showscale=bar is not None,
        colorbar={
            "title": {"text": scale_title, "font": {"size": 11}},
            "thickness": 14,
            "exponentformat": "power",
            "nticks": 5,
            "tickformat": "~g",
        }
        | (bar or {}),
        row=place[0] + 1,
        col=place[1] + 1,
    )

"""Moves of a layer (units by inputs) or of one unit, methods side by side on one scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, finish

ABREAST = 3  # panels; more of them go into further rows
BETWEEN = 120  # px between two rows, for an axis and a heading
SCALE_TITLE = "move Δ (parameter units)<br>blue +: increased<br>orange −: decreased"
UNMOVED = "not selected"
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
    whole: tuple[int, int] | None = None  # units and inputs in all, where the last cell spans less

    @property
    def axes(self) -> dict[str, float]:
        """Where the cells lie: the first centred on its own span."""
        rows, columns = self.step
        return {"y0": (rows - 1) / 2, "dy": rows, "x0": (columns - 1) / 2, "dx": columns}

    @property
    def spans(self) -> np.ndarray:
        """Of each cell the value, first and last unit, first and last input, as far as needed."""
        parts: list[Any] = [self.values]
        if self.step != (1, 1):
            ends = self.whole or np.multiply(self.values.shape, self.step)
            places = zip(np.indices(self.values.shape), self.step, ends, strict=True)
            for place, step, end in places:
                parts += [place * step, np.minimum((place + 1) * step, end) - 1]
        return np.stack(parts, axis=-1).astype(np.float32)


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
        clickable: unseen points lie over the cells, since a heatmap reports no clicks.
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
    coloured = [n for n, panel in enumerate(panels) if not np.isnan(panel.values).all()]
    for number, panel in enumerate(panels):
        place = divmod(number, columns)
        _grey(figure, panel, palette, place, clickable=clickable)
        bar = None
        if not shared or number == next(iter(coloured), 0):  # Plotly draws none for a grey panel
            bar = _bar(figure, (0, columns - 1) if shared else place, whole=shared)
        _moves(figure, panel, palette, place, bar, scale_title, clickable=clickable)
        if clickable:
            _answering(figure, panel, palette, place)
    figure.update_xaxes(showgrid=False, zeroline=False)
    figure.update_xaxes(title=x_title or None, col=(columns + 1) // 2)  # more do not fit on a phone
    figure.update_yaxes(showgrid=False, zeroline=False)
    if not clickable:
        figure.update_yaxes(autorange="reversed")
    figure.update_yaxes(title=y_title or None, col=1)
    if square:
        figure.for_each_yaxis(lambda axis: axis.update(scaleanchor=axis.anchor))
        figure.update_xaxes(constrain="domain", showticklabels=False)
        figure.update_yaxes(constrain="domain", showticklabels=False)
    figure.update_annotations(font_size=13)  # the panels' names, close together on a phone
    lines = 1 + max(panel.name.count("<br>") for panel in panels)
    finish(figure, title, height=height, top=12 + 18 * lines)
    if square:
        return room.fixed(figure, [], below=room.BESIDE)
    return room.fixed(figure, ["0000"], y_title=bool(y_title))


Place = tuple[int, int]  # row and column, from 0


def _bar(figure: go.Figure, place: Place, *, whole: bool) -> dict[str, float]:
    """Return where a colour bar stands: right of a panel, as high as it or as the whole figure."""
    panel = figure.get_subplot(place[0] + 1, place[1] + 1)
    low, high = (0.0, 1.0) if whole else panel.yaxis.domain
    return {"x": panel.xaxis.domain[1] + 0.01, "y": (low + high) / 2, "len": 0.95 * (high - low)}


def _answering(figure: go.Figure, panel: Panel, palette: Palette, place: Place) -> None:
    """Lay an unseen point over every cell: it answers for the cell, and a click reports its place.

    Plotly answers for points it does not draw: of all of them one node is in the page. The heatmaps
    below are silent; a click reports the panel's name as the point's `legendgroup`.
    """
    places = np.indices(panel.values.shape, dtype=np.float32)
    y = panel.axes["y0"] + panel.axes["dy"] * places[0]
    x = panel.axes["x0"] + panel.axes["dx"] * places[1]
    moved, name = ~np.isnan(panel.values), panel.name.split("<br>")[0]
    for cells, value in ((moved, "%{customdata[0]:+.3g}"), (~moved, UNMOVED)):
        if cells.any():
            figure.add_scatter(
                x=x[cells].astype(np.float32),
                y=y[cells].astype(np.float32),
                mode="markers",
                marker={"size": 9, "opacity": 0, "maxdisplayed": 1, "color": palette.muted},
                selected={"marker": {"opacity": 0}},
                unselected={"marker": {"opacity": 0}},
                customdata=panel.spans[cells],
                hovertemplate=f"{_cell_words(panel)}: {value}<extra>{name}</extra>",
                legendgroup=panel.name,
                showlegend=False,
                row=place[0] + 1,
                col=place[1] + 1,
            )
    axes = figure.get_subplot(place[0] + 1, place[1] + 1)  # points would have air around them
    axes.xaxis.range = [x.min() - panel.step[1] / 2, x.max() + panel.step[1] / 2]
    axes.yaxis.range = [y.max() + panel.step[0] / 2, y.min() - panel.step[0] / 2]


def _cell_words(panel: Panel) -> str:
    """Return what a point says of its cell, from its place or the spans sent with it."""
    rows, columns = panel.step
    unit = "unit %{y}" if rows == 1 else "units %{customdata[1]} to %{customdata[2]}"
    inputs = "input %{x}" if columns == 1 else "inputs %{customdata[3]} to %{customdata[4]}"
    return f"{unit}, {inputs}"


def _grey(
    figure: go.Figure, panel: Panel, palette: Palette, place: Place, *, clickable: bool
) -> None:
    cells = np.isnan(panel.values)
    if panel.there is not None:
        cells &= panel.there
    if cells.any():
        figure.add_heatmap(
            z=np.where(cells, 1, np.nan).astype(np.float32),
            **panel.axes,
            colorscale=[(0, palette.unselected), (1, palette.unselected)],
            showscale=False,
            hoverongaps=False,
            **_hover(panel, cells, UNMOVED, silent=clickable),
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
        z=panel.values.astype(np.float32),
        **panel.axes,
        zmin=-panel.limit,
        zmax=panel.limit,
        colorscale=palette.diverging,
        hoverongaps=False,
        **_hover(panel, ~np.isnan(panel.values), "%{z:+.3g}", silent=clickable),
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


def _hover(panel: Panel, cells: np.ndarray, value: str, *, silent: bool) -> dict[str, Any]:
    """Return what hovering says of the cells a heatmap colours; no other cell's words are sent."""
    if silent:
        return {"hoverinfo": "skip"}
    words = "unit %{y}, input %{x}" if panel.text is None else "%{text}"
    return {
        "text": None if panel.text is None else np.where(cells, panel.text, ""),
        "hovertemplate": f"{words}: {value}<extra>{panel.name}</extra>",
    }

"""What all charts share: colours for both themes, the diverging scale, headings and size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go


@dataclass(frozen=True)
class Palette:
    """The colours of one theme; the middle of every diverging scale is its background."""

    dark: bool = False
    background: str = "#ffffff"

    @property
    def helpful(self) -> str:
        """Blue: helpful, or an increase."""
        return "#6aa9f0" if self.dark else "#1f6fc5"

    @property
    def harmful(self) -> str:
        """Orange: harmful, or a decrease."""
        return "#f59a4c" if self.dark else "#c65a11"

    @property
    def ink(self) -> str:
        """Strong neutral, for what stands out without a sign."""
        return "#e6eaf0" if self.dark else "#1f2933"

    @property
    def muted(self) -> str:
        """Grey for references: identity lines, chance levels, the model before."""
        return "#9aa1ad" if self.dark else "#6b7280"

    @property
    def unselected(self) -> str:
        """Grey for parameters that were not selected; never the colour of zero."""
        return "#43474f" if self.dark else "#d3d6db"

    @property
    def grid(self) -> str:
        """Faint lines."""
        return "rgba(150,155,165,0.25)"

    def method(self, name: str) -> str:
        """Return a method's colour; not blue or orange, which mean a sign."""
        light = {"gif": "#7a3fc9", "if": "#0b857a", "gradient": "#7d6a1f"}
        dark = {"gif": "#b794f6", "if": "#3cc7b8", "gradient": "#cbb457"}
        return (dark if self.dark else light).get(name, self.muted)

    @property
    def diverging(self) -> list[tuple[float, str]]:
        """Orange to blue through the theme's background."""
        ends = ("#ffd3a6", "#cfe3ff") if self.dark else ("#8a3a05", "#0b3f80")
        return [
            (0.0, ends[0]),
            (0.25, "#f08a3c"),
            (0.5, self.background),
            (0.75, "#4a8fe0"),
            (1.0, ends[1]),
        ]

    @property
    def sequential(self) -> list[tuple[float, str]]:
        """Background to blue, for shares of 0 to 1."""
        return self.diverging_upper()

    def diverging_upper(self) -> list[tuple[float, str]]:
        """Return the blue half of the diverging scale, stretched to 0..1."""
        return [(2 * (at - 0.5), colour) for at, colour in self.diverging if at >= 0.5]


SYMBOLS = {"gif": "diamond", "if": "circle", "gradient": "square"}  # never by colour alone
LABELS = {"gif": "GIF", "if": "IF", "gradient": "Gradient", "before": "Before"}


def label(method: str) -> str:
    """Return how a method is called on the pages."""
    return LABELS.get(method, method)


def finish(
    figure: go.Figure, title: str, *, height: int, top: int = 30, legend: float = 1.0
) -> go.Figure:
    """Set the heading (the finding), height, place of the legend and shared looks.

    The heading is kept in `layout.meta`: the page writes it above the figure, because a Plotly
    title does not wrap and is cut off in a narrow column.
    """
    figure.update_layout(
        meta={"title": title},
        height=height,
        margin={"l": 10, "r": 10, "t": top, "b": 10},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "yanchor": "bottom", "y": legend, "x": 0, "title": None},
    )
    return figure


def heading(figure: go.Figure) -> str:
    """Return the finding that `finish` was given."""
    return str(figure.layout.meta["title"])


def mark_scale(figure: go.Figure, x: float, text: str, palette: Palette, *, left: bool) -> None:
    """Draw an upright line at `x` of a log axis, its words above, to the left or right.

    Plotly places shapes by value but annotations by log10; add_vline gets the second wrong.
    """
    figure.add_shape(
        type="line",
        x0=x,
        x1=x,
        y0=0,
        y1=1,
        yref="paper",
        line={"color": palette.muted, "width": 1.5, "dash": "dot"},
    )
    figure.add_annotation(
        x=math.log10(x),
        y=1,
        yref="paper",
        yanchor="bottom",
        xanchor="right" if left else "left",
        text=f" {text} ",
        showarrow=False,
    )


def log_range(values: Sequence[float]) -> list[float]:
    """Return the range of a log axis that shows all positive values, with a little air."""
    logs = [math.log10(value) for value in values if value > 0] or [0.0]
    air = 0.03 * (max(logs) - min(logs)) + 0.02
    return [min(logs) - air, max(logs) + air]

"""What all charts share: colours for both themes, the diverging scale, headings and size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from gifcore.study import METHOD_LABELS


@dataclass(frozen=True)
class MethodLook:
    """How one method is told apart: never by colour alone."""

    light: str
    dark: str
    symbol: str
    pattern: str  # of bars


METHOD_LOOKS = {  # no blue and no orange, which mean a sign
    "gif": MethodLook("#7a3fc9", "#b794f6", "diamond", ""),
    "if": MethodLook("#0b857a", "#3cc7b8", "circle", "/"),
    "gradient": MethodLook("#7d6a1f", "#cbb457", "square", "."),
    "projected": MethodLook("#b0307e", "#f07fc0", "triangle-up", "\\"),
    "freeze": MethodLook("#3c7d2a", "#86d168", "triangle-down", "x"),
    "second-order": MethodLook("#8f1f36", "#e8798f", "cross", "-"),
    "tracin": MethodLook("#5f7f6f", "#a6c4b5", "x", "|"),
    "datainf": MethodLook("#7c9616", "#c9e265", "star", "+"),
    "hyperinf": MethodLook("#4b3a8f", "#a89cf0", "hexagon", "\\"),
    "ekfac": MethodLook("#7a4a2b", "#c9a083", "pentagon", "x"),
}


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
        """Return a method's colour, grey for one that is not known."""
        look = METHOD_LOOKS.get(name)
        if look is None:
            return self.muted
        return look.dark if self.dark else look.light

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


SYMBOLS = {name: look.symbol for name, look in METHOD_LOOKS.items()}
PATTERNS = {name: look.pattern for name, look in METHOD_LOOKS.items()}
LABELS = METHOD_LABELS | {"before": "Before"}


def label(method: str) -> str:
    """Return how a method is called on the pages, as the engine's records call it."""
    return LABELS.get(method, method)


def listed(words: Sequence[str]) -> str:
    """Return words as people list them.

    >>> listed(["IF"]), listed(["IF", "GIF"]), listed(["IF", "GIF", "TracIn"])
    ('IF', 'IF and GIF', 'IF, GIF and TracIn')
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def marker(method: str, step: str, palette: Palette) -> dict[str, Any]:
    """Return the marker of a model or an edit: open for the natural step, a bar for before."""
    reference = {"before": palette.muted, "retrained": palette.ink}
    colour = reference.get(method) or palette.method(method)
    symbol = {"before": "line-ns", "retrained": "square"}.get(method)
    symbol = symbol or SYMBOLS.get(method, "circle")
    return {
        "color": colour,
        "size": 12,
        "symbol": symbol + ("-open" if step == "natural" else ""),
        "line": {"width": 2, "color": colour},
    }


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


def abreast(figure: go.Figure, columns: int, x_title: str) -> None:
    """Fit panels side by side on a phone too: small headings, one title for all x axes."""
    figure.update_annotations(font_size=13)
    figure.update_xaxes(tickangle=0)
    figure.update_xaxes(title=x_title, col=(columns + 1) // 2)


def legible(figure: go.Figure, palette: Palette) -> go.Figure:
    """Darken the words beside axes, scales and panels where nothing chose their colour.

    Streamlit's own grey, which it takes for what a figure leaves open, has a contrast of 3.7 to 1
    on white; this one has 4.8.
    """
    words = palette.ink if palette.dark else palette.muted
    parts: list[Any] = [*figure.select_xaxes(), *figure.select_yaxes()]
    parts += [axis.colorbar for axis in figure.select_coloraxes()]
    for trace in figure.data:
        for part in (trace, getattr(trace, "marker", None)):
            if part is not None and "colorbar" in part and part.colorbar.title.text:
                parts.append(part.colorbar)
    for part in parts:  # one by one: Plotly's own update of all takes far longer
        part.tickfont.color = part.title.font.color = words
    for note in figure.layout.annotations:
        if note.font.color is None:
            note.font.color = words
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

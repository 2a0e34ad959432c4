"""Wrong labels found against training samples inspected, a line a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import SYMBOLS, Palette, finish

_DASHES = {"self-influence": "solid", "baseline": "dash"}
_BASELINES = {"loss": "#5b6470", "confident": "#2f6f73"}
_BASELINES_DARK = {"loss": "#b9c0ca", "confident": "#8fd0d4"}
MARKED = 34  # points of a line that bear its symbol
FULL = 0.99  # of the wrong labels: from there on a line has nothing to show


@dataclass(frozen=True)
class Line:
    """One score: shares found at every 1 % inspected."""

    score: str
    label: str
    kind: str  # self-influence or baseline
    found: Sequence[float]


@kept
def found_curve(
    lines: Sequence[Line], *, chosen: str, share: float, at: float, title: str, palette: Palette
) -> go.Figure:
    """Draw the lines, the chosen one thick, with chance, the best possible, and what is inspected.

    Args:
        share: of the labels that are wrong; the best possible finds all within it.
        at: share of the samples that are inspected now.
    """
    figure = go.Figure()
    baselines = _BASELINES_DARK if palette.dark else _BASELINES
    for line in sorted(lines, key=lambda line: line.score == chosen):
        own = line.score == chosen
        colour = baselines.get(line.score) or palette.method(line.score)
        figure.add_scatter(
            x=np.linspace(0, 100, len(line.found)),
            y=[100 * value for value in line.found],
            name=line.label,
            mode="lines+markers",
            line={"color": colour, "width": 4 if own else 1.5, "dash": _DASHES[line.kind]},
            marker={
                "symbol": SYMBOLS.get(line.score, "circle-open"),
                "size": 10 if own else 8,
                "color": colour,
                "maxdisplayed": MARKED,
            },
            hovertemplate="%{x:.0f} % inspected: %{y:.1f} % found<extra>" + line.label + "</extra>",
        )
    for name, x, y, dash in (
        ("best possible", [0, 100 * share, 100], [0, 100, 100], "dot"),
        ("by chance", [0, 100], [0, 100], "dashdot"),
    ):
        figure.add_scatter(
            x=x, y=y, name=name, mode="lines", hoverinfo="skip",
            line={"color": palette.muted, "width": 1.5, "dash": dash},
        )  # fmt: skip
    figure.add_vline(x=100 * at, line={"color": palette.ink, "width": 1, "dash": "dot"})
    figure.update_xaxes(title="training images inspected (%)", range=[0, shown(lines, at)])
    figure.update_yaxes(title="wrong labels found (%)", range=[0, 104])
    finish(figure, title, height=430, top=80, legend=1.02)
    return room.fixed(figure, ["100"], y_title=True)


def shown(lines: Sequence[Line], at: float) -> float:
    """Return the end of the axis in per cent: where all lines are full, 25 at least."""
    ends = [int(np.argmax(np.asarray(line.found) >= FULL)) or 100 for line in lines]
    last = max(ends, default=100) * 100 / max(len(lines[0].found) - 1, 1)
    return float(min(100.0, max(25.0, 1.1 * last, 110 * at)))

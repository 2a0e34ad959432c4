"""Where the top of one ranking goes in another: a line for each training sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, finish

MOST = 25  # lines a side
BELOW = 1.6  # rows under the last rank: where samples beyond it end


@dataclass(frozen=True)
class Flow:
    """The samples of two top k lists and their ranks, from 1, in both."""

    index: np.ndarray  # training samples
    first: np.ndarray
    second: np.ndarray
    k: int

    @property
    def shared(self) -> np.ndarray:
        return (self.first <= self.k) & (self.second <= self.k)


def flow(first: np.ndarray, second: np.ndarray, k: int) -> Flow:
    """Return the union of the first k of two orders (positions from most to least)."""
    ranks = np.empty((2, len(first)), dtype=int)
    for row, order in enumerate((first, second)):
        ranks[row, order] = np.arange(1, len(order) + 1)
    union = np.union1d(first[:k], second[:k])
    union = union[np.argsort(ranks[:, union].min(axis=0), kind="stable")]
    return Flow(union, ranks[0, union], ranks[1, union], k)


@kept
def rank_flow(
    found: Flow, texts: np.ndarray, colours: tuple[str, str], names: tuple[str, str],
    title: str, palette: Palette,
) -> go.Figure:  # fmt: skip
    """Draw the ranks of both methods, 1 on top; ends below the line lie beyond the first k.

    `texts`: what each sample of `found` is.
    Samples in both lists are drawn strongly; those in one alone in the colour of its side, dashed.
    """
    figure = go.Figure()
    gone = found.k + BELOW
    groups = (
        ("in both", found.shared, palette.ink, "solid"),
        (f"{names[0]} only", (found.first <= found.k) & ~found.shared, colours[0],
         "dash"),
        (f"{names[1]} only", (found.second <= found.k) & ~found.shared, colours[1],
         "dot"),
    )  # fmt: skip
    for name, mask, colour, dash in groups:
        x, y, words = [], [], []
        for i in np.flatnonzero(mask):
            ends = [min(found.first[i], gone), min(found.second[i], gone)]
            said = (
                f"{texts[i]}: rank {found.first[i]:,} by {names[0]}, "
                f"{found.second[i]:,} by {names[1]}"
            )
            x += [0, 1, None]
            y += [*ends, None]
            words += [said, said, None]
        figure.add_scatter(
            x=x,
            y=y,
            text=words,
            name=f"{name} ({int(mask.sum())})",
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2 if name == "in both" else 1.3},
            marker={"size": 7, "color": colour},
            opacity=1.0 if name == "in both" else 0.75,
            hovertemplate="%{text}<extra></extra>",
        )
    end = found.k + BELOW / 2
    line = {"color": palette.muted, "width": 1, "dash": "dot"}
    figure.layout.shapes = [
        {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "y0": end, "y1": end, "line": line}
    ]
    figure.layout.xaxis = {
        "tickvals": [0, 1],
        "ticktext": list(names),
        "range": [-0.08, 1.08],
        "showgrid": False,
        "zeroline": False,
    }
    ticks = [1, *range(5, found.k + 1, 5)]
    figure.layout.yaxis = {
        "title": {"text": "rank (1 = first)"},
        "tickvals": [*ticks, gone],
        "ticktext": [*map(str, ticks), "beyond"],
        "range": [gone + 0.6, 0.2],
        "zeroline": False,
    }
    finish(figure, title, height=140 + 17 * (found.k + 2), top=40, legend=1.02)
    room.fixed(figure, ["beyond"], y_title=True, below=40)
    half = room.width(names[1]) / 2  # stands under the right end
    return figure.update_layout(margin={"r": max(10, half - 20)})

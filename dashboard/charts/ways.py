"""What FastIF saves and what it loses: quality over seconds, and recall over candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, finish, log_range

_COLOURS = (  # light, dark; no blue and no orange, which mean a sign
    ("#7a3fc9", "#b794f6"),
    ("#0b857a", "#3cc7b8"),
    ("#b0307e", "#f07fc0"),
    ("#3c7d2a", "#86d168"),
    ("#8f1f36", "#e8798f"),
    ("#4b3a8f", "#a89cf0"),
)
_SYMBOLS = ("diamond", "triangle-up", "triangle-down", "cross", "star", "pentagon")
_FIXED = {"exact": "circle", "gradient": "square", "study": "x", "loop": "star-open"}
APART = 0.05  # of the height of the figure
CRITERION_WORDS = {
    "helpful": "Most helpful",
    "harmful": "Most harmful",
    "largest": "Largest |influence|",
    "smallest": "Smallest |influence|",
}


@dataclass(frozen=True)
class Line:
    """One way to a ranking: its points from few candidates to all samples."""

    kind: str  # exact, study, lissa, gradient, preview, loop
    label: str
    k: Sequence[int]
    seconds: Sequence[float]  # a query
    quality: Sequence[float]  # mean over the queries, 0 … 1, or -1 … 1
    low: Sequence[float]
    high: Sequence[float]


def _looks(lines: Sequence[Line], palette: Palette) -> list[tuple[str, str]]:
    """Return (colour, symbol) of every line: told apart by both."""
    looks, others = [], 0
    for line in lines:
        if line.kind in _FIXED:
            colour = palette.ink if line.kind == "exact" else palette.muted
            looks.append((colour, _FIXED[line.kind]))
        else:
            pair = _COLOURS[others % len(_COLOURS)]
            looks.append((pair[palette.dark], _SYMBOLS[others % len(_SYMBOLS)]))
            others += 1
    return looks


@kept
def speed_quality(
    lines: Sequence[Line],
    *,
    share: bool,
    quality: str,
    counted: str,
    title: str,
    palette: Palette,
) -> go.Figure:
    """Draw quality over seconds a query, one line a way; the gradient's points say their k.

    Args:
        share: is the quality a share, drawn in per cent?
        quality: words for its axis.
        counted: what the seconds are of.
    """
    figure = go.Figure()
    times = 100 if share else 1
    for line, (colour, symbol) in zip(lines, _looks(lines, palette), strict=True):
        named = line.kind == "gradient"  # below all others, so that words have room
        k_words = [f"{k:,}" for k in line.k]
        figure.add_scatter(
            x=list(line.seconds),
            y=[times * value for value in line.quality],
            name=line.label,
            mode="lines+markers+text" if named else "lines+markers",
            text=_texts(k_words, line.quality) if named else None,
            textposition="bottom right",
            textfont={"size": 11, "color": palette.muted},
            marker={"size": 11, "color": colour, "symbol": symbol},
            line={"color": colour, "width": 1.5, "dash": "dot"},
            customdata=[
                [words, times * low, times * high]
                for words, low, high in zip(k_words, line.low, line.high, strict=True)
            ],
            hovertemplate="k = %{customdata[0]}: %{x:.3g} s, %{y:.3g} (%{customdata[1]:.3g} to "
            "%{customdata[2]:.3g} over the test images)<extra>" + line.label + "</extra>",
        )
    seconds = [value for line in lines for value in line.seconds]
    low = float(np.nanmin([0.0, *[value for line in lines for value in line.quality]]))
    span = log_range(seconds)
    figure.update_xaxes(
        type="log",
        title=f"seconds a test image: {counted} (log axis)",
        range=[span[0], span[1] + 0.06 * (span[1] - span[0])],
        dtick=1,
    )
    figure.update_yaxes(title=quality, range=[times * (low - 0.04), times * 1.06])
    rows = -(-len(lines) // 3)
    finish(figure, title, height=440 + 24 * rows, top=20 + 24 * rows, legend=1.02)
    room.fixed(figure, ["100"], y_title=True)
    return figure.update_layout(legend={"entrywidth": 215})  # px: fewer abreast on a phone


def _texts(words: Sequence[str], quality: Sequence[float]) -> list[str]:
    """Return "k = 10" for points that are apart; words on top of words cannot be read."""
    texts, last = [], -1.0
    for k, value in zip(words, quality, strict=True):
        apart = abs(value - last) >= APART
        texts.append(f" k = {k}" if apart else "")
        last = value if apart else last
    return texts


@kept
def recall_curves(
    table: pd.DataFrame, n: int, *, found: str | None, title: str, palette: Palette
) -> go.Figure:
    """Draw recall over the number of candidates, a panel a criterion.

    Args:
        table: criterion, k, kept, found, control, as `Record.recall` gives them.
        found: the name of the way whose scores rank the candidates; None: the exact one.
    """
    figure = make_subplots(
        rows=2,
        cols=2,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.06,
        vertical_spacing=0.12,
        subplot_titles=list(CRITERION_WORDS.values()),
    )
    looks = {
        "kept": ("kept among the k nearest", palette.ink, "circle", "solid"),
        "found": (f"found by {found}", palette.method("gif"), "diamond", "dash"),
        "control": ("found by the gradient alone", palette.muted, "square", "dot"),
    }
    if found is None:
        del looks["found"]
    counts = sorted(table["k"].unique())
    for place, criterion in enumerate(CRITERION_WORDS):
        rows = table[table["criterion"] == criterion].sort_values("k")
        spot = {"row": place // 2 + 1, "col": place % 2 + 1}
        for column, (name, colour, symbol, dash) in looks.items():
            figure.add_scatter(
                x=rows["k"],
                y=100 * rows[column],
                name=name,
                legendgroup=column,
                showlegend=place == 0,
                mode="lines+markers",
                marker={"size": 8, "color": colour, "symbol": symbol},
                line={"color": colour, "dash": dash, "width": 2},
                hovertemplate="k = %{x:,}: %{y:.0f} %<extra>" + name + "</extra>",
                **spot,
            )
        figure.add_scatter(
            x=counts,
            y=[100 * k / n for k in counts],
            name="k samples by chance",
            legendgroup="chance",
            showlegend=place == 0,
            mode="lines",
            line={"color": palette.muted, "dash": "dashdot", "width": 1},
            hovertemplate="k = %{x:,}: %{y:.1f} %<extra>by chance</extra>",
            **spot,
        )
    figure.update_xaxes(type="log", range=log_range(counts), dtick=1, tickformat="~s")
    figure.update_xaxes(title="k: nearest training images (log axis)", row=2)
    figure.update_yaxes(range=[-3, 104])
    figure.update_yaxes(title="recall (%)", col=1)
    finish(figure, title, height=560, top=90, legend=1.08)
    return room.fixed(figure, ["100"], y_title=True)


def by_way(values: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Return mean, least and most of a measure over the test images, by way and k."""
    found = values.groupby(["way", "k"])[measure].agg(["mean", "min", "max"])
    return found.astype(np.float64)

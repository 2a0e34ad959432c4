"""Accuracy of every class before and after each edit."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from dashboard.charts.style import SYMBOLS, Palette, finish


@dataclass(frozen=True)
class Series:
    """Accuracy per class of one model."""

    name: str
    method: str  # "before" or a method
    step: str  # "", "natural" or "searched"
    shares: list[float | None]


def per_class(
    series: list[Series],
    classes: list[str],
    removed: int | None,
    title: str,
    palette: Palette,
    word: str = "removed",
) -> go.Figure:
    """Draw a row per class and a mark per model; the class that stands out is named so."""
    names = [f"<b>{c} ({word})</b>" if i == removed else c for i, c in enumerate(classes)]
    figure = go.Figure()
    for one in series:
        colour = palette.muted if one.method == "before" else palette.method(one.method)
        symbol = "line-ns" if one.method == "before" else SYMBOLS.get(one.method, "circle")
        figure.add_scatter(
            x=[None if share is None else 100 * share for share in one.shares],
            y=names,
            name=one.name,
            mode="markers",
            marker={
                "symbol": symbol + ("-open" if one.step == "natural" else ""),
                "size": 14 if one.method == "before" else 10,
                "color": colour,
                "line": {"width": 2, "color": colour},
            },
            cliponaxis=False,
            hovertemplate=f"%{{y}}: %{{x:.1f}} %<extra>{one.name}</extra>",
        )
    figure.update_xaxes(title="test accuracy (%)", range=[-2, 102])
    figure.update_yaxes(autorange="reversed", type="category")
    return finish(figure, title, height=110 + max(26 * len(classes), 60), top=50)

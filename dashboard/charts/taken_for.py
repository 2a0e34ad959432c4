"""What images of one class are taken for: retrained models as bars, other models as marks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from dashboard.charts.style import SYMBOLS, Palette, finish

LEAST = 0.01  # share of the images below which a class is left out, in every model
MOST = 20  # rows


@dataclass(frozen=True)
class TakenFor:
    """Shares of the images by predicted class, (C,), of one model."""

    name: str
    method: str  # "before" or a method
    step: str  # "", "natural" or "searched"
    shares: np.ndarray


def taken_for(
    marks: list[TakenFor],
    retrained: np.ndarray,  # (models, C)
    classes: list[str],
    removed: int,
    title: str,
    palette: Palette,
) -> go.Figure:
    """Draw a row per class: a bar for the mean of the retrained models, its whisker ± 1 sd."""
    rows = shown(marks, retrained)
    names = [f"<b>{classes[i]} (removed)</b>" if i == removed else classes[i] for i in rows]
    mean, places = 100 * retrained.mean(axis=0)[rows], np.arange(len(rows))
    figure = go.Figure()
    figure.add_bar(
        x=mean,
        y=places,
        width=0.8,
        customdata=names,
        orientation="h",
        name=f"Retrained models (mean of {len(retrained)})"
        if len(retrained) > 1
        else "Retrained model",
        marker={"color": palette.unselected, "line": {"color": palette.muted, "width": 1}},
        error_x={"array": _deviations(retrained, rows), "color": palette.ink, "thickness": 1.5},
        hovertemplate="%{customdata}: %{x:.1f} %<extra>Retrained models</extra>",
    )
    for number, mark in enumerate(marks):
        colour = palette.muted if mark.method == "before" else palette.method(mark.method)
        symbol = "line-ns" if mark.method == "before" else SYMBOLS.get(mark.method, "circle")
        figure.add_scatter(
            x=100 * mark.shares[rows],
            y=places + _beside(number, len(marks)),
            customdata=names,
            name=mark.name,
            mode="markers",
            marker={
                "symbol": symbol + ("-open" if mark.step == "natural" else ""),
                "size": 14 if mark.method == "before" else 10,
                "color": colour,
                "line": {"width": 2, "color": colour},
            },
            cliponaxis=False,
            hovertemplate=f"%{{customdata}}: %{{x:.1f}} %<extra>{mark.name}</extra>",
        )
    figure.update_xaxes(title=f"images of {classes[removed]} taken for it (%)", range=[-3, 103])
    figure.update_yaxes(tickvals=places, ticktext=names, showgrid=False, zeroline=False)
    figure.update_yaxes(range=[len(rows) - 0.5, -0.5])
    tall = max(30, 12 + 9 * len(marks))
    return finish(figure, title, height=150 + tall * len(rows), top=70)


def _beside(number: int, marks: int) -> float:
    """Return how far below the middle of a row a mark is drawn, so that none hides another."""
    return 0.0 if marks < 2 else 0.6 * (number / (marks - 1) - 0.5)


def shown(marks: list[TakenFor], retrained: np.ndarray) -> list[int]:
    """Return the classes that any model takes 1 % of the images for, at most 20, in their order."""
    most = np.vstack([retrained, *(mark.shares for mark in marks)]).max(axis=0)
    largest = np.argsort(-most, kind="stable")[:MOST]
    return sorted(int(i) for i in largest if most[i] >= LEAST)


def _deviations(retrained: np.ndarray, rows: list[int]) -> np.ndarray | None:
    return 100 * retrained.std(axis=0, ddof=1)[rows] if len(retrained) > 1 else None

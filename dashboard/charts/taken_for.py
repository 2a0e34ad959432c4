"""What images of one class are taken for: a reference as bars, other models as marks."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, finish, marker

LEAST = 0.01  # share of the images below which a class is left out, in every model
MOST = 20  # rows
LONGEST = 20  # letters of a class name


@dataclass(frozen=True)
class TakenFor:
    """Shares of the images by predicted class, (C,), of one model."""

    name: str
    method: str  # "before" or a method
    step: str  # "", "natural" or "searched"
    shares: np.ndarray


@kept
def taken_for(
    marks: list[TakenFor],
    retrained: np.ndarray,  # (models, C)
    classes: list[str],
    removed: int,
    title: str,
    palette: Palette,
    *,
    bars: str = "",
    word: str = "removed",
) -> go.Figure:
    """Draw a row per class: a bar for the mean of the retrained models, its whisker ± 1 sd.

    Args:
        bars: what the bars are, if not retrained models.
        word: what stands behind the name of the class whose images these are.
    """
    rows = shown(marks, retrained)
    own = f" ({word})" if word else ""
    names = [
        f"<b>{_short(classes[i])}{own}</b>" if i == removed else _short(classes[i]) for i in rows
    ]
    mean, places = 100 * retrained.mean(axis=0)[rows], np.arange(len(rows))
    figure = go.Figure()
    figure.add_bar(
        x=mean,
        y=places,
        width=0.8,
        customdata=names,
        orientation="h",
        name=bars or _counted(len(retrained)),
        marker={"color": palette.unselected, "line": {"color": palette.muted, "width": 1}},
        error_x={"array": _deviations(retrained, rows), "color": palette.ink, "thickness": 1.5},
        hovertemplate="%{customdata}: %{x:.1f} %<extra>"
        + (bars or "Retrained models")
        + "</extra>",
    )
    for number, mark in enumerate(marks):
        look = marker(mark.method, mark.step, palette)
        figure.add_scatter(
            x=100 * mark.shares[rows],
            y=places + _beside(number, len(marks)),
            customdata=names,
            name=mark.name,
            mode="markers",
            marker=look | {"size": 14 if mark.method == "before" else 10},
            cliponaxis=False,
            hovertemplate=f"%{{customdata}}: %{{x:.1f}} %<extra>{mark.name}</extra>",
        )
    title_x = f"test images of {_short(classes[removed])} taken for it (%)"
    figure.update_xaxes(title=title_x, range=[-3, 103])
    figure.update_yaxes(tickvals=places, ticktext=names, showgrid=False, zeroline=False)
    figure.update_yaxes(range=[len(rows) - 0.5, -0.5])
    tall = max(30, 12 + 9 * len(marks))
    return room.fixed(finish(figure, title, height=150 + tall * len(rows), top=40), names)


def _counted(models: int) -> str:
    return f"Retrained models (mean of {models})" if models > 1 else "Retrained model"


def _short(name: str) -> str:
    return escape(name if len(name) <= LONGEST else name[: LONGEST - 1] + "…", quote=False)


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

"""Accuracy of every class before and after each edit, and of models trained again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, finish, marker

MOST = 24  # rows
LONGEST = 20  # letters of a class name


@dataclass(frozen=True)
class Series:
    """Accuracy per class of one model."""

    name: str
    method: str  # "before", "retrained" or a method
    step: str  # "", "natural" or "searched"
    shares: Sequence[float | None]


@kept
def per_class(
    series: list[Series],
    classes: list[str],
    removed: int | None,
    title: str,
    palette: Palette,
    word: str = "removed",
    *,
    picked: int | None = None,
) -> go.Figure:
    """Draw a row per class and a mark per model; the class that stands out is named so.

    Args:
        picked: the class that is looked at, on a band.
    """
    rows = shown(series, [removed, picked])
    places = list(range(len(rows)))
    names = [_name(classes[i], word if i == removed else "", bold=i == picked) for i in rows]
    figure = go.Figure()
    for one in series:
        look = marker(one.method, one.step, palette)
        shares = [one.shares[i] for i in rows]
        figure.add_scatter(
            x=[None if share is None else 100 * share for share in shares],
            y=places,
            customdata=[escape(classes[i], quote=False) for i in rows],
            name=one.name,
            mode="markers",
            marker=look | {"size": 14 if one.method == "before" else 10},
            cliponaxis=False,
            hovertemplate=f"%{{customdata}}: %{{x:.1f}} %<extra>{one.name}</extra>",
        )
    if picked in rows:
        at = rows.index(picked)
        figure.add_hrect(
            y0=at - 0.5, y1=at + 0.5, fillcolor=palette.grid, line_width=0, layer="below"
        )
    figure.update_xaxes(title="test accuracy (% of the images of the class)", range=[-2, 102])
    figure.update_yaxes(
        tickvals=places, ticktext=names, range=[len(rows) - 0.5, -0.5], zeroline=False
    )
    legend = 20 + 19 * len(series)  # pixels, a line a model: in less, Plotly draws it all again
    tall = 90 + legend + max(22 * len(rows), 60)
    return room.fixed(finish(figure, title, height=tall, top=legend), names)


def shown(series: list[Series], always: Sequence[int | None], most: int = MOST) -> list[int]:
    """Return the classes drawn, in their order: all, or those whose accuracy differs most."""
    shares = np.array([[np.nan if s is None else s for s in one.shares] for one in series], float)
    known = np.nan_to_num(np.where(np.isnan(shares), shares[:1], shares))
    spread = known.max(axis=0) - known.min(axis=0)
    wanted = [c for c in dict.fromkeys(always) if c is not None]
    others = [int(c) for c in np.argsort(-spread, kind="stable") if c not in wanted]
    return sorted([*wanted, *others][:most])


def _name(name: str, word: str, *, bold: bool) -> str:
    name = escape(name if len(name) <= LONGEST else name[: LONGEST - 1] + "…", quote=False)
    name = f"{name} ({word})" if word else name
    name = f"▸ {name}" if bold else name
    return f"<b>{name}</b>" if bold or word else name

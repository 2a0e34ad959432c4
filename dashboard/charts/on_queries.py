"""The influence of one training image on every ranked test image, by each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, abreast, finish, label

MOST = 16  # rows; the strongest, where more test images are ranked
LONGEST = 26  # letters of a test image's name
SIGNS = {1: "+", -1: "−", 0: ""}


@kept
def on_queries(
    values: Mapping[str, np.ndarray],
    names: Sequence[str],
    places: Mapping[str, Sequence[str]],
    unit: str,
    title: str,
    palette: Palette,
) -> go.Figure:
    """Draw a bar a test image, one panel a method: right of zero is helpful, left harmful.

    Args:
        values: (m,) influences in `unit` by method, already divided by its power of ten; NaN
            where the method did not rank that test image.
        names: (m,) of the test images.
        places: (m,) where the training image stands among all, in words, by method.
    """
    rows = strongest(values)
    shown = [escape(_short(names[i]), quote=False) for i in rows]
    figure = make_subplots(
        cols=len(values),
        shared_yaxes=True,
        horizontal_spacing=0.1,
        subplot_titles=[label(m) for m in values],
    )
    for column, (method, all_of) in enumerate(values.items(), start=1):
        own = np.asarray(all_of)[rows]
        signs = np.sign(np.nan_to_num(own)).astype(int)
        figure.add_bar(
            x=own,
            y=list(range(len(rows))),
            orientation="h",
            text=[SIGNS[s] for s in signs],
            textposition="outside",
            cliponaxis=False,
            customdata=[[escape(names[i], quote=False), places[method][i]] for i in rows],
            marker={"color": [palette.helpful if s > 0 else palette.harmful for s in signs]},
            hovertemplate=f"%{{customdata[0]}}<br>%{{x:+.3g}} {unit}: %{{customdata[1]}}"
            f"<extra>{label(method)}</extra>",
            showlegend=False,
            col=column,
            row=1,
        )
    largest = max(float(np.nanmax(np.abs(v), initial=0)) for v in values.values()) or 1.0
    figure.update_xaxes(
        range=[-1.15 * largest, 1.15 * largest], zerolinecolor=palette.muted, nticks=4
    )
    figure.update_yaxes(range=[len(rows) - 0.4, -0.6], zeroline=False, showgrid=False)
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=shown, col=1)
    abreast(figure, len(values), f"influence ({unit})")
    finish(figure, title, height=110 + 22 * max(len(rows), 3), top=40)
    return room.fixed(figure, shown)


def strongest(values: Mapping[str, np.ndarray], most: int = MOST) -> list[int]:
    """Return the rows drawn, in their order: all, or those of the largest influence by any."""
    largest = np.nanmax(np.abs(np.nan_to_num(np.stack([*values.values()]))), axis=0)
    return sorted(int(i) for i in np.argsort(-largest, kind="stable")[:most])


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"

"""Two methods' scores for one test image, one dot per training sample."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, finish

MOST = 8_000  # dots sent to the browser: with their words about 400 kB


def thin(first: np.ndarray, second: np.ndarray, most: int = MOST) -> np.ndarray:
    """Return positions to draw: all if they fit, else the strongest tenth and an even rest."""
    n = len(first)
    if n <= most:
        return np.arange(n)
    strength = np.maximum(
        np.abs(first) / (np.abs(first).max() or 1), np.abs(second) / (np.abs(second).max() or 1)
    )
    by_strength = np.argsort(-strength, kind="stable")
    keep, rest = by_strength[: most // 10], by_strength[most // 10 :]
    picked = rest[np.linspace(0, len(rest) - 1, most - len(keep)).astype(int)]
    return np.sort(np.concatenate([keep, picked]))


@kept
def score_scatter(
    first: np.ndarray,
    second: np.ndarray,
    *,
    marked: np.ndarray,
    marked_name: str,
    texts: np.ndarray,
    names: tuple[str, str],
    units: tuple[str, str],
    title: str,
    palette: Palette,
) -> go.Figure:
    """Draw scores (already divided by the powers in `units`) with the line of equality.

    `marked`: True for samples drawn in their own colour and shape (the query's class).
    """
    shown = thin(first, second)
    figure = go.Figure()
    for mask, name, colour, symbol in (
        (~marked, "others", palette.muted, "circle"),
        (marked, marked_name, palette.ink, "diamond"),
    ):
        rows = shown[mask[shown]]
        figure.add_scattergl(
            x=first[rows],
            y=second[rows],
            name=f"{name} ({len(rows):,})",
            mode="markers",
            marker={"size": 5, "color": colour, "symbol": symbol, "opacity": 0.65},
            text=texts[rows],
            hovertemplate=f"%{{text}}<br>{names[0]} %{{x:+.3g}}, {names[1]} %{{y:+.3g}}"
            "<extra></extra>",
        )
    return _frame(figure, first, second, names=names, units=units, title=title, palette=palette)


def _frame(
    figure: go.Figure,
    first: np.ndarray,
    second: np.ndarray,
    *,
    names: tuple[str, str],
    units: tuple[str, str],
    title: str,
    palette: Palette,
) -> go.Figure:
    low = max(first.min(), second.min())
    high = min(first.max(), second.max())
    if high > low and units[0] == units[1]:
        figure.add_scatter(
            x=[low, high],
            y=[low, high],
            mode="lines",
            name="equal scores",
            line={"color": palette.muted, "dash": "dash", "width": 1.5},
            hoverinfo="skip",
        )
    zero = {"zeroline": True, "zerolinecolor": palette.grid, "zerolinewidth": 1}
    figure.update_xaxes(title=f"{names[0]} influence ({units[0]})", **zero)
    figure.update_yaxes(title=f"{names[1]} influence ({units[1]})", **zero)
    return finish(figure, title, height=460, top=70, legend=1.06)

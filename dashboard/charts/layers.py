"""The network at a glance: per layer, how much was selected and how far it moved."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import PATTERNS, Palette, finish, label

MEASURES = {
    "norm": "movement ‖Δ‖₂ (parameter units)",
    "rms": "rms move of one moved number (parameter units)",
}


@dataclass(frozen=True)
class Bar:
    """How one update is told apart."""

    name: str
    colour: str
    pattern: str


@kept
def layers(
    tables: dict[str, pd.DataFrame],
    measure: str,
    title: str,
    palette: Palette,
    bars: dict[str, Bar] | None = None,
) -> go.Figure:
    """Draw share moved and `measure` ("norm" or "rms") per layer, one bar per update.

    `tables`: method -> `weights.layer_table`; with `bars`, any key -> table, named by its bar.
    """
    bars = bars or {m: Bar(label(m), palette.method(m), PATTERNS.get(m, "")) for m in tables}
    figure = make_subplots(
        rows=1,
        cols=2,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        column_widths=[0.38, 0.62],
    )
    for key, table in tables.items():
        bar = bars[key]
        shared = {
            "y": table["layer"],
            "orientation": "h",
            "name": bar.name,
            "legendgroup": key,
            "marker": {
                "color": bar.colour,
                "pattern": {"shape": bar.pattern},
            },
            "customdata": table[["selected", "size"]],
        }
        figure.add_bar(
            x=100 * table["share"],
            **shared,
            showlegend=False,
            hovertemplate="%{y}: %{customdata[0]:,} of %{customdata[1]:,} moved (%{x:.2f} %)"
            f"<extra>{bar.name}</extra>",
            row=1,
            col=1,
        )
        figure.add_bar(
            x=table[measure],
            **shared,
            hovertemplate=f"%{{y}}: %{{x:.3g}}<extra>{bar.name}</extra>",
            row=1,
            col=2,
        )
    figure.update_xaxes(title="numbers moved (%)", range=[0, 103], row=1, col=1)
    figure.update_xaxes(title=MEASURES[measure], rangemode="tozero", row=1, col=2)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_layout(bargap=0.25, bargroupgap=0.05)
    count = max((len(table) for table in tables.values()), default=1)
    finish(figure, title, height=110 + max(36, 12 * len(tables)) * count)
    return room.fixed(figure, [name for table in tables.values() for name in table["layer"]])

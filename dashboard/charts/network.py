"""The network as a map: one tile a layer, how much of it was selected and how far it moved."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, finish, label

ABREAST = 2  # maps; more of them go into further rows
HEIGHT = 300  # px of one row of maps
SCALE_TITLE = "share of the<br>squared move (%)"


@kept
def network(
    tables: dict[str, pd.DataFrame], title: str, palette: Palette, shown: str = ""
) -> go.Figure:
    """Draw a treemap for each method; a click reports the module as the point's `label`.

    Area: cube root of the number of parameters, so that small layers can be hit. Colour: the
    layer's share of ||move||^2, 0 to 100 %, on one scale for all methods.

    `tables`: method -> `weights.module_table`; `shown` is the layer that is looked at: its tile has
    a strong frame.
    """
    columns = min(len(tables), ABREAST)
    rows = -(-len(tables) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        specs=[[{"type": "domain"}] * columns for _ in range(rows)],
        subplot_titles=[label(method) for method in tables],
        horizontal_spacing=0.02,
        vertical_spacing=0.1 / rows,
    )
    for number, (method, table) in enumerate(tables.items()):
        squares = table["norm"].to_numpy() ** 2
        share = 100 * squares / max(float(squares.sum()), 1e-300)
        figure.add_treemap(
            ids=table["module"],  # a click is reported only of tiles that have one
            labels=table["module"],
            parents=[""] * len(table),
            values=np.cbrt(table["size"]),
            customdata=table[["layer", "size", "selected", "norm"]].assign(share=share),
            text=[
                "all may move" if s == 1 else f"{100 * s:.3g} % may move" for s in table["share"]
            ],
            texttemplate="<b>%{label}</b><br>‖Δ‖ %{customdata[3]:.2g}<br>%{text}",
            hovertemplate="<b>%{label}</b>: %{customdata[1]:,} parameters, %{customdata[2]:,} "
            "selected<br>‖Δ‖ = %{customdata[3]:.3g}, %{customdata[4]:.1f} % of the squared move"
            f"<extra>{label(method)}</extra>",
            marker={
                "colors": share,
                "coloraxis": "coloraxis",
                "line": {
                    "width": [4 if one == shown else 1 for one in table["module"]],
                    "color": [
                        palette.ink if one == shown else palette.muted for one in table["module"]
                    ],
                },
                "pad": {"t": 0, "l": 0, "r": 0, "b": 0},
            },
            root={"color": "rgba(0,0,0,0)"},
            tiling={"packing": "squarify", "pad": 2},
            pathbar={"visible": False},
            sort=False,
            row=number // columns + 1,
            col=number % columns + 1,
        )
    figure.update_layout(
        uirevision=shown,  # a click also zooms into the tile: the next drawing shows all of them
        uniformtext={"minsize": 9, "mode": "hide"},
        coloraxis={
            "colorscale": palette.sequential,
            "cmin": 0,
            "cmax": 100,
            "colorbar": {
                "title": {"text": SCALE_TITLE, "font": {"size": 11}},
                "thickness": 14,
                "nticks": 5,
            },
        },
    )
    return finish(figure, title, height=rows * HEIGHT)

"""Drawing a figure the same way everywhere: theme, width, key, and words for who cannot see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from PIL import Image

from dashboard import state
from dashboard.charts.style import Palette, heading
from dashboard.components.messages import plain

PICTURES_AS = "pictures-as"  # in the session: what the camera of a chart's menu writes
_BACKGROUNDS = {True: "#0e1117", False: "#ffffff"}


def icon() -> Image.Image:
    """Return the browser tab's picture, a small heatmap; a named icon would be fetched abroad."""
    cells = np.array([[(74, 143, 224), (207, 227, 255)], [(255, 211, 166), (240, 138, 60)]])
    return Image.fromarray(cells.repeat(32, axis=0).repeat(32, axis=1).astype(np.uint8))


def palette() -> Palette:
    """Return the colours of the theme the page is drawn in."""
    dark = state.dark()
    option = f"theme.{'dark' if dark else 'light'}.backgroundColor"
    return Palette(dark, st.get_option(option) or _BACKGROUNDS[dark])


def chart(
    figure: go.Figure, key: str, clicked: Callable[[dict[str, Any]], None] | None = None
) -> None:
    """Draw a figure over the full width, its finding above it and as words for screen readers.

    Args:
        clicked: told of the point that was clicked, before the page is drawn again; whatever it
            does, a widget does too.
    """
    finding = heading(figure)
    st.markdown(f"**{plain(finding)}**")
    name = f"chart-{key}"

    def selected() -> None:
        points = st.session_state[name]["selection"]["points"]
        if points and clicked is not None:
            clicked(points[0])

    st.plotly_chart(
        figure,
        width="stretch",
        key=name,
        on_select="ignore" if clicked is None else selected,
        selection_mode="points",
        alt=finding,
        config={
            "displaylogo": False,
            "toImageButtonOptions": {
                "filename": key,
                "format": st.session_state.get(PICTURES_AS, "png"),
                "scale": 2,
            },
            "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
        },
    )

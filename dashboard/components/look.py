"""Drawing a figure the same way everywhere: theme, width, key, and words for who cannot see it."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from PIL import Image

from dashboard import state
from dashboard.charts.style import Palette, heading
from dashboard.components.messages import plain

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


def chart(figure: go.Figure, key: str) -> None:
    """Draw a figure over the full width, its finding above it and as words for screen readers."""
    finding = heading(figure)
    st.markdown(f"**{plain(finding)}**")
    st.plotly_chart(
        figure,
        width="stretch",
        key=f"chart-{key}",
        alt=finding,
        config={
            "displaylogo": False,
            "toImageButtonOptions": {"filename": key, "scale": 2},
            "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
        },
    )

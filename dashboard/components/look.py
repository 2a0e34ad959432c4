"""Drawing a figure the same way everywhere: theme, width, key, and words for who cannot see it."""

from __future__ import annotations

import plotly.graph_objects as go
import streamlit as st

from dashboard import state
from dashboard.charts.style import Palette

_BACKGROUNDS = {True: "#0e1117", False: "#ffffff"}


def palette() -> Palette:
    """Return the colours of the theme the page is drawn in."""
    dark = state.dark()
    option = f"theme.{'dark' if dark else 'light'}.backgroundColor"
    return Palette(dark, st.get_option(option) or _BACKGROUNDS[dark])


def chart(figure: go.Figure, key: str, alt: str) -> None:
    """Draw a figure over the full width; `alt` says in words what it shows."""
    name = key.replace("-", "_")
    st.plotly_chart(
        figure,
        width="stretch",
        key=f"chart-{key}",
        alt=alt,
        config={
            "displaylogo": False,
            "toImageButtonOptions": {"filename": name, "scale": 2},
            "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
        },
    )

"""A whole layer as a picture: one pixel a number, where a heatmap shows blocks of them."""

from __future__ import annotations

import io

import numpy as np
import streamlit as st
from PIL import Image, ImageColor

from dashboard.charts.style import Palette, label
from dashboard.components import look

MOST = 4_000_000  # pixels of one picture


def full_resolution(layer: str, matrices: dict[str, np.ndarray], limits: dict[str, float]) -> None:
    """Offer every number of the layer as one pixel, a picture for each method."""
    if not st.toggle("Full resolution: one pixel a number", key="parameters-pixels"):
        return
    size = next(iter(matrices.values())).size
    if size > MOST:
        st.info(f"{layer} has {size:,} numbers; up to {MOST:,} are drawn one by one.")
        return
    for method, matrix in matrices.items():
        content = png(matrix, limits[method], look.palette())
        units, inputs = matrix.shape
        st.image(
            content,
            caption=f"{label(method)}: {units:,} units down, {inputs:,} inputs across; colours as "
            "above",
            alt=f"{label(method)}: every number of {layer} as a pixel",
            width="stretch" if inputs > 300 else inputs * max(1, 600 // inputs),
        )
        st.download_button(
            "This picture as PNG",
            data=content,
            file_name=f"{layer}-{method}.png",
            mime="image/png",
            key=f"pixels-{layer}-{method}",
            icon=":material/download:",
            type="tertiary",
            on_click="ignore",
        )


def png(matrix: np.ndarray, limit: float, palette: Palette) -> bytes:
    """Return the numbers in the diverging colours of the charts, nan in the grey of unselected."""
    buffer = io.BytesIO()
    Image.fromarray(colours(matrix, limit, palette)).save(buffer, format="PNG")
    return buffer.getvalue()


def colours(matrix: np.ndarray, limit: float, palette: Palette) -> np.ndarray:
    """Return (rows, columns, 3) uint8: from -limit, the first colour, to +limit, the last.

    The middle of the scale is the page's background, as in the charts.
    """
    places = [at for at, _ in palette.diverging]
    stops = np.array([ImageColor.getrgb(colour)[:3] for _, colour in palette.diverging], float)
    share = np.clip(matrix / (2 * limit) + 0.5, 0, 1)
    channels = [np.interp(np.nan_to_num(share, nan=0.5), places, stops[:, c]) for c in range(3)]
    picture = np.stack(channels, axis=-1).round().astype(np.uint8)
    picture[np.isnan(matrix)] = ImageColor.getrgb(palette.unselected)[:3]
    return picture

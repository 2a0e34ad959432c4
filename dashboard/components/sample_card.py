"""The card of a training image: what it is, what the model says of it, what it did to others."""

from __future__ import annotations

import streamlit as st

from dashboard.components.gallery import Pictures
from dashboard.components.messages import plain
from dashboard.state import Context

LARGE = 224  # pixels; 28 eight times


def section(context: Context, source: Pictures) -> None:
    """Draw the card of the training image that is chosen; nothing where none is."""
    if st.session_state.get("pending"):  # chosen inside a fragment: the pickers are outside it
        st.rerun()
    if context.sample is None:
        return
    st.subheader(f"Training image \\#{context.sample}", anchor="card")
    _face(context.sample, source)


def _face(index: int, source: Pictures) -> None:
    name = source.label("train", index)
    alt = f"Training image {index}, {name or 'label unknown'}"
    st.image(source.png("train", index, LARGE), width=LARGE, alt=alt)
    st.markdown(f"Label: **{plain(name)}**" if name else "Its label is unknown here.")

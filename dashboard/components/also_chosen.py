"""What else is chosen, in the sidebar of the record pages: class, training image, pinned one.

The router draws these pickers on every record page, so that they survive a switch of pages; what
is chosen on a page by a click is copied into them.
"""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from dashboard import state
from gifcore.record import Record

KEYS = ("class", "sample", "pin")


@dataclass(frozen=True)
class Chosen:
    """What is chosen beside study, test image and methods; None where nothing is."""

    klass: int | None
    layer: str | None
    sample: int | None
    pin: int | None


def draw(record: Record) -> Chosen:
    """Draw the pickers, folded away unless something is chosen, and return what they say."""
    data = record.info["data"]
    n, classes = data["sizes"]["train"], data["classes"]
    state.seed("class", range(len(classes)), None)
    for key in ("sample", "pin"):
        state.seed(key, range(n), None)
    chosen = [key for key in KEYS if st.session_state[key] is not None]
    with st.expander("Also chosen", expanded=bool(chosen), icon=":material/check_box:"):
        st.selectbox(
            "Class",
            range(len(classes)),
            index=None,
            placeholder="any class",
            key="class",
            format_func=lambda c: classes[c],
            help="Filters the training images and is highlighted on Before / after.",
        )
        for key, title, use in (
            ("sample", "Training image", "Its card is on the page Samples."),
            ("pin", "Pinned training image", "Its card stays beside that of the other one."),
        ):
            st.number_input(
                f"{title} (0 to {n - 1:,})",
                min_value=0,
                max_value=n - 1,
                value=None,
                step=1,
                placeholder="none",
                key=key,
                help=use,
            )
        st.button(
            "Choose none of these",
            key="also-none",
            icon=":material/clear_all:",
            disabled=not chosen,
            on_click=state.show,
            kwargs=dict.fromkeys(KEYS),
            width="stretch",
        )
    return Chosen(state.keep("class"), None, state.keep("sample"), state.keep("pin"))

"""What else is chosen, in the sidebar of the record pages: class, images, layer.

The router draws these pickers on every record page, so that they survive a switch of pages; what
is chosen on a page by a click is copied into them.
"""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from dashboard import state
from gifcore.record import Record

CHOSEN = ("class", "sample", "pin")
OF_DATA = (*CHOSEN, "filter", "cell", "edit", "preview")  # mean nothing for another data set
HAVE_LAYER = ("parameters", "compare")  # pages that draw the picker of the layer themselves


@dataclass(frozen=True)
class Chosen:
    """What is chosen beside study, test image and methods; None where nothing is."""

    klass: int | None
    layer: str | None
    sample: int | None
    pin: int | None


def draw(record: Record, page: str) -> Chosen:
    """Draw the pickers, folded away unless something is chosen, and return what they say.

    Args:
        page: the address of the page; one that shows a layer has its picker beside the figure.
    """
    data = record.info["data"]
    n, classes = data["sizes"]["train"], data["classes"]
    _forget_other_data(data["hash"])
    state.seed("class", range(len(classes)), None)
    for key in ("sample", "pin"):
        state.seed(key, range(n), None)
    chosen = [key for key in CHOSEN if st.session_state[key] is not None]
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
        layer = state.picked().get("layer") if page in HAVE_LAYER else _layer(record)
        st.button(
            "Choose none of these",
            key="also-none",
            icon=":material/clear_all:",
            disabled=not chosen,
            on_click=state.show,
            kwargs=dict.fromkeys(CHOSEN),
            width="stretch",
        )
    return Chosen(state.keep("class"), layer, state.keep("sample"), state.keep("pin"))


def _layer(record: Record) -> str | None:
    names = [layer["name"] for layer in record.info["model"]["layers"]]
    state.seed("layer", names, None)
    st.selectbox(
        "Layer",
        names,
        index=None,
        placeholder="the one that moves most",
        key="layer",
        help="Opened on Parameters and on Compare.",
    )
    before = state.picked().get("layer")
    found: str | None = state.keep("layer")
    if found != before:
        state.forget("unit")  # it was one of another layer
    return found


def _forget_other_data(now: str) -> None:
    """Forget what was chosen of another data set, unless it was asked for with this one."""
    before = st.session_state.get("chosen_of", now)
    st.session_state["chosen_of"] = now
    if before != now:
        for key in OF_DATA:
            if key not in st.session_state.get("told", ()):
                state.forget(key)

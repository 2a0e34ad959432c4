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
OPEN = "also-chosen"  # in the session: is the panel open?
HAVE_LAYER = ("parameters", "compare")  # pages that draw the picker of the layer themselves


@dataclass(frozen=True)
class Chosen:
    """What is chosen beside study, test image and methods; None where nothing is."""

    klass: int | None
    layer: str | None
    sample: int | None
    pin: int | None


def draw(record: Record, page: str) -> Chosen:
    """Draw the pickers, folded away unless something is chosen, and return what is chosen.

    Args:
        page: the address of the page; one that shows a layer has its picker beside the figure.
    """
    data = record.info["data"]
    n, classes = data["sizes"]["train"], data["classes"]
    layers = [layer["name"] for layer in record.info["model"]["layers"]]
    _forget_other_data(data["hash"])
    state.seed("class", range(len(classes)), None)
    for key in ("sample", "pin"):
        state.seed(key, range(n), None)
    own_layer = page not in HAVE_LAYER
    if own_layer:
        state.seed("layer", layers, None)
    chosen = [key for key in CHOSEN if st.session_state[key] is not None]
    _open_or_close(chosen)
    panel = st.expander("Also chosen", icon=":material/check_box:", key=OPEN, on_change="rerun")
    if panel.open:  # five widgets less on every other run
        with panel:
            _pickers(n, classes, layers if own_layer else [])
            st.button(
                "Choose none of these",
                key="also-none",
                icon=":material/clear_all:",
                disabled=not chosen,
                on_click=state.show,
                kwargs=dict.fromkeys(CHOSEN),
                width="stretch",
            )
    layer = _layer() if own_layer else state.picked().get("layer")
    return Chosen(state.keep("class"), layer, state.keep("sample"), state.keep("pin"))


def _open_or_close(chosen: list[str]) -> None:
    """Open the panel when something comes to be chosen, close it when nothing is any more."""
    before = st.session_state.get("also_was_chosen", False)
    st.session_state["also_was_chosen"] = bool(chosen)
    if bool(chosen) != before or OPEN not in st.session_state:
        st.session_state[OPEN] = bool(chosen)


def _pickers(n: int, classes: list[str], layers: list[str]) -> None:
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
    if layers:
        st.selectbox(
            "Layer",
            layers,
            index=None,
            placeholder="the one that moves most",
            key="layer",
            help="Opened on Parameters and on Compare.",
        )


def _layer() -> str | None:
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

"""Views under a name: saving the present one, opening one again, deleting it."""

from __future__ import annotations

import hashlib

import streamlit as st

from dashboard import saved_views, settings, state
from dashboard.components import messages
from dashboard.components.messages import plain
from dashboard.picks import PARAMS, parse
from dashboard.saved_views import View
from gifcore.errors import GifError

NOT_KEPT = ("present", "story", "step")  # who looks on, not what is looked at
KEPT = tuple(key for key in PARAMS if key not in NOT_KEPT)
NAME, SAY = "saved-name", "saved-say"


def available() -> bool:
    """May views be saved and opened here? Not on a demo server, not before an audience."""
    return not state.closed()


def save_this(page: str) -> None:
    """Draw the field that gives the present view a name."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Save this view as",
            key=NAME,
            max_chars=saved_views.LONGEST,
            placeholder="a name",
            help="Kept in the workspace, for everybody who uses this server; listed here and on "
            "Home.",
        )
        st.button(
            "Save", key="saved-save", on_click=_save, args=(page,), icon=":material/bookmark_add:"
        )
    _say()


def _say() -> None:
    """Say how the last saving or deleting went, once."""
    said = st.session_state.pop(SAY, None)
    if said is not None:
        good, words = said
        if good:
            st.success(plain(words), icon=":material/bookmark_added:")
        else:
            messages.error(GifError(words))


def _save(page: str) -> None:
    try:
        view = saved_views.save(
            settings.workspace(), st.session_state[NAME], page, state.address(), KEPT
        )
    except GifError as problem:
        st.session_state[SAY] = (False, str(problem))
    else:
        st.session_state[SAY] = (True, f"Saved as “{view.name}”.")
        st.session_state[NAME] = ""


def shown(where: str) -> bool:
    """Draw the saved views, each with a way to open and to delete it; are there any?

    Args:
        where: tells two lists apart: "share", "home".
    """
    pages = st.session_state.get("pages", {})
    views = [
        view
        for view in saved_views.read(settings.workspace())
        if view.page.replace("-", "_") in pages
    ]
    for view in views:
        # not by place: somebody else may have saved one since this list was drawn
        this = f"{where}-{hashlib.sha256(view.name.encode()).hexdigest()[:12]}"
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            title = pages[view.page.replace("-", "_")].title
            if st.button(
                f"{plain(view.name)} · {title}",
                key=f"saved-open-{this}",
                type="tertiary",
                icon=":material/bookmark:",
                help=f"Saved {view.made}",
            ):
                _open(view)
            st.button(
                f"Delete {plain(view.name)}",
                key=f"saved-delete-{this}",
                type="tertiary",
                icon=":material/delete:",
                on_click=_delete,
                args=(view.name,),
            )
    return bool(views)


def _open(view: View) -> None:
    """Show exactly the picks of a view; what it does not say is as at the first visit."""
    picks = dict.fromkeys(KEPT) | parse({k: v for k, v in view.picks.items() if k in KEPT})
    state.turn_to(view.page.replace("-", "_"), **picks)


def _delete(name: str) -> None:
    try:
        saved_views.delete(settings.workspace(), name)
    except GifError as problem:
        st.session_state[SAY] = (False, str(problem))


def on_home() -> None:
    """Draw the saved views under a heading of their own; nothing where there are none."""
    if not available():
        return
    if saved_views.read(settings.workspace()):
        st.subheader("Saved views")
    _say()
    shown("home")

"""Sharing what is looked at: a link, a name for it, a report, the files to compute it again."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

import streamlit as st

from dashboard import reproduce, state
from dashboard.components import look, saved
from dashboard.components.controls import one_of
from dashboard.state import Context
from gifcore.record import RECORD, STUDY

OPEN = "share-view"  # in the session: is the popover open?
PICTURES = {"png": "PNG", "svg": "SVG"}


def draw(context: Context, page: str) -> None:
    """Draw the popover of a page; its content once it is opened, with the address as it is then.

    Args:
        page: as the address has it: "before-after".
    """
    _popover(context, page, st.session_state.get(look.PICTURES_AS, "png"))


@st.fragment
def _popover(context: Context, page: str, drawn: str) -> None:
    """Draw the popover alone; its downloads are built when they are pressed.

    Args:
        drawn: what the camera of the charts beside it writes.
    """
    popover = st.popover(
        "Share this view", icon=":material/share:", width="stretch", key=OPEN, on_change="rerun"
    )
    if not popover.open:
        return
    with popover:
        st.markdown("**Link** to exactly this view, for whoever reaches this server")
        st.code(link(), language=None, wrap_lines=True)
        if saved.available():
            saved.save_this(page)
            saved.shown("share")
        if context.record is None:
            return
        words = "The camera in a chart’s own menu writes"
        if one_of(words, PICTURES, "png", look.PICTURES_AS) != drawn:
            st.rerun()
        st.markdown("**Files**")
        _files(context)
        lines = reproduce.of(context)
        st.markdown("**Compute it again**, in a terminal with the study file")
        st.code(lines.command, language=None)
        st.markdown("or in Python")
        st.code(lines.python, language=None, wrap_lines=True)


def _files(context: Context) -> None:
    """Offer the report, the study file and the record's own JSON."""
    folder = context.shown.path
    files: tuple[tuple[str, str, str, str], ...] = (
        ("Report: one HTML file, opens offline", "report", f"{folder.name}.html", "text/html"),
        ("Study file", "study", STUDY, "application/toml"),
        ("Run manifest: hashes, versions, numbers", "manifest", RECORD, "application/json"),
    )
    build: dict[str, Callable[[], str | bytes]] = {
        "report": lambda: _report(context),
        "study": lambda: reproduce.of(context).study,
        "manifest": (folder / RECORD).read_bytes,
    }
    for words, name, file, mime in files:
        st.download_button(
            words,
            data=build[name],
            file_name=file,
            mime=mime,
            key=f"share-{name}",
            icon=":material/description:" if name == "report" else ":material/download:",
            on_click="ignore",
            width="stretch",
        )


def link() -> str:
    """Return the address of this view with every pick written out."""
    base = (st.context.url or "").split("?")[0]
    return f"{base}?{urlencode(state.address())}"


def _report(context: Context) -> str:
    from dashboard.report import report  # only for who asks: it draws all of them again

    return report(context)

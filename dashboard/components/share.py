"""Sharing what is looked at: a link with all picks, a report, the files to compute it again."""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

from dashboard import reproduce, state
from dashboard.state import Context
from gifcore.record import STUDY


def draw(context: Context) -> None:
    """Draw the popover; its downloads are built when they are pressed."""
    with st.popover("Share this view", icon=":material/share:", width="stretch"):
        st.markdown("**Link** to exactly this view, for whoever reaches this server")
        st.code(link(), language=None, wrap_lines=True)
        if context.record is None:
            return
        st.markdown("**Files**")
        stem = f"{context.record.path.name}"
        st.download_button(
            "Report: one HTML file, opens offline",
            data=lambda: _report(context),
            file_name=f"{stem}.html",
            mime="text/html",
            key="share-report",
            icon=":material/description:",
            on_click="ignore",
            width="stretch",
        )
        lines = reproduce.of(context)
        st.download_button(
            "Study file",
            data=lines.study,
            file_name=STUDY,
            mime="application/toml",
            key="share-study",
            icon=":material/download:",
            on_click="ignore",
            width="stretch",
        )
        st.markdown("**Compute it again**, in a terminal with the study file")
        st.code(lines.command, language=None)
        st.markdown("or in Python")
        st.code(lines.python, language=None, wrap_lines=True)


def link() -> str:
    """Return the address of this view with every pick written out."""
    base = (st.context.url or "").split("?")[0]
    return f"{base}?{urlencode(state.address())}"


def _report(context: Context) -> str:
    from dashboard.report import report  # only for who asks: it draws all of them again

    return report(context)

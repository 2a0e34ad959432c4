"""Sentences that several pages say, in one place and always the same way."""

from __future__ import annotations

import logging
import re

import streamlit as st

log = logging.getLogger(__name__)

STATUS_WORDS = {
    "finished": "Finished",
    "waiting": "Waiting its turn",
    "starting": "Starting",
    "running": "Running",
    "cancelled": "Cancelled",
    "failed": "Failed",
    "interrupted": "Interrupted",
    "damaged": "Damaged",
}
STATUS_ICONS = {
    "finished": ":material/check_circle:",
    "waiting": ":material/hourglass_empty:",
    "starting": ":material/hourglass_top:",
    "running": ":material/progress_activity:",
    "cancelled": ":material/cancel:",
    "failed": ":material/error:",
    "interrupted": ":material/power_off:",
    "damaged": ":material/broken_image:",
}


def error(problem: Exception) -> None:
    """Say in one sentence what is wrong; never a traceback."""
    st.error(plain(str(problem)), icon=":material/error:")


def plain(text: str) -> str:
    r"""Return text that Markdown shows as it is, e.g. a file name with underscores.

    >>> print(plain("a_b [c]"))
    a\_b \[c\]
    """
    return "".join(f"\\{c}" if c in "\\`*_[]<>#$~|:" else c for c in text)


def bare(text: str) -> str:
    r"""Return what `plain` was given: for files, where no Markdown is read.

    >>> bare(plain("a_b [c]"))
    'a_b [c]'
    """
    return re.sub(r"\\([\\`*_\[\]<>#$~|:])", r"\1", text)


def coded(text: str) -> str:
    r"""Return text as `plain`, but names of options in backticks are shown as code.

    >>> print(coded("set `max_k` in [retrain]"))
    set `max_k` in \[retrain\]
    """
    parts = re.split(r"(`[A-Za-z][\w. -]*`)", text)
    return "".join(part if i % 2 else plain(part) for i, part in enumerate(parts))


def on_script_error(problem: Exception) -> bool:
    """Draw the last net under a page: what is unexpected goes to the log, not to the visitor."""
    log.error("A page failed", exc_info=problem)
    st.error(
        f"Something in this page went wrong ({type(problem).__name__}). The details are in the "
        "terminal that runs the dashboard; the studies and their records are not affected.",
        icon=":material/error:",
    )
    return True


def nothing_yet() -> None:
    """Say that there is no record to look at, and what to do about it."""
    st.info(
        "There is no finished study to show yet. Start one on the page **New study**; "
        "what you see here appears when it is finished.",
        icon=":material/info:",
    )


def duration(seconds: float) -> str:
    """Return a time as people say it.

    >>> duration(4.2), duration(75), duration(4000)
    ('4 s', '1 min 15 s', '1 h 6 min')
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

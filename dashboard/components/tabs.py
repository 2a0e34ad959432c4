"""The tabs of a page: only the chosen one is drawn, so that a click redraws little.

Which tab is open is a pick like any other: the address says it, a link opens it, and every page
keeps its own. A tab's name is one of its page alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from dashboard import state

NAMES = {  # of every page that has tabs
    "samples": ["few", "table"],
    "parameters": ["network", "layer", "unit"],
    "before_after": ["accuracies", "retrained", "edit", "confusions", "histogram", "flips"],
    "compare": ["rankings", "overlap", "flow", "every", "moves", "edits", "costs"],
}


@dataclass(frozen=True)
class Tab:
    """One tab: what is written on it and what draws its content."""

    title: str
    draw: Callable[[], None]


def draw(tabs: dict[str, Tab]) -> None:
    """Draw the tabs by name ("layer"), the first one open unless another was chosen."""
    names, titles = list(tabs), [tab.title for tab in tabs.values()]
    key = f"tab-{names[0]}"
    chosen = opened(names)

    def turned() -> None:
        turn(names[titles.index(st.session_state[key])], names)

    st.session_state[key] = tabs[chosen].title
    containers = st.tabs(titles, key=key, on_change=turned)
    with containers[names.index(chosen)]:
        tabs[chosen].draw()


def forget_unknown() -> None:
    """Forget tabs that no page has, and say so if a link asks for them."""
    known = {name for names in NAMES.values() for name in names}
    picked: list[str] = state.picked().get("tab") or []
    if unknown := [name for name in picked if name not in known]:
        state.picked()["tab"] = [name for name in picked if name in known] or None
        st.session_state["gone"]["tab"] = ",".join(unknown)


def opened(names: list[str]) -> str:
    """Return which of a page's tabs is open."""
    asked: list[str] = state.picked().get("tab") or []
    return next((name for name in asked if name in names), names[0])


def turn(name: str, names: list[str]) -> None:
    """Open another of a page's tabs from the next run on; other pages keep theirs."""
    others = [one for one in state.picked().get("tab") or [] if one not in names]
    own = [] if name == names[0] else [name]
    state.show(tab=[*own, *others] or None)

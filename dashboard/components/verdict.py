"""The verdict of a study on the pages: a line a method, its evidence smaller beneath it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard.components.messages import plain
from gifcore.verdict import Verdict, rules, verdicts


def draw(info: dict[str, Any], methods: Sequence[str]) -> None:
    """Draw the lines of these methods, then what holds for all of them."""
    with st.container(border=True):
        for one in verdicts(info, methods):
            with st.container(gap=None):
                st.markdown(first(one))
                st.caption(evidence(one))
        for rule in rules(info):
            st.caption(plain(rule))


def first(one: Verdict) -> str:
    """Return what an edit does, its verbs in bold."""
    does = ", ".join(
        f"**{plain(clause.words)}**" + (f" ({plain(clause.numbers)})" if clause.numbers else "")
        for clause in one.does
    )
    return f"**{plain(one.name)}**, {plain(one.edit)}: {does}"


def evidence(one: Verdict) -> str:
    """Return what stands behind it, as a sentence."""
    return plain(f"{one.evidence[:1].upper()}{one.evidence[1:]}.")

"""The verdict of a study on the pages: a line a method, its evidence smaller beneath it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard.components.messages import coded
from gifcore.verdict import Verdict, rules, verdicts


def draw(info: dict[str, Any], methods: Sequence[str]) -> None:
    """Draw the lines of these methods, then what holds for all of them."""
    with st.container(border=True):
        for one in verdicts(info, methods):
            with st.container(gap=None):
                st.markdown(first(one))
                st.caption(evidence(one))
        for rule in rules(info):
            st.caption(words(rule).replace("`", ""))  # code this small and pale cannot be read


def first(one: Verdict) -> str:
    """Return what an edit does, its verbs in bold."""
    does = ", ".join(
        f"**{words(clause.words)}**" + (f" ({words(clause.numbers)})" if clause.numbers else "")
        for clause in one.does
    )
    return f"**{words(one.name)}**, {words(one.edit)}: {does}"


def evidence(one: Verdict) -> str:
    """Return what stands behind it, a sentence on a line of its own for each kind of evidence."""
    return "  \n".join(words(f"{part[:1].upper()}{part[1:]}.") for part in one.parts)


def brief(one: Verdict) -> str:
    """Return whether to believe it: retrained models, gradient and solve, without other steps."""
    parts = [part for part in (one.held, one.control, one.trust) if part]
    return " ".join(words(f"{part[:1].upper()}{part[1:]}.") for part in parts)


def words(text: str) -> str:
    """Return text that Markdown shows as it is, its numbers not parted from their signs."""
    text = text.replace(" %", "\u00a0%").replace(" ± ", "\u00a0±\u00a0")
    return coded(text.replace("× ", "×\u00a0"))

"""The part of Before / after that shows the single images whose prediction changed."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard.components import answers
from dashboard.components.controls import forget_if_gone, one_of
from dashboard.components.messages import plain
from dashboard.state import Context
from dashboard.views.confusions import Judged
from gifcore.outcome import outcome

ALL = "all"
KINDS = {
    "lost": "Right → wrong",
    "gained": "Wrong → right",
    "moved": "Wrong → other wrong",
}
OTHERS, EVERY = "All other classes", "All classes"
_CLASS, _FOLLOWED = "flips-class", "flips-followed"


@st.fragment
def section(context: Context, judged: Judged) -> None:
    """Draw filters and a page of images of one edit; they alone are drawn again."""
    found = changed(judged.both)
    method, _, step = judged.name.rpartition(" ")
    st.markdown(f"**{summary(found, context, f'{method}’s {step} step')}**")
    if found.empty:
        return
    kind, shown = _filter(context, found)
    if shown.empty:
        st.info("No image fits: nothing of this kind changed. Choose another kind or class.")
        return
    answers.draw(context, shown, f"flips-{judged.name}-{kind}")


def changed(both: pd.DataFrame) -> pd.DataFrame:
    """Return the images whose predicted class changed, the largest change of p(label) first.

    Columns: those of `cells.together`, kind (of KINDS), change.
    """
    both = both[both["predicted_was"] != both["predicted_now"]].copy()
    both["kind"] = "moved"
    both.loc[both["predicted_was"] == both["label"], "kind"] = "lost"
    both.loc[both["predicted_now"] == both["label"], "kind"] = "gained"
    both["change"] = (both["p_label_now"] - both["p_label_was"]).abs()
    return both.sort_values(["change", "index"], ascending=[False, True])


def summary(found: pd.DataFrame, context: Context, edit: str) -> str:
    """Return how many images were lost and gained, in the removed class and in the others."""
    if found.empty:
        return f"{edit} changes none of the test predictions."
    change = context.info["change"]
    lost, gained = found["kind"] == "lost", found["kind"] == "gained"
    if outcome(change).task != "class":
        return (
            f"{edit} changes {len(found):,} of the test predictions: it loses "
            f"{int(lost.sum()):,} images that were right and gains {int(gained.sum()):,}."
        )
    removed, name = change["label"], plain(change["class_name"])
    own = found["label"] == removed
    return (
        f"{edit} changes {len(found):,} of the test predictions: it loses "
        f"{int((own & lost).sum()):,} images of class {name} and {int((~own & lost).sum()):,} of "
        f"the other classes, and gains {int((~own & gained).sum()):,} of the others."
    )


def _filter(context: Context, found: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    classes, judged = context.info["data"]["classes"], outcome(context.info["change"])
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    others = [OTHERS] if judged.task == "class" else []
    choices = [*others, EVERY, *range(len(classes))]
    _follow(context.klass, choices)
    of = right.selectbox(
        "True class",
        choices,
        key=_CLASS,
        format_func=lambda one: one if isinstance(one, str) else classes[one],
        persist_state="session",
    )
    if of == OTHERS:
        found = found[found["label"] != judged.label]
    elif of != EVERY:
        found = found[found["label"] == of]
    counts = found["kind"].value_counts()
    names = {kind: f"{words} ({counts.get(kind, 0):,})" for kind, words in KINDS.items()}
    names[ALL] = f"All ({len(found):,})"
    with left:
        kind = one_of("Direction", names, "lost", "flips-kind")
    return kind, found if kind == ALL else found[found["kind"] == kind]


def _follow(klass: int | None, choices: list[str | int]) -> None:
    """Show the class of the sidebar when it changes; until then what was chosen here."""
    if st.session_state.get(_FOLLOWED) != klass:
        st.session_state[_FOLLOWED] = klass
        st.session_state[_CLASS] = choices[0] if klass is None else klass
    forget_if_gone(_CLASS, choices)

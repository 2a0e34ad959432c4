"""The preview of a test image that is not ranked: what it is, how good, how to get a sketch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import cache, jobs, settings, state
from dashboard.charts.style import label, listed
from dashboard.components import messages, progress
from dashboard.components.messages import plain
from dashboard.state import Context
from gifcore import record as records
from gifcore.errors import GifError
from gifcore.estimate import estimate, previewed
from gifcore.preview import Sketch, measured_words
from gifcore.study import PreviewSection, Study

BADGE = ":orange-badge[:material/bolt: Preview]"
FIELD = "preview"  # the number of any test image; its key in the address too
LEFT = "samples-left"  # a ranked image was asked for: the whole page is to be drawn again
ASKED_AT = "samples-asked-at"  # the ranked test image that was shown when the number was entered
SHOWN = "samples-previewed"  # the test image whose preview was shown last
RANK = 384  # of a sketch that is made from here


@dataclass(frozen=True)
class Preview:
    """A test image without an exact ranking, and what its approximate ones are read from."""

    index: int
    sketch: Sketch
    methods: list[str]


# --- which test image -----------------------------------------------------------------------------


def asked() -> None:
    """Note what was shown when a number was entered; whoever picks another one leaves it."""
    st.session_state[ASKED_AT] = state.picked().get("query")


def leave(query: int) -> None:
    """Show a ranked test image in place of any preview."""
    st.session_state[FIELD] = None
    st.session_state[LEFT] = True
    state.show(query=query)


def left() -> bool:
    """Was a ranked image asked for since this was asked last?"""
    return bool(st.session_state.pop(LEFT, False))


def begin(context: Context) -> None:
    """Give the field its number before it is drawn: its own, or the address's.

    A refresh finds a ranking on its way by its number in the address; that of somebody else is no
    concern of this session.
    """
    index = st.session_state.get(FIELD, state.picked().get(FIELD))
    known = index is not None and 0 <= index < context.info["data"]["sizes"]["test"]
    st.session_state[FIELD] = index if known else None
    if index is not None and not known and st.session_state["asked"].get(FIELD) == index:
        st.session_state["gone"][FIELD] = str(index)
    if known:
        st.session_state.setdefault(ASKED_AT, context.query)


def keep() -> None:
    """Put the number into the address, or take it out."""
    state.keep(FIELD)
    state.write_address()


def chosen(context: Context) -> int | None:
    """Return the test image without a ranking whose number was entered, None if there is none.

    Once its ranking is there the page shows that.
    """
    index = st.session_state.get(FIELD)
    if index is None:
        return None
    if st.session_state.get(ASKED_AT, context.query) != context.query:
        st.session_state[FIELD] = None
        return None
    if index not in {query["index"] for query in cache.queries(context.shown)}:
        return int(index)
    if st.session_state.pop(SHOWN, None) == index:
        leave(index)
        st.rerun()
    return None


def shown(context: Context) -> Preview | None:
    """Return what is previewed, None if no number was entered or there is no sketch for it."""
    index = chosen(context)
    found = None if index is None else sketch(context)
    methods = [m for m in context.methods if m in found.methods] if found else []
    return None if index is None or found is None or not methods else Preview(index, found, methods)


def sketch(context: Context) -> Sketch | None:
    """Return the sketch of the record, None if it has none or not a good one."""
    try:
        return cache.sketch(context.shown.path)
    except GifError:
        return None  # `instead` says why


# --- what it says ---------------------------------------------------------------------------------


def banner(context: Context, preview: Preview) -> None:
    """Say that this is no exact ranking, how good it is by each method, and what has none."""
    index, found, methods = preview.index, preview.sketch, preview.methods
    st.session_state[SHOWN] = index
    with st.container(border=True, gap="xsmall", key="preview-banner"):
        st.markdown(
            f"Test image \\#{index} is not ranked yet: what you see is approximate, read from the "
            "sketch of this record. The exact ranking takes its place once it is computed."
        )
        st.markdown("\n".join(f"- {quality(m, found.recall(m))}" for m in methods))
        depth = found.recall(methods[0])["depth"]
        st.caption(
            f"Recall@{depth}: the share of the {depth} training images of largest exact influence "
            f"that are among the {depth} largest here. Held-out images are test images; none has a "
            f"part in the sketch ({found.bytes_per_sample:,} bytes a training image). The other "
            "pages stay at the sidebar’s test image."
        )
        if without := [m for m in context.methods if m not in methods]:
            st.caption(_without(context, without))


def quality(method: str, recall: Mapping[str, Any]) -> str:
    """Return the measured recall of one method in one sentence."""
    sides = (f"{side} {recall[side]['mean']:.2f}" for side in ("helpful", "harmful"))
    return (
        f"**{label(method)}**: approximate, {measured_words(recall)}; among the most "
        f"{' and the most '.join(sides)}"
    )


def _without(context: Context, methods: list[str]) -> str:
    reasons = context.info.get("preview", {}).get("left_out", {})
    known = [f"{label(m)} ({reasons[m]})" if m in reasons else label(m) for m in methods]
    return f"Without a preview: {listed(known)}."


# --- where there is none --------------------------------------------------------------------------


def instead(context: Context) -> None:
    """Say why there is no preview; without a sketch offer to make one, or show its progress."""
    if records.SKETCH not in context.info["files"]:
        _how_to_get_one(context)
        return
    try:
        cache.sketch(context.shown.path)
    except GifError as problem:
        st.warning(f"No preview: {plain(str(problem))}", icon=":material/broken_image:")
    else:
        st.caption(_without(context, context.methods))


def _how_to_get_one(context: Context) -> None:
    study = cache.study(context.shown.path)
    st.caption(
        "No preview: this record holds no sketch. With one, an approximate ranking of any test "
        "image is here at once. A study makes it if its section `[preview]` has a `rank` "
        f"({RANK} is recommended; New study, Advanced)."
    )
    for note in context.info.get("preview", {}).get("notes", ()):
        st.caption(plain(note))
    if study is None or study.preview.rank or state.closed() or not previewed(study):
        return
    wanted = study.model_copy(update={"preview": PreviewSection(rank=RANK)})
    info = context.info
    folder = jobs.folder_for(
        wanted, info["data"]["hash"], info["model"]["hash"], settings.workspace()
    )
    if progress.job_panel(folder):
        return
    about = messages.duration(_seconds(wanted, info))
    if st.button(f"Make the sketch (about {about})", key="make-sketch", icon=":material/bolt:"):
        _make(wanted, folder, context.shown.path)


def _make(study: Study, folder: Path, reuse: Path) -> None:
    """Start the study with a preview; everything else is taken from its record."""
    try:
        jobs.start(study, folder, workspace=settings.workspace(), reuse=reuse)
    except GifError as problem:
        messages.error(problem)
    else:
        st.rerun()


def _seconds(study: Study, info: dict[str, Any]) -> float:
    """Return the estimated time of a sketch alone [s]: the rest is taken from the record."""
    stages = estimate(study, info["data"]["sizes"], info["costs"])["stages"]
    return float(stages["load"] + stages["preview"])

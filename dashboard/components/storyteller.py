"""A story as it is told: the words of a step above the page it is about, and the way on."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import cache, state
from dashboard.stories import STORIES, Story
from gifcore.errors import GifError
from gifcore.record import Record

ALONE = dict.fromkeys(  # what was looked at before a step is not what its words are about
    ("tab", "filter", "class", "sample", "pin", "cell", "edit", "other", "preview")
)
VIEW = {  # what a step's words are about, beside its page; its tabs may be turned
    "study": "another study",
    "selector": "another selection of parameters",
    "ratio": "another share of parameters",
    "query": "another test image",
    "other": "another comparison",
}


def offer() -> None:
    """Draw the stories that can be told here, and the switch for an audience."""
    told = {story: record for story in STORIES.values() if (record := _record(story)) is not None}
    if not told:
        return
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    left.subheader("Three stories, two minutes each" if len(told) == 3 else "Stories")
    with right:
        _switch()
    for column, (story, record) in zip(st.columns(len(told)), told.items(), strict=True):
        with column.container(border=True, height="stretch"):
            st.markdown(f"**:material/{story.icon}: {story.title}**  \n{story.line}")
            if st.button(
                f"Start ({len(story.steps)} steps)",
                key=f"story-{story.key}",
                type="primary",
                icon=":material/play_arrow:",
            ):
                turn(story, record, 1)


def _switch() -> None:
    wanted = st.toggle(
        "Presenter mode",
        value=state.presenting(),
        key="presenter-switch",
        help="For an audience: no uploads, nothing that computes, only what is there to be shown. "
        "It is in the address, so a copied link opens it too.",
    )
    if wanted != state.presenting():
        state.picked()["present"] = 1 if wanted else None
        state.write_address()
        st.rerun()


def draw(page: str) -> None:
    """Draw the step of the story that is being told above a page; nothing if none is."""
    story = STORIES.get(str(state.picked().get("story")))
    record = _record(story) if story else None
    if story is None or record is None or page == "home":
        return
    steps = _told(story.key, record.hash, record)
    number = min(max(int(state.picked().get("step") or 1), 1), len(steps))
    heading, words = steps[number - 1]
    elsewhere = page != story.steps[number - 1].page
    other = "" if elsewhere else _other_view(story, record, number)
    with st.container(border=True, key="story"):
        with st.container(
            horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"
        ):
            st.caption(
                f":material/{story.icon}: {story.title} · step {number} of {len(steps)}",
                width="content",
            )
            if st.button("End the story", key="story-end", type="tertiary"):
                _end()
        if elsewhere:
            st.markdown("You have left the story: this page is not part of the step.")
        elif other:
            st.markdown(f"You are looking at {other} now: the words of this step are not about it.")
        else:
            st.markdown(f"#### {heading}\n\n{words}")
        _ways(story, record, number, away=elsewhere or bool(other))


def _other_view(story: Story, record: Record, number: int) -> str:
    """Return in words what is looked at beside the view that a step is about; "" if it is that."""
    picks = _picks(story, record, number)
    for key, words in VIEW.items():
        if state.now(key) is None and key in picks:
            state.picked()[key] = picks[key]  # a link to a step alone opens its own view
        if picks.get(key, state.now(key)) != state.now(key):
            return words
    ranked = {query["index"] for query in cache.queries(record)}
    unranked = state.now("preview") not in (None, *ranked)
    previewed = story.steps[number - 1].page == "samples" and "query" in picks and unranked
    return VIEW["query"] if previewed else ""


def _ways(story: Story, record: Record, number: int, *, away: bool) -> None:
    with st.container(horizontal=True):
        if away:
            if st.button("Back to the story", key="story-back", type="primary"):
                turn(story, record, number)
            return
        if number > 1 and st.button("Back", key="story-before", shortcut="B"):
            turn(story, record, number - 1)
        if number < len(story.steps):
            if st.button("Next", key="story-next", type="primary", shortcut="N"):
                turn(story, record, number + 1)
        elif st.button("Finish", key="story-finish", type="primary", shortcut="N"):
            _end()


def turn(story: Story, record: Record, number: int) -> None:
    """Go to a step: its page with what is picked there."""
    place = {"story": story.key, "step": number}
    step = story.steps[number - 1]
    state.turn_to(step.page, **(ALONE | _picks(story, record, number) | place))


def _picks(story: Story, record: Record, number: int) -> dict[str, Any]:
    """Return what is picked at a step: the record it is about, and what it names itself."""
    step = story.steps[number - 1]
    about = record if step.folder is None else cache.open_record(story.path_of(step))
    return state.picks_of(about.info) | step.picks


@st.cache_data(max_entries=8, show_spinner=False)
def _told(key: str, record_hash: str, _record: Record) -> list[tuple[str, str]]:  # noqa: ARG001
    return STORIES[key].told(_record)


def _end() -> None:
    state.turn_to("home", story=None, step=None)


def _record(story: Story) -> Record | None:
    try:
        return cache.open_record(story.path)
    except GifError:
        return None

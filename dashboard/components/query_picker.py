"""Choosing the test image: thumbnails of the ranked ones, and ranking of any other by number."""

from __future__ import annotations

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import cache, jobs, settings, state
from dashboard.components import look, measures, messages, previews, progress, sheet
from dashboard.components.gallery import Pictures, data_uri, within
from dashboard.components.messages import plain
from dashboard.components.sheet import Card
from dashboard.components.sidebar import is_group, query_noun
from dashboard.state import Context
from gifcore import record as records
from gifcore.errors import GifError
from gifcore.study import RANKS, for_query, read

SIDE = 56  # 28 pixels twice
AT_ONCE = 24  # test images with a picture and a button; of more one turns pages


def begin(context: Context) -> None:
    """Give the field of any other test image its number, before anything is drawn."""
    previews.begin(context)


def draw(
    context: Context, source: Pictures, *, preview: bool = False, folded: bool = False
) -> None:
    """Draw the ranked test images, the chosen one marked unless a `preview` is shown instead."""
    queries = cache.queries(context.shown)
    picker = st.expander(
        f"Test image{_or_group(queries)}: choose among {len(queries)} ranked, or any other below",
        expanded=not folded,
        key="samples-picker",
        icon=":material/image_search:",
    )
    with picker:
        tiles = st.container()
        start = AT_ONCE * (_page(queries, context) - 1)
        with tiles, st.grid("auto", min_column_width=84, gap="xsmall", vertical_alignment="bottom"):
            for query in queries[start : start + AT_ONCE]:
                _card(query, context, source, chosen=not preview)


def _page(queries: list[dict[str, Any]], context: Context) -> int:
    """Draw the pages of many test images; at first that of the one that is shown is open."""
    pages = -(-len(queries) // AT_ONCE)
    if pages < 2:
        return 1
    key = f"samples-queries-{context.shown.hash[:6]}-{context.query}"  # another one: its own page
    return st.pagination(pages, default=page_of(queries, context.query), key=key)


def page_of(queries: list[dict[str, Any]], chosen: int | None) -> int:
    """Return the page, from 1, that a test image is on; the first if it is on none."""
    places = [i for i, query in enumerate(queries) if query["index"] == chosen]
    return 1 + places[0] // AT_ONCE if places else 1


def _card(query: dict[str, Any], context: Context, source: Pictures, *, chosen: bool) -> None:
    index = query["index"]
    name, words, lines = _of_group(query, context) if is_group(query) else _of_image(query, source)
    if query["added"]:
        lines, words = f"{lines}\nranked later", f"{words} (ranked later)"
    alt = f"{query_noun(query)} {name.removeprefix('#')}: {words}"
    uri = data_uri(source.query_png(query, SIDE))
    with st.container(gap="xxsmall", horizontal_alignment="center"):
        st.html(sheet.figure(Card(uri, "", "neutral", lines, alt), look.palette(), SIDE))
        st.button(
            plain(name),
            key=f"query-{index}",
            type="primary" if chosen and index == context.query else "secondary",
            on_click=previews.leave,
            kwargs={"query": index},
            width="stretch",
        )


def _or_group(queries: list[dict[str, Any]]) -> str:
    return " or group" if any(is_group(query) for query in queries) else ""


def _of_image(query: dict[str, Any], source: Pictures) -> tuple[str, str, str]:
    """Return the name of a test image, what is to say of it, and the lines under it."""
    right = query["predicted"] == query["label"]
    true, said = (source.classes[query[key]] for key in ("label", "predicted"))
    words = f"{true}, predicted right" if right else f"{true}, taken for {said}"
    lines = f"{true}\n" + ("✓ right" if right else f"✗ {said}")
    return f"#{query['index']}", words, lines


def _of_group(query: dict[str, Any], context: Context) -> tuple[str, str, str]:
    """Return the same of a group of test images, one query by their mean loss, or other target."""
    size = query["group"]["size"]
    words = f"the mean {measures.explained(context.info).noun} of {size:,} images"
    return query["group"]["name"], words, f"{size:,} images\ngroup"


def others(context: Context, source: Pictures, *, preview: bool = False) -> None:
    """Offer to rank any other test image; a running ranking shows its progress."""
    size = context.info["data"]["sizes"]["test"]
    left, middle, right = st.columns([3, 1, 5], vertical_alignment="bottom")
    index = left.number_input(
        f"Any other test image (0 to {size - 1:,})",
        min_value=0,
        max_value=size - 1,
        value=None,
        step=1,
        placeholder="its number",
        key=previews.FIELD,
        on_change=previews.asked,
    )
    previews.keep()
    if index is None:
        return
    index = int(index)
    png = source.png("test", index, SIDE)
    middle.image(within(png), width=SIDE, alt=f"Test image {index}")
    below = st.container()
    with right:
        if index in {query["index"] for query in cache.queries(context.shown)}:
            _show_button(index)
        elif not any(RANKS.get(method, True) for method in context.shown.methods):
            st.caption("The methods of this study give no ranking.")
        elif why := state.closed():
            st.caption(why)
        else:
            _rank(context, index, source, below, preview=preview)
    if index not in {query["index"] for query in cache.queries(context.shown)} and not preview:
        with below:
            previews.instead(context)


def _show_button(index: int) -> None:
    st.button(
        f"Show #{index}: it is ranked already",
        key="samples-show",
        on_click=previews.leave,
        kwargs={"query": index},
    )


def _rank(
    context: Context, index: int, source: Pictures, below: DeltaGenerator, *, preview: bool
) -> None:
    record, workspace = context.shown, settings.workspace()
    folder = records.addition_folder(workspace, record.hash, index)
    with below:
        live = progress.job_panel(folder)
    if live:
        return
    study = for_query(read(record.path / records.STUDY), index)
    about = messages.duration(progress.seconds_for(study, record))
    what = "Compute the exact ranking" if preview else "Rank this image"
    clicked = st.button(
        f"{what} (about {about})",
        key="samples-rank",
        type="primary",
        icon=":material/play_arrow:",
        disabled=source.data is None,
        help="Solves and ranks for this one image and adds it to what this record shows."
        if source.data is not None
        else "The data set of this study is not here, so nothing can be ranked.",
    )
    if clicked:
        try:
            jobs.start_query(record, index, workspace=workspace)
        except GifError as problem:
            messages.error(problem)
        else:
            st.rerun()

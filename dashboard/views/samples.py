"""Samples: which training images made the model say this about one test image?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import cache, state
from dashboard.charts.style import label, listed
from dashboard.components import (
    browse,
    filter_form,
    gallery,
    look,
    measures,
    previews,
    query_picker,
    ranking,
    sample_card,
    sheet,
    sure,
)
from dashboard.components.gallery import Pictures
from dashboard.components.messages import plain
from dashboard.components.sheet import Card
from dashboard.components.sidebar import is_group, query_label, query_noun
from dashboard.state import Context
from dashboard.texts import text
from gifcore.study import RANKS

TOP = 24  # pictures of each side
ABREAST = 3  # methods; more of them go into further rows
HEIGHT = 630  # of a method's pictures: three rows and half of one, so that one sees they scroll
HEADINGS = {
    "helpful": ":material/add: Most helpful (positive)",
    "harmful": ":material/remove: Most harmful (negative)",
}
MEANINGS = {
    "helpful": "Removing one of these from training is predicted to **{0.worse}** the {0.noun} of "
    "this test image: the model leans on them.",
    "harmful": "Removing one of these is predicted to **{0.better}** the {0.noun} of this test "
    "image: they speak against its label.",
}


def page() -> None:
    """Draw the page: the test image, its most helpful and most harmful images, the ranking."""
    context = state.context()
    source = gallery.pictures(context)
    query_picker.begin(context)
    previews.left()  # the whole page is drawn now
    preview = previews.shown(context)
    st.title("Samples")
    said = st.empty()
    nothing = preview is None and context.query is None
    if nothing:
        said.markdown("This study has not ranked the training images of any test image.")
    gallery.missing_data_note(source, context.info["data"]["name"])
    asked = filter_form.switch()
    if nothing:
        query_picker.others(context, source)
        _images(context, source, {}, None)
        return
    query_picker.draw(context, source, preview=preview is not None, folded=asked.browse)
    _explained(context, source, said, preview=preview is not None)


@st.fragment
def _explained(context: Context, source: Pictures, said: DeltaGenerator, *, preview: bool) -> None:
    """Draw what depends on the number of any other test image: it alone is drawn again for that.

    The whole page is, where a preview takes the place of an exact ranking or the other way round.
    """
    found = previews.shown(context)
    if previews.left() or (found is not None) != preview:
        st.rerun()
    query_picker.others(context, source, preview=preview)
    if found is not None:
        _previewed(context, found, source, said)
    else:
        _exact(context, source, said)


def _exact(context: Context, source: Pictures, said: DeltaGenerator) -> None:
    """Draw the ranking of the sidebar's test image."""
    assert context.query is not None
    methods = _ranked_by(context)
    if not methods:
        said.markdown(unranked(context, context.methods))
        _images(context, source, {}, None)
        return
    scores = {m: cache.influence(context.shown.path, m, context.query) for m in methods}
    query = next(q for q in cache.queries(context.shown) if q["index"] == context.query)
    said.markdown(answer(context, scores, query))
    if silent := [m for m in context.methods if m not in methods]:
        st.caption(unranked(context, silent))
    _images(context, source, scores, query)
    sure.panel(context, "samples", query=context.query)
    _how_to_read(context)


def _previewed(
    context: Context, found: previews.Preview, source: Pictures, said: DeltaGenerator
) -> None:
    """Draw the preview of a test image without a ranking."""
    index = found.index
    scores = {m: cache.previewed(context.shown.path, m, index) for m in found.methods}
    query = cache.test_image(context.shown.path, index)
    said.markdown(f"{previews.BADGE} {answer(context, scores, query)}")
    previews.banner(context, found)
    _images(context, source, scores, query, preview=True)
    sure.panel(context, "preview", query=index, methods=found.methods)
    _how_to_read(context)


def _images(
    context: Context,
    source: Pictures,
    scores: dict[str, np.ndarray],
    query: dict[str, Any] | None,
    *,
    preview: bool = False,
) -> None:
    """Draw what was asked for, all training images, a table or the few; then the card of one."""
    view, about = filter_form.view(), measures.explained(context.info)
    if view == "all":
        scored = None
        if query is not None:
            what = plain(query["group"]["name"]) if is_group(query) else f"#{query['index']}"
            of = f"{query_noun(query).lower()} {what}"
            scored = browse.Scored(of, measures.exponent(_all(scores)), about, preview)
        browse.section(context, source, scores, scored)
        return
    if query is not None and scores and view == "table":
        shown, exp = replace(context, query=query["index"]), measures.exponent(_all(scores))
        ranking.section(shown, scores, source, exp, preview=preview)
    elif scores:
        width = browse.SIDES[filter_form.asked().size]
        for side in ("helpful", "harmful"):
            _side(side, scores, source, about, preview=preview, width=width)
    sample_card.section(context, source)


def _how_to_read(context: Context) -> None:
    about = measures.explained(context.info)
    with st.expander("How to read a score", icon=":material/help:"):
        if about.noun != "loss":
            st.markdown(
                f"**This study explains the {about.noun}, not the loss** (`ranking.target`): read "
                f"{about.noun} for loss below, and {about.unit} for nats. A **+** still means "
                f"helpful: without the training image the {about.noun} would "
                f"{'fall' if about.worse == 'lower' else 'rise'}."
            )
        st.markdown(text("score"))


def _ranked_by(context: Context) -> list[str]:
    query = next(q for q in cache.queries(context.shown) if q["index"] == context.query)
    return [m for m in context.methods if m in query["certificates"]]


def unranked(context: Context, methods: list[str]) -> str:
    """Return which methods have no ranking of this test image, and why if it is their nature."""
    names = listed([label(m) for m in methods])
    if not any(RANKS.get(m, True) for m in methods):
        return f"{names} gives an update and no ranking: pick another method in the sidebar."
    query = next(q for q in cache.queries(context.shown) if q["index"] == context.query)
    what = plain(query["group"]["name"]) if is_group(query) else f"#{context.query}"
    return f"{query_noun(query)} {what} is not ranked by {names}."


def _all(scores: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate(list(scores.values()))


def answer(context: Context, scores: dict[str, np.ndarray], query: dict[str, Any]) -> str:
    """Return what the model says of the image, and whether the methods agree on the reasons."""
    name = plain(query_label(query, context.info["data"]["classes"]))
    of = "the label, on average" if is_group(query) else "its class"
    said = f"{query_noun(query)} **{name}** (probability of {of} {query['p_label']:.2f})"
    if len(scores) < 2:
        (only,) = scores
        others = [m for m in context.shown.methods if m != only and RANKS.get(m, True)]
        note = "" if others else " This record holds no second method to compare it with."
        return f"{said}: the training images that matter most, by {label(only)}.{note}"
    first, second = list(scores)[:2]
    top = min(TOP, len(scores[first]))
    helpful, harmful = (
        measures.overlap(scores[first], scores[second], top, side)
        for side in ("helpful", "harmful")
    )
    return (
        f"{said}: {label(first)} and {label(second)} {agreement(helpful, harmful, top)}: they "
        f"share **{helpful} of the {top} most helpful** and **{harmful} of the {top} most "
        "harmful** training images."
    )


def agreement(helpful: int, harmful: int, top: int) -> str:
    """Return one word for two overlaps: at least three quarters agree, at most one disagree."""
    share = (helpful + harmful) / (2 * top)
    if share >= 0.75:
        return "largely agree"
    return "largely disagree" if share <= 0.25 else "agree in part"


def _side(
    side: measures.Side,
    scores: dict[str, np.ndarray],
    source: Pictures,
    explained: measures.Explained,
    *,
    preview: bool,
    width: int,
) -> None:
    exp = measures.exponent(_all(scores))
    st.subheader(HEADINGS[side] + (f" {previews.BADGE}" if preview else ""))
    st.markdown(
        MEANINGS[side].format(explained)
        + (" ◆ is named by all methods." if len(scores) > 1 else "")
    )
    tops = {m: top_of(values, side) for m, values in scores.items()}
    abreast = min(len(tops), ABREAST)
    rows = [st.columns(abreast, gap="medium") for _ in range(-(-len(tops) // abreast))]
    columns = [column for row in rows for column in row]
    for column, (method, chosen) in zip(columns, tops.items(), strict=False):
        with column, st.container(border=True):
            about = "approximate influence" if preview else "influence"
            st.markdown(f"**{label(method)}**: {about}, {measures.power(exp, explained.unit)}")
            cards = [
                card(
                    int(i),
                    float(scores[method][i]),
                    exp,
                    source,
                    explained.unit,
                    shared=len(tops) > 1 and all(i in top for top in tops.values()),
                )
                for i in chosen
            ]
            if cards:
                sheet.draw(cards, look.palette(), HEIGHT, width)
            else:
                st.info(f"By {label(method)} no training image is {side} here.")


def top_of(values: np.ndarray, side: measures.Side) -> np.ndarray:
    """Return up to 24 positions of a side; only scores of that side's sign."""
    right = values > 0 if side == "helpful" else values < 0
    chosen = measures.order(values, side)[:TOP]
    return chosen[right[chosen]]


def card(
    index: int, score: float, exp: int, source: Pictures, unit: str = "nats", *, shared: bool
) -> Card:
    """Return a training image with label, score, sign in words, and a diamond if all name it."""
    name = source.label("train", index)
    word = "helpful" if score > 0 else "harmful" if score < 0 else "neutral"
    value = measures.signed(score, exp)
    return Card(
        source.uri("train", index),
        value,
        word,
        f"{name} #{index}",
        f"Training image {index}, {name or 'label unknown'}: influence {value} "
        f"{measures.power(exp, unit)}, {word}",
        shared,
    )

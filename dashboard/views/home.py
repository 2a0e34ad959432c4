"""Home: what this is, what the demo study found, one explained prediction, where to go next."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import cache, library, state
from dashboard.charts.style import label as method_label
from dashboard.components import gallery, look, messages, saved, sheet, storyteller, verdict
from dashboard.components.gallery import Pictures
from dashboard.components.measures import explained, exponent, percent, power, signed, times
from dashboard.components.sheet import Card
from dashboard.components.sidebar import query_label, query_noun
from dashboard.measured import share as measured
from dashboard.state import Context
from dashboard.texts import text
from gifcore.data import DATASETS
from gifcore.models import MODELS
from gifcore.outcome import Outcome, Want, outcome
from gifcore.record import NATURAL, SEARCHED
from gifcore.verdict import verdicts

COLOURS: dict[Want, Literal["normal", "inverse", "off"]] = {
    "higher": "normal",
    "lower": "inverse",
    "": "off",
}
SHOWN = 4  # thumbnails each side
HELPFUL = ":blue[:material/add_circle: + Most helpful]"
HARMFUL = ":orange[:material/do_not_disturb_on: − Most harmful]"

NEXT = (
    ("samples", "Samples", "photo_library", "what helped or harmed a prediction"),
    ("parameters", "Parameters", "grid_on", "which weights were moved, and how far"),
    ("before_after", "Before / after", "compare", "what the moved model still knows"),
    ("compare", "Compare", "scatter_plot", "where IF and GIF agree, and at what cost"),
    ("wrong_labels", "Wrong labels", "new_label", "which training images to inspect first"),
    ("speed", "Speed and recall", "speed", "what faster ways to a ranking lose"),
    ("new_study", "New study", "add_circle", "your own question, model or data"),
    ("studies", "Studies", "folder_open", "everything computed or running here"),
)


def page() -> None:
    """Draw Home; without any record only the words and the links."""
    st.title("GIF Studio")
    st.markdown(text("home"))
    storyteller.offer()
    families = library.families()
    if families:
        context = state.of(families[0], families[0].default())
        _finding(context)
        _prediction(context)
    else:
        messages.nothing_yet()
    saved.on_home()
    _next()


# --- the headline result ------------------------------------------------------------------------


def _finding(context: Context) -> None:
    info = context.info
    able = [m for m, entry in info["methods"].items() if entry.get("steps")]
    edited = [m for m in ("gif", "if") if m in able] or able[:2]
    if not edited:
        return
    judged = outcome(info["change"])
    with st.container(border=True):
        st.subheader(headline(info, edited[0]))
        st.caption(
            f"{_titles(info)} with {info['selection']['p']:,} "
            f"parameters; selector {state.selector_label(context.selector).lower()}. Accuracies on "
            "the test split, changes against the model before; the step length was chosen on the "
            f"validation split. {messages.plain(judged.reading)}"
        )
        for column, method in zip(st.columns(len(edited), gap="large"), edited, strict=True):
            with column:
                _method(info, method, judged)


def _titles(info: dict[str, Any]) -> str:
    source, model = info["data"]["source"], info["model"]["name"]
    data = DATASETS[source].title if source in DATASETS else info["data"]["name"]
    return messages.plain(f"{data}, {MODELS[model].title if model in MODELS else model}")


def headline(info: dict[str, Any], method: str) -> str:
    """Return the result of a study as one sentence, from its numbers."""
    before = info["before"]["test"]
    after = info["methods"][method]["steps"][SEARCHED]["test"]
    share = info["methods"][method]["k"] / info["selection"]["p"]
    judged = outcome(info["change"])
    own, rest = judged.own, judged.rest
    aim = messages.plain(judged.aim)  # it names a class, which may hold anything
    said = f"To {aim}, {method_label(method)} moves {percent(share)} of the parameters: "
    if judged.task == "class":
        nouns = ("accuracy there", "on the other classes")
    else:
        nouns = (messages.plain(own.noun), rest.noun)
    return said + ", ".join(
        f"{noun} {_change(measured(before, figure), measured(after, figure))}"
        for noun, figure in zip(nouns, (own, rest), strict=True)
    )


def _change(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "not measured"
    return f"{percent(before)} → {percent(after)}"


def _method(info: dict[str, Any], method: str, judged: Outcome) -> None:
    before, steps = info["before"]["test"], info["methods"][method]["steps"]
    after, natural = steps[SEARCHED]["test"], steps[NATURAL]["test"]
    k, p = info["methods"][method]["k"], info["selection"]["p"]
    st.markdown(f"**{method_label(method)}** · moves {k:,} of {p:,} parameters")
    columns = st.columns(3)
    for column, figure in zip(columns, (judged.own, judged.rest), strict=False):
        left = measured(after, figure)
        column.metric(
            messages.plain(figure.tile),
            percent(left),
            _points(measured(before, figure), left),
            delta_color=COLOURS[figure.want],
            help=f"Over {figure.count(after):,} {figure.images}.",
        )
    whole = judged.own.count(after) and judged.rest.count(after)
    columns[2].metric(
        "F1",
        percent(after["score"] if whole else None),
        help=f"Harmonic mean of {messages.plain(judged.score)}.",
    )
    st.caption(
        f"Searched step, {times(steps[SEARCHED]['scale'])} the update. The natural step (× 1) "
        f"leaves {percent(measured(natural, judged.own))} and "
        f"{percent(measured(natural, judged.rest))}."
    )
    st.caption(verdict.brief(verdicts(info, [method])[0]))


def _points(before: float | None, after: float | None) -> str | None:
    """Return the change, None where there were no such images."""
    return None if before is None or after is None else f"{100 * (after - before):+.1f} points"


# --- one prediction -----------------------------------------------------------------------------


def _prediction(context: Context) -> None:
    if context.query is None:
        return
    query = next(q for q in cache.queries(context.shown) if q["index"] == context.query)
    ranked = [m for m in context.methods if m in query["certificates"]]
    if not ranked:
        return
    method = "gif" if "gif" in ranked else ranked[0]
    source = gallery.pictures(context)
    table = cache.scores(context.shown.path, method, context.query)
    exp, about = exponent(table["influence"].to_numpy()), explained(context.info)
    with st.container(border=True):
        label = messages.plain(query_label(query, context.info["data"]["classes"]))
        noun = query_noun(query)
        st.subheader("The training images behind one prediction")
        st.caption(
            f"Score: how much the {about.noun} on {noun.lower()} {label} is predicted to change if "
            f"the training image is removed, in {power(exp, about.unit)}, by "
            f"{method_label(method)}. **+** helpful (removing it {about.worse}s the {about.noun}), "
            f"**−** harmful (removing it {about.better}s it)."
        )
        asked, helpful, harmful = st.columns([1.2, 4, 4], gap="medium")
        _query_tile(asked, source, query, label)
        _side(helpful, HELPFUL, source, table.head(SHOWN), exp, about.unit)
        _side(harmful, HARMFUL, source, table.tail(SHOWN).iloc[::-1], exp, about.unit)
        state.link(
            "samples", "All training images, any test image", icon=":material/arrow_forward:"
        )


def _query_tile(slot: DeltaGenerator, source: Pictures, query: dict[str, Any], label: str) -> None:
    slot.markdown(f"**{query_noun(query)}**")
    alt = f"{query_noun(query)} {query_label(query, source.classes)}"
    slot.image(gallery.within(source.query_png(query)), caption=label, width=112, alt=alt)


def _side(
    slot: DeltaGenerator, heading: str, source: Pictures, rows: pd.DataFrame, exp: int, unit: str
) -> None:
    word = "helpful" if heading == HELPFUL else "harmful"
    cards = [
        Card(
            source.uri("train", index, 84),
            signed(score, exp),
            word,
            source.label("train", index),
            f"Training image {index}, score {score:.3g} {unit}, {word}",
        )
        for index, score in zip(rows["train_index"], rows["influence"], strict=True)
    ]
    with slot:
        st.markdown(f"**{heading}**")
        sheet.draw(cards, look.palette(), side=84)


def _next() -> None:
    st.subheader("Where to go next")
    columns = [column for _ in range(3) for column in st.columns(3)]
    for column, (name, label, icon, words) in zip(columns, NEXT, strict=False):
        with column:
            state.link(name, f"**{label}**: {words}", icon=f":material/{icon}:")

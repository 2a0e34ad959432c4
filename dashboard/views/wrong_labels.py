"""Wrong labels: which training images to inspect first, and how well that finds wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cache, library, state
from dashboard.charts.found_curve import Line, found_curve
from dashboard.components import basket, gallery, look, measures, sheet, sure
from dashboard.components import page as frame
from dashboard.components import suspects as known
from dashboard.components.controls import forget_if_gone, one_of
from dashboard.components.gallery import Pictures
from dashboard.components.messages import plain
from dashboard.components.sheet import Card
from dashboard.components.suspects import Suspects
from dashboard.state import Context
from dashboard.texts import text
from gifcore import mislabel_words
from gifcore.mislabel_words import BASELINE, SELF
from gifcore.record import SELF_INFLUENCE

TITLE = "Wrong labels"
FIRST = (10, 20, 50, 100, 200, 500, 1000, 2000)  # images inspected
PER_PAGE = 24
WIDTH = 132  # of a picture with its words
NOT_YET = """Add this to the study's file, and run it again (`python -m gifcore run STUDY.toml`):
```toml
[mislabel]
rate = 0.0     # the labels as they are
```
or switch on *Look for wrong labels* under *New study*, *Advanced*. To see how well it works, train
with wrong labels at a known rate (`python -m gifcore train … --noise rate=0.1,seed=0`) and say the
same rate and seed in `[mislabel]`; the study `assets/studies/wrong-labels.toml` of a checkout is
one."""


def page() -> None:
    """Draw the page: how well each score finds, the images to inspect first, the basket."""
    context = state.context()
    source = gallery.pictures(context)
    found = _suspects(context, source)
    if found is None:
        frame.head(TITLE, "This study did not look for wrong labels among the training images.")
        _elsewhere()
        st.info(NOT_YET)
        return
    st.title(TITLE)
    slot = st.container()
    gallery.missing_data_note(source, context.info["data"]["name"])
    score, k = _picks(found)
    slot.markdown(answer(found, score, k))
    if found.wrong is not None:
        _curve(found, score, k)
    shown = _gallery(context, found, score, k, source)
    basket.draw(context, found, [int(i) for i in shown["train_index"][shown["place"] <= k]])
    _sure(context, found, k)
    stem = f"suspects-{score}"
    frame.downloads(stem, lambda: found.table, "All labels and scores")


def _suspects(context: Context, source: Pictures) -> Suspects | None:
    path = context.shown.path
    own = {method: cache.self_influence(path, method) for method in context.shown.methods}
    return known.of(context.shown, cache.suspects(path), own, source.labels("train"))


def _elsewhere() -> None:
    """Link to the studies that did look for them."""
    for family in library.families():
        selector, ratio = family.default()
        record = state.of(family, (selector, ratio)).record
        if record is not None and SELF_INFLUENCE in record.info["files"]:
            state.link(
                "wrong_labels",
                f"{family.title}: looked for there",
                icon=":material/new_label:",
                study=family.key,
                selector=selector,
                ratio=ratio,
            )


# --- the answer ---------------------------------------------------------------------------------


def answer(found: Suspects, score: str, k: int) -> str:
    """Return how many wrong labels the first images hold, or that which are wrong is not known."""
    n, name = len(found.table), plain(found.name(score))
    counted = found.found(score, k)
    if counted is None:
        return (
            f"Which of the {n:,} training labels are wrong is not known here. The images below are "
            f"those to look at first, by **{name}**."
        )
    entry = found.info["methods"][score]
    chance = counted[1] * k / n
    return (
        f"Of {n:,} training labels, {counted[1]:,} were made wrong before the training. The first "
        f"**{k:,}** images by **{name}** hold **{counted[0]:,}** of them (by chance "
        f"{chance:.0f}); inspecting the first {100 * mislabel_words.WITHIN:.0f} % finds "
        f"**{measures.percent(entry['found_20'])}**. {_against(found, score)}"
    )


def _against(found: Suspects, score: str) -> str:
    """Return how the score stands to the best baseline, or to the best self-influence."""
    info = found.info
    other = mislabel_words.best(
        info, kind=BASELINE if info["methods"][score]["kind"] == SELF else SELF
    )
    if other is None:
        return ""
    own, theirs = (info["methods"][name]["auc"] for name in (score, other))
    words = f"AUC {own['value']:.3f} against {theirs['value']:.3f} by {plain(found.name(other))}"
    apart = own["low"] > theirs["high"] or theirs["low"] > own["high"]
    if not apart:
        return f"{words}: no difference beyond chance."
    return f"{words}: {'better' if own['value'] > theirs['value'] else 'worse'}."


def _picks(found: Suspects) -> tuple[str, int]:
    left, right = st.columns([3, 2], gap="large")
    forget_if_gone("suspects-score", found.scores)
    score = left.selectbox(
        "Most suspicious first, by",
        found.scores,
        index=found.scores.index(found.first()),
        format_func=found.name,
        key="suspects-score",
        persist_state="session",
    )
    left.caption(known.what(score))
    n = len(found.table)
    options = [k for k in FIRST if k < n] + ([n] if n <= FIRST[-1] else [])
    forget_if_gone("suspects-k", options)
    if len(options) < 2:
        return score, options[0]
    default = min(options, key=lambda k: abs(k - (found.info.get("wrong") or 50)))
    k = right.select_slider(
        "Inspect the first",
        options,
        value=default,
        format_func=lambda k: f"{k:,} images",
        key="suspects-k",
        persist_state="session",
    )
    return score, k


# --- how well it finds --------------------------------------------------------------------------


def _curve(found: Suspects, score: str, k: int) -> None:
    lines = [
        Line(name, entry["label"], entry["kind"], entry["curve"])
        for name, entry in found.info["methods"].items()
        if name == score or name != "confidence"  # the order of the loss: one line over the other
    ]
    n = len(found.table)
    figure = found_curve(
        lines, chosen=score, share=found.info["wrong"] / n, at=k / n,
        title=curve_title(found, score), palette=look.palette(),
    )  # fmt: skip
    look.chart(figure, "found-curve")
    st.caption(
        "Images are inspected from the most suspicious on; the upright line is what is inspected "
        "now. Full lines are self-influence by that method, dashed ones need no influence (1 − "
        "p(label) has the order of the loss). Best possible: every image inspected is a wrong one "
        "until all are found."
    )


def curve_title(found: Suspects, score: str) -> str:
    """Return the finding: how much must be inspected to find nearly all."""
    curve = found.info["methods"][score]["curve"]
    enough = next(at for at, share in enumerate(curve) if share >= 0.9)
    least = 100 * found.info["wrong"] / len(found.table)
    return (
        f"{found.name(score)} finds 90 % of the wrong labels in the first {enough} % of the images "
        f"(at best in {0.9 * least:.0f} %, by chance in 90 %)"
    )


# --- the images ---------------------------------------------------------------------------------


def _gallery(
    context: Context, found: Suspects, score: str, k: int, source: Pictures
) -> pd.DataFrame:
    st.subheader("Look at these first")
    choices = known.shown_choices(found)
    left, right = st.columns([3, 2], gap="large", vertical_alignment="bottom")
    shown = "all"
    if len(choices) > 1:
        with left:
            shown = one_of("Show", choices, "all", "suspects-shown")
    classes: list[int] = []
    if found.labelled:
        names = source.classes
        classes = right.multiselect(
            "Labelled", range(len(names)), format_func=lambda at: names[at],
            key="suspects-classes", placeholder="all classes",
        )  # fmt: skip
    rows = known.select(found, score, shown, classes)
    inspected = rows[rows["place"] <= k]
    if inspected.empty:
        st.info(
            f"None of the first {k:,} images fits this filter. Take a class out of it, show all, "
            "or inspect more."
        )
        return inspected
    exp = measures.exponent(rows[score].to_numpy())
    unit = found.info["methods"][score]["unit"]
    st.caption(
        f"{len(inspected):,} of the first {k:,} images"
        + (f"; scores in {measures.power(exp, unit)}" if unit else "; scores have no unit")
        + ", higher is more suspicious."
    )
    slot = st.container()
    pages = -(-len(inspected) // PER_PAGE)
    number = 1
    if pages > 1:
        number = st.pagination(pages, key=f"suspects-page-{score}-{shown}-{len(inspected)}")
    palette = look.palette()
    part = inspected.iloc[(number - 1) * PER_PAGE : number * PER_PAGE]
    with slot, st.grid("auto", min_column_width=WIDTH, gap=("small", "small")):
        for row in part.to_dict("records"):
            index = int(row["train_index"])
            lines = caption(row, score, exp if unit else 0, source.classes)
            card = Card(source.uri("train", index), "", "neutral", lines, alt(row, source.classes))
            with st.container(gap="xxsmall", horizontal_alignment="center"):
                st.html(sheet.figure(card, palette, gallery.SIDE))
                basket.checkbox(context, index)
    return rows


def caption(row: Mapping[Any, Any], score: str, exp: int, classes: list[str]) -> str:
    """Return place, score, and the labels: given, predicted where it differs, true where known."""
    lines = [f"{row['place']}. {measures.signed(float(row[score]), exp)}"]
    given = _name(row.get("given"), classes)
    lines.append(f"labelled {given}" if given else "label unknown")
    predicted = _name(row.get("predicted"), classes)
    if predicted and predicted != given:
        lines.append(f"→ model: {predicted}")
    true = _name(row.get("true"), classes)
    if true:
        lines.append("✓ label is right" if true == given else f"✗ truly {true}")
    return "\n".join(lines)


def alt(row: Mapping[Any, Any], classes: list[str]) -> str:
    """Return the same in words for who cannot see the image."""
    said = {what: _name(row.get(what), classes) for what in ("given", "predicted", "true")}
    words = {"given": "labelled", "predicted": "predicted", "true": "truly"}
    listed = ", ".join(f"{words[what]} {name}" for what, name in said.items() if name)
    return f"Training image {row['train_index']}, place {row['place']}: {listed or 'no label'}"


def _name(label: Any, classes: list[str]) -> str:
    return "" if label is None or pd.isna(label) else classes[int(label)]


# --- how sure -----------------------------------------------------------------------------------


def _sure(context: Context, found: Suspects, k: int) -> None:
    def more() -> None:
        for line in certainty(context, found):
            st.markdown(line)
        table = known.measures(found, k)
        if not table.empty:
            digits = {name: st.column_config.NumberColumn(format="%.1f %%")
                      for name in table.columns if name.startswith("found")}  # fmt: skip
            frame.table(
                table, "found-by-score", "How well each score finds wrong labels, one row a score",
                column_config=digits | {"AUC": st.column_config.NumberColumn(format="%.3f")},
            )  # fmt: skip
        st.markdown(text("wrong_labels"))

    scores = [name for name in found.scores if name in context.info["methods"]]
    sure.panel(context, "labels", methods=scores, more=more)


def certainty(context: Context, found: Suspects) -> list[str]:
    """Return what the numbers rest on, a line each."""
    lines = []
    if found.wrong is not None:
        lines.append(
            f"**{mislabel_words.labels_of(found.info)}**: each got another class, all as likely. "
            "Wrong labels of real life are less random, and harder to find."
        )
    if "contradicted" in found.info:
        lines.append(f"{mislabel_words.contradicted(found.info)}.")
    for method, entry in context.info["methods"].items():
        taken = entry.get("self_influence")
        if taken and method in found.scores:
            off = taken.get("median_relative_error")
            checked = (
                f"; {taken['checked']} checked by solves of full size, half of them within "
                f"{measures.percent(off, 0)}"
                if off is not None
                else ""
            )
            lines.append(f"**{plain(found.name(method))}**: {plain(taken['words'])}{checked}.")
    return lines

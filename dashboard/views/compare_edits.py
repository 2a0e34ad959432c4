"""The part of Compare about the edits: verdicts, accuracies, the images each gets wrong, costs."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cache, pairing
from dashboard.charts.both_wrong import both_wrong
from dashboard.charts.style import label
from dashboard.components import gallery, held, look, measures, sheet, sure, verdict
from dashboard.components import page as frame
from dashboard.components.controls import forget_if_gone, one_of
from dashboard.components.gallery import Pictures
from dashboard.components.measures import percent, significant, times
from dashboard.components.messages import plain
from dashboard.components.sheet import Card
from dashboard.pairing import OUTCOMES
from dashboard.views.compare_pick import Pair, Side
from gifcore.held_against import Truth, truth, with_spread
from gifcore.outcome import Figure, Outcome, outcome
from gifcore.record import NATURAL, SEARCHED, products

PER_PAGE = 12
ALL = "All test images"


def section(pair: Pair) -> None:
    """Draw both as edits of the model: what they reach, and on which images they differ."""
    edited = [side for side in pair.sides if side.steps]
    st.subheader("As edits of the model")
    if not edited:
        st.markdown("Neither was evaluated as an edit: both only ranked.")
        st.info(
            "Choose another method or study above, or start this one again under *New study*, "
            "which also edits the model."
        )
        return
    if len(edited) == 1:
        gone = next(side for side in pair.sides if side is not edited[0])
        st.markdown(f"{gone.name} only ranked: {edited[0].name} is shown alone.")
    _verdicts(pair, edited)
    _accuracies(pair, edited)
    _against_retrained(pair, edited)
    if len(edited) == 2:
        _same_images(pair)
    _certificates(pair, edited)


def _certificates(pair: Pair, edited: list[Side]) -> None:
    if pair.one_record:
        methods = [side.method for side in edited]
        sure.panel(pair.first.context, "edits", key="compare-edits", methods=methods)
        return
    for number, (column, side) in enumerate(zip(st.columns(2), edited, strict=False)):
        with column:
            st.caption(side.name)
            key = f"compare-edits-{number}"
            sure.panel(side.context, "edits", key=key, methods=(side.method,))


def _verdicts(pair: Pair, edited: list[Side]) -> None:
    if pair.one_record:
        verdict.draw(pair.first.info, [side.method for side in edited])
        return
    for column, side in zip(st.columns(len(edited)), edited, strict=True):
        with column:
            st.markdown(f"**{side.name}**")
            verdict.draw(side.info, [side.method])


# --- accuracies -----------------------------------------------------------------------------------


def _accuracies(pair: Pair, edited: list[Side]) -> None:
    if len(edited) == 2 and not pairing.same_change(*pair.infos):
        st.markdown(
            "The two edits are **after different things**, so their accuracies stand in two tables "
            "and are not held against each other."
        )
        tables = [[side] for side in edited]
    else:
        tables = [edited]
    for number, sides in enumerate(tables):
        judged = outcome(sides[0].info["change"])
        if len(tables) > 1:
            st.markdown(f"**{sides[0].name}**: {plain(judged.what)}")
        name = f"compare-accuracies-{number}" if len(tables) > 1 else "compare-accuracies"
        frame.table(accuracies(sides, judged), name, "Accuracies of both edits by group of images")
        st.caption(
            plain(f"Test split, 95 % Wilson intervals in brackets. {judged.reading}")
            + " The searched step was chosen on the validation split."
        )


def accuracies(sides: list[Side], judged: Outcome) -> pd.DataFrame:
    """Return a row per model: before, every edit, retrained; a column per group of images."""
    rows: list[dict[str, str]] = []
    befores: list[dict[str, Any]] = []
    one_record = len({side.context.shown.path for side in sides}) == 1
    for side in sides:
        metrics = side.info["before"]["test"]
        if metrics not in befores:
            befores.append(metrics)
            name = "Before" if len(befores) == 1 else f"Before, {side.name}"
            rows.append({"model": name} | _shares(metrics, judged))
    for side in sides:
        for step, value in side.steps.items():
            name = f"{side.name} {step} {times(value['scale'])}"
            rows.append({"model": name} | _shares(value["test"], judged))
    for side in sides[:1] if one_record else sides:
        found = truth(side.info)
        if found is not None:
            whose = "" if one_record else f", study of {side.name}"
            rows.append(
                {"model": f"Retrained ({len(found.models)}){whose}"} | _spread(found, judged)
            )
    return pd.DataFrame(rows)


def _shares(metrics: dict[str, Any], judged: Outcome) -> dict[str, str]:
    return {figure.panel: _with_interval(metrics, figure) for figure in judged.figures}


def _with_interval(metrics: dict[str, Any], figure: Figure) -> str:
    share, n = metrics.get(figure.key), figure.count(metrics)
    if share is None or n == 0:
        return "n/a"
    low, high = measures.wilson(round(share * n), n)
    return f"{percent(share)} ({100 * low:.1f} to {100 * high:.1f})"


def _spread(found: Truth, judged: Outcome) -> dict[str, str]:
    spreads = {figure.panel: found.metric(figure.key) for figure in judged.figures}
    return {panel: "n/a" if one is None else with_spread(one) for panel, one in spreads.items()}


def _against_retrained(pair: Pair, edited: list[Side]) -> None:
    """Draw how near each comes to retrained models, where its study has some."""
    if pair.one_record:
        found = truth(pair.first.info)
        if found is not None:
            held.agreement(pair.first.info, [s.method for s in edited], found, "compare")
        return
    truths = [truth(side.info) for side in edited]
    if not any(truths):
        return  # the verdicts say it
    for number, (side, found) in enumerate(zip(edited, truths, strict=True)):
        if found is None:
            st.caption(f"The study of {side.name} was not held against retrained models.")
        else:
            held.agreement(side.info, [side.method], found, f"compare-{number}")


# --- the same images under both -------------------------------------------------------------------


def _same_images(pair: Pair) -> None:
    """Draw on which test images both edits are right, wrong, or only one of them."""
    if not pairing.same_data(*pair.infos):
        st.caption(
            "The two studies have different test images: predictions cannot be laid side by side."
        )
        return
    both = [step for step in (SEARCHED, NATURAL) if all(step in side.steps for side in pair.sides)]
    if not both:
        st.caption("The two edits have no step in common: their predictions are not compared.")
        return
    step = both[0]
    if len(both) > 1:
        words = {SEARCHED: "Searched step", NATURAL: "Natural step (× 1)"}
        step = one_of("Step of both edits", words, SEARCHED, "compare-step")
    paths = [side.context.shown.path for side in pair.sides]
    records = tuple((str(path), cache.stamp_of(path)) for path in paths)
    images, table = _laid_over(records, pair.methods, step, pair)
    if images.empty:
        st.caption("These records hold no predictions of single test images.")
        return
    palette, names = look.palette(), outcome_names(pair.names)
    figure = both_wrong(
        {heading: row["outcomes"] for heading, row in table.items()},
        names,
        pair.colours(palette),
        images_title(table[ALL], pair.names),
        palette,
    )
    look.chart(figure, "compare-images")
    frame.table(counts(table, names), "compare-images", "Who gets how many test images wrong")
    clean = any(outcome(info["change"]).task == "backdoor" for info in pair.infos)
    st.caption(
        f"{step.capitalize()} steps on the test split{', images without the trigger' * clean}. "
        "Same prediction: the share on which both edits name one class, right or wrong."
    )
    _browse(pair, images, names)


def outcome_names(names: tuple[str, str]) -> dict[str, str]:
    """Return the outcomes with the two edits by their names."""
    return {k: words.format(first=names[0], second=names[1]) for k, words in OUTCOMES.items()}


@st.cache_resource(max_entries=32, show_spinner=False)
def _laid_over(
    records: tuple[tuple[str, tuple[int, int]], ...],
    methods: tuple[str, str],
    step: str,
    _pair: Pair,
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Return the test images under both edits, shared and not to be changed, and their counts."""
    frames = [
        cache.samples(path, method, step, "test")
        for (path, _), method in zip(records, methods, strict=True)
    ]
    if any(one.empty for one in frames):
        return pd.DataFrame(), {}
    images = pairing.outcomes(*frames)
    return images, {name: tally(part) for name, part in groups(_pair, images).items()}


def tally(images: pd.DataFrame) -> dict[str, Any]:
    """Return how many images there are, the share predicted alike, and how many of each outcome."""
    same = float(images["same"].mean()) if len(images) else None
    return {"number": len(images), "same": same, "outcomes": pairing.counted(images)}


def groups(pair: Pair, images: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return all images; where one class is to be forgotten also those of it and the others."""
    found = {ALL: images}
    judged = outcome(pair.first.info["change"])
    if judged.task == "class" and pairing.same_change(*pair.infos):
        own = images["label"] == judged.label
        found[judged.own.panel] = images[own]
        found[judged.rest.panel] = images[~own]
    return found


def counts(table: dict[str, dict[str, Any]], names: dict[str, str]) -> pd.DataFrame:
    """Return a row per group of images: how many there are, predicted alike, and wrong by whom."""
    rows = []
    for heading, found in table.items():
        row = {
            "images": heading,
            "number": found["number"],
            "same prediction": percent(found["same"]),
        }
        rows.append(row | {words: found["outcomes"][name] for name, words in names.items()})
    return pd.DataFrame(rows)


def images_title(found: dict[str, Any], names: tuple[str, str]) -> str:
    """Return the finding: the share predicted alike, and who is wrong on how many."""
    counts = found["outcomes"]
    return (
        f"{names[0]} and {names[1]} predict the same on {percent(found['same'])} of "
        f"{found['number']:,} test images; both get {counts['wrong']:,} wrong, only {names[0]} "
        f"{counts['first']:,}, only {names[1]} {counts['second']:,}"
    )


@st.fragment
def _browse(pair: Pair, images: pd.DataFrame, names: dict[str, str]) -> None:
    """Draw the images of one outcome, a page at a time, once they are asked for."""
    with st.expander(
        "See these test images",
        key="compare-browse",
        icon=":material/photo_library:",
        on_change="rerun",
    ) as box:
        if not box.open:
            return
        kinds = {k: f"{words[:1].upper()}{words[1:]}" for k, words in names.items() if k != "right"}
        kind = one_of("Which", kinds, "first", "compare-kind")
        shown = images[images["outcome"] == kind]
        if shown.empty:
            st.info(f"No test image is of this kind ({kinds[kind]}). Choose another kind.")
            return
        apart = (shown["p_label_second"] - shown["p_label_first"]).abs()
        shown = shown.loc[apart.sort_values(ascending=False, kind="stable").index]
        pages = -(-len(shown) // PER_PAGE)
        key = f"compare-page-{kind}"
        forget_if_gone(key, range(1, pages + 1))
        number = st.pagination(pages, key=key) if pages > 1 else 1
        source = gallery.pictures(pair.first.context)
        gallery.missing_data_note(source, pair.first.info["data"]["name"])
        st.caption(
            f"First the true class; then what {pair.names[0]} and what {pair.names[1]} predict, "
            "with their probability p of the true class; the furthest apart first."
        )
        part = shown.iloc[(number - 1) * PER_PAGE : number * PER_PAGE]
        rows = part.rename(columns={"index": "number"}).itertuples()
        sheet.draw([_card(row, source, pair.names) for row in rows], look.palette())


def _card(row: Any, source: Pictures, names: tuple[str, str]) -> Card:  # noqa: ANN401 - a named tuple of pandas
    classes, true = source.classes, source.classes[row.label]
    one, two = classes[row.predicted_first], classes[row.predicted_second]
    p = f"p {row.p_label_first:.2f} and {row.p_label_second:.2f}"
    lines = f"{true} #{row.number}\n{one} · {two}\n{p}"
    alt = f"Test image {row.number}, class {true}: {one} by {names[0]}, {two} by {names[1]}, {p}"
    return Card(source.uri("test", row.number), "", "neutral", lines, alt)


# --- costs ----------------------------------------------------------------------------------------


def costs_section(info: dict[str, Any], methods: list[str], pair: Pair | None) -> None:
    """Draw what each method of one record cost, or each side of two records."""
    st.subheader("What each cost")
    if pair is not None and (words := dearer(pair)):
        st.markdown(words)
    if pair is None or pair.one_record:
        table = costs(info, methods)
    else:
        table = pd.concat([costs(s.info, [s.method]) for s in pair.sides], ignore_index=True)
        table["method"] = list(pair.names)
    frame.table(table, "costs", "Costs, one row per method")
    infos = [info] if pair is None or pair.one_record else list(pair.infos)
    whole = " and ".join(
        f"{measures.seconds(one['seconds'])} on {one['threads']} CPU "
        f"thread{'s' if one['threads'] > 1 else ''}"
        for one in infos
    )
    studies = "studies" if len(infos) > 1 else "study"
    st.caption(
        "Products are Hessian-vector products in all, checks included; the probes of a "
        f"preconditioner, shared by all solves, count once. The whole {studies} "
        f"took {whole}; peak memory is that of a whole study, it is not measured per method. "
        "‖Δ‖ is the length of the natural step, in parameter units."
    )


def costs(info: dict[str, Any], methods: list[str]) -> pd.DataFrame:
    """Return one row per method: parameters touched, norm, products, memory, seconds by stage."""
    rows = []
    for method in methods:
        entry = info["methods"][method]
        took = entry.get("seconds", {})
        rows.append(
            {
                "method": label(method),
                "parameters touched": _touched(entry, info["model"]["parameters"]),
                "‖Δ‖": significant(entry["norm"]) if "norm" in entry else "none",
                "products": f"{products(entry):,}",
                "in all": measures.seconds(sum(took.values())),
                "peak memory": f"{info['peak_memory_mb']:,.0f} MB",
                **{stage: measures.seconds(value) for stage, value in took.items()},
            }
        )
    return pd.DataFrame(rows)


def _touched(entry: dict[str, Any], p: int) -> str:
    if "k" not in entry:
        return "none: only ranked"
    return f"{entry['k']:,} ({percent(entry['k'] / p)})"


def dearer(pair: Pair) -> str:
    """Return which of the two took longer and how many times, "" where that was not measured."""
    took = [sum(side.entry.get("seconds", {}).values()) for side in pair.sides]
    if min(took) <= 0:
        return ""
    slow = int(took[1] > took[0])
    names, counts = pair.names, [products(side.entry) for side in pair.sides]
    return (
        f"**{names[slow]} took {significant(took[slow] / took[1 - slow])} times as long as "
        f"{names[1 - slow]}** ({measures.seconds(took[slow])} and "
        f"{measures.seconds(took[1 - slow])}; {counts[slow]:,} and {counts[1 - slow]:,} products)."
    )

"""Before / after: what each edit does to what it is about, to the rest, and to single images."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cache, library, state
from dashboard.charts.accuracies import Dot, accuracies
from dashboard.charts.style import label, listed
from dashboard.components import gallery, held, look, measures, sure, tabs, verdict
from dashboard.components import page as frame
from dashboard.components.measures import percent, times
from dashboard.components.messages import plain
from dashboard.components.tabs import Tab
from dashboard.state import Context
from dashboard.views import confusions, flips, one_edit, predicted
from dashboard.views.confusions import Judged
from gifcore.held_against import Truth, truth, with_spread
from gifcore.outcome import Figure, Outcome, outcome
from gifcore.record import RETRAINED

MANY = 3  # methods that a heading can name


def page() -> None:
    """Draw the page: the verdict, then a tab for each question about the edits."""
    context = state.context()
    edited = [m for m in context.methods if context.info["methods"][m].get("steps")]
    if not edited:
        frame.head("Before / after", "This study only ranked: no edit was made or evaluated.")
        st.info("A study started under *New study* also edits the model.")
        return
    st.title("Before / after")
    verdict.draw(context.info, edited)
    one_edit.settle(context, edited)
    titles = {
        "accuracies": ("Accuracies", _accuracies),
        "retrained": ("Against retrained models", _retrained),
        "edit": ("One edit", _edit),
        "confusions": ("Confusion matrices", _confusions),
        "histogram": ("One class", _histogram),
        "flips": ("Changed predictions", _flips),
    }
    tabs.draw(
        {name: Tab(title, partial(part, context, edited)) for name, (title, part) in titles.items()}
    )


# --- tabs -----------------------------------------------------------------------------------------


def _accuracies(context: Context, methods: list[str]) -> None:
    info, judged = context.info, outcome(context.info["change"])
    models = evaluated(info, methods)
    retrained = truth(info)
    groups = {
        figure.panel: dots(models, figure) + retrained_dots(retrained, figure)
        for figure in judged.figures
    }
    title = accuracies_title(info, methods)
    look.chart(accuracies(groups, title, look.palette()), "accuracies")
    st.caption(_legend(judged, info["before"]["test"], retrained))
    rows = pd.concat([table(models, judged), retrained_rows(retrained, judged)], ignore_index=True)
    frame.table(rows, "accuracies", "Accuracies with intervals")
    sure.panel(context, "before-after", methods=methods)
    models += [
        (f"Retrained, {step}", RETRAINED, step, metrics) for step, metrics in held.steps(info)
    ]
    frame.downloads(_stem(context), lambda: raw_table(models, judged), "These accuracies")


def _retrained(context: Context, methods: list[str]) -> None:
    if held.section(context, methods):
        sure.panel(context, "edits", key="agreement", methods=methods)
        return
    st.info(sure.check(context, "edits", methods), icon=":material/model_training:")
    _held_elsewhere()


def _held_elsewhere() -> None:
    """Link to the studies that were held against retrained models."""
    for family in library.families():
        selector, ratio = family.default()
        path = family.paths.get((selector, ratio))
        if path is not None and truth(cache.open_record(path).info) is not None:
            state.link(
                "before_after",
                f"A study that was checked: {plain(family.title)}",
                icon=":material/compare:",
                study=family.key,
                selector=selector,
                ratio=ratio,
                tab=["retrained"],
            )


def _edit(context: Context, methods: list[str]) -> None:
    method, _ = one_edit.pick(context, methods, steps_too=False)
    one_edit.section(context, method)
    sure.panel(context, "step-search", methods=[method])


def _confusions(context: Context, methods: list[str]) -> None:
    method, step = one_edit.pick(context, methods)
    found = _judged(context, method, step)
    if found is None:
        return
    _pictures_note(context)
    confusions.section(context, found)
    sure.panel(context, "confusion", methods=[method])
    _take_predictions(context, methods)


def _histogram(context: Context, methods: list[str]) -> None:
    found = _judged(context, *one_edit.settle(context, methods))
    if found is None:
        return
    predicted.section(context, methods, confusions.focus(context, found))
    sure.panel(context, "histogram", methods=methods)
    _take_predictions(context, methods)


def _flips(context: Context, methods: list[str]) -> None:
    method, step = one_edit.pick(context, methods)
    found = _judged(context, method, step)
    if found is None:
        return
    _pictures_note(context)
    flips.section(context, found)
    sure.panel(context, "flips", methods=[method])
    _take_predictions(context, methods)


def _judged(context: Context, method: str, step: str) -> Judged | None:
    found = confusions.judged(context, method, step)
    if found is None:
        st.info("This record keeps no single predictions: run its study again for them.")
    return found


def _pictures_note(context: Context) -> None:
    gallery.missing_data_note(gallery.pictures(context), context.info["data"]["name"])


# --- accuracies -----------------------------------------------------------------------------------


def _legend(judged: Outcome, n: dict[str, Any], retrained: Truth | None) -> str:
    """Return what was counted, on what, and what was not measured."""
    data = "without the class" if judged.task == "class" else "on the changed data"
    truths = f"What a model retrained {data} would reach is not measured here."
    if retrained is not None:
        n_models = len(retrained.models)
        bars = "its bar is ± 1 standard deviation" if n_models > 1 else "one has no spread"
        truths = f"Retrained: {held.counted(retrained)} trained {data}; {bars}."
    steps = (
        "Bars are 95 % Wilson intervals. The searched step was chosen on the validation split; "
        "open marks are the natural step."
    )
    if judged.task == "class":
        return (
            f"Test split, reported once: {n['self_n']:,} images of the removed class, "
            f"{n['retain_n']:,} others. {steps} {truths} F1 weighs forgetting "
            "(1 − self) against retaining; losses are in nats."
        )
    counted = ", ".join(
        dict.fromkeys(f"{figure.count(n):,} {figure.images}" for figure in judged.figures)
    )
    return plain(
        f"Test split, reported once: {counted}. {judged.reading} {steps} {truths} F1 is the "
        f"harmonic mean of {judged.score}; losses are in nats."
    )


def evaluated(info: dict[str, Any], methods: list[str]) -> list[tuple[str, str, str, dict]]:
    """Return (row name, method, step, test metrics) of the model before and of every edit."""
    rows = [("Before", "before", "", info["before"]["test"])]
    for method in methods:
        for step, value in info["methods"][method]["steps"].items():
            name = f"{label(method)} {step} {times(value['scale'])}"
            rows.append((name, method, step, value["test"]))
    return rows


def dots(models: list[tuple[str, str, str, dict]], figure: Figure) -> list[Dot]:
    """Return one accuracy of every model with its Wilson interval; unmeasured ones are left out."""
    found = []
    for name, method, step, metrics in models:
        share, n = metrics[figure.key], figure.count(metrics)
        if share is None or n == 0:
            continue
        low, high = measures.wilson(round(share * n), n)
        found.append(Dot(name, method, step, share, low, high, n))
    return found


def retrained_dots(retrained: Truth | None, figure: Figure) -> list[Dot]:
    """Return the mean of the retrained models with ± 1 standard deviation; none without them."""
    spread = None if retrained is None else retrained.metric(figure.key)
    if retrained is None or spread is None or not figure.count(retrained.models[0]["test"]):
        return []
    std, n = spread.std or 0.0, figure.count(retrained.models[0]["test"])
    ends = max(spread.mean - std, 0.0), min(spread.mean + std, 1.0)
    name = f"Retrained ({len(spread.values)})"
    return [Dot(name, RETRAINED, "", spread.mean, *ends, n, "± 1 standard deviation")]


def retrained_rows(retrained: Truth | None, judged: Outcome) -> pd.DataFrame:
    """Return the row of the retrained models for the table: mean ± standard deviation."""
    if retrained is None:
        return pd.DataFrame()
    row = {"model": f"Retrained ({len(retrained.models)})"}
    for figure in judged.figures:
        spread = retrained.metric(figure.key)
        row[_heading(figure)] = "n/a" if spread is None else with_spread(spread)
    plain_numbers = [*judged.numbers, ("score", "F1"), *judged.losses]
    for key, heading in plain_numbers:
        spread = retrained.metric(key)
        row[heading] = "n/a" if spread is None else _fixed(spread.mean)
    return pd.DataFrame([row])


def accuracies_title(info: dict[str, Any], methods: list[str]) -> str:
    """Return the finding: what changes and the rest, before and after each longest step."""
    judged = outcome(info["change"])
    own, others = [], []
    for method in methods:
        step, value = list(info["methods"][method]["steps"].items())[-1]
        share = percent(value["test"][judged.own.key])
        own.append(f"{share} after {label(method)}’s {step} step")
        others.append(percent(value["test"][judged.rest.key]))
    before = info["before"]["test"]
    if len(methods) > MANY:
        return many_title(info, methods)
    first, rest = _subjects(info, judged)
    return (
        f"{first}: {percent(before[judged.own.key])} before, {', '.join(own)}; "
        f"{rest}: {percent(before[judged.rest.key])} before, {', '.join(others)} after"
    )


def _subjects(info: dict[str, Any], judged: Outcome) -> tuple[str, str]:
    """Return what a title calls the two accuracies."""
    if judged.task == "class":
        return info["change"]["class_name"], "other classes"
    return judged.own.panel, judged.rest.noun


def many_title(info: dict[str, Any], methods: list[str]) -> str:
    """Return the finding for many methods: who scores best, and how far they lie apart."""
    judged = outcome(info["change"])
    key = judged.own.key
    ends = {m: list(info["methods"][m]["steps"].values())[-1]["test"] for m in methods}
    scored = {m: value["score"] for m, value in ends.items() if value["score"] is not None}
    own = [value[key] for value in ends.values() if value[key] is not None]
    if not scored or not own:
        return f"{len(methods)} methods, before and after"
    top = max(scored.values())
    best = [label(m) for m, score in scored.items() if score == top]
    what = "the removed class" if judged.task == "class" else judged.own.noun
    return (
        f"{_subjects(info, judged)[0]}: of {len(methods)} methods {listed(best)} "
        f"{'scores' if len(best) == 1 else 'score'} best (F1 {top:.3f}); {what} is left "
        f"at {percent(min(own))} to {percent(max(own))}, "
        f"{percent(info['before']['test'][key])} before"
    )


def table(models: list[tuple[str, str, str, dict]], judged: Outcome) -> pd.DataFrame:
    """Return the accuracies as text with intervals, plus losses in nats."""
    rows = []
    for name, _, _, metrics in models:
        row = {"model": name}
        for figure in judged.figures:
            row[_heading(figure)] = _with_interval(metrics[figure.key], figure.count(metrics))
        row |= {heading: _fixed(metrics[key]) for key, heading in judged.numbers}
        row["F1"] = _fixed(metrics["score"])
        row |= {heading: _fixed(metrics[key]) for key, heading in judged.losses}
        rows.append(row)
    return pd.DataFrame(rows)


def _heading(figure: Figure) -> str:
    """Return "removed (self)": the short name, and the key if that says more."""
    key = figure.key.removesuffix("_accuracy")
    same = key in (figure.short.lower(), "accuracy")
    return figure.short.lower() if same else f"{figure.short.lower()} ({key})"


def _fixed(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _with_interval(share: float | None, n: int) -> str:
    if share is None or n == 0:
        return "n/a"
    low, high = measures.wilson(round(share * n), n)
    return f"{percent(share)}  [{100 * low:.1f} to {100 * high:.1f}]"


# --- export ---------------------------------------------------------------------------------------


def _stem(context: Context) -> str:
    return f"before-after-{context.selector}-{context.ratio:g}"


def _take_predictions(context: Context, methods: list[str]) -> None:
    stem = f"predictions-{_stem(context)}"
    frame.downloads(stem, lambda: predictions(context, methods), "Every test prediction")


def raw_table(models: list[tuple[str, str, str, dict]], judged: Outcome) -> pd.DataFrame:
    """Return the metrics as numbers (shares 0 to 1, losses in nats), one row per model."""
    return pd.DataFrame(
        [
            {"model": name, "method": method, "step": step}
            | {key: metrics.get(key) for key in judged.keys}
            for name, method, step, metrics in models
        ]
    )


def predictions(context: Context, methods: list[str]) -> pd.DataFrame:
    """Return every test image's prediction, p(label) and loss [nats], before and after."""
    path = context.shown.path
    parts = [cache.samples(path, "before").assign(method="before", step="")]
    for method in methods:
        for step in context.info["methods"][method]["steps"]:
            parts.append(cache.samples(path, method, step).assign(method=method, step=step))
    for step, _ in held.steps(context.info):
        parts.append(cache.samples(path, RETRAINED, step).assign(method=RETRAINED, step=step))
    return pd.concat(parts, ignore_index=True)

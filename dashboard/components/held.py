"""What retrained models say of the edits: what they predict, how far edits agree, and by how much.

`gifcore.held_against` reads and summarises them; this draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.charts.same_predictions import Same, same_predictions
from dashboard.charts.style import label, listed
from dashboard.components import look, page
from dashboard.components.measures import percent, times
from dashboard.components.messages import plain
from dashboard.state import Context
from gifcore.held_against import Spread, Truth, recipe_words, remarks, truth, with_spread
from gifcore.outcome import Outcome, outcome
from gifcore.record import BEFORE, RETRAINED

PANELS = ("same_predictions", "same_predictions_own", "same_predictions_rest")
SAME, OWN = PANELS[0], "total_variation_own"
NUMBERS = (  # figures of the table, their words, whether they are shares
    ("same_predictions", "same prediction, all", True),
    ("same_predictions_own", "same prediction, {own}", True),
    ("same_predictions_rest", "same prediction, the rest", True),
    ("total_variation", "total variation of probabilities", False),
    ("total_variation_own", "total variation of classes, {own}", False),
    ("loss_difference_own", "loss − retrained, {own} (nats)", False),
    ("loss_difference_rest", "loss − retrained, the rest (nats)", False),
    ("distance", "‖θ − θ′‖ / ‖θ′‖", False),
)
SIGNED = ("loss_difference_own", "loss_difference_rest")
_READING = (
    "Total variation: 0 = the same, 1 = nothing in common; of probabilities its mean over all test "
    "images, of classes between two histograms of predictions. A loss difference above 0: a higher "
    "mean loss than retrained models have. θ: all parameters, θ′ those of a retrained model. No "
    "edit can be asked to be nearer to retrained models than they are to each other."
)
NOT_MEASURED = (
    "Not measured: other recipes and starts than this one, images beyond this test split, and "
    "whether the rankings of training images hold; only the edits are held against these models."
)


def section(context: Context, methods: Sequence[str]) -> bool:
    """Draw what retrained models predict and how far the edits agree; are there any?"""
    info = context.info
    found = truth(info)
    if found is None:
        return False
    st.caption(f"{counted(found).capitalize()}: {plain(recipe(found))}.")
    agreement(info, methods, found, "before-after")
    return True


def steps(info: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return (step in samples.parquet, test metrics) of every retrained model that counts."""
    found = truth(info)
    return [] if found is None else [(f"seed-{m['seed']}", m["test"]) for m in found.models]


# --- how far the edits agree ----------------------------------------------------------------------


def named(info: dict[str, Any], methods: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return (name, method, step) of the unedited model and every edit."""
    rows = [("Before", BEFORE, "")]
    for method in methods:
        for step, entry in (info["methods"][method].get("steps") or {}).items():
            rows.append((f"{label(method)} {step} {times(entry['scale'])}", method, step))
    return rows


def of_model(found: Truth, method: str, step: str, figure: str) -> Spread | None:
    """Return a figure of the unedited model or of an edit against the retrained models."""
    if method == BEFORE:
        return found.before(figure)
    return found.agreement(method, step, figure)


def agreement(info: dict[str, Any], methods: Sequence[str], found: Truth, key: str) -> None:
    """Draw on how many images each model predicts as retrained models do."""
    judged = outcome(info["change"])
    found_panels = panels(info, methods, found)
    if not found_panels:
        st.caption("No edit of these methods was held against the retrained models.")
        return
    title = agreement_title(info, methods, found)
    look.chart(same_predictions(found_panels, title, look.palette()), f"same-{key}")
    st.caption(
        f"{judged.own.short}: {plain(judged.own.images)}. Small dots are single retrained models "
        "or pairs of them, large marks their mean, open ones the natural step. The axes do not "
        "begin at 0."
    )


def panels(info: dict[str, Any], methods: Sequence[str], found: Truth) -> dict[str, list[Same]]:
    """Return how far each model agrees, by what it is about; empty where nothing was held."""
    judged = outcome(info["change"])
    headings = ("All test images", judged.own.short, "The rest")
    parts: dict[str, list[Same]] = {}
    for figure, heading in zip(PANELS, headings, strict=True):
        if figure == PANELS[-1] and judged.task != "class":
            continue  # the rest is the whole test split
        rows = []
        for name, method, step in named(info, methods):
            spread = of_model(found, method, step, figure)
            if spread is not None:
                rows.append(Same(name, method, step, spread.values))
        floor = found.between(figure)
        if floor is not None:
            rows.append(Same("Retrained, each other", RETRAINED, "", floor.values))
        if rows:
            parts[heading] = rows
    return parts


def agreement_title(info: dict[str, Any], methods: Sequence[str], found: Truth) -> str:
    """Return the finding: agreement on all test images, edits beside unedited model and floor."""
    parts = []
    for method in methods:
        tried = list(info["methods"][method].get("steps") or {})
        spread = found.agreement(method, tried[-1], SAME) if tried else None
        if spread is not None:
            parts.append(f"{label(method)} {percent(spread.mean)}")
    before, floor = found.before(SAME), found.between(SAME)
    if before is not None:
        parts.append(f"the unedited model {percent(before.mean)}")
    if floor is not None:
        parts.append(f"retrained models with each other {percent(floor.mean)}")
    return f"Same prediction as retrained models: {', '.join(parts)}"


# --- the tables of "How sure is this?" ------------------------------------------------------------


def details(context: Context, methods: Sequence[str], key: str) -> bool:
    """Draw accuracies, agreement and what was not measured; was there anything to draw?"""
    info = context.info
    found = truth(info)
    if found is None or not any(info["methods"][m].get("steps") for m in methods):
        return False
    st.markdown(f"**Held against {counted(found)}** ({plain(recipe(found))})")
    for line in remarks(info):
        st.warning(plain(line), icon=":material/warning:")
    judged = outcome(info["change"])
    page.table(
        accuracies(info, methods, found, judged),
        f"held-accuracies-{key}",
        "Accuracies of the edits beside those of retrained models",
    )
    st.caption(
        "Points: the edit minus the mean of the retrained models; “within” is at most 2 standard "
        "deviations of theirs, at least one image."
    )
    page.table(
        figures(info, methods, found, judged),
        f"held-figures-{key}",
        "How far each model agrees with retrained models",
    )
    own = f"{judged.own.short}: {plain(judged.own.images)}."
    st.caption(f"{own} {_READING} {NOT_MEASURED}")
    return True


def counted(found: Truth) -> str:
    """Return "3 retrained models"."""
    n = len(found.models)
    return "one retrained model" if n == 1 else f"{n} retrained models"


def recipe(found: Truth) -> str:
    """Return by what they were trained, as the record says it, and with which seeds."""
    seeds = listed([str(model["seed"]) for model in found.models])
    return f"{recipe_words(found.entry)}, seed{'s' * (len(found.models) > 1)} {seeds}"


def accuracies(
    info: dict[str, Any], methods: Sequence[str], found: Truth, judged: Outcome
) -> pd.DataFrame:
    """Return a row per model: each accuracy, for edits with the difference to retrained models."""
    columns = [(f.panel, f.key, f.count(info["before"]["test"])) for f in judged.figures]
    columns += [(heading, key, 0) for key, heading in judged.numbers if key == "reached"]
    spreads = {key: found.metric(key) for _, key, _ in columns}
    rows: list[dict[str, str]] = []
    for name, method, step in named(info, methods):
        metrics = info["before"]["test"]
        if method != BEFORE:
            metrics = info["methods"][method]["steps"][step]["test"]
        row = {"model": name}
        for heading, key, count in columns:
            row[heading] = _beside(metrics.get(key), spreads[key], count)
        rows.append(row)
    last = {"model": f"Retrained, mean of {len(found.models)}"}
    for heading, key, _ in columns:
        spread = spreads[key]
        last[heading] = "n/a" if spread is None else with_spread(spread)
    return pd.DataFrame([*rows, last])


def _beside(value: float | None, spread: Spread | None, count: int) -> str:
    """Return "89.1 % (−1.2 points)" or "90.1 % (within)"."""
    if value is None or spread is None:
        return percent(value)
    if spread.holds(value, count or 1_000_000):
        return f"{percent(value)} (within)"
    points = 100 * (value - spread.mean)
    return f"{percent(value)} ({'−' if points < 0 else '+'}{abs(points):.1f} points)"


def figures(
    info: dict[str, Any], methods: Sequence[str], found: Truth, judged: Outcome
) -> pd.DataFrame:
    """Return a row per figure, a column per model, the last how retrained models differ."""
    tried = named(info, methods)
    furthest = {method: name for name, method, _ in tried}  # the searched step, if there is one
    models = [row for row in tried if furthest[row[1]] == row[0]]
    rows = []
    apart = judged.task == "class"  # else the rest is the whole test split
    for figure, words, share in NUMBERS:
        if figure == PANELS[-1] and not apart:
            continue
        row = {"against retrained models": words.format(own=judged.own.short.lower())}
        for name, method, step in models:
            row[name] = _written(of_model(found, method, step, figure), figure, share=share)
        row["Retrained, each other"] = _written(found.between(figure), figure, share=share)
        if any(value != "n/a" for value in list(row.values())[1:]):
            rows.append(row)
    return pd.DataFrame(rows)


def _written(spread: Spread | None, figure: str, *, share: bool) -> str:
    if spread is None:
        return "n/a"
    if share:
        return with_spread(spread)
    sign = "+" if figure in SIGNED and spread.mean > 0 else ""
    mean = f"{sign}{spread.mean:.3f}".replace("-", "−")
    return mean if spread.std is None else f"{mean} ± {spread.std:.3f}"

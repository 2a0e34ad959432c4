"""Compare: do two methods of the record agree, and what did each cost?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import cache, state
from dashboard.charts.agreement import agreement
from dashboard.charts.overlap import overlap as overlap_figure
from dashboard.charts.rank_flow import MOST as MOST_LINES
from dashboard.charts.rank_flow import Flow, flow, rank_flow
from dashboard.charts.score_scatter import MOST, score_scatter
from dashboard.charts.style import label, listed
from dashboard.components import gallery, held, look, measures, sure, verdict
from dashboard.components import page as frame
from dashboard.components.controls import forget_if_gone, one_of
from dashboard.components.measures import SIDES, percent, significant
from dashboard.components.messages import plain
from dashboard.components.sidebar import query_label, query_noun
from dashboard.state import Context
from gifcore.held_against import truth
from gifcore.record import products


def page() -> None:
    """Draw the page: scatter and overlap for the query, all queries, the edits, the costs."""
    context = state.context()
    methods = context.shown.methods
    if len(methods) < 2:
        frame.head("Compare", f"This record holds only {label(methods[0])}: nothing to compare.")
        st.info("Start the study again with two or more methods, under *New study*.")
        _costs(context, methods)
        return
    st.title("Compare")
    slot = st.container()
    ranked = ranked_by(context)
    if context.query is None or len(ranked) < 2:
        slot.markdown(too_few(context, ranked))
        _edits(context, context.methods)
        _costs(context, methods)
        return
    if silent := [label(m) for m in methods if m not in ranked]:
        st.caption(f"{listed(silent)} did not rank this test image: only in the costs below.")
    first, second = _pick(ranked)
    scores = {m: cache.influence(context.shown.path, m, context.query) for m in (first, second)}
    side, k = _settings(context, len(scores[first]))
    slot.markdown(answer(context, scores, side, k))
    left, right = st.columns(2)
    with left:
        _scatter(context, scores)
    with right:
        _overlap(scores, side, k)
    _flow(context, scores, side, k)
    sure.panel(context, "compare", query=context.query, methods=(first, second))
    _all_queries(context, first, second)
    _edits(context, (first, second))
    _costs(context, methods)
    _export(context, scores)


def ranked_by(context: Context) -> list[str]:
    """Return the methods of the record that ranked this test image; none without one."""
    if context.query is None:
        return []
    query = next(q for q in cache.queries(context.shown) if q["index"] == context.query)
    return [m for m in context.shown.methods if m in query["certificates"]]


def too_few(context: Context, ranked: list[str]) -> str:
    """Return why there are no two rankings to compare."""
    if context.query is None:
        return "This study ranked no test image: only the costs can be compared."
    who = f"only {label(ranked[0])}" if ranked else "no method"
    query = next(q for q in cache.queries(context.shown) if q["index"] == context.query)
    what = plain(query_label(query, context.info["data"]["classes"]))
    noun = query_noun(query).lower()
    return f"Of this study {who} ranked {noun} {what}: only the costs can be compared."


def _pick(methods: list[str]) -> tuple[str, str]:
    if len(methods) == 2:
        return methods[0], methods[1]
    left, right = st.columns(2)
    forget_if_gone("compare-first", methods)
    first = left.selectbox(
        "First method", methods, format_func=label, key="compare-first", persist_state="session"
    )
    rest = [m for m in methods if m != first]
    forget_if_gone("compare-second", rest)
    second = right.selectbox(
        "Second method", rest, format_func=label, key="compare-second", persist_state="session"
    )
    return first, second


def _settings(context: Context, n: int) -> tuple[measures.Side, int]:
    left, right = st.columns([1, 1], vertical_alignment="bottom")
    about = measures.explained(context.info)
    with left:
        side = one_of("Which end of the ranking", SIDES, "helpful", "compare-side")
    right.caption(
        "Top k is set in the sidebar. Positive = helpful: removing the training sample is "
        f"predicted to {about.worse} this image’s {about.noun} ({about.unit}); negative = harmful."
    )
    return side, min(context.k, n)


def answer(context: Context, scores: dict[str, np.ndarray], side: measures.Side, k: int) -> str:
    """Return the agreement of the two rankings of this test image in one sentence."""
    first, second = scores
    n = len(scores[first])
    rho = measures.spearman(scores[first], scores[second])
    low, high = measures.spearman_interval(rho, n)
    shared = measures.overlap(scores[first], scores[second], k, side)
    return (
        f"For {plain(_query_name(context))}, **{label(first)} and {label(second)} share "
        f"{shared} of their {k} {_end(side)} training images** (by chance "
        f"about {k * k / n:.1f}); over all {n:,} their ranks correlate with Spearman’s ρ = "
        f"**{rho:.3f}** (95 % interval {low:.3f} to {high:.3f}), Kendall’s τ = "
        f"{measures.kendall(scores[first], scores[second]):.3f}."
    )


def _end(side: str) -> str:
    return "strongest" if side == "strongest" else f"most {side}"


def _query_name(context: Context) -> str:
    query = next(q for q in cache.queries(context.shown) if q["index"] == context.query)
    noun = query_noun(query).lower()
    return f"{noun} {query_label(query, context.info['data']['classes'])}"


# --- one query ------------------------------------------------------------------------------------


def _scatter(context: Context, scores: dict[str, np.ndarray]) -> None:
    (first, x), (second, y) = scores.items()
    exponents = [measures.exponent(values) for values in (x, y)]
    exp = max(exponents) if abs(exponents[0] - exponents[1]) <= 3 else None
    used = [exp, exp] if exp is not None else exponents
    unit = measures.explained(context.info).unit
    own, name = marked(context, len(x))
    title = scatter_title(x, y, (label(first), label(second)))
    figure = score_scatter(
        x / 10.0 ** used[0],
        y / 10.0 ** used[1],
        marked=own,
        marked_name=name,
        texts=texts(context, len(x)),
        names=(label(first), label(second)),
        units=(measures.power(used[0], unit), measures.power(used[1], unit)),
        title=title,
        palette=look.palette(),
    )
    look.chart(figure, "score-scatter")
    drawn = f"{MOST:,} of {len(x):,} (the strongest and an even draw of the rest)"
    st.caption(
        f"One dot per training image, {drawn if len(x) > MOST else f'all {len(x):,}'}; diamonds "
        "are of the test image’s class. Sizes are compared at the 99th percentile of |score|. "
        + (
            "On the dashed line both give the same score."
            if used[0] == used[1]
            else "The axes have different powers of ten, so no line of equal scores is drawn."
        )
    )


def scatter_title(first: np.ndarray, second: np.ndarray, names: tuple[str, str]) -> str:
    """Return the finding: how often the signs agree and whose scores are larger."""
    same = float((np.sign(first) == np.sign(second)).mean())
    spreads = [float(np.percentile(np.abs(values), 99)) for values in (first, second)]
    text = f"Signs agree for {percent(same, 0)} of the training images"
    if min(spreads) > 0:
        bigger = int(spreads[1] > spreads[0])
        ratio = max(spreads) / min(spreads)
        text += f"; {names[bigger]}’s scores are {significant(ratio)} times as large"
    return text


def marked(context: Context, n: int) -> tuple[np.ndarray, str]:
    """Return which training samples are of the query's class, and its name."""
    source = gallery.pictures(context)
    labels = source.labels("train")
    query = next(q for q in cache.queries(context.shown) if q["index"] == context.query)
    if query["label"] is None:  # a group of several classes
        return np.zeros(n, bool), "of its class"
    name = source.classes[query["label"]]
    return (np.zeros(n, bool) if labels is None else labels == query["label"]), name


def texts(context: Context, n: int) -> np.ndarray:
    """Return what hovering says of each training sample: its number and class."""
    source = gallery.pictures(context)
    labels = source.labels("train")
    if labels is None:
        return np.array([f"#{i}" for i in range(n)], dtype=object)
    return np.array([f"#{i} {source.classes[c]}" for i, c in enumerate(labels)], dtype=object)


def _overlap(scores: dict[str, np.ndarray], side: measures.Side, k: int) -> None:
    (first, x), (second, y) = scores.items()
    ks = measures.curve_points(len(x))
    curves = {name: measures.overlap_curve(x, y, ks, end) for end, name in SIDES.items()}
    shared = measures.overlap(x, y, k, side)
    title = (
        f"{label(first)} and {label(second)} share {percent(shared / k, 0)} of their top {k:,} "
        f"({_end(side)})"
    )
    figure = overlap_figure(
        ks, curves, chosen=SIDES[side], k=k, n=len(x), title=title, palette=look.palette()
    )
    look.chart(figure, "overlap")
    st.caption("The share of the two top-k lists that is the same; dotted: by chance.")


def _flow(context: Context, scores: dict[str, np.ndarray], side: measures.Side, k: int) -> None:
    """Draw where the first few of each ranking stand in the other."""
    (first, x), (second, y) = scores.items()
    few = min(k, MOST_LINES)
    found = flow(measures.order(x, side), measures.order(y, side), few)
    names = (label(first), label(second))
    figure = rank_flow(
        found,
        texts(context, len(x)),
        (first, second),
        names,
        flow_title(found, names),
        look.palette(),
    )
    look.chart(figure, "rank-flow")
    limit = f" (at most {MOST_LINES} are drawn)" if k > MOST_LINES else ""
    st.caption(
        f"The first {few} {_end(side)} training images of each method{limit}; below the dotted "
        "line a sample is beyond them, hovering says where."
    )


def flow_title(found: Flow, names: tuple[str, str]) -> str:
    """Return the finding: how many keep their place, and how far the best of each falls."""
    shared = int(found.shared.sum())
    tops = [int(found.second[found.first == 1][0]), int(found.first[found.second == 1][0])]
    return (
        f"{shared} of the first {found.k} are the same; {names[0]}’s first is number {tops[0]:,} "
        f"by {names[1]}, {names[1]}’s first number {tops[1]:,} by {names[0]}"
    )


# --- all queries ----------------------------------------------------------------------------------


def _all_queries(context: Context, first: str, second: str) -> None:
    queries = [q for q in cache.queries(context.shown) if {first, second} <= set(q["certificates"])]
    if len(queries) < 2:
        return
    st.subheader("Every ranked test image")
    rows = []
    for query in queries:
        x, y = (cache.influence(context.shown.path, m, query["index"]) for m in (first, second))
        rho = measures.spearman(x, y)
        rows.append((query["index"], rho, measures.spearman_interval(rho, len(x))))
    rhos = [rho for _, rho, _ in rows]
    title = agreement_title(rhos)
    classes = context.info["data"]["classes"]
    figure = agreement(
        [query_label(query, classes) for query in queries],
        rhos,
        [interval for _, _, interval in rows],
        chosen=next((i for i, (index, _, _) in enumerate(rows) if index == context.query), -1),
        title=title,
        palette=look.palette(),
    )
    look.chart(figure, "agreement")
    st.caption(
        "Intervals: 95 %, Fisher’s z, as if training images were independent draws. The diamond "
        "is the test image above."
    )


def agreement_title(rhos: list[float]) -> str:
    """Return the finding: median and range of the rank correlations."""
    return (
        f"Median rank correlation {np.nanmedian(rhos):.2f} over {len(rhos)} test images "
        f"({np.nanmin(rhos):.2f} to {np.nanmax(rhos):.2f})"
    )


# --- as edits -------------------------------------------------------------------------------------


def _edits(context: Context, methods: Sequence[str]) -> None:
    """Draw the verdict on the methods as edits, and how near each comes to retrained models."""
    info = context.info
    edited = [m for m in methods if info["methods"][m].get("steps")]
    if not edited:
        return
    st.subheader("As edits of the model")
    verdict.draw(info, edited)
    found = truth(info)
    if found is not None:
        held.agreement(info, edited, found, "compare")
    sure.panel(context, "edits", methods=edited)


# --- costs ----------------------------------------------------------------------------------------


def _costs(context: Context, methods: list[str]) -> None:
    st.subheader("What each cost")
    frame.table(costs(context.info, methods), "costs", "Costs, one row per method")
    info = context.info
    st.caption(
        "Products are Hessian-vector products in all, checks included; the probes of a "
        "preconditioner, shared by all solves, count once. The whole "
        f"study took {measures.seconds(info['seconds'])} and {info['peak_memory_mb']:,.0f} MB at "
        f"its peak on {info['threads']} CPU thread{'s' if info['threads'] > 1 else ''}; memory is "
        "not measured per method."
    )


def costs(info: dict[str, Any], methods: list[str]) -> pd.DataFrame:
    """Return one row per method: parameters touched, norm, products, seconds by stage."""
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
                **{stage: measures.seconds(value) for stage, value in took.items()},
                "in all": measures.seconds(sum(took.values())),
            }
        )
    return pd.DataFrame(rows)


def _touched(entry: dict[str, Any], p: int) -> str:
    if "k" not in entry:
        return "none: only ranked"
    return f"{entry['k']:,} ({percent(entry['k'] / p)})"


def _export(context: Context, scores: dict[str, np.ndarray]) -> None:
    st.subheader("Take it with you")
    unit = measures.explained(context.info).unit.replace(" ", "_")
    stem = f"scores-test-{context.query}-{context.selector}-{context.ratio:g}"
    frame.downloads(stem, lambda: score_table(scores, unit), "Both methods’ scores")


def score_table(scores: dict[str, np.ndarray], unit: str = "nats") -> pd.DataFrame:
    """Return train_index and each method's influence [unit] and rank (0 = most helpful)."""
    table = pd.DataFrame({"train_index": np.arange(len(next(iter(scores.values()))))})
    for method, values in scores.items():
        rank = np.empty(len(values), dtype=int)
        rank[measures.order(values, "helpful")] = np.arange(len(values))
        table[f"{method}_influence_{unit}"] = values
        table[f"{method}_rank"] = rank
    return table

"""The part of Compare about rankings: two lists of scores for one test image, then for all.

Positive = helpful: removing the training sample is predicted to make the test image worse off.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import cache
from dashboard.charts.agreement import agreement
from dashboard.charts.kept import digest
from dashboard.charts.overlap import overlap as overlap_figure
from dashboard.charts.rank_flow import MOST as MOST_LINES
from dashboard.charts.rank_flow import Flow, flow, rank_flow
from dashboard.charts.score_scatter import score_scatter, thin
from dashboard.components import gallery, look, measures, sure
from dashboard.components.controls import one_of
from dashboard.components.measures import SIDES, percent, significant
from dashboard.components.messages import plain
from dashboard.components.sidebar import TOP, query_label, query_noun
from dashboard.state import Context
from dashboard.views.compare_fit import apart, common, fits, remedy, targets
from dashboard.views.compare_pick import Pair

AT_ONCE = 1_000_000  # scores of all common test images that are compared without being asked
ALIKE = 1.05  # of sizes: below it neither is called larger
Scores = tuple[np.ndarray, np.ndarray]  # (n,) influences of both, by training sample


def section(pair: Pair) -> Scores | None:
    """Draw both scores of every training image; return them, None without two rankings."""
    found = _asked(pair)
    if found is None:
        return None
    _scatter(pair, found[0])
    _certificates(pair)
    return found[0]


def overlap_section(pair: Pair) -> None:
    """Draw how much of the two top-k lists is the same, for every k."""
    found = _asked(pair)
    if found is not None:
        _overlap(pair, *found)
        _certificates(pair)


def flow_section(pair: Pair) -> None:
    """Draw where the first few training images of each ranking stand in the other."""
    found = _asked(pair)
    if found is not None:
        _flow(pair, *found)
        _certificates(pair)


def _asked(pair: Pair) -> tuple[Scores, measures.Side, int] | None:
    """Draw what is compared and the answer; return both rankings, their end and k, if there are."""
    if why := apart(pair):
        st.markdown(why)
        others = common(pair) if fits(pair) else []
        _instead(pair, others)
        return None
    slot = st.container()
    if words := targets(pair):
        st.info(plain(words), icon=":material/info:")
    first, second = (
        cache.influence(side.context.shown.path, side.method, side.context.query or 0)
        for side in pair.sides
    )
    end, k = _settings(pair, len(first))
    slot.markdown(answer(pair, (first, second), end, k))
    return (first, second), end, k


def every(pair: Pair) -> None:
    """Draw how far both agree on every test image that both ranked, or why there are too few."""
    if not fits(pair):
        st.markdown(apart(pair))
        st.info(remedy(pair, []))
        return
    others = common(pair)
    if len(others) < 2:
        names = [query_label(query, pair.first.info["data"]["classes"]) for query in others]
        only = f"Both ranked only {plain(names[0])}" if names else "Both ranked no test image"
        st.markdown(f"{only}: there are no others to hold beside it." if names else f"{only}.")
        st.info(remedy(pair, others))
        return
    _every(pair, others)
    _certificates(pair)


def _instead(pair: Pair, others: list[dict[str, Any]]) -> None:
    """Offer a test image that both ranked, or say how there could be one."""
    if not others:
        st.info(remedy(pair, others))
        return
    query = others[0]
    name = query_label(query, pair.first.info["data"]["classes"])
    st.button(
        f"Show {query_noun(query).lower()} {plain(name)}: both ranked it",
        key="compare-instead",
        icon=":material/arrow_forward:",
        on_click=lambda: st.session_state.update(query=query["index"]),
    )


# --- one test image -------------------------------------------------------------------------------


def _settings(pair: Pair, n: int) -> tuple[measures.Side, int]:
    left, right = st.columns(2)
    with left:
        side = one_of("Which end of the ranking", SIDES, "helpful", "compare-side")
    st.session_state["compare-k"] = pair.first.context.k
    right.select_slider(
        "Top k: length of the lists compared",
        TOP,
        key="compare-k",
        on_change=lambda: st.session_state.update(k=st.session_state["compare-k"]),
        help="The same as Top k in the sidebar.",
    )
    about = measures.explained(pair.first.info)
    st.caption(
        "Positive = helpful: removing the training sample is "
        f"predicted to {about.worse} this image’s {about.noun} ({about.unit}); negative = harmful. "
        "ρ and τ compare two orders: 1 is the same, 0 nothing in common, −1 the reverse."
    )
    return side, min(pair.first.context.k, n)


def answer(pair: Pair, scores: Scores, side: measures.Side, k: int) -> str:
    """Return the agreement of the two rankings of this test image in one sentence."""
    first, second = pair.names
    x, y = scores
    n = len(x)
    rho = measures.spearman(x, y)
    low, high = measures.spearman_interval(rho, n)
    shared = measures.overlap(x, y, k, side)
    return (
        f"For {plain(_query_name(pair))}, **{first} and {second} share "
        f"{shared} of their {k} {_end(side)} training images** (by chance "
        f"about {k * k / n:.1f}); over all {n:,} their ranks correlate with Spearman’s ρ = "
        f"**{rho:.3f}** (95 % interval {low:.3f} to {high:.3f}), Kendall’s τ = "
        f"{measures.kendall(x, y):.3f}."
    )


def _end(side: str) -> str:
    return "strongest" if side == "strongest" else f"most {side}"


def _query_name(pair: Pair) -> str:
    query = pair.first.query
    assert query is not None  # both ranked it
    return f"{query_noun(query).lower()} {query_label(query, pair.first.info['data']['classes'])}"


def _scatter(pair: Pair, scores: Scores) -> None:
    x, y = scores
    of = [measures.explained(info).unit for info in pair.infos]
    exponents = [measures.exponent(values) for values in (x, y)]
    alike = abs(exponents[0] - exponents[1]) <= 3 and of[0] == of[1]
    used = [max(exponents)] * 2 if alike else exponents
    own, name = marked(pair.first.context, len(x))
    dots = thin(x, y)
    figure = score_scatter(
        x / 10.0 ** used[0],
        y / 10.0 ** used[1],
        marked=own,
        marked_name=name,
        texts=texts(pair.first.context, dots),
        names=pair.names,
        units=(measures.power(used[0], of[0]), measures.power(used[1], of[1])),
        title=scatter_title(x, y, pair.names, sizes=of[0] == of[1]),
        palette=look.palette(),
    )
    look.chart(figure, "score-scatter")
    line = "The axes have different powers of ten, so no line of equal scores is drawn."
    if of[0] != of[1]:
        line = "The axes have different units, so no line of equal scores is drawn."
    elif used[0] == used[1]:
        line = "On the dashed line both give the same score."
    st.caption(
        f"{scatter_words(len(dots), len(x))} Sizes are compared at the 99th percentile of |score|. "
        + line
    )


def scatter_words(dots: int, n: int) -> str:
    """Return what a dot is and where the training images are that are none."""
    if dots == n:
        return f"One dot per training image, all {n:,}; diamonds are of the test image’s class."
    return (
        f"Dots: the {dots} of {n:,} training images that either score puts furthest from 0; "
        "diamonds are of the test image’s class. "
        f"The other {n - dots:,} are in the shading, which counts them in each cell."
    )


def scatter_title(
    first: np.ndarray, second: np.ndarray, names: tuple[str, str], *, sizes: bool = True
) -> str:
    """Return the finding: how often the signs agree and, of one unit, whose scores are larger."""
    same = float((np.sign(first) == np.sign(second)).mean())
    spreads = [float(np.percentile(np.abs(values), 99)) for values in (first, second)]
    text = f"Signs agree for {percent(same, 0)} of the training images"
    if sizes and min(spreads) > 0:
        bigger = int(spreads[1] > spreads[0])
        ratio = max(spreads) / min(spreads)
        if ratio < ALIKE:
            return f"{text}; both give scores of one size"
        text += f"; the scores of {names[bigger]} are {significant(ratio)} times as large"
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


def texts(context: Context, positions: np.ndarray) -> np.ndarray:
    """Return what hovering says of these training samples: number and class."""
    source = gallery.pictures(context)
    labels = source.labels("train")
    if labels is None:
        return np.array([f"#{i}" for i in positions], dtype=object)
    names = [f"#{i} {source.classes[labels[i]]}" for i in positions.tolist()]
    return np.array(names, dtype=object)


def _overlap(pair: Pair, scores: Scores, side: measures.Side, k: int) -> None:
    x, y = scores
    ks = measures.curve_points(len(x))
    curves = _curves(digest(scores), ks, x, y)
    shared = measures.overlap(x, y, k, side)
    title = (
        f"{pair.first.name} and {pair.second.name} share {percent(shared / k, 0)} of their top "
        f"{k:,} ({_end(side)})"
    )
    figure = overlap_figure(
        ks, curves, chosen=SIDES[side], k=k, n=len(x), title=title, palette=look.palette()
    )
    look.chart(figure, "overlap")
    st.caption("The share of the two top-k lists that is the same; dotted: by chance.")


@st.cache_data(max_entries=64, show_spinner=False)
def _curves(
    content: bytes,  # noqa: ARG001 - the key, which is read faster than two lists are counted
    ks: list[int],
    _first: np.ndarray,
    _second: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return the shared share of the top k for each of `ks`, by heading of the end."""
    return {name: measures.overlap_curve(_first, _second, ks, end) for end, name in SIDES.items()}


def _flow(pair: Pair, scores: Scores, side: measures.Side, k: int) -> None:
    """Draw where the first few of each ranking stand in the other."""
    x, y = scores
    few = min(k, MOST_LINES)
    found = flow(measures.order(x, side), measures.order(y, side), few)
    palette = look.palette()
    figure = rank_flow(
        found,
        texts(pair.first.context, found.index),
        pair.colours(palette),
        pair.names,
        flow_title(found, pair.names),
        palette,
    )
    look.chart(figure, "rank-flow")
    limit = f" (at most {MOST_LINES} are drawn)" if k > MOST_LINES else ""
    st.caption(
        f"The first {few} {_end(side)} training images of each side{limit}; below the dotted "
        "line a sample is beyond them, hovering says where."
    )


def flow_title(found: Flow, names: tuple[str, str]) -> str:
    """Return the finding: how many keep their place, and how far the best of each falls."""
    shared = int(found.shared.sum())
    tops = [int(found.second[found.first == 1][0]), int(found.first[found.second == 1][0])]
    return (
        f"{shared} of the first {found.k} are the same; the first of {names[0]} is number "
        f"{tops[0]:,} by {names[1]}, the first of {names[1]} number {tops[1]:,} by {names[0]}"
    )


def _certificates(pair: Pair) -> None:
    first, second = pair.sides
    query = first.context.query
    if pair.one_record:
        sure.panel(first.context, "compare", query=query, methods=pair.methods)
        return
    for column, side, key in zip(st.columns(2), pair.sides, ("compare", "compare-b"), strict=True):
        with column:
            st.caption(side.name)
            sure.panel(side.context, "compare", key=key, query=query, methods=(side.method,))


# --- all test images ------------------------------------------------------------------------------


def _every(pair: Pair, queries: list[dict[str, Any]]) -> None:
    """Draw the rank correlation of every test image that both ranked."""
    st.subheader("Every test image that both ranked")
    n = pair.first.info["data"]["sizes"]["train"]
    if len(queries) * n > AT_ONCE and not st.toggle(
        f"Compare the rankings of all {len(queries)} test images (a few seconds)",
        key="compare-every",
        persist_state="session",
    ):
        return
    views = [(str(side.context.shown.path), side.method) for side in pair.sides]
    rhos = cache.rank_correlations(views[0], views[1], tuple(q["index"] for q in queries))
    classes = pair.first.info["data"]["classes"]
    asked = [query["index"] for query in queries]
    shown = pair.first.context.query
    figure = agreement(
        [query_label(query, classes) for query in queries],
        rhos,
        [measures.spearman_interval(rho, n) for rho in rhos],
        chosen=asked.index(shown) if shown in asked else -1,
        title=agreement_title(rhos),
        palette=look.palette(),
    )
    look.chart(figure, "agreement")
    st.caption(
        "Spearman’s rank correlation over all training images, 1 = the same order. Intervals: "
        "95 %, Fisher’s z, as if training images were independent draws."
        + (" The diamond is the test image chosen in the sidebar." if shown in asked else "")
    )


def agreement_title(rhos: list[float]) -> str:
    """Return the finding: median and range of the rank correlations."""
    return (
        f"Median rank correlation {np.nanmedian(rhos):.2f} over {len(rhos)} test images "
        f"({np.nanmin(rhos):.2f} to {np.nanmax(rhos):.2f})"
    )


# --- download -------------------------------------------------------------------------------------


def score_table(scores: dict[str, np.ndarray], units: dict[str, str] | None = None) -> pd.DataFrame:
    """Return train_index and each column's influence [unit] and rank (0 = most helpful)."""
    table = pd.DataFrame({"train_index": np.arange(len(next(iter(scores.values()))))})
    for name, values in scores.items():
        rank = np.empty(len(values), dtype=int)
        rank[measures.order(values, "helpful")] = np.arange(len(values))
        unit = (units or {}).get(name, "nats").replace(" ", "_")
        table[f"{name}_influence_{unit}"] = values
        table[f"{name}_rank"] = rank
    return table

"""Speed and recall: what do fewer candidates and cheaper solves save, and what do they miss?"""

from __future__ import annotations

from math import isnan
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cache, library, state
from dashboard.charts.style import label, listed
from dashboard.charts.ways import Line, by_way, recall_curves, speed_quality
from dashboard.components import look, sure
from dashboard.components import page as frame
from dashboard.components.controls import forget_if_gone, one_of
from dashboard.components.measures import percent, seconds, significant
from dashboard.components.messages import plain
from dashboard.components.ways import lines_of, seconds_of, solves, spread
from dashboard.state import Context
from gifcore.fastif_words import depth_shown, top_kept

TITLE = "Speed and recall"
NOT_YET = """Add this to the study's file, and run it again (`python -m gifcore run STUDY.toml`):
```toml
[fastif]
k = [10, 100, 1000]      # numbers of nearest training images that are scored
previews = [64]          # optional: sketches to compare with
[[fastif.solves]]        # optional: LiSSA, for the methods IF and Projected
iterations = 200
damp = 0.02
scale = 250
```
or give the numbers of candidates under *New study*, *Advanced*. The study
`assets/studies/fastif-recall.toml` of a checkout has it all."""
PREDICTIONS = {"all": "All", "correct": "Predicted right", "wrong": "Wrong"}
COUNTED = {"seconds": "Solve and scores", "score_seconds": "Scores"}
FEWEST = 0.9  # of the exact top, kept by the number of candidates that the answer speaks of


def page() -> None:
    """Draw the page: seconds against quality, recall over candidates, then the solves."""
    context = state.context()
    measured = context.shown.fastif
    if not measured:
        frame.head(TITLE, "This study did not measure what fewer candidates would miss (FastIF).")
        _elsewhere()
        st.info(NOT_YET)
        return
    st.title(TITLE)
    slot = st.container()
    methods = list(measured["methods"])
    method = methods[0]
    if len(methods) > 1:
        names = {name: label(name) for name in methods}
        method = one_of("Method", names, methods[0], "speed-method")
    recall, speed = cache.fastif(context.shown.path, method)
    entry = measured["methods"][method]
    slot.markdown(answer(measured, method, recall, speed))
    _speed(context, measured, entry, speed)
    _sure(context, measured, method, speed)
    _recall(measured, entry, recall)
    _solves(entry, speed, measured["index"]["n"])
    st.subheader("Take it with you")
    frame.downloads(f"recall-{method}", lambda: recall, "Recall")
    frame.downloads(f"speed-{method}", lambda: speed, "Quality of every test image")


def _elsewhere() -> None:
    """Link to the studies that did measure it."""
    for family in library.families():
        selector, ratio = family.default()
        shown = state.of(family, (selector, ratio)).record
        if shown is not None and shown.fastif:
            state.link(
                "speed",
                f"{family.title}: measured there",
                icon=":material/speed:",
                study=family.key,
                selector=selector,
                ratio=ratio,
            )


# --- the answer -----------------------------------------------------------------------------------


def answer(measured: dict[str, Any], method: str, recall: pd.DataFrame, speed: pd.DataFrame) -> str:
    """Return what the fewest candidates that keep most of the top save, and how good LiSSA is."""
    n, m = measured["index"]["n"], depth_shown(measured)
    kept = {k: share for k, share in top_kept(recall, m).items() if k < n}
    if not kept:
        return "Every number of candidates was that of all training images: nothing is saved."
    k = min((k for k in kept if kept[k] >= FEWEST), default=max(kept))
    points = measured["methods"][method]["points"]
    costs = {p["k"]: p["score_seconds"] for p in points if p["way"] == "exact"}
    words = (
        f"For {label(method)}, the **{k:,} nearest of {n:,} training images keep "
        f"{percent(kept[k], 0)} of the exact top {m}** (by |influence|) and are scored "
        f"**{_compared(costs[n] / costs[k])}**, once the system is solved"
    )
    for point in (p for p in points if p["way"] == "loop"):
        against = significant(point["score_seconds"] / costs[k])
        words += f" ({against} times as fast as by a loop over single gradients of all)"
    return words + "." + _of_lissa(measured["methods"][method], speed, n)


def _compared(ratio: float) -> str:
    if ratio > 1.1:
        return f"{significant(ratio)} times as fast as all of them"
    return "no faster than all of them, whose sweep many test images share"


def _of_lissa(entry: dict[str, Any], speed: pd.DataFrame, n: int) -> str:
    means = dict(speed[speed["k"] == n].groupby("way")["spearman"].mean())
    ways = entry["ways"]
    lissa = [name for name in ways if ways[name]["kind"] == "lissa" and not isnan(means[name])]
    if not lissa:
        return ""
    best = max(lissa, key=lambda name: means[name])
    effective = ways[best]["effective_damping"]
    return (
        f" LiSSA’s best solve ranks like the exact one to Spearman’s ρ = **{means[best]:.2f}** "
        f"(effective damping {effective:.3g}), the gradient without a solve to "
        f"**{means['gradient']:.2f}**."
    )


# --- speed against quality ------------------------------------------------------------------------


def _speed(
    context: Context, measured: dict[str, Any], entry: dict[str, Any], speed: pd.DataFrame
) -> None:
    depth, n = measured["depth"], measured["index"]["n"]
    names = {
        "largest": f"Top {depth} by |influence|",
        "helpful": "Helpful",
        "harmful": "Harmful",
        "spearman": "Rank correlation",
    }
    left, right = st.columns([8, 5])
    with left:
        measure = one_of("Quality", names, "largest", "speed-quality")
    with right:
        counted = one_of("Seconds", COUNTED, "seconds", "speed-counted")
    lines = lines_of(entry, by_way(speed, measure), counted)
    share = measure != "spearman"
    words = f"recall@{depth} of the exact ranking (%)" if share else "Spearman’s ρ with exact"
    figure = speed_quality(
        lines, share=share, quality=words, counted=COUNTED[counted].lower(),
        title=speed_title(lines, measure, depth, n), palette=look.palette(),
    )  # fmt: skip
    look.chart(figure, "speed-quality")
    extrapolated = any(point["extrapolated"] for point in entry["points"])
    st.caption(
        f"A point is the mean over {len(context.shown.queries)} test images, solved and scored "
        "together. Along a dotted line the same solve scores more candidates, up to all "
        f"{n:,}. "
        + ("" if share else "Fewer candidates are compared among themselves. ")
        + ("The loop is extrapolated from a few single gradients." if extrapolated else "")
    )


def speed_title(lines: list[Line], measure: str, depth: int, n: int) -> str:
    """Return the finding: the cheapest point that is nearly as good as the exact ranking."""
    full = next(line for line in lines if line.kind == "exact").seconds[-1]
    good = [
        (line.seconds[i], line.quality[i], line, line.k[i])
        for line in lines
        for i in range(len(line.k))
        if line.quality[i] >= FEWEST and line.seconds[i] < full
    ]
    what = "a rank correlation" if measure == "spearman" else f"a recall@{depth}"
    if not good:
        return f"Nothing cheaper than the exact ranking reaches {what} of {FEWEST:g}"
    spent, value, line, k = min(good, key=lambda point: point[:2])
    where = f" with k = {k:,}" if k < n else ""
    return (
        f"{line.label}{where} reaches {what} of {value:.2f} in {seconds_of(spent)} "
        f"a test image; the exact ranking takes {seconds_of(full)}"
    )


# --- how sure -------------------------------------------------------------------------------------


def _sure(
    context: Context,
    measured: dict[str, Any],
    method: str,
    speed: pd.DataFrame,
) -> None:
    entry = measured["methods"][method]

    def more() -> None:
        for line in certainty(context.info, measured, entry):
            st.markdown(line)
        frame.table(
            spread(entry, speed, measured["depth"]), "speed-spread",
            "Mean and range over the test images, one row per way and number of candidates",
        )  # fmt: skip

    sure.panel(context, "speed", methods=[method], more=more)


def certainty(info: dict[str, Any], measured: dict[str, Any], entry: dict[str, Any]) -> list[str]:
    """Return what the numbers rest on, a line each: queries, the exact solves, the seconds."""
    queries = info["queries"]
    images = [q for q in queries if q["index"] >= 0]
    wrong = sum(q["label"] != q["predicted"] for q in images)
    groups = len(queries) - len(images)
    exact = entry["ways"]["exact"]
    ended = listed([f"{count} {status}" for status, count in exact["statuses"].items()])
    index = measured["index"]
    residual = exact["max_residual"]
    lines = [
        f"**{len(images)} test images**, {len(images) - wrong} predicted rightly and {wrong} "
        "wrongly"
        + (f", and **{groups} group{'s' if groups > 1 else ''}**" if groups else "")
        + "; the table gives the least and the most of them.",
        f"**Exact** means {exact['solver']} with up to {exact['max_iterations']:,} iterations: "
        f"{ended}"
        + ("." if residual is None else f"; the largest residual is {percent(residual, 2)}.")
        + ("" if exact["trusted"] == len(queries) else " Not all are trusted: raise `iterations`."),
        f"**Seconds** count a test image’s solve, its certificate included, and its scores, the "
        f"search of the candidates included, on {info['threads']} CPU "
        f"thread{'s' if info['threads'] > 1 else ''}, all in one run. Not counted, as it is done "
        f"once: the curvature, the index ({index['kind']}, {index['dim']:,} numbers an image, "
        f"{seconds(index['seconds'])}), the mean gradient "
        f"({seconds(index['mean_gradient_seconds'])})" + _sketches(entry) + ".",
    ]
    for way in entry["ways"].values():
        lines += [
            f"**{plain(way['label'])}**: {plain(note)}."
            for note in way.get("notes", ())
            if not note.startswith(("effective damping", "J = "))
        ]
    return lines


def _sketches(entry: dict[str, Any]) -> str:
    sketches = [way for way in entry["ways"].values() if "build_seconds" in way]
    return "".join(f", the sketch of rank {s['rank']} ({seconds(s['build_seconds'])})"
                   for s in sketches)  # fmt: skip


# --- recall over candidates -----------------------------------------------------------------------


def _recall(measured: dict[str, Any], entry: dict[str, Any], recall: pd.DataFrame) -> None:
    st.subheader("How many candidates are needed?")
    left, middle, right = st.columns(3)
    depths = {str(m): f"top {m:,}" for m in measured["depths"]}
    with left:
        depth = int(one_of("Of the exact ranking", depths, str(depth_shown(measured)), "speed-m"))
    there = set(recall["predictions"])
    split = {key: words for key, words in PREDICTIONS.items() if key in there}
    with middle:
        predictions = one_of("Test images", split, "all", "speed-predictions")
    lissa = {n: w["label"] for n, w in entry["ways"].items()
             if w["kind"] == "lissa" and n in set(recall["way"])}  # fmt: skip
    way = "exact"
    if lissa:
        forget_if_gone("speed-way", list(lissa))
        way = right.selectbox(
            "Solved by", list(lissa), format_func=lambda name: lissa[name], key="speed-way",
            persist_state="session",
        )  # fmt: skip
    rows = recall[
        (recall["way"] == way) & (recall["m"] == depth) & (recall["predictions"] == predictions)
    ]
    n = measured["index"]["n"]
    figure = recall_curves(
        rows, n, found=lissa.get(way), title=recall_title(rows, depth, n), palette=look.palette()
    )
    look.chart(figure, "recall")
    count = int(rows["queries"].iloc[0])
    st.caption(
        f"The share of the exact top {depth:,} under four criteria, the mean over {count} test "
        f"images. Kept: it is among the k nearest by the features of the layer "
        f"{plain(measured['index']['layer'] or 'before the last (penultimate)')}, so that exact "
        "scores find it. Found: a cheaper solve’s own scores put it in the top as well."
    )


def recall_title(rows: pd.DataFrame, depth: int, n: int) -> str:
    """Return the finding: how many candidates keep most of the largest, and of the smallest."""
    columns = [rows[name].tolist() for name in ("criterion", "k", "kept")]
    kept = {(criterion, k): share for criterion, k, share in zip(*columns, strict=True)}
    largest = {k: share for (criterion, k), share in kept.items() if criterion == "largest"}
    few = [k for k in largest if k < n] or [n]
    k = min((k for k in few if largest[k] >= FEWEST), default=max(few))
    return (
        f"{k:,} candidates keep {percent(largest[k], 0)} of the top {depth:,} by |influence|, "
        f"{percent(kept['helpful', k], 0)} of the most helpful, "
        f"{percent(kept['harmful', k], 0)} of the most harmful"
    )


# --- s_test ---------------------------------------------------------------------------------------


def _solves(entry: dict[str, Any], speed: pd.DataFrame, n: int) -> None:
    table = solves(entry, speed, n)
    if table.empty:
        return
    st.subheader("How near does LiSSA come?")
    frame.table(table, "speed-solves", "Solves, one row per configuration")
    st.caption(
        "J steps of batches of B training images, the mean of T chains. Damp × scale is the "
        "damping LiSSA adds to the study’s own: the larger it is, the nearer its ranking to that "
        "of the gradient alone, last row. Rank correlation with the exact solve over all training "
        "images: mean (least to most) over the test images; cosine of the two solves."
    )

"""When each sentence of texts/doubts.md is true of a record, and what fills its gaps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dashboard.charts.style import label, listed
from dashboard.components.measures import percent, significant, wilson
from dashboard.components.messages import plain
from gifcore.held_against import Truth, truth
from gifcore.outcome import Figure, outcome
from gifcore.record import NATURAL, SEARCHED
from gifcore.solve_words import ALIKE, SOLVED, STABLE, End, ended, iterates_not
from gifcore.study import USES_SELECTION

ENOUGH = 0.5  # of the training images in the curvature: below it a draw can matter
SURE = 0.99  # probability of its class from which on an image hardly depends on anything
FAR = 3.0  # times the natural step
ROW = 50  # images of a class: a row of fewer is coarse
WIDE = 0.03  # a Wilson interval that is wider than this is worth a sentence
TOP = 50  # of gifcore.scoring
SAME = "same_predictions"
CLOSED = "closed form"

Values = Mapping[str, object]  # what a sentence's gaps are filled with


@dataclass(frozen=True)
class Facts:
    """What a record says of one figure.

    Args:
        info: record.json.
        methods: that the figure shows.
        certificates: of their updates, or of their rankings of the query, by method.
        query: the test image or group that is explained: `p_label`, `group`.
        others: how many other selectors this study was computed with.
        smallest: the class with the fewest test images, and how many.
        right: share of the training labels that the model predicts.
        ends: methods whose chosen step is the first or last that was tried: {"gif": "longest"}.
    """

    info: dict[str, Any]
    methods: list[str]
    certificates: dict[str, dict[str, Any]] = field(default_factory=dict)
    query: dict[str, Any] | None = None
    others: int = 0
    smallest: tuple[str, int] | None = None
    right: float | None = None
    ends: dict[str, str] = field(default_factory=dict)

    @property
    def top(self) -> int:
        return min(TOP, self.info["data"]["sizes"]["train"])

    @property
    def truth(self) -> Truth | None:
        return truth(self.info)

    def solved(self) -> dict[str, dict[str, Any]]:
        """The certificates of systems that were solved; gradients and closed forms have none."""
        return {m: c for m, c in self.certificates.items() if ended(c) != "none"}

    def longest(self) -> dict[str, float]:
        """The scale of each method's searched step."""
        steps = {m: self.info["methods"][m].get("steps") or {} for m in self.methods}
        return {m: s[SEARCHED]["scale"] for m, s in steps.items() if SEARCHED in s}


def _names(methods: Mapping[str, object] | list[str]) -> str:
    return listed([label(m) for m in methods])


# --- the solves -----------------------------------------------------------------------------------


def _left(facts: Facts, end: End) -> Values | None:
    """Return of whom a solve ended so, and how much of the residual is left at most."""
    found = facts.solved()
    left = {m: c.get(c["judged_by"]) or 0.0 for m, c in found.items() if ended(c) == end}
    if not left:
        return None
    most = max(left.values())
    return {"names": _names(left), "left": percent(most) if math.isfinite(most) else "all"}


def _unstable(facts: Facts) -> Values | None:
    shares = {
        m: c["rank_stability"]
        for m, c in facts.solved().items()
        if c.get("rank_stability") is not None and c["rank_stability"] < STABLE
    }
    if not shares:
        return None
    there = listed([str(round(share * facts.top)) for share in shares.values()])
    return {"names": _names(shares), "there": there, "top": facts.top}


def _unknown_stability(facts: Facts) -> Values | None:
    found = {m: c for m, c in facts.solved().items() if not iterates_not(c)}
    unknown = [m for m, c in found.items() if c.get("rank_stability") is None]
    return {"names": _names(unknown)} if unknown else None


def _negative(facts: Facts) -> Values | None:
    met = [m for m, c in facts.certificates.items() if c.get("negative_curvature")]
    return {"names": _names(met)} if met else None


def _few_samples(facts: Facts) -> Values | None:
    n = facts.info["data"]["sizes"]["train"]
    counts = [c["samples"] for c in facts.certificates.values() if c.get("samples")]
    spread = any(facts.info["methods"][m].get("spread") for m in facts.methods)
    if not counts or min(counts) >= ENOUGH * n or spread:
        return None
    return {"samples": f"{min(counts):,}", "n": f"{n:,}"}


def _draws(facts: Facts) -> Values | None:
    spreads = {m: facts.info["methods"][m].get("spread") or {} for m in facts.methods}
    cosines = {m: s["mean_cosine"] for m, s in spreads.items() if s.get("mean_cosine") is not None}
    low = {m: cosine for m, cosine in cosines.items() if cosine < ALIKE}
    return {"names": _names(low), "cosine": f"{min(low.values()):.2f}"} if low else None


def _damping(facts: Facts) -> Values | None:
    added = {
        m: max(float(c.get("damping") or 0), float(c.get("solver_damping") or 0))
        for m, c in facts.certificates.items()
    }
    damped = {m: value for m, value in added.items() if value > 0}
    if not damped:
        return None
    most = max(damped, key=lambda m: damped[m])
    largest = facts.certificates[most].get("lambda_max")
    met = "not known" if largest is None else significant(largest)
    return {"names": label(most), "damping": significant(damped[most]), "largest": met}


def _closed(facts: Facts) -> Values | None:
    closed = [m for m, c in facts.certificates.items() if str(c["solver"]).endswith(CLOSED)]
    return {"names": _names(closed)} if closed else None


def _gradient(facts: Facts) -> Values | None:
    plain_gradient = [m for m, c in facts.certificates.items() if c["solver"] == "none"]
    return {"names": _names(plain_gradient)} if plain_gradient else None


# --- the test image -------------------------------------------------------------------------------


def _certain(facts: Facts) -> Values | None:
    query = facts.query or {}
    if query.get("group") or (query.get("p_label") or 0.0) < SURE:
        return None
    return {"p": f"{query['p_label']:.3f}"}


def _group(facts: Facts) -> Values | None:
    group = (facts.query or {}).get("group")
    return {"size": f"{group['size']:,}"} if group else None


def _always(facts: Facts) -> Values:  # noqa: ARG001 - it is true of every record
    return {}


def _preview(facts: Facts) -> Values | None:
    recalls = (facts.info.get("preview") or {}).get("recall") or {}
    known = {m: recalls[m] for m in facts.methods if m in recalls}
    if not known:
        return None
    worst = min(known, key=lambda m: known[m]["largest"]["mean"])
    largest = known[worst]["largest"]
    return {
        "depth": known[worst]["depth"],
        "share": percent(largest["mean"], 0),
        "least": percent(largest["min"], 0),
        "names": label(worst),
    }


def _preview_few(facts: Facts) -> Values | None:
    recalls = (facts.info.get("preview") or {}).get("recall") or {}
    counts = [recalls[m]["queries"] for m in facts.methods if m in recalls]
    return {"queries": min(counts)} if counts else None


# --- the parameters -------------------------------------------------------------------------------


def _selector(facts: Facts) -> Values | None:
    chosen = facts.info["selection"]
    if chosen["k"] >= chosen["p"] or not _selecting(facts):
        return None
    others = ""
    if facts.others:
        s = "s" if facts.others > 1 else ""
        others = f": {facts.others} other{s} can be picked in the sidebar"
    return {"k": f"{chosen['k']:,}", "p": f"{chosen['p']:,}", "others": others}


def _selecting(facts: Facts) -> list[str]:
    return [m for m in facts.methods if USES_SELECTION.get(m, True)]


def _natural(facts: Facts) -> Values | None:
    far = {m: scale for m, scale in facts.longest().items() if abs(scale - 1) > 1e-9}
    if not far:
        return None
    return {
        "times": listed([significant(scale) for scale in far.values()]),
        "names": _names(far),
    }


# --- the edits ------------------------------------------------------------------------------------


def _metrics(facts: Facts) -> list[tuple[str, dict[str, Any]]]:
    """The test metrics after each method's longest step."""
    found = []
    for method in facts.methods:
        steps = facts.info["methods"][method].get("steps") or {}
        step = SEARCHED if SEARCHED in steps else NATURAL
        if step in steps:
            found.append((method, steps[step]["test"]))
    return found


def _own(facts: Facts) -> tuple[Figure, int]:
    figure = outcome(facts.info["change"]).own
    return figure, figure.count(facts.info["before"]["test"])


def _small(facts: Facts) -> Values | None:
    figure, n = _own(facts)
    intervals = []
    for method, metrics in _metrics(facts):
        share = metrics.get(figure.key)
        if share is None or n == 0:
            continue
        low, high = wilson(round(share * n), n)
        intervals.append((high - low, method, share, low, high))
    if not intervals or max(intervals)[0] < WIDE:
        return None
    _, method, share, low, high = max(intervals)
    return {
        "n": f"{n:,}",
        "share": f"{percent(share)} ({label(method)})",
        "what": plain(figure.images),
        "low": percent(low),
        "high": percent(high),
    }


def _no_images(facts: Facts) -> Values | None:
    figure, n = _own(facts)
    return {"what": plain(figure.images)} if n == 0 else None


def _searched(facts: Facts) -> Values | None:
    n = facts.info["data"]["sizes"].get("validation")
    return {"n": f"{n:,}"} if n and facts.longest() else None


def _far(facts: Facts) -> Values | None:
    far = {m: scale for m, scale in facts.longest().items() if scale >= FAR}
    if not far:
        return None
    return {"names": _names(far), "times": listed([significant(s) for s in far.values()])}


def _edge(facts: Facts) -> Values | None:
    ends = {m: facts.ends[m] for m in facts.methods if m in facts.ends}
    if not ends:
        return None
    return {"names": _names(ends), "end": listed(sorted(set(ends.values())))}


def _unchecked(facts: Facts) -> Values | None:
    return {} if facts.truth is None and _metrics(facts) else None


def _one_retrained(facts: Facts) -> Values | None:
    found = facts.truth
    return {} if found is not None and len(found.models) == 1 else None


def _retrained_apart(facts: Facts) -> Values | None:
    between = None if facts.truth is None else facts.truth.between(SAME)
    if between is None:
        return None
    return {"same": percent(between.mean), "flips": percent(1 - between.mean)}


def _seeds(facts: Facts) -> Values | None:
    found = facts.truth
    many = found is not None and len(found.models) > 1
    return {"count": len(found.models)} if found is not None and many else None


def _row(facts: Facts) -> Values | None:
    if facts.smallest is None or not 0 < facts.smallest[1] <= ROW:
        return None
    name, n = facts.smallest
    return {"name": plain(name), "n": n, "points": f"{100 / n:.1f}"}


# --- wrong labels, speed --------------------------------------------------------------------------


def _memorised(facts: Facts) -> Values | None:
    return None if facts.right is None else {"right": percent(facts.right)}


def _partial_view(facts: Facts) -> Values | None:
    chosen = facts.info["selection"]
    if chosen["k"] >= chosen["p"] or not _selecting(facts):
        return None
    return {"share": f"{100 * chosen['ratio']:g} %"}


def _few_queries(facts: Facts) -> Values | None:
    images = [q for q in facts.info["queries"] if q["index"] >= 0]
    if not images:
        return None
    wrong = sum(q["label"] != q["predicted"] for q in images)
    return {"queries": len(images), "wrong": wrong}


def _exact_open(facts: Facts) -> Values | None:
    entries = (facts.info.get("fastif") or {}).get("methods", {})
    for method in facts.methods:
        statuses = entries.get(method, {}).get("ways", {}).get("exact", {}).get("statuses", {})
        open_ = sum(n for status, n in statuses.items() if status.replace("_", " ") not in SOLVED)
        if open_:
            return {"open": open_, "queries": sum(statuses.values())}
    return None


def _machine(facts: Facts) -> Values:
    threads = facts.info["threads"]
    return {"threads": f"{threads} CPU thread{'s' if threads > 1 else ''}"}


RULES: dict[str, Callable[[Facts], Values | None]] = {
    "open-ranking": partial(_left, end="stopped"),
    "open-update": partial(_left, end="stopped"),
    "unsolved": partial(_left, end="unsolved"),
    "unstable": _unstable,
    "unknown-stability": _unknown_stability,
    "negative": _negative,
    "few-samples": _few_samples,
    "draws": _draws,
    "damping": _damping,
    "closed": _closed,
    "gradient": _gradient,
    "certain": _certain,
    "group": _group,
    "stationary": _always,
    "one-model": _always,
    "preview": _preview,
    "preview-few": _preview_few,
    "selector": _selector,
    "natural": _natural,
    "layers": _always,
    "clip": _always,
    "symmetry": _always,
    "excite": _always,
    "small": _small,
    "no-images": _no_images,
    "searched": _searched,
    "far": _far,
    "edge": _edge,
    "unchecked": _unchecked,
    "one-retrained": _one_retrained,
    "retrained-apart": _retrained_apart,
    "seeds": _seeds,
    "row": _row,
    "border": _always,
    "flips-retrained": _retrained_apart,
    "same-draw": _always,
    "chance": _always,
    "memorised": _memorised,
    "rare": _always,
    "partial-view": _partial_view,
    "systematic": _always,
    "few-queries": _few_queries,
    "exact-open": _exact_open,
    "machine": _machine,
    "features": _always,
}

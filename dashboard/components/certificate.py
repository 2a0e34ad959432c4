"""What the solver says about a number, in words, as a table, as a curve."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cache
from dashboard.charts.residuals import residuals
from dashboard.charts.style import label
from dashboard.components import look, measures, page
from dashboard.components.messages import coded
from dashboard.state import Context
from dashboard.texts.options import CURVATURES, SAMPLERS
from gifcore.record import curve_query
from gifcore.solve_words import ALIKE, STABLE
from gifcore.study import Study

UPDATE = -1  # the query number of the update's own residual history
TOP = 50  # of gifcore.scoring
ABREAST = 5  # methods in one table
CLOSED = "closed form"  # the end of a solver's name where nothing was solved
_MEANING = (
    "Normal residual: ‖Aᵀr‖ / ‖Aᵀb‖, 0 at the best fit there is; it judges an update, whose "
    "residual cannot reach 0. Residual: ‖Ax − b‖ / ‖b‖, 0 where the system is solved; it judges a "
    "ranking. Both were recomputed at the end."
)


def details(
    context: Context, found: dict[str, dict[str, Any]], key: str, query: int | None
) -> None:
    """Draw tables of the solves, what was set and noted, and how the residuals fell.

    Args:
        found: the certificates, by method.
        query: None for those of updates.
    """
    top = min(TOP, context.info["data"]["sizes"]["train"])
    study = cache.study(context.shown.path)
    st.markdown("**The solves**")
    methods = list(found)
    for first in range(0, len(methods), ABREAST):
        few = {m: found[m] for m in methods[first : first + ABREAST]}
        page.still(
            table(few, study, top),
            f"solves-{key}-{first}",
            "Solver details, one column per method",
        )
    if query is None:
        for line in spreads(context.info["methods"], found):
            st.caption(line)
    for line in remarks(found):
        st.caption(line)
    st.caption(_MEANING)
    history(context, found, key, query)


def sentence(method: str, certificate: dict[str, Any], top: int = TOP) -> str:
    """Return one line of plain words: how the solve ended, how far off, and what to do.

    Args:
        top: how many training samples the rank stability is about.
    """
    if str(certificate["solver"]).endswith(CLOSED):
        return (
            f"**{label(method)}: closed form.** Its inverse was written down and nothing was "
            "solved; how far its curvature is from the true one, no residual says."
        )
    judged = certificate["judged_by"]
    left = certificate.get(judged)
    words = f"**{label(method)}: {str(certificate['status']).replace('_', ' ')}.** "
    if left is not None and _solved(certificate):
        words += f"{measures.percent(left)} of the {judged.replace('_', ' ')} is left. "
    advice = certificate["advice"].rstrip(".")
    words += advice[:1].upper() + advice[1:] + ("." if advice else "")
    if certificate.get("negative_curvature"):
        words += " Negative curvature was met: the loss is not at a minimum along some directions."
    if certificate.get("drift"):
        words += " The solver's own residual estimate drifted; the one given is recomputed."
    return words + _stability(certificate.get("rank_stability"), top)


def _stability(share: float | None, top: int) -> str:
    if share is None:
        return ""
    words = f" {round(share * top)} of the top {top} were already there at half the budget"
    return words + (": the ranking still moves, raise `iterations`." if share < STABLE else ".")


def spreads(entries: dict[str, dict[str, Any]], methods: Iterable[str]) -> list[str]:
    """Return how far each update depends on the draw of the curvature samples, a line each."""
    lines = []
    for method in methods:
        spread = entries[method].get("spread")
        if not spread:
            continue
        draws = f"{label(method)}: {spread['draws']} draws of the curvature samples give updates"
        if spread["mean_cosine"] is None:
            lines.append(f"{draws} of which one is zero.")
            continue
        words = f"with a mean cosine of {spread['mean_cosine']:.3f}"
        norms = f"and norms that vary by ± {measures.percent(spread['norm_deviation'])}"
        advice = (
            ""
            if spread["mean_cosine"] >= ALIKE
            else ": the direction hangs on the draw, raise the number of `samples`"
        )
        lines.append(f"{draws} {words} {norms}{advice}.")
    return lines


def remarks(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return what was set automatically and why, and the solvers' notes, a line each."""
    lines = []
    for method, certificate in found.items():
        for reason in certificate.get("auto") or ():
            lines.append(f"{label(method)}, set automatically: {coded(reason)}.")
        for note in certificate.get("notes") or ():
            lines.append(f"{label(method)}, note: {coded(note)}.")
    return lines


def _solved(certificate: dict[str, Any]) -> bool:
    """Was there a system? A gradient step and a closed form have none, and so no residual."""
    return certificate["solver"] != "none" and certificate["status"] != "no system"


def table(
    found: dict[str, dict[str, Any]], study: Study | None = None, top: int = TOP
) -> pd.DataFrame:
    """Return the details as text, one column per method."""
    return pd.DataFrame({label(m): _details(c, study, top) for m, c in found.items()})


def _details(c: dict[str, Any], study: Study | None, top: int) -> dict[str, str]:
    solved, stable = _solved(c), c.get("rank_stability")
    return {
        "solver": str(c["solver"]),
        "judged by": str(c["judged_by"]).replace("_", " ") if solved else "n/a",
        "normal residual": _number(c.get("normal_residual") if solved else None),
        "residual": _number(c.get("residual") if solved else None),
        "iterations": f"{c['iterations']:,}",
        "Hessian-vector products": f"{c['hvps']:,} (+ {c['check_hvps']} to check)",
        "top of the ranking there at half the budget": "n/a"
        if stable is None
        else f"{round(stable * top)} of {top}",
        "curvature": _curvature(c, study),
        "damping": _number(c.get("damping")),
        "effective damping (the solver's own)": _number(c.get("solver_damping")),
        "ridge": _number(c.get("ridge")),
        "preconditioner": _preconditioner(c.get("preconditioner")),
        "largest curvature met": _number(c.get("lambda_max")),
        "negative curvature": ("yes" if c.get("negative_curvature") else "not met")
        if solved
        else "n/a",
        "time": measures.seconds(c["seconds"]) if c.get("seconds") is not None else "n/a",
    }


def _curvature(c: dict[str, Any], study: Study | None) -> str:
    """Return which curvature, on how many samples of which set, drawn how."""
    closed = str(c["solver"]).endswith(CLOSED)
    if not (_solved(c) or closed):
        return "none"
    samples, drawn = f"{c.get('samples', 'n/a')} samples", ""
    kind = str(c["solver"]).split()[0] if closed else ""
    if study is not None:
        kind = kind or study.curvature.kind
        drawn = f", {SAMPLERS[study.curvature.sampler][0].lower()}"
    name = f"{CURVATURES[kind][0]}, " if kind in CURVATURES else ""
    return f"{name}{samples}{drawn}, {c.get('curvature_of', 'n/a')} set"


def _number(value: float | None) -> str:
    return "n/a" if value is None else measures.significant(value)


def _preconditioner(value: dict[str, Any] | None) -> str:
    if not value:
        return "none"
    return f"{value['kind']}, {value['probes']} probes ({value['products']} products)"


def history(
    context: Context, found: dict[str, dict[str, Any]], key: str, query: int | None
) -> None:
    """Draw how the residual of each method fell, where that was kept."""
    histories = {}
    number = UPDATE if query is None else curve_query(query)
    for method in found:
        curves = _curves(context, method, query)
        rows = curves[(curves["curve"] == "residual") & (curves["query"] == number)]
        if len(rows) > 1:
            histories[method] = rows.sort_values("x")
    if not histories:
        st.caption("No residual history was kept.")
        return
    title = "Residual left: " + ", ".join(
        f"{label(m)} {_number(found[m].get('residual'))}" for m in histories
    )
    look.chart(residuals(histories, title, look.palette()), f"residuals-{key}")
    st.caption("The solver’s running estimate of ‖Ax − b‖ / ‖b‖; above it, recomputed at the end.")


def _curves(context: Context, method: str, query: int | None) -> pd.DataFrame:
    record = context.shown
    if query is not None and query not in [q["index"] for q in record.queries]:
        record = cache.additions(record).get(query, record)
    return cache.curves(record.path, method)

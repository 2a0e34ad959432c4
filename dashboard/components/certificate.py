"""The panel "How sure is this?": what the solver says about the numbers above it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cache
from dashboard.charts.residuals import residuals
from dashboard.charts.style import label
from dashboard.components import look, measures
from dashboard.state import Context

UPDATE = -1  # the query number of the update's own residual history
_MEANING = (
    "Normal residual: ‖Aᵀr‖ / ‖Aᵀb‖, 0 at the best fit there is; it judges an update, whose "
    "residual cannot reach 0. Residual: ‖Ax − b‖ / ‖b‖, 0 where the system is solved; it judges a "
    "ranking. Both were recomputed at the end."
)


def panel(context: Context, key: str, *, query: int | None = None) -> None:
    """Draw the panel for the update (no query) or for the ranking of a test image."""
    found = _certificates(context, query)
    with st.expander(
        "How sure is this?",
        key=f"sure-{key}",
        icon=":material/verified:",
        on_change="rerun",
    ) as box:
        if not box.open:
            return
        if not found:
            st.write("This record holds no certificate for what is shown.")
            return
        for method, certificate in found.items():
            st.markdown(sentence(method, certificate))
        st.table(table(found), border="horizontal", alt="Solver details, one column per method")
        st.caption(_MEANING)
        _history(context, found, key, UPDATE if query is None else query)


def _certificates(context: Context, query: int | None) -> dict[str, dict[str, Any]]:
    entries = context.info["methods"]
    if query is None:
        updates = {m: entries[m].get("certificate") for m in context.methods}
        return {m: found for m, found in updates.items() if found}
    of_query = next((q for q in cache.queries(context.shown) if q["index"] == query), None)
    certificates = {} if of_query is None else of_query["certificates"]
    return {m: certificates[m] for m in context.methods if m in certificates}


def sentence(method: str, certificate: dict[str, Any]) -> str:
    """Return one line of plain words: how the solve ended, how far off, and what to do."""
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
    return words


def _solved(certificate: dict[str, Any]) -> bool:
    """Was there a system? A gradient step has none, and so no residual."""
    return certificate["solver"] != "none"


def table(found: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return the details as text, one column per method."""
    return pd.DataFrame({label(m): _details(c) for m, c in found.items()})


def _details(c: dict[str, Any]) -> dict[str, str]:
    solved = _solved(c)
    return {
        "solver": str(c["solver"]),
        "judged by": str(c["judged_by"]).replace("_", " ") if solved else "n/a",
        "normal residual": _number(c.get("normal_residual") if solved else None),
        "residual": _number(c.get("residual") if solved else None),
        "iterations": f"{c['iterations']:,}",
        "Hessian-vector products": f"{c['hvps']:,} (+ {c['check_hvps']} to check)",
        "curvature": f"{c.get('samples', 'n/a')} samples, {c.get('curvature_of', 'n/a')} set"
        if solved
        else "none",
        "damping": _number(c.get("damping")),
        "ridge": _number(c.get("ridge")),
        "preconditioner": _preconditioner(c.get("preconditioner")),
        "largest curvature met": _number(c.get("lambda_max")),
        "negative curvature": ("yes" if c.get("negative_curvature") else "not met")
        if solved
        else "n/a",
        "time": measures.seconds(c["seconds"]) if c.get("seconds") is not None else "n/a",
    }


def _number(value: float | None) -> str:
    return "n/a" if value is None else measures.significant(value)


def _preconditioner(value: dict[str, Any] | None) -> str:
    if not value:
        return "none"
    return f"{value['kind']}, {value['probes']} probes ({value['products']} products)"


def _history(context: Context, found: dict[str, dict[str, Any]], key: str, query: int) -> None:
    histories = {}
    for method in found:
        curves = _curves(context, method, query)
        rows = curves[(curves["curve"] == "residual") & (curves["query"] == query)]
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


def _curves(context: Context, method: str, query: int) -> pd.DataFrame:
    record = context.shown
    if query not in (UPDATE, *(q["index"] for q in record.queries)):
        record = cache.additions(record).get(query, record)
    return cache.curves(record.path, method)

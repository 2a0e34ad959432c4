"""What one training image does to every ranked test image, by each method that is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import cache
from dashboard.cached_rankings import Rankings, rankings
from dashboard.charts.on_queries import on_queries
from dashboard.charts.style import label, listed
from dashboard.components import look, measures
from dashboard.components import page as frame
from dashboard.components.measures import Explained
from dashboard.components.sidebar import query_label
from dashboard.neighbours import standing_words
from dashboard.state import Context


def ranked_by(context: Context) -> dict[str, Rankings]:
    """Return the rankings of the methods shown that rank any test image."""
    found = {m: rankings(context.shown.path, m) for m in context.methods}
    return {m: one for m, one in found.items() if one.queries}


def draw(context: Context, index: int) -> None:
    """Draw a bar a test image and method, and where the image stands among all."""
    known = ranked_by(context)
    if not known:
        st.caption(
            f"{listed([label(m) for m in context.methods])} ranked no test image here: pick "
            "another method in the sidebar, or rank one."
        )
        return
    about = measures.explained(context.info)
    classes = context.info["data"]["classes"]
    names = {q["index"]: query_label(q, classes) for q in cache.queries(context.shown)}
    table, values, words = influences(known, names, index)
    exp = measures.exponent(np.concatenate(list(values.values())))
    unit = measures.power(exp, about.unit)
    scaled = {m: v / 10.0**exp for m, v in values.items()}
    look.chart(
        on_queries(scaled, table, words, unit, finding(known, names, index), look.palette()),
        f"influence-{index}",
    )
    st.caption(
        f"Helpful (+): without this training image the {about.noun} of that test image is "
        f"predicted to {_change(about, better=False)}; harmful (−): to "
        f"{_change(about, better=True)}."
        + (f" The {len(table):,} ranked test images are in the table." if len(table) > 16 else "")
    )
    with st.expander("As a table", icon=":material/table:"):
        frame.table(
            rows(table, values, words, exp, about.unit),
            f"influence-of-{index}",
            f"Influence of training image {index} on every ranked test image",
        )


def _change(about: Explained, *, better: bool) -> str:
    verb = about.better if better else about.worse
    return {"raise": "rise", "lower": "fall"}[verb]


def influences(
    known: Mapping[str, Rankings], names: Mapping[int, str], index: int
) -> tuple[list[str], dict[str, np.ndarray], dict[str, list[str]]]:
    """Return the names of all test images ranked by any, its influences and places by method.

    NaN and "not ranked" where a method did not rank a test image.
    """
    queries = [q for q in names if any(q in one.queries for one in known.values())]
    values = {m: np.full(len(queries), np.nan) for m in known}
    words = {m: ["not ranked"] * len(queries) for m in known}
    for method, one in known.items():
        at = {q: row for row, q in enumerate(one.queries)}
        for place, query in enumerate(queries):
            if query in at:
                row = one.values[at[query]]
                values[method][place] = row[index]
                words[method][place] = standing_words(row, index)
    return [names[q] for q in queries], values, words


def finding(known: Mapping[str, Rankings], names: Mapping[int, str], index: int) -> str:
    """Return where its influence is largest: "Strongest on #17 · Bag: 12th most helpful …"."""
    largest = {method: int(np.abs(one.values[:, index]).argmax()) for method, one in known.items()}
    method = max(largest, key=lambda m: abs(known[m].values[largest[m], index]))
    row = known[method].values[largest[method]]
    if row[index] == 0:
        return "It influences none of the ranked test images"
    name = names[known[method].queries[largest[method]]]
    return f"Strongest on {name}: {standing_words(row, index)}, by {label(method)}"


def rows(
    names: Sequence[str],
    values: Mapping[str, np.ndarray],
    words: Mapping[str, Sequence[str]],
    exp: int,
    unit: str,
) -> pd.DataFrame:
    """Return a row a test image: influence with its sign, and place, of each method."""
    columns: dict[str, Sequence[str]] = {"test image": names}
    for method, all_of in values.items():
        columns[f"{label(method)} influence ({measures.power(exp, unit)})"] = [
            "" if np.isnan(v) else measures.signed(float(v), exp) for v in all_of
        ]
        columns[f"{label(method)} place"] = words[method]
    return pd.DataFrame(columns)


def on_itself(own: Sequence[tuple[str, float]]) -> str:
    """Return its influence on its own loss in words, by each method that has it."""
    said = [f"{measures.signed(value)} by {label(method)}" for method, value in own]
    return (
        f"Influence on itself (nats): {listed(said)}. Without it, its own loss is predicted to "
        "rise by as much; the larger, the more the model had to learn it by heart."
    )

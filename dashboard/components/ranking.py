"""The whole ranking of one test image: a page of rows with images, all rows without, export."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import state
from dashboard.charts.style import label
from dashboard.components import gallery, measures
from dashboard.components import page as frame
from dashboard.components.controls import forget_if_gone, one_of
from dashboard.components.gallery import Pictures
from dashboard.state import Context

PER_PAGE = (25, 100, 500)
SIGNS = {"all": "All", "helpful": "+ helpful", "harmful": "− harmful", "split": "Signs differ"}


def section(
    context: Context,
    scores: dict[str, np.ndarray],
    source: Pictures,
    exp: int,
    *,
    preview: bool = False,
) -> None:
    """Draw filters, the paged table with images, the full table without, and the downloads.

    With `preview` what is saved says that it is approximate.
    """
    about = measures.explained(context.info)
    st.subheader("The whole ranking" + (" (approximate)" if preview else ""))
    table = build(scores, source)
    by, shown = _filter(table, list(scores), source)
    if shown.empty:
        st.info("No training image fits this filter. Take a class or a sign out of it.")
    else:
        with_images = one_of(
            "Show",
            {
                "images": "Page by page, with images",
                "plain": f"All {len(shown):,} rows, without",
            },
            "images",
            "ranking-show",
        )
        if with_images == "images":
            _paged(shown, by, source, exp, about.unit)
        else:
            _plain(shown, exp, about.unit)
    st.caption(
        f"Positive = helpful: removing this training image is predicted to {about.worse} the test "
        f"image’s {about.noun}. Scores in {measures.power(exp, about.unit)}; rank 0 is the most "
        "helpful. Page by page, a row chosen at its left edge opens the card of its image below."
    )
    kind = "preview" if preview else "ranking"
    stem = f"{kind}-test-{context.query}-{context.selector}-{context.ratio:g}"
    what = "The approximate ranking" if preview else "The full ranking"
    frame.downloads(stem, lambda: table, what)


def build(scores: dict[str, np.ndarray], source: Pictures) -> pd.DataFrame:
    """Return train_index, label and, per method, influence and rank (0 = most helpful)."""
    n = len(next(iter(scores.values())))
    table = pd.DataFrame({"train_index": np.arange(n)})
    labels = source.labels("train")
    if labels is not None:
        table["label"] = pd.Categorical.from_codes(labels, pd.Index(source.classes))
    for method, values in scores.items():
        rank = np.empty(n, dtype=int)
        rank[measures.order(values, "helpful")] = np.arange(n)
        table[f"{method}_influence"] = values
        table[f"{method}_rank"] = rank
    return table


def _filter(table: pd.DataFrame, methods: list[str], source: Pictures) -> tuple[str, pd.DataFrame]:
    left, middle, right = st.columns([3, 7, 5], vertical_alignment="bottom")
    forget_if_gone("ranking-by", methods)
    by = left.selectbox(
        "Ranked by", methods, index=len(methods) - 1, format_func=label, key="ranking-by"
    )
    signs = [s for s in SIGNS if s != "split" or len(methods) > 1]
    with middle:
        sign = one_of("Sign", {s: SIGNS[s] for s in signs}, "all", "ranking-sign")
    classes = []
    if "label" in table:
        classes = right.multiselect(
            "Classes", source.classes, key="ranking-classes", placeholder="all"
        )
    return by, select(table, by, sign, classes)


def select(table: pd.DataFrame, by: str, sign: str, classes: list[str]) -> pd.DataFrame:
    """Return the rows of these classes and this sign of method `by`, in its order.

    Harmful ones come most harmful first. Sign "split": the methods give different signs.
    """
    if classes:
        table = table[table["label"].isin(classes)]
    column = f"{by}_influence"
    if sign == "helpful":
        table = table[table[column] > 0]
    elif sign == "harmful":
        table = table[table[column] < 0]
    elif sign == "split":
        signs = np.sign(table.filter(like="_influence").to_numpy())
        table = table[(signs != signs[:, :1]).any(axis=1)]
    return table.sort_values(f"{by}_rank", ascending=sign != "harmful")


def scaled(table: pd.DataFrame, exp: int, unit: str = "nats") -> pd.DataFrame:
    """Return the table with scores divided by the one power of ten that its header names."""
    renamed = {}
    table = table.copy()
    for column in table.columns:
        method, _, what = column.rpartition("_")
        if what == "influence":
            table[column] = table[column] / 10.0**exp
            renamed[column] = f"{label(method)} influence ({measures.power(exp, unit)})"
        elif what == "rank":
            renamed[column] = f"{label(method)} rank"
    return table.rename(columns={"train_index": "number", "label": "class"} | renamed)


def _formats(table: pd.DataFrame) -> dict[str, Any]:
    return {
        name: st.column_config.NumberColumn(format="%+.3g")
        for name in table.columns
        if "influence" in name
    }


def _paged(shown: pd.DataFrame, by: str, source: Pictures, exp: int, unit: str) -> None:
    slot = st.container()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        size = st.selectbox("Rows on a page", PER_PAGE, key="ranking-size", width=140)
        pages = -(-len(shown) // size)
        number = st.pagination(pages, key=f"ranking-page-{by}-{pages}") if pages > 1 else 1
    part = shown.iloc[(number - 1) * size : number * size]
    table = scaled(part, exp, unit)
    table.insert(
        0, "image", [gallery.data_uri(source.png("train", int(i), 56)) for i in part["train_index"]]
    )
    # another key for other rows: what was chosen among them is not chosen here
    key = f"ranking-images-{by}-{len(shown)}-{part['train_index'].iloc[0]}"
    slot.dataframe(
        table,
        width="stretch",
        height=460,
        hide_index=True,
        row_height=60,
        column_config={"image": st.column_config.ImageColumn("image", width="small")}
        | _formats(table),
        key=key,
        on_select=lambda: _choose(key, part),
        selection_mode="single-row",
        alt=f"Ranking by {label(by)}, page {number} of {pages}",
    )


def _choose(key: str, part: pd.DataFrame) -> None:
    index = chosen(st.session_state[key]["selection"]["rows"], part)
    if index is not None:
        state.show(sample=index)


def chosen(rows: list[int], part: pd.DataFrame) -> int | None:
    """Return the training image of the row of a page that was chosen, None where none is."""
    return int(part["train_index"].iloc[rows[0]]) if rows and rows[0] < len(part) else None


def _plain(shown: pd.DataFrame, exp: int, unit: str) -> None:
    table = scaled(shown, exp, unit)
    st.dataframe(
        table,
        width="stretch",
        height=460,
        hide_index=True,
        column_config=_formats(table),
        key="ranking-plain",
        alt="Full ranking",
    )

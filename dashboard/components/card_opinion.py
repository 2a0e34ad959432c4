"""What the model says of one training image, before the edit and after that of each method."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import cache
from dashboard.charts.style import label
from dashboard.components import page
from dashboard.components.gallery import Pictures
from dashboard.components.measures import signed, significant
from dashboard.components.messages import plain
from dashboard.state import Context
from gifcore.record import SEARCHED

COLUMNS = ("says", "p of its label", "loss (nats)", "change")


def draw(context: Context, source: Pictures, index: int) -> None:
    """Draw a row a model: what it says, the probability of the label, and the loss."""
    table = opinions(context, source, index)
    if table is None:
        st.caption(
            "This record was made before the model’s opinion of training images was kept; run its "
            "study again for it."
        )
        return
    page.still(table, f"opinion-{index}", f"What each model says of training image {index}")
    edits = len(table) > 1
    st.caption(
        "p: the probability the model gives to its label; loss: −ln p."
        + (
            " After each edit at its searched step; a change above 0 means that the edit made the "
            "model worse on this image."
            if edits
            else " No edit was made in this study."
        )
    )


def opinions(context: Context, source: Pictures, index: int) -> pd.DataFrame | None:
    """Return the words of the table, a row a model; None where the record does not say."""
    path = context.shown.path
    before = cache.train(path)
    if before is None:
        return None
    labels = source.labels("train")
    names = {"": "Before"} | {m: f"After {label(m)}" for m in context.methods}
    rows, first = {}, float(before["loss"].to_numpy()[index])
    for method, name in names.items():
        table = cache.train(path, method, SEARCHED) if method else before
        if table is None:
            continue
        predicted = int(table["predicted"].to_numpy()[index])
        loss = float(table["loss"].to_numpy()[index])
        right = None if labels is None else predicted == int(labels[index])
        rows[name] = (
            {None: "", True: "✓ ", False: "✗ "}[right] + plain(source.classes[predicted]),
            f"{float(table['p_label'].to_numpy()[index]):.3f}",
            significant(loss),
            signed(loss - first) if method else "",
        )
    found = pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS))
    return found if len(found) > 1 else found.drop(columns="change")

"""What was understood of a model and data of one's own, drawn: numbers, pictures, class balance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import cache
from dashboard.components import messages, page
from dashboard.components.measures import percent

PICTURES = 12
SIDE = 72


def data(found: dict[str, Any]) -> None:
    """Draw the data: sizes, what to beware of, one picture of each class, the class balance."""
    sizes = found["sizes"]
    with _figures():
        _figure("Training samples", f"{sizes['train']:,}")
        _figure("Validation", f"{sizes['validation']:,}")
        _figure("Test", f"{sizes['test']:,}")
        _figure("One input", " x ".join(map(str, found["shape"])), SHAPE)
        _figure("Classes", f"{len(found['classes']):,}")
    low, high = found["range"]
    kind = "bytes" if found["dtype"] == "uint8" else "numbers"
    st.caption(messages.plain(f"{found['note']} Inputs are {kind} from {low:g} to {high:g}."))
    warnings(found["warnings"])
    if not found["warnings"]:
        st.caption(":material/check: " + _duplicates(found))
    pictures(found)
    with st.expander("Class balance and duplicates"):
        table = balance(found, None)
        page.table(table, "own-balance", "Samples of each class and split")
        st.caption(_duplicates(found))


SHAPE = "Channels x height x width; a table has 1 x 1 x its columns."


def warnings(said: list[str]) -> None:
    """Draw what would make results misleading, a box each."""
    for sentence in said:
        st.warning(messages.plain(sentence), icon=":material/warning:")


def _duplicates(found: dict[str, Any]) -> str:
    twice = found["duplicates"]
    between = sum(count for pair, count in twice.items() if pair != "train itself")
    if not sum(twice.values()):
        return "No sample occurs twice, in no split and not across them."
    return (
        f"Equal inputs: {between:,} across splits (train and test: {twice['train and test']:,}), "
        f"{twice['train itself']:,} within the training samples."
    )


def balance(found: dict[str, Any], right: list[float | None] | None) -> pd.DataFrame:
    """Return a row a class: samples of each split, and the share that is right on test."""
    rows = pd.DataFrame({"Class": found["classes"]})
    for label, split in (("Training", "train"), ("Validation", "validation"), ("Test", "test")):
        rows[label] = found["counts"][split]
    if right is not None:
        rows["Right on test"] = [None if one is None else 100 * one for one in right]
    return rows


def pictures(found: dict[str, Any]) -> None:
    """Draw the first training picture of up to twelve classes, if the inputs are pictures."""
    if min(found["shape"][1:]) < 4:
        return
    known = cache.data(found["source"], found["hash"])
    if known is None:
        return
    classes, first = np.unique(known.train.y, return_index=True)
    images = known.images("train", first[:PICTURES])
    names = [known.classes[label] for label in classes[:PICTURES]]
    with st.container(horizontal=True, gap="small"):
        for image, name in zip(images, names, strict=True):
            with st.container(width=SIDE, gap="xxsmall"):
                st.image(cache.png(image, SIDE), width=SIDE, alt=f"A training sample of {name}")
                st.caption(messages.plain(name if len(name) <= 14 else name[:13] + "…"))


def model(answer: dict[str, Any]) -> None:
    """Draw the model on these data: accuracies, what was undone, right answers by class."""
    found, accuracy = answer["model"], answer["accuracy"]
    with _figures():
        _figure("Right on test", percent(accuracy["test"]))
        _figure("On validation", percent(accuracy["validation"]))
        _figure("On training", percent(accuracy["train"]))
        _figure("One answer for all", percent(answer["data"]["most_frequent"]), GUESSING)
        _figure("Parameters", f"{found['parameters']:,}")
    few = answer["train_measured"]
    sampled = "" if few == answer["data"]["sizes"]["train"] else f" On training: {few:,} of them."
    decay = found["weight_decay"]
    known = (
        f"{decay:g}"
        if decay is not None
        else ("not known, taken as 0 unless New study is told another")
    )
    st.caption(
        messages.plain(
            f"{found['title']}: {found['tensors']} tensors ({', '.join(found['kinds'])}), every "
            f"name and shape fits, no value is NaN. Weight decay: {known}.{sampled}"
        )
    )
    for note in found["notes"]:
        st.caption(f":material/info: {messages.plain(note)}")
    warnings(found["warnings"])
    with st.expander("Right answers by class"):
        page.table(
            balance(answer["data"], answer["right"]),
            "own-right",
            "Samples of each class, and the share of test samples that is predicted right",
            column_config={
                "Right on test": st.column_config.ProgressColumn(
                    format="%.0f %%", min_value=0, max_value=100
                )
            },
        )


GUESSING = "The share that is right on test if the most frequent class is always said."


def _figures() -> DeltaGenerator:
    """A row of figures that wraps on a phone."""
    return st.container(horizontal=True, gap="large")


def _figure(label: str, value: str, explained: str | None = None) -> None:
    st.metric(label, value, help=explained, width="content")

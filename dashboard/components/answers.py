"""Test images with what the model said before and after the edit, a page of them at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cache, state
from dashboard.components import gallery, look, previews, sheet
from dashboard.components.sheet import Card
from dashboard.components.sidebar import is_group
from dashboard.state import Context

PER_PAGE = 12
WIDE = 120  # px of a tile
FLAT = 4  # inputs with a side below this are no pictures: rows of a table
READING = (
    "First the true class and the image’s number; ✓ right, ✗ wrong; before → after the edit: the "
    "predicted class, p (the probability of the true class, 0 to 1) and the loss in nats. *Open* "
    "shows on Samples the training images behind what the model says of it: "
    ":material/photo_library: its exact ranking, :material/bolt: a preview, as it is not ranked "
    "yet."
)


def draw(context: Context, found: pd.DataFrame, key: str) -> None:
    """Draw one page of the images of `found` (see `cells.together`) with a button to Samples.

    A column `models`, if there is one above 0, says how many retrained models agree.
    """
    pages = -(-len(found) // PER_PAGE)
    number = 1
    if pages > 1:
        number = min(int(st.pagination(pages, key=f"{key}-page")), pages)
    part = found.iloc[(number - 1) * PER_PAGE : number * PER_PAGE]
    source = gallery.pictures(context)
    ranked = ranked_alone(cache.queries(context.shown))
    pictures = min(context.info["data"]["shape"][1:]) >= FLAT
    palette = look.palette()
    with st.grid("auto", min_column_width=WIDE, gap=("small", "xsmall")):
        for row in part.rename(columns={"index": "number"}).to_dict("records"):
            index = int(row["number"])
            with st.container(gap="xxsmall", horizontal_alignment="center"):
                uri = source.uri("test", index) if pictures else ""
                st.html(sheet.figure(card(row, source.classes, uri), palette))
                _open(index, key, exact=index in ranked)
    first = (number - 1) * PER_PAGE + 1
    of = f"{first} to {first + len(part) - 1} of {len(found):,}. " if pages > 1 else ""
    st.caption(f"{of}{READING}")


def ranked_alone(queries: Sequence[dict[str, Any]]) -> set[int]:
    """Return the test images that have an exact ranking; groups of images do not count."""
    return {query["index"] for query in queries if not is_group(query)}


def _open(index: int, key: str, *, exact: bool) -> None:
    if st.button(
        f"Open #{index}",
        key=f"{key}-open-{index}",
        type="tertiary",
        icon=":material/photo_library:" if exact else ":material/bolt:",
    ):
        open_on_samples(index, exact=exact)


def card(row: Mapping[Any, Any], names: Sequence[str], uri: str) -> Card:
    """Return the picture of an image with its class, predictions, probability and loss."""
    said = [
        f"{'✓' if predicted == row['label'] else '✗'} {names[predicted]}"
        for predicted in (row["predicted_was"], row["predicted_now"])
    ]
    lines = [
        f"{names[row['label']]} #{row['number']}",
        " → ".join(said),
        f"p {row['p_label_was']:.2f} → {row['p_label_now']:.2f}",
        f"loss {row['loss_was']:.2f} → {row['loss_now']:.2f}",
    ]
    if row.get("of"):
        lines.append(f"retrained: {row['models']} of {row['of']}")
    return Card(uri, "", "neutral", "\n".join(lines), alt(row, names))


def alt(row: Mapping[Any, Any], names: Sequence[str]) -> str:
    """Return the same for who cannot see the picture."""
    return (
        f"Test image {row['number']}, class {names[row['label']]}: predicted "
        f"{names[row['predicted_was']]} before, {names[row['predicted_now']]} after, p "
        f"{row['p_label_was']:.2f} → {row['p_label_now']:.2f}"
    )


def open_on_samples(index: int, *, exact: bool) -> None:
    """Turn to Samples: the exact ranking of a test image, else its preview."""
    if exact:
        state.turn_to("samples", query=index, preview=None)
        return
    previews.asked()
    state.turn_to("samples", preview=index)

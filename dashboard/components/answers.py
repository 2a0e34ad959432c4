"""Test images with what the model said before and after the edit, a page of them at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cache, state
from dashboard.components import gallery, previews
from dashboard.components.gallery import SIDE, Pictures
from dashboard.components.messages import plain
from dashboard.components.sidebar import is_group
from dashboard.state import Context

PER_PAGE = 12
WIDE = 120  # px of a tile
FLAT = 4  # inputs with a side below this are no pictures: rows of a table
READING = (
    "In bold the true class, then its number; ✓ right, ✗ wrong; before → after the edit: the "
    "predicted class, p (the probability of the true class, 0 to 1) and the loss in nats."
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
    with st.grid("auto", min_column_width=WIDE, gap=("small", "xsmall")):
        for row in part.rename(columns={"index": "number"}).to_dict("records"):
            _tile(row, source, ranked, key, pictures=pictures)
    first = (number - 1) * PER_PAGE + 1
    of = f"{first} to {first + len(part) - 1} of {len(found):,}. " if pages > 1 else ""
    st.caption(f"{of}{READING}")


def ranked_alone(queries: Sequence[dict[str, Any]]) -> set[int]:
    """Return the test images that have an exact ranking; groups of images do not count."""
    return {query["index"] for query in queries if not is_group(query)}


def _tile(
    row: Mapping[Any, Any], source: Pictures, ranked: set[int], key: str, *, pictures: bool
) -> None:
    index = int(row["number"])
    with st.container(gap="xxsmall", width=WIDE):
        if pictures:
            st.image(
                gallery.within(source.png("test", index)), width=SIDE, alt=alt(row, source.classes)
            )
        st.caption(caption(row, source.classes))
        exact = index in ranked
        if st.button(
            f"Open #{index}",
            key=f"{key}-open-{index}",
            type="tertiary",
            icon=":material/photo_library:" if exact else ":material/bolt:",
            help="On Samples: the training images behind what the model says of it. "
            + ("It has an exact ranking." if exact else "Not ranked yet: a preview, or a ranking."),
        ):
            open_on_samples(index, exact=exact)


def caption(row: Mapping[Any, Any], names: Sequence[str]) -> str:
    """Return class, predictions, probability and loss of an image, before → after."""
    true, was, now = row["label"], row["predicted_was"], row["predicted_now"]
    words = (f"{'✓' if said == true else '✗'} {plain(names[said])}" for said in (was, now))
    return (
        f"**{plain(names[true])}** \\#{row['number']}  \n{' → '.join(words)}  \n"
        f"p {row['p_label_was']:.2f} → {row['p_label_now']:.2f}  \n"
        f"loss {row['loss_was']:.2f} → {row['loss_now']:.2f}"
        + (f"  \nretrained: {row['models']} of {row['of']}" if row.get("of") else "")
    )


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

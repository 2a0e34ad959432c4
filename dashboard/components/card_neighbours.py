"""The training images that are nearest to one: by gradient, else by what they do."""

from __future__ import annotations

import streamlit as st

from dashboard import state
from dashboard.cached_rankings import Near, near
from dashboard.charts.style import label, listed
from dashboard.components import card_influence
from dashboard.components.gallery import Pictures, within
from dashboard.components.messages import plain
from dashboard.state import Context

SIDE = 84  # pixels; 28 three times
GRADIENT = (
    "Nearest by gradient: the cosine between the directions in which each pulls the parameters, "
    "read from this record’s sketch ({rank} numbers an image). 1 means the same direction: the "
    "model learns the same thing from both."
)
INFLUENCE = (
    "Nearest by influence, since this record holds no sketch of gradients: how far their influence "
    "on the {count} ranked test image{s} by {methods} differs from this image’s. 0 % means that "
    "removing either does the same to all of them."
)


def draw(context: Context, source: Pictures, index: int) -> None:
    """Draw the nearest training images as tiles that can be chosen, and say what near means."""
    known = card_influence.ranked_by(context)
    found = near(context.shown.path, tuple(known), index)
    st.markdown("**Its nearest training images**")
    if found is None:
        st.caption("This record has neither a sketch nor a ranking to find them by.")
        return
    if not len(found.positions):
        what = "gradient" if found.kind == "gradient" else "influence on the ranked test images"
        st.caption(f"It has none: its {what} is 0.")
        return
    if found.kind == "gradient":
        st.caption(GRADIENT.format(rank=f"{context.info['preview']['rank']:,}"))
    else:
        count = max(len(one.queries) for one in known.values())
        methods = listed([label(m) for m in known])
        st.caption(INFLUENCE.format(count=count, s="" if count == 1 else "s", methods=methods))
    with st.grid("auto", min_column_width=SIDE + 12, gap="xsmall"):
        for position, close in zip(found.positions, found.closeness, strict=True):
            _tile(source, index, int(position), words(found, float(close)))


def words(found: Near, close: float) -> str:
    """Return how near one is: "cosine +0.93", or "differs by 12 %"."""
    if found.kind == "gradient":
        return f"cosine {close:+.2f}".replace("-", "−")
    return f"differs by {100 * close:.0f} %"


def _tile(source: Pictures, index: int, position: int, close: str) -> None:
    name = source.label("train", position)
    with st.container(gap="xxsmall", horizontal_alignment="center"):
        alt = f"Training image {position}, {name or 'label unknown'}, {close}"
        st.image(within(source.png("train", position, SIDE)), width=SIDE, alt=alt)
        st.caption(f"{plain(name)}  \n{close}" if name else close, text_alignment="center")
        st.button(
            f"#{position}",
            key=f"near-{index}-{position}",
            help=f"Show the card of training image {position}",
            on_click=state.show,
            kwargs={"sample": position},
            width="stretch",
        )

"""The card of a training image: what it is, what the model says of it, what it did to others.

Where another one is pinned, both cards stand side by side.
"""

from __future__ import annotations

import streamlit as st

from dashboard import cache, state
from dashboard.components import basket, card_influence, card_neighbours, card_opinion
from dashboard.components.gallery import Pictures, within
from dashboard.components.messages import plain
from dashboard.state import Context

LARGE = 224  # pixels; 28 eight times
NOTHING = (
    "Choose a training image, by a click on its number, or by typing the number into *Also chosen* "
    "in the sidebar: what the model says of it, what it did to the ranked test images and its "
    "nearest training images are shown here."
)


def section(context: Context, source: Pictures) -> None:
    """Draw the card of the training image that is chosen, beside that of the pinned one."""
    if st.session_state.get("pending"):  # chosen inside a fragment: the pickers are outside it
        st.rerun()
    shown = [i for i in dict.fromkeys((context.pin, context.sample)) if i is not None]
    st.subheader("One training image" if len(shown) < 2 else "Two training images", anchor="card")
    if not shown:
        st.caption(NOTHING)
        return
    for column, index in zip(st.columns(len(shown), gap="medium"), shown, strict=True):
        with column, st.container(border=True, key=f"card-{index}"):
            _card(context, source, index, narrow=len(shown) > 1)


def _card(context: Context, source: Pictures, index: int, *, narrow: bool) -> None:
    pinned = index == context.pin
    icon = ":material/keep: " if pinned else ""
    st.markdown(f"#### {icon}Training image \\#{index}")
    _buttons(context, index, pinned=pinned)
    left, right = (st.container(), st.container()) if narrow else st.columns(2, gap="large")
    with left:
        _face(context, source, index)
        card_opinion.draw(context, source, index)
    with right:
        card_influence.draw(context, index)
    card_neighbours.draw(context, source, index)


def _buttons(context: Context, index: int, *, pinned: bool) -> None:
    marked = index in basket.marks(context)
    with st.container(horizontal=True, gap="small"):
        st.button(
            "Unpin" if pinned else "Pin",
            key=f"card-pin-{index}",
            icon=":material/keep_off:" if pinned else ":material/keep:",
            help="A pinned image stays here, and the next one you choose is shown beside it.",
            on_click=state.show,
            kwargs={"pin": None if pinned else index},
        )
        st.button(
            "Take the mark off" if marked else "Mark for removal",
            key=f"card-mark-{index}",
            icon=":material/remove_shopping_cart:" if marked else ":material/add_shopping_cart:",
            help="Puts it into the basket, from which a study without these images can be started.",
            on_click=basket.mark,
            args=(context, [index]),
            kwargs={"put": not marked},
        )
        if index == context.sample:
            st.button(
                "Close",
                key=f"card-close-{index}",
                icon=":material/close:",
                on_click=state.show,
                kwargs={"sample": None},
            )


def _face(context: Context, source: Pictures, index: int) -> None:
    name = source.label("train", index)
    alt = f"Training image {index}, {name or 'label unknown'}"
    st.image(within(source.png("train", index, LARGE)), width=LARGE, alt=alt)
    channels, height, width = context.info["data"]["shape"]
    if (channels, height) == (1, 1):
        st.caption(
            f"A row of {width:,} numbers, drawn as cells from left to right: the lighter, the "
            "larger."
        )
    st.markdown(f"Label: **{plain(name)}**" if name else "Its label is unknown here.")
    own = [
        (m, float(frame["value"].to_numpy()[frame["train_index"].to_numpy() == index][0]))
        for m in context.methods
        if len(frame := cache.self_influence(context.shown.path, m))
        and (frame["train_index"] == index).any()
    ]
    if own:
        st.caption(card_influence.on_itself(own))
    change = context.info["change"]
    if name and change["kind"] == "remove-class" and name == source.classes[change["label"]]:
        st.caption("Its class is the one that the edit is to forget.")

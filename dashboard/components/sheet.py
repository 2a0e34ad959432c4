"""Many pictures with their scores as one element: a page of 96 is drawn at once, not one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import streamlit as st

from dashboard.charts.style import Palette

SIDE = 112  # pixels; small images are enlarged by the browser, nearest neighbour
STYLE = (
    "display:grid;grid-template-columns:repeat(auto-fill,minmax({side}px,1fr));gap:0.25rem 0.5rem"
)
FIGURE = "margin:0;content-visibility:auto;contain-intrinsic-size:auto 160px"  # unseen: not drawn
CAPTION = "font-size:0.875rem;line-height:1.4;text-align:center;overflow-wrap:anywhere"


@dataclass(frozen=True)
class Card:
    """One picture: its address, its score with the sign in a word, what it is."""

    uri: str
    score: str
    word: str  # helpful, harmful or neutral
    name: str  # a line, or more
    alt: str
    shared: bool = False  # is it named by all methods?
    mark: str = ""  # how the methods disagree on it, in a word


def draw(
    cards: Sequence[Card], palette: Palette, height: int | None = None, side: int = SIDE
) -> None:
    """Draw the cards in rows that wrap; of more than `height` pixels one scrolls."""
    shown = "".join(figure(card, palette, side) for card in cards)
    style = STYLE.format(side=side)
    if height is None:
        st.html(f'<div style="{style}">{shown}</div>')
    else:
        style += f";max-height:{height}px;overflow-y:auto"
        st.html(f'<div tabindex="0" role="group" style="{style}">{shown}</div>')


def figure(card: Card, palette: Palette, side: int = SIDE) -> str:
    """Return the HTML of one card; one without an address has no picture, only its words."""
    colours = {"helpful": palette.helpful, "harmful": palette.harmful, "neutral": palette.muted}
    picture = (
        f'<img src="{card.uri}" alt="{escape(card.alt)}" width="{side}" style="image-rendering:'
        'pixelated;border-radius:0.25rem;display:block;margin:0 auto">'
        if card.uri
        else ""
    )
    score = (
        f'<span style="color:{colours[card.word]}"><b>{escape(card.score)}</b> {card.word}</span>'
        if card.score
        else ""
    )
    lines = [score + (" ◆" if card.shared else ""), escape(card.mark)]
    lines += [escape(line) for line in card.name.split("\n")]
    return (
        f'<figure style="{FIGURE}">{picture}'
        f'<figcaption style="{CAPTION}">{"<br>".join(line for line in lines if line)}'
        "</figcaption></figure>"
    )

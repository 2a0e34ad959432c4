"""What stands on a tile of the grid of training images; no page is opened."""

from __future__ import annotations

from typing import Any

import numpy as np

from dashboard import filters
from dashboard.charts.style import Palette
from dashboard.components import browse, sheet
from dashboard.components.gallery import Pictures
from dashboard.components.measures import Explained
from dashboard.filters import Filter, Known
from gifcore import data as datasets


def test_a_tile_says_score_sign_word_labels_and_disagreement() -> None:
    data = datasets.load("digits")
    source = Pictures(data, {}, ["zero", "<b>one", *"23456789"])
    labels = data.train.y
    first, second = np.zeros(len(labels)), np.zeros(len(labels))
    at = int(np.flatnonzero(labels == 1)[0])
    first[at], second[at] = -2.5e-3, 4e-3
    about = Known(
        len(labels), {"if": second, "gif": first}, labels, np.zeros_like(labels), None, 10
    )
    can = filters.fitted(Filter(browse=True), about)
    scored = browse.Scored("test image #3", -3, Explained())
    (mark,) = browse.marks(about, can, np.array([at]), scored)
    assert mark == "≠ IF +4.00"
    card = browse.tile(at, about, can, source, scored, mark)
    assert (card.score, card.word, card.name) == ("−2.50", "harmful", "<b>one\n✗ zero")
    assert card.alt == (
        f"Training image {at}, <b>one, the model says zero, influence −2.50 10⁻³ nats, harmful, "
        "disagrees: IF +4.00"
    )
    assert "&lt;b&gt;one<br>✗ zero<" in sheet.figure(card, Palette())


def test_marks_name_the_other_methods_score_or_place() -> None:
    values = np.arange(8.0) + 1
    moved = values.copy()
    moved[0] = 20.0  # from the last place to the first
    about = Known(8, {"if": values, "gif": moved, "gradient": -values}, classes=1)
    scored = browse.Scored("x", 0, Explained())
    shown = np.array([0, 7])

    def marks(**asked: Any) -> list[str]:
        return browse.marks(about, filters.fitted(Filter(**asked), about), shown, scored)

    assert marks() == ["≠ IF place 8", ""]
    assert marks(by="if") == ["≠ GIF place 1", ""]
    assert marks(by="if", pair=("if", "gradient")) == ["≠ Gradient −1.00", "≠ Gradient −8.00"]
    assert marks(by="gif", pair=("if", "gradient")) == ["≠ IF, Gradient", "≠ IF, Gradient"]

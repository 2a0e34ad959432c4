"""Cells of the confusion matrices: their text, the images they hold, the classes that are drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import streamlit as st

from dashboard import cells
from dashboard.cells import BEFORE, EDITED, RETRAINED, Cell
from dashboard.views import confusions


def predictions(predicted: list[int], p: list[float]) -> pd.DataFrame:
    shares = np.array(p)
    return pd.DataFrame(
        {
            "index": range(6),
            "label": [0, 0, 0, 0, 1, 2],
            "predicted": predicted,
            "p_label": shares,
            "loss": -np.log(shares),
        }
    )


BOTH = cells.together(
    predictions([0, 0, 1, 1, 1, 2], [0.9, 0.8, 0.2, 0.3, 0.9, 0.9]),
    predictions([1, 1, 1, 0, 1, 2], [0.1, 0.3, 0.1, 0.6, 0.9, 0.9]),
)
AGAIN = [
    predictions([1, 2, 1, 0, 1, 2], [0.5] * 6),
    predictions([1, 1, 2, 0, 1, 2], [0.5] * 6).iloc[::-1],  # in another order
]
VOTES = cells.voted(BOTH, AGAIN)


@pytest.mark.parametrize("cell", [Cell(8, 6), Cell(0, 0, BEFORE), Cell(99, 8, RETRAINED)])
def test_a_cell_is_read_as_it_was_written(cell: Cell) -> None:
    assert cells.parse(cell.text, 100) == cell


@pytest.mark.parametrize(
    "text",
    ["", "8", "8-", "-8-6", "8-6-", "8-6-nobody", "8-6-before-x", "8-10", "10-8", "a-b", "8.0-6"]
    + [None, 86, "²-6", "8-6-retrained", "9" * 5000 + "-1"],
)
def test_nonsense_is_no_cell(text: object) -> None:
    assert cells.parse(text, 10, [BEFORE, EDITED]) is None


@pytest.mark.parametrize(
    ("cell", "images"),
    [
        (Cell(0, 1, BEFORE), [3, 2]),  # the larger change of p(label) first
        (Cell(0, 1), [0, 1, 2]),
        (Cell(0, 0), [3]),
        (Cell(1, 1), [4]),
        (Cell(2, 0), []),
        (Cell(0, 1, RETRAINED), [0, 1, 2]),  # by two models, then by one
        (Cell(0, 2, RETRAINED), [1, 2]),
    ],
)
def test_a_cell_holds_the_images_of_its_class_and_prediction(cell: Cell, images: list[int]) -> None:
    assert cells.images(BOTH, VOTES, cell)["index"].tolist() == images


def test_images_of_retrained_models_say_how_many_agree() -> None:
    found = cells.images(BOTH, VOTES, Cell(0, 1, RETRAINED))
    assert found["models"].tolist() == [2, 1, 1]
    assert VOTES.tolist()[1] == [2, 1]


def test_without_retrained_models_nobody_votes() -> None:
    votes = cells.voted(BOTH, [])
    assert votes.shape == (6, 0)
    assert cells.images(BOTH, votes, Cell(0, 1))["models"].tolist() == [0, 0, 0]


def test_the_classes_that_change_most_are_drawn_and_those_asked_for() -> None:
    before = 10 * np.eye(100, dtype=int)
    after = before.copy()
    before[10, 20] = after[10, 20] = 50  # many mistakes, but none of the edit
    after[40, 40], after[40, 70] = 2, 8
    drawn = cells.concerned([before, after], [3, None, 3], most=5)
    assert len(drawn) == 5
    assert {3, 40, 70} <= set(drawn)
    assert drawn == sorted(drawn)
    assert cells.concerned([before, after], [], most=200) == list(range(100))
    assert not {10, 20} & set(cells.concerned([before, after], [], most=2))
    wrong = np.eye(100, dtype=int)
    wrong[50, 60] = 1
    assert {50, 60} <= set(cells.concerned([wrong, wrong], [], most=2))


def test_the_first_cell_is_what_most_images_are_taken_for() -> None:
    edited = np.array([[1, 5, 2], [0, 9, 0], [0, 0, 0]])
    assert cells.default(0, edited) == Cell(0, 1)
    assert cells.default(2, edited) == Cell(2, 0)
    assert cells.most_changed(np.diag([8, 9, 0]), edited) == 0


@pytest.mark.parametrize(
    ("point", "cell"),
    [
        ({"x": 2, "y": 0}, "4-9-before"),
        ({"x": 1.0, "y": 1.0}, "7-7-before"),
        ({"x": 3, "y": 0}, None),
        ({"x": "a", "y": 0}, None),
        ({}, None),
    ],
)
def test_a_click_goes_to_the_classes_of_its_place(
    monkeypatch: pytest.MonkeyPatch, point: dict[str, object], cell: str | None
) -> None:
    session: dict[str, object] = {}
    monkeypatch.setattr(st, "session_state", session)
    confusions.go([4, 7, 9], BEFORE, point)
    assert session.get("cell") == cell

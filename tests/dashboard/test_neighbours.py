"""Which training samples are alike, and where one stands: small examples by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard import neighbours
from dashboard.cached_rankings import Rankings
from dashboard.charts.on_queries import MOST, on_queries, strongest
from dashboard.charts.style import Palette
from dashboard.components.card_influence import finding, influences, rows
from gifcore.errors import GifError
from gifcore.preview import Sketch


def sketch(train: np.ndarray, positions: np.ndarray | None = None) -> Sketch:
    """A sketch of these gradients; its solves are of no matter here."""
    lengths = np.linalg.norm(train, axis=1)
    unit = (train / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float16)
    n, r = train.shape
    return Sketch(
        train=unit,
        lengths=lengths.astype(np.float32),
        factors=np.full(n, 1 / (n - 1)),
        mean=unit.mean(axis=0),
        positions=np.arange(n) if positions is None else positions,
        solves={"gif": np.zeros((1, r), np.float16)},
        solve_lengths={"gif": np.zeros(1, np.float32)},
        info={"methods": {"gif": {}}},
    )


def test_nearest_by_gradient_is_the_cosine_whatever_the_length() -> None:
    made = sketch(np.array([[1.0, 0], [50.0, 0], [1.0, 1.0], [-1.0, 0], [0, 0]]))
    positions, cosines = made.nearest(0, 3)
    assert positions.tolist() == [1, 2, 4]
    np.testing.assert_allclose(cosines, [1, np.sqrt(0.5), 0], atol=1e-3)
    assert made.nearest(0, 99)[0].tolist() == [1, 2, 4, 3]  # all others, never itself


def test_nearest_names_positions_not_rows() -> None:
    made = sketch(np.array([[1.0, 0], [0, 1.0], [1.0, 0.1]]), np.array([7, 3, 9]))
    assert made.nearest(9, 2)[0].tolist() == [7, 3]
    with pytest.raises(GifError, match="no training sample 0"):
        made.nearest(0, 2)


def test_a_sample_without_a_gradient_has_no_nearest() -> None:
    assert sketch(np.array([[0.0, 0], [1.0, 0]])).nearest(0, 1)[0].tolist() == []


def test_nearest_by_gradient_in_blocks_is_that_of_all_at_once() -> None:
    rng = np.random.default_rng(0)
    train = rng.normal(size=(9000, 6))
    positions, cosines = sketch(train).nearest(5, 8)
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    expected = unit @ unit[5]
    expected[5] = -np.inf
    np.testing.assert_allclose(cosines, np.sort(expected)[::-1][:8], atol=2e-3)
    assert len(set(positions) & set(np.argsort(-expected)[:8])) >= 7  # float16 swaps near ties


def test_nearest_by_influence_is_the_smallest_difference_as_a_share() -> None:
    values = np.array([[2.0, 1.0, 2.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    found = neighbours.by_influence([values], 0, 2)
    assert found is not None
    assert (found.kind, found.positions.tolist()) == ("influence", [1, 2])
    np.testing.assert_allclose(found.closeness, [0.5, 0.5])


def test_no_method_decides_alone_by_larger_numbers() -> None:
    small, large = np.array([[1.0, 1.0, 9.0]]), 1e6 * np.array([[1.0, 3.0, 1.0]])
    found = neighbours.by_influence([small, large], 0, 2)
    scaled = neighbours.by_influence([small, large / 1e6], 0, 2)
    assert found is not None
    assert scaled is not None
    np.testing.assert_allclose(found.closeness, scaled.closeness)


def test_without_any_ranking_or_influence_there_is_none() -> None:
    assert neighbours.by_influence([np.zeros((0, 5))], 0, 2) is None
    found = neighbours.by_influence([np.array([[0.0, 1.0]])], 0, 2)
    assert found is not None
    assert found.positions.tolist() == []


def test_a_place_counts_ties_by_position_as_the_ranking_does() -> None:
    values = np.array([1.0, 1.0, -2.0, -2.0, 3.0, 0.0])
    places = [neighbours.standing(values, i) for i in range(6)]
    sides = {"h": "helpful", "x": "harmful", "0": "neutral"}
    expected = [(2, "h"), (3, "h"), (1, "x"), (2, "x"), (1, "h"), (0, "0")]
    assert places == [(place, sides[side]) for place, side in expected]
    assert neighbours.standing_words(values, 0) == "2nd most helpful of 6"
    assert neighbours.standing_words(values, 5) == "no influence"


KNOWN = {
    "if": Rankings((3, 17), np.array([[1e-6, -2e-6, 0.0], [3e-6, 4e-6, 1e-6]], np.float32)),
    "gif": Rankings((3,), np.array([[0.0, -5e-6, 1e-6]], np.float32)),
}
NAMES = {3: "#3 · four", 17: "#17 · seven", 40: "not ranked by any"}


def test_influences_of_one_sample_on_every_ranked_image() -> None:
    names, values, words = influences(KNOWN, NAMES, 1)
    assert names == ["#3 · four", "#17 · seven"]
    np.testing.assert_allclose(values["if"], [-2e-6, 4e-6], rtol=1e-6)
    np.testing.assert_allclose(values["gif"], [-5e-6, np.nan], rtol=1e-6)
    assert words == {
        "if": ["most harmful of 3", "most helpful of 3"],
        "gif": ["most harmful of 3", "not ranked"],
    }
    table = rows(names, values, words, -6, "nats")
    assert table["GIF influence (10⁻⁶ nats)"].tolist() == ["−5.00", ""]
    assert table["IF influence (10⁻⁶ nats)"].tolist() == ["−2.00", "+4.00"]
    assert finding(KNOWN, NAMES, 1) == "Strongest on #3 · four: most harmful of 3, by GIF"


def test_a_sample_without_influence_is_said_so() -> None:
    known = {"if": Rankings((3,), np.array([[0.0, 1.0]], np.float32))}
    assert finding(known, NAMES, 0) == "It influences none of the ranked test images"


def test_the_bars_have_sign_colour_and_escaped_names() -> None:
    palette = Palette()
    values = {"if": np.array([2.0, -1.0]), "gif": np.array([np.nan, 0.5])}
    places = {m: ["a", "b"] for m in values}
    figure = on_queries(values, ["<b>x</b>", "y" * 40], places, "nats", "t", palette)
    first, second = figure.data
    assert list(first.text) == ["+", "−"]
    assert list(first.marker.color) == [palette.helpful, palette.harmful]
    assert list(second.text) == ["", "+"]
    assert list(figure.layout.yaxis.ticktext) == ["&lt;b&gt;x&lt;/b&gt;", "y" * 25 + "…"]
    assert first.customdata[0][0] == "&lt;b&gt;x&lt;/b&gt;"
    titles = [figure.layout.xaxis.title.text, figure.layout.xaxis2.title.text]
    assert titles == ["influence (nats)", None]


def test_of_many_test_images_the_strongest_are_drawn_in_their_order() -> None:
    values = np.arange(64.0) * np.where(np.arange(64) % 2, 1, -1)
    assert strongest({"if": values, "gif": np.full(64, np.nan)}) == list(range(64 - MOST, 64))

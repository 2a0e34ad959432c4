"""Two views paired: how an address names the second, who selected what, which images differ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dashboard import pairing
from dashboard.pairing import Other

NAN = math.nan
HERE = ("random", 0.05)


@pytest.mark.parametrize(
    "other",
    [
        Other(),
        Other(first="if", second="gif"),
        Other(selector="random", ratio=0.05),
        Other("4acebe54d7a1", "highest-k-outputs", 0.25, "gif", "gif"),
        Other(study="4acebe54d7a1", second="if"),
        Other(selector="random", ratio=1 / 3),
    ],
)
def test_a_view_is_read_back_from_its_text(other: Other) -> None:
    assert pairing.parse(pairing.text(other)) == other


@pytest.mark.parametrize(
    "text", ["a:b:c", "::nan", "::inf", "::0", "::-0.1", "::1.5", "a:b:0.1:c:d:e"]
)
def test_what_names_no_view_is_none(text: str) -> None:
    assert pairing.parse(text) is None


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("", "method"),
        (":::if:gif", "method"),
        ("own", "method"),
        ("own:random:0.05", "method"),
        ("own:random:0.1", "setting"),
        ("::0.1", "setting"),
        (":random:0.05", "setting"),  # the page then takes the nearest that there is
        ("other:random:0.05", "study"),
        ("other", "study"),
    ],
)
def test_the_mode_is_what_the_two_views_differ_in(text: str, mode: str) -> None:
    other = pairing.parse(text)
    assert other is not None
    assert pairing.mode(other, "own", HERE) == mode


def test_the_nearest_combination_has_the_same_selector_if_there_is_one() -> None:
    there = [("random", 0.5), ("random", 0.05), ("random", 0.02), ("outputs", 0.05)]
    assert pairing.nearest(there, HERE) == ("random", 0.02)
    assert pairing.nearest([*there[1:2], ("outputs", 0.5), there[3]], HERE) == ("outputs", 0.05)
    assert pairing.nearest([HERE], HERE) is None


def query(index: int, *methods: str, images: list[int] | None = None) -> dict[str, Any]:
    group = {} if images is None else {"group": {"name": "g", "images": images}}
    return {"index": index, "certificates": dict.fromkeys(methods, {})} | group


def test_common_queries_are_ranked_by_both_and_ask_the_same() -> None:
    first = [query(3, "gif"), query(5, "gif"), query(8, "if"), query(-1, "gif", images=[1, 2])]
    second = [query(8, "if"), query(5, "if"), query(3, "gif"), query(-1, "if", images=[1, 3])]
    found = pairing.common(first, second, ("gif", "if"))
    assert [one["index"] for one in found] == [5]
    second[-1] = query(-1, "if", images=[1, 2])
    found = pairing.common(first, second, ("gif", "if"))
    assert [one["index"] for one in found] == [5, -1]


# --- one layer ------------------------------------------------------------------------------------

FIRST = np.array([[1.0, -2.0, NAN], [NAN, 0.0, NAN]])
SECOND = np.array([[3.0, NAN, 4.0], [NAN, 5.0, NAN]])


def test_who_selected_a_number_is_counted() -> None:
    found = pairing.selected(FIRST, SECOND)
    assert (found.both, found.first, found.second, found.none) == (2, 1, 1, 2)


def test_the_difference_takes_a_number_that_is_not_selected_as_unmoved() -> None:
    found = pairing.difference(FIRST, SECOND)
    np.testing.assert_array_equal(found, [[2.0, 2.0, 4.0], [NAN, 5.0, NAN]])
    np.testing.assert_array_equal(pairing.difference(SECOND, FIRST), -found)
    assert np.isnan(FIRST[0, 2])  # the inputs are shared and stay as they are


def test_the_cosine_of_two_updates_counts_what_only_one_moves() -> None:
    expected = 3.0 / (math.sqrt(1 + 4) * math.sqrt(9 + 16 + 25))
    assert pairing.cosine(FIRST, SECOND) == pytest.approx(expected)
    assert pairing.cosine(FIRST, -2 * FIRST) == pytest.approx(-1)
    assert math.isnan(pairing.cosine(FIRST, np.full_like(FIRST, NAN)))


def model(*layers: tuple[str, list[int], int]) -> dict[str, Any]:
    rows = [{"name": name, "shape": shape, "offset": at} for name, shape, at in layers]
    return {"model": {"layers": rows}}


def test_layers_are_the_same_where_names_shapes_and_places_are() -> None:
    one = model(("w", [2, 3], 0), ("b", [2], 6))
    assert pairing.same_layers(one, model(("w", [2, 3], 0), ("b", [2], 6)))
    assert not pairing.same_layers(one, model(("w", [3, 2], 0), ("b", [2], 6)))
    assert not pairing.same_layers(one, model(("b", [2], 0), ("w", [2, 3], 2)))


def change(data: str = "d", **entries: Any) -> dict[str, Any]:
    known = {"kind": "remove-class", "class_name": "Bag", "label": 8, "removed": 80}
    return {"data": {"hash": data}, "change": known | entries}


def samples(touched: int, index: list[int]) -> dict[str, Any]:
    entries = {"kind": "remove-samples", "touched": touched, "index": index}
    return change(judged_by="samples", **entries)


def test_two_edits_are_after_the_same_thing() -> None:
    assert pairing.same_change(change(), change(judged_by="class", seconds=1.0))
    assert not pairing.same_change(change(), change(label=7, class_name="Shirt"))
    assert not pairing.same_change(change(), change("other data"))
    assert pairing.same_change(samples(2, [1, 2]), samples(2, [1, 2]))
    assert not pairing.same_change(samples(2, [1, 2]), samples(2, [1, 3]))


# --- the same images ------------------------------------------------------------------------------


def predictions(predicted: list[int]) -> pd.DataFrame:
    n = len(predicted)
    return pd.DataFrame(
        {
            "index": np.arange(n),
            "label": 0,
            "predicted": predicted,
            "p_label": np.linspace(0, 1, n),
            "loss": 0.0,
        }
    )


def test_an_image_is_wrong_under_both_one_or_neither() -> None:
    first, second = predictions([0, 1, 0, 1, 1]), predictions([0, 0, 2, 1, 2])
    found = pairing.outcomes(first, second.iloc[::-1])
    assert found["outcome"].tolist() == ["right", "first", "second", "wrong", "wrong"]
    assert found["same"].tolist() == [True, False, False, True, False]
    assert pairing.counted(found) == {"right": 1, "first": 1, "second": 1, "wrong": 2}

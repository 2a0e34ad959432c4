"""The filter of the training images: each part alone, together, none left, and its text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dashboard import filters
from dashboard.filters import Filter, Known

#                 0     1     2     3     4     5     6     7
IF = np.array([3.0, -1.0, 2.0, -4.0, 0.5, 0.0, -0.5, 1.0])
GIF = np.array([-1.0, -2.0, 5.0, -3.0, 0.2, 0.0, 0.1, 4.0])
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1])
SAID = np.array([0, 1, 0, 0, 2, 2, 1, 1])
LOSS = np.array([0.1, 0.2, 3.0, 0.4, 2.0, 0.6, 1.0, 0.0])


def known(**changes: Any) -> Known:
    whole = Known(8, {"if": IF, "gif": GIF}, LABELS, SAID, LOSS, 3)
    return replace(whole, **changes)


def chosen(about: Known | None = None, **asked: Any) -> list[int]:
    """The positions that match, in their order; by number unless another order is asked for."""
    about = about or known()
    wanted = Filter(**({"browse": True, "sort": "number"} | asked))
    return filters.apply(filters.fitted(wanted, about), about).tolist()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"labels": (1,)}, [1, 4, 7]),
        ({"labels": (0, 1)}, [0, 1, 3, 4, 6, 7]),
        ({"predicted": (0,)}, [0, 2, 3]),
        ({"right": True}, [0, 1, 3, 5, 7]),
        ({"right": False}, [2, 4, 6]),
        ({"sign": "helpful"}, [2, 4, 6, 7]),  # by GIF without being asked
        ({"sign": "helpful", "by": "if"}, [0, 2, 4, 7]),
        ({"sign": "harmful"}, [0, 1, 3]),  # 5 is neither
        ({"strongest": 25}, [2, 7]),
        ({"strongest": 25, "by": "if"}, [0, 3]),
        ({"strongest": 1}, [2]),  # rounded up: never none
        ({"apart": "signs"}, [0, 6]),
        ({"apart": "places"}, [0]),
        ({"apart": "either"}, [0, 6]),
    ],
)
def test_each_filter_alone(asked: dict[str, Any], expected: list[int]) -> None:
    assert chosen(**asked) == expected


def test_places_are_far_apart_by_more_than_a_quarter() -> None:
    places = {"if": [0, 6, 1, 7, 3, 4, 5, 2], "gif": [5, 6, 0, 7, 2, 4, 3, 1]}
    assert filters.places(IF).tolist() == places["if"]
    assert filters.places(GIF).tolist() == places["gif"]
    assert filters.distance(IF, GIF).tolist() == [5, 0, 1, 0, 1, 0, 2, 1]
    assert chosen(apart="places") == [0]  # 6 is 2 of 8 apart: just a quarter


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("strongest", [2, 7, 3, 1, 0, 4, 6, 5]),
        ("helpful", [2, 7, 4, 6, 5, 0, 1, 3]),
        ("harmful", [3, 1, 0, 5, 6, 4, 7, 2]),
        ("apart", [0, 6, 2, 4, 7, 1, 3, 5]),
        ("number", list(range(8))),
        ("loss", [2, 4, 6, 5, 3, 1, 0, 7]),
    ],
)
def test_each_order(sort: str, expected: list[int]) -> None:
    assert chosen(sort=sort) == expected


def test_filters_together_and_none_left() -> None:
    together = {"labels": (0, 1), "right": False, "sign": "helpful"}
    assert chosen(**together) == [4, 6]
    assert chosen(**together, apart="signs") == [6]
    assert chosen(**together, sort="loss") == [4, 6]
    assert chosen(**together, apart="signs", predicted=(2,)) == []


def test_any_two_methods_can_be_compared() -> None:
    three = known(scores={"if": IF, "gif": GIF, "gradient": -IF})
    assert filters.fitted(Filter(), three).pair == ("if", "gif")
    assert chosen(three, apart="signs", pair=("if", "gradient")) == [0, 1, 2, 3, 4, 6, 7]
    assert chosen(three, apart="signs", pair=("gif", "gradient")) == [1, 2, 3, 4, 7]


def test_what_is_not_known_is_left_out_and_said() -> None:
    wanted = Filter(
        browse=True, labels=(1, 99), predicted=(2,), right=True, by="tracin", sign="harmful",
        strongest=5, apart="signs", pair=("if", "tracin"), sort="loss",
    )  # fmt: skip
    bare = Known(8, {}, None, None, None, 3)
    assert filters.fitted(wanted, bare) == Filter(browse=True, sort="number")
    assert chosen(bare, labels=(1,), sort="helpful") == list(range(8))
    can = filters.fitted(wanted, known())
    assert can == replace(wanted, labels=(1,), by="gif", pair=("if", "gif"))
    assert filters.left_out(wanted, can) == ["labels", "by", "pair"]
    assert filters.left_out(Filter(browse=True), filters.fitted(Filter(browse=True), bare)) == []
    no_labels = filters.fitted(wanted, known(labels=None))
    assert not filters.fitted(Filter(after=True), known()).after
    assert filters.fitted(Filter(after=True), known(edited=True)).after
    assert (no_labels.labels, no_labels.right, no_labels.predicted) == ((), None, (2,))
    alone = filters.fitted(wanted, known(scores={"if": IF}))
    assert (alone.by, alone.apart, alone.pair) == ("if", "", ())


def test_nan_scores_match_no_sign_and_come_last() -> None:
    broken = known(scores={"gif": np.where(np.arange(8) == 2, np.nan, GIF)})
    assert 2 not in chosen(broken, sign="helpful") + chosen(broken, sign="harmful")
    assert chosen(broken, sort="strongest")[-1] == 2


# --- text -----------------------------------------------------------------------------------------

FILTERS = (
    Filter(),
    Filter(size="small"),
    Filter(browse=True),
    Filter(browse=True, labels=(8,), predicted=(0, 6), right=False),
    Filter(browse=True, right=True, by="second-order", sign="harmful", strongest=5, page=12),
    Filter(browse=True, apart="either", pair=("if", "second-order"), sort="apart", size="large"),
    Filter(browse=True, sign="helpful", sort="loss", after=True),
)


@pytest.mark.parametrize("one", FILTERS)
def test_text_and_back(one: Filter) -> None:
    assert filters.parse(filters.text(one)) == one


def test_the_text_is_short_and_safe_in_an_address() -> None:
    assert filters.text(Filter()) is None
    assert filters.text(Filter(size="small")) == "top~small"
    assert filters.text(FILTERS[3]) == "all~label.8~said.0.6~wrong"
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789.~-")
    assert all(set(filters.text(one) or "") <= allowed for one in FILTERS)


@pytest.mark.parametrize(
    "nonsense",
    ["", "~~~", "purple", "label", "label.x", "label.-1", "strongest.0", "strongest.100", "page.0",
     "apart.no", "pair.if", "pair.if.if", "sort.colour", "by", "by.", "said.²",
     "label.99999999999999999999", "<script>", "top~label.x"],
)  # fmt: skip
def test_nonsense_is_ignored(nonsense: str) -> None:
    assert filters.parse(nonsense) == Filter()
    assert filters.parse(f"all~{nonsense}~wrong") == (
        Filter(right=False) if "top" in nonsense else Filter(browse=True, right=False)
    )


def test_a_filter_alone_means_the_grid() -> None:
    assert filters.parse("label.8") == Filter(browse=True, labels=(8,))
    assert filters.parse(None) == Filter()


def test_what_is_chosen_anyway_is_not_in_the_text() -> None:
    can = filters.fitted(Filter(browse=True), known())
    assert can.by == "gif"
    assert filters.text(filters.shortened(can, known())) == "all"
    bare = Known(8)
    assert filters.text(filters.shortened(filters.fitted(can, bare), bare)) == "all"
    asked = replace(can, by="if", sort="loss")
    assert filters.text(filters.shortened(asked, known())) == "all~by.if~sort.loss"


def test_cleared_keeps_order_and_size() -> None:
    one = Filter(browse=True, labels=(1,), right=True, by="if", sort="loss", size="large", page=3)
    assert one.narrows
    assert one.cleared() == Filter(browse=True, by="if", sort="loss", size="large")
    assert not replace(one.cleared(), page=3).narrows


# --- pages ----------------------------------------------------------------------------------------


def test_pages_hold_every_match_once_and_one_too_far_is_the_last() -> None:
    positions = np.arange(49)
    assert filters.pages(49, "large") == 5
    parts = [filters.part(positions, Filter(size="large", page=p)) for p in range(1, 6)]
    assert np.concatenate(parts).tolist() == positions.tolist()
    assert filters.part(positions, Filter(size="large", page=99)).tolist() == [48]
    assert filters.pages(0, "small") == 1
    assert len(filters.part(positions[:0], Filter())) == 0

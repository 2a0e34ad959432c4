"""Where the top of one ranking stands in the other: by hand, and drawn in both themes."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard.charts.rank_flow import flow, rank_flow
from dashboard.charts.style import Palette
from dashboard.components import measures
from dashboard.views.compare_scores import flow_title

FIRST = np.array([4, 0, 2, 1, 3])  # positions, the most first
SECOND = np.array([0, 3, 4, 2, 1])


def test_ranks_of_the_union_by_hand() -> None:
    found = flow(FIRST, SECOND, 2)
    assert found.index.tolist() == [0, 4, 3]  # by the better of their ranks
    assert found.first.tolist() == [2, 1, 5]
    assert found.second.tolist() == [1, 3, 2]
    assert found.shared.tolist() == [True, False, False]


def test_the_title_says_what_is_shared_and_where_the_first_ones_are() -> None:
    title = flow_title(flow(FIRST, SECOND, 2), ("IF", "GIF"))
    assert title == (
        "1 of the first 2 are the same; the first of IF is number 3 by GIF, "
        "the first of GIF number 2 by IF"
    )


@pytest.mark.parametrize("dark", [False, True])
def test_every_sample_is_one_line_and_the_rest_ends_beyond(dark: bool) -> None:
    palette = Palette(dark=dark)
    found = flow(FIRST, SECOND, 2)
    texts = np.array([f"#{i}" for i in found.index])
    colours = palette.method("if"), palette.method("gif")
    figure = rank_flow(found, texts, colours, ("IF", "GIF"), "T", palette)
    lines = {trace.name: trace for trace in figure.data}
    assert list(lines) == ["in both (1)", "IF only (1)", "GIF only (1)"]
    assert list(lines["in both (1)"].y)[:2] == [2, 1]
    only = list(lines["IF only (1)"].y)[:2]
    assert only[0] == 1
    assert only[1] > 2
    assert lines["GIF only (1)"].line.color == colours[1]
    assert "#4: rank 1 by IF, 3 by GIF" in lines["IF only (1)"].text[0]
    assert figure.layout.yaxis.title.text == "rank (1 = first)"


@pytest.mark.parametrize(
    ("other", "tau"), [([1, 2, 3], 1.0), ([3, 2, 1], -1.0), ([1, 3, 2], 1 / 3), ([1, 1, 1], np.nan)]
)
def test_kendall_counts_pairs_in_the_same_order(other: list[float], tau: float) -> None:
    found = measures.kendall(np.array([1.0, 2.0, 3.0]), np.array(other, dtype=float))
    assert found == pytest.approx(tau, nan_ok=True)

"""Group queries on the pages: picked and named like test images, with their own rankings."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dashboard.components.gallery import Pictures
from gifcore.record import Record
from gifcore.study import parse
from tests.dashboard.opened import captions, charts, keys, open_page, said
from tests.test_runner import TINY, run

GROUPS = [{"name": "class three", "class": 3}, {"name": "*mixed* bag", "samples": [3, 7, 12]}]


@pytest.fixture
def grouped(empty_workspace: Path) -> Record:
    ranking = {"queries": [3], "groups": GROUPS}
    study = parse(TINY | {"methods": ["gradient", "gif"], "ranking": ranking})
    return run(study, empty_workspace, "grouped")


def test_groups_are_shown_by_name_and_keep_in_the_address(grouped: Record) -> None:
    size = grouped.queries[1]["group"]["size"]
    at = open_page("samples", query="-1")
    assert at.query_params["query"] == "-1"
    assert f"Group of test images **class three ({size} images)**" in said(at)
    assert "choose among 3 ranked" in at.expander[0].label
    assert {"query-3", "query--1", "query--2"} <= set(keys(at))
    rows = grouped.scores("gif", -1)
    best = int(rows["train_index"].iloc[0])
    assert re.search(rf"#{best}\b", "\n".join(captions(at)))
    at.button(key="query--2").click().run()
    assert not at.exception
    assert at.query_params["query"] == "-2"
    assert "mixed" in said(at)

    at = open_page("compare", query="-2")  # of several classes
    assert "For group of test images" in said(at)
    assert charts(at) == 1
    assert charts(open_page("compare", query="-2", tab="overlap")) == 1
    other = open_page("compare", query="3")
    assert r"For test image \#3" in said(other)


def test_home_explains_a_group_where_nothing_else_was_ranked(empty_workspace: Path) -> None:
    ranking = {"count": 0, "groups": GROUPS[1:]}
    run(parse(TINY | {"methods": ["gradient"], "ranking": ranking}), empty_workspace, "only")
    words = said(open_page(""))
    assert "how much the loss on group of test images" in words
    assert "**Group of test images**" in words


def test_a_mosaic_of_the_first_four_images() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((5, 2, 3), np.uint8)
    kept = {"test.index": np.arange(5), "test.images": images}
    source = Pictures(None, kept, ["a"])
    group = {"index": -1, "group": {"name": "g", "size": 5, "images": [3, 1, 2]}}
    shown = np.asarray(Image.open(io.BytesIO(source.query_png(group, 6))))
    assert shown.shape == (4, 6)
    assert shown[::2, ::3].tolist() == [[3, 1], [2, 0]]
    alone = {"index": 4}
    assert source.query_png(alone, 6) == source.png("test", 4, 6)
    far = {"index": -1, "group": {"name": "g", "size": 1, "images": [77]}}
    assert source.query_png(far, 40) == source.png("test", 77, 40)

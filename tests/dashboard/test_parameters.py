"""The page Parameters, from the entry point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dashboard.views import layer_maps, parameters
from gifcore.record import Record
from tests.dashboard.make_record import SHAPES, layers, make_record, make_study
from tests.dashboard.opened import charts, open_page, said


@pytest.mark.usefixtures("workspace")
def test_it_says_how_many_numbers_moved_and_where() -> None:
    at = open_page("parameters")
    assert "**IF** moves all 1,898 numbers" in at.markdown[0].value
    assert "**GIF** moves 148 of 1,898 numbers" in at.markdown[0].value
    assert charts(at) == 3


@pytest.mark.usefixtures("workspace")
def test_another_ratio_or_selector_moves_other_numbers() -> None:
    sentences = {
        open_page("parameters", **picks).markdown[0].value
        for picks in ({}, {"ratio": "0.1"}, {"selector": "highest-k-outputs"})
    }
    assert len(sentences) == 3


@pytest.mark.parametrize("layer", SHAPES)
@pytest.mark.usefixtures("workspace")
def test_every_layer_and_its_strongest_unit_can_be_drawn(layer: str) -> None:
    at = open_page("parameters")
    at.selectbox(key="parameters-layer").set_value(layer).run()
    assert not at.exception
    assert charts(at) == 3
    assert f"One unit of {layer}" in [heading.value for heading in at.subheader]


@pytest.mark.usefixtures("workspace")
def test_the_shared_scale_and_the_own_scales_say_where_they_are_clipped() -> None:
    at = open_page("parameters")
    assert "One scale for all, symmetric about 0 and clipped at ±" in said(at)
    at.toggle(key="parameters-own").set_value(True).run()
    assert "Each scale is clipped at the 99th percentile of its own cells" in said(at)


def test_a_layer_without_selection_says_so(
    empty_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record.open(make_record(empty_workspace / "one"))
    full = record.update("gif")
    keep = full[0] >= layers()[2]["offset"]  # nothing of conv1
    monkeypatch.setattr(
        parameters.cache,
        "update",
        lambda _, m: record.update(m) if m == "if" else (full[0][keep], full[1][keep]),
    )
    at = open_page("parameters")
    at.selectbox(key="parameters-layer").set_value("conv1.weight").run()
    assert not at.exception
    assert "GIF selected no parameter of this layer." in said(at)


def test_units_of_the_answering_layer_bear_the_classes() -> None:
    rows = layers()
    names = layer_maps.unit_names(rows[4], rows, [f"c{i}" for i in range(10)])
    assert names[8] == "8 (c8)"
    assert layer_maps.unit_names(rows[0], rows, ["a"] * 8)[3] == "3"


def test_one_method_alone(empty_workspace: Path) -> None:
    make_record(empty_workspace / "one", study=make_study("highest-k-gradients", 0.05, ("gif",)))
    at = open_page("parameters")
    assert "**IF**" not in at.markdown[0].value
    assert charts(at) == 3


@pytest.mark.usefixtures("workspace")
def test_the_panel_draws_the_history_only_when_open() -> None:
    at = open_page("parameters")
    before = charts(at)
    at.session_state["sure-parameters"] = True
    at.run()
    assert not at.exception
    assert charts(at) == before + 1
    assert "normal residual is left" in said(at)
    assert "Negative curvature was met" in said(at)


def test_the_export_holds_every_moved_number_once() -> None:
    rows = [{"name": "a", "size": 3}, {"name": "b", "size": 2}]
    moves = {"gif": (np.array([1, 4]), np.array([0.5, -1.0]))}
    table = parameters.all_moves(rows, moves)
    pd.testing.assert_frame_equal(
        table,
        pd.DataFrame({"index": [1, 4], "layer": ["a", "b"], "gif_delta": [0.5, -1.0]}),
    )

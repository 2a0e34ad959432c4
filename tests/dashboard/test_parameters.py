"""The page Parameters, from the entry point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as plotly
import pytest
from PIL import ImageColor
from safetensors.numpy import load_file

from dashboard import cache, state
from dashboard.charts.heatmap import Panel, heatmap
from dashboard.charts.style import Palette
from dashboard.components import measures, pixels, weights
from dashboard.views import layer_maps, parameters, unit_maps
from gifcore.assets_path import asset
from gifcore.record import Record
from tests.dashboard.make_record import SHAPES, layers, make_record, make_study
from tests.dashboard.opened import captions, charts, go, open_page, said


@pytest.mark.usefixtures("workspace")
def test_it_says_how_many_numbers_moved_and_where() -> None:
    at = open_page("parameters")
    assert "**IF** moves all 1,898 numbers" in at.markdown[0].value
    assert "**GIF** moves 148 of 1,898 numbers" in at.markdown[0].value


@pytest.mark.parametrize(
    ("tab", "drawn", "heading"),
    [
        ("network", ["network"], "The network, layer by layer"),
        ("layer", ["layer"], "conv2.weight: units by inputs"),
        ("unit", ["unit"], "One unit of conv2.weight"),
    ],
)
@pytest.mark.usefixtures("workspace")
def test_only_the_open_tab_is_drawn_and_the_address_says_which(
    tab: str, drawn: list[str], heading: str
) -> None:
    at = open_page("parameters", tab=tab, layer="conv2.weight")
    assert [chart.proto.id.split("-chart-")[-1] for chart in at.get("plotly_chart")] == drawn
    assert [one.value for one in at.subheader][0] == heading
    assert at.selectbox(key="layer").value == "conv2.weight"
    assert "**GIF** moves" in at.markdown[0].value
    go(at, "samples")
    go(at, "parameters")
    assert [one.value for one in at.subheader][0] == heading
    assert at.query_params.get("tab", "network") == tab


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
    for tab, heading in (("layer", f"{layer}: units by inputs"), ("unit", f"One unit of {layer}")):
        at = open_page("parameters", tab=tab)
        at.selectbox(key="layer").set_value(layer).run()
        assert not at.exception
        assert charts(at) == 1
        assert heading in [heading.value for heading in at.subheader]


@pytest.mark.usefixtures("workspace")
def test_the_shared_scale_and_the_own_scales_say_where_they_are_clipped() -> None:
    at = open_page("parameters", tab="layer")
    assert "One scale for all, symmetric about 0 and clipped at ±" in said(at)
    at.toggle(key="parameters-own").set_value(True).run()
    assert "Each scale is clipped at the 99th percentile of its own cells" in said(at)
    at.query_params["tab"] = "unit"
    at.run()
    assert at.toggle(key="parameters-own").value


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
    at = open_page("parameters", tab="layer")
    at.selectbox(key="layer").set_value("conv1.weight").run()
    assert not at.exception
    assert "GIF selected no parameter of this layer." in said(at)


def test_units_of_the_answering_layer_bear_the_classes() -> None:
    rows = layers()
    names = unit_maps.unit_names(rows[4], rows, [f"c{i}" for i in range(10)])
    assert names[8] == "8 (c8)"
    assert unit_maps.unit_names(rows[0], rows, ["a"] * 8)[3] == "3"


def test_one_method_alone(empty_workspace: Path) -> None:
    make_record(empty_workspace / "one", study=make_study("highest-k-gradients", 0.05, ("gif",)))
    at = open_page("parameters")
    assert "**IF**" not in at.markdown[0].value
    for tab in ("network", "layer", "unit"):
        assert charts(open_page("parameters", tab=tab)) == 1


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


# --- from the network to a layer to a unit --------------------------------------------------------


@pytest.mark.usefixtures("workspace")
def test_layer_and_unit_are_in_the_address_and_survive_other_pages() -> None:
    at = open_page("parameters", tab="unit", layer="conv2.weight", unit="5")
    assert at.selectbox(key="layer").value == "conv2.weight"
    assert at.selectbox(key="unit").value == 5
    at.selectbox(key="unit").set_value(7).run()
    assert at.query_params["unit"] == "7"
    go(at, "samples")
    go(at, "parameters")
    assert (at.selectbox(key="layer").value, at.selectbox(key="unit").value) == ("conv2.weight", 7)


@pytest.mark.usefixtures("workspace")
def test_another_layer_forgets_the_unit_of_the_first() -> None:
    at = open_page("parameters", tab="unit", layer="conv2.weight", unit="15")
    at.selectbox(key="layer").set_value("conv1.weight").run()
    fresh = open_page("parameters", tab="unit", layer="conv1.weight")
    assert at.selectbox(key="unit").value == fresh.selectbox(key="unit").value


@pytest.mark.parametrize(("layer", "unit"), [("gone", "3"), ("conv1.weight", "99")])
@pytest.mark.usefixtures("workspace")
def test_an_address_of_what_is_not_there_shows_the_default(layer: str, unit: str) -> None:
    at = open_page("parameters", tab="unit", layer=layer, unit=unit)
    assert at.selectbox(key="layer").value in SHAPES
    assert at.selectbox(key="unit").value < 99


Click = Callable[[Callable[[], None]], dict[str, object]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Click:
    """What a click asks for, its callback being called by itself."""

    def call(click: Callable[[], None]) -> dict[str, object]:
        session: dict[str, object] = {"picked": {"layer": "conv2.weight", "tab": ["moves"]}}
        with monkeypatch.context() as patch:
            patch.setattr(state.st, "session_state", session)
            click()
        return session.get("pending", {})  # type: ignore[return-value]

    return call


@pytest.mark.usefixtures("workspace")
def test_a_click_on_a_tile_opens_the_layer_of_its_module(asked: Click) -> None:
    tiles = {"conv1": "conv1.weight", "conv2": "conv2.weight"}
    assert asked(lambda: parameters._go(tiles, {"label": "elsewhere"})) == {}
    again = asked(lambda: parameters._go(tiles, {"label": "conv2"}))
    assert again == {"layer": "conv2.weight", "tab": ["layer", "moves"]}  # keeps the unit
    picks = asked(lambda: parameters._go(tiles, {"label": "conv1"}))
    assert picks == {"layer": "conv1.weight", "unit": None, "tab": ["layer", "moves"]}
    at = open_page("parameters", layer="conv2.weight", unit="15")
    at.session_state["pending"] = picks
    at.run()
    assert not at.exception
    assert at.subheader[0].value == "conv1.weight: units by inputs"
    assert at.selectbox(key="layer").value == "conv1.weight"
    assert at.query_params["tab"] == "layer,moves"
    assert "unit" not in at.query_params


@pytest.mark.usefixtures("workspace")
def test_a_click_on_a_cell_opens_its_unit(asked: Click, monkeypatch: pytest.MonkeyPatch) -> None:
    clicks = {}

    def chart(figure: plotly.Figure, key: str, clicked: Callable[..., None] | None = None) -> None:
        clicks[key] = (figure, clicked)

    monkeypatch.setattr(layer_maps.look, "chart", chart)
    at = open_page("parameters", tab="layer", layer="conv2.weight")
    figure, clicked = clicks["layer"]
    panel = figure.layout.annotations[-1].text
    assert {trace.legendgroup for trace in figure.data} >= {panel}
    picks = asked(lambda: clicked({"x": 3.0, "y": 11.0, "legendgroup": panel}))
    assert picks == {"unit": 11, "tab": ["unit", "moves"]}
    at.session_state["pending"] = picks
    at.run()
    assert not at.exception
    assert at.subheader[0].value == "One unit of conv2.weight"
    assert at.selectbox(key="unit").value == 11
    assert (at.query_params["unit"], at.query_params["tab"]) == ("11", "unit,moves")


def test_a_point_lies_in_every_cell_and_names_its_units_and_inputs() -> None:
    values = np.array([[0.5, np.nan], [1.0, -0.25], [0.0, 1.0]])
    panel = Panel("GIF", values, 1.0, step=(2, 3), whole=(5, 6))
    moved, other = heatmap([panel], "T", Palette(), clickable=True).data[-2:]
    assert sorted(zip([*moved.y, *other.y], [*moved.x, *other.x], strict=True)) == [
        (unit, column) for unit in (0.5, 2.5, 4.5) for column in (1.0, 4.0)
    ]
    assert moved.customdata.tolist()[-1] == [1.0, 4, 4, 3, 5]  # the last cell spans one unit
    assert other.customdata.tolist()[0][1:] == [0, 1, 3, 5]
    assert moved.marker.maxdisplayed == other.marker.maxdisplayed == 1
    assert ": not selected<" in other.hovertemplate
    whole = heatmap([Panel("IF", np.eye(2), 1.0)], "T", Palette(), clickable=True)
    assert (whole.layout.xaxis.range, whole.layout.yaxis.range) == ((-0.5, 1.5), (1.5, -0.5))
    assert [trace.type for trace in whole.data] == ["heatmap", "scatter"]  # all of it moves
    assert whole.data[-1].hovertemplate.startswith("unit %{y}, input %{x}: ")


def test_a_grey_panel_leaves_the_shared_colour_bar_to_one_that_is_drawn() -> None:
    grey = np.full((2, 2), np.nan)
    names = {"a": grey, "b": np.eye(2), "c": np.eye(2), "d": grey}
    figure = heatmap([Panel(n, v, 1.0) for n, v in names.items()], "T", Palette())
    (bar,) = [trace for trace in figure.data if trace.showscale]
    assert not np.isnan(bar.z).all()
    assert bar.colorbar.x == pytest.approx(figure.layout.xaxis3.domain[1] + 0.01)


def test_modules_add_up_their_tensors() -> None:
    rows = layers()
    table = weights.layer_table(rows, None, np.ones(sum(row["size"] for row in rows)))
    modules = weights.module_table(rows, table).set_index("module")
    assert modules.index.tolist() == ["conv1", "conv2", "fc"]
    assert modules["size"].tolist() == [80, 1168, 650]
    assert modules["layer"].tolist() == ["conv1.weight", "conv2.weight", "fc.weight"]
    np.testing.assert_allclose(modules["norm"] ** 2, modules["size"])


@pytest.mark.parametrize(("click", "unit"), [((2.5, 200.0), 3), ((4.5, 70.0), 4), ((0.0, 0.0), 0)])
def test_a_click_finds_the_unit_that_its_cell_shows(click: tuple[float, float], unit: int) -> None:
    """Cells of 2 units x 64 inputs: the strongest move of each is of the unit that is named."""
    matrix = np.full((6, 256), np.nan)
    matrix[2, 193], matrix[3, 200], matrix[4, 64] = 0.1, -0.4, 0.2
    cut = weights.blocks(matrix, largest=3)
    cut = weights.Blocks(cut.values, 2, 64, 6, 256)
    assert weights.unit_at(cut, matrix, *click) == unit


def test_pixels_have_the_colours_of_the_chart() -> None:
    palette = Palette(dark=False, background="#ffffff")
    matrix = np.array([[-2.0, -1.0, 0.0, 0.5, 1.0, np.nan]])
    found = [tuple(pixel) for pixel in pixels.colours(matrix, 1.0, palette)[0].tolist()]
    low, high = (ImageColor.getrgb(palette.diverging[i][1]) for i in (0, -1))
    middle = ImageColor.getrgb(palette.diverging[3][1])
    grey = ImageColor.getrgb(palette.unselected)
    assert found == [low, low, (255, 255, 255), middle, high, grey]


@pytest.mark.usefixtures("workspace")
def test_full_resolution_draws_a_picture_for_each_method() -> None:
    at = open_page("parameters", tab="layer", layer="conv2.weight")
    before = len(at.get("image"))
    at.toggle(key="parameters-pixels").set_value(True).run()
    assert not at.exception
    assert len(at.get("image")) == before + 2


# --- real records: weights and what excites a unit ------------------------------------------------


def test_a_real_record_shows_weights_before_and_after_and_what_excites_the_unit() -> None:
    at = open_page("parameters", tab="unit", layer="linear.weight", unit="8")
    assert charts(at) == 2  # moves of the unit, its weights
    assert "IF moves it by" in said(at)
    record = Record.open(asset("demo") / "highest-k-gradients-05")
    table = record.units()
    best = table[(table["layer"] == "linear") & (table["unit"] == 8)].sort_values("place")
    assert [caption.split(" · ")[0] for caption in captions(at)[-12:]] == [
        measures.significant(value) for value in best["activation"]
    ]


def test_weights_before_are_those_of_the_checkpoint_and_after_is_before_plus_the_move() -> None:
    folder = asset("demo") / "highest-k-gradients-05"
    theta = cache.weights(folder)
    assert theta is not None
    arrays = load_file(asset("models") / "tinynet-fashion-mnist-mini.safetensors")
    layers_ = Record.open(folder).info["model"]["layers"]
    for layer in layers_:
        mine = theta[layer["offset"] : layer["offset"] + layer["size"]]
        np.testing.assert_array_equal(mine, arrays[layer["name"]].ravel())


@pytest.mark.usefixtures("workspace")
def test_the_table_of_the_inputs_that_move_furthest_is_made_when_it_is_opened() -> None:
    at = open_page("parameters", tab="unit", layer="conv2.weight")
    assert len(at.dataframe) == 0
    at.session_state["unit-strongest"] = True
    at.run()
    assert not at.exception
    table = at.dataframe[0].value
    assert len(table) == unit_maps.STRONGEST
    assert "50 of the unit’s inputs" in said(at)


def test_the_inputs_that_move_furthest_come_first() -> None:
    row = np.array([[[1e-3, np.nan], [-4e-3, 2e-3]]])
    layer = {"name": "c", "shape": [1, 1, 2, 2]}
    table = unit_maps.strongest_inputs({"gif": row, "if": row / 2}, layer)
    assert table["input"].tolist() == [
        f"channel 0, row {r}, column {k}" for r, k in ((1, 0), (1, 1), (0, 0), (0, 1))
    ]
    gif, if_ = (table.iloc[:, i].to_numpy() for i in (1, 2))
    np.testing.assert_allclose(gif[:3] / gif[0], [1, -0.5, -0.25])
    np.testing.assert_allclose(if_, gif / 2)


@pytest.mark.usefixtures("workspace")
def test_a_record_whose_checkpoint_is_another_says_so() -> None:
    at = open_page("parameters", tab="unit")
    assert "the weights before the edit cannot be shown" in said(at)
    assert "run it again" in said(at)

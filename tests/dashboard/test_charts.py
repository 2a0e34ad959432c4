"""Every chart draws what it is given, in both themes, with units on its axes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from dashboard.charts.accuracies import Dot, accuracies
from dashboard.charts.agreement import agreement
from dashboard.charts.confusion import Matrix, confusion
from dashboard.charts.heatmap import Panel, heatmap
from dashboard.charts.layers import layers
from dashboard.charts.overlap import overlap
from dashboard.charts.per_class import Series, per_class
from dashboard.charts.residuals import residuals
from dashboard.charts.score_scatter import score_scatter, thin
from dashboard.charts.step_search import step_search
from dashboard.charts.style import METHOD_LOOKS, Palette, heading, label
from dashboard.charts.ways import Line, recall_curves, speed_quality
from gifcore.outcome import outcome
from gifcore.study import METHOD_LABELS, METHODS

CLASS = outcome({"kind": "remove-class", "label": 1, "class_name": "b", "removed": 5})

PALETTES = [Palette(), Palette(dark=True, background="#12161c")]
TABLE = pd.DataFrame(
    {
        "layer": ["a", "b"],
        "size": [10, 4],
        "selected": [5, 0],
        "share": [0.5, 0.0],
        "norm": [2.0, 0.0],
        "rms": [0.9, 0.0],
    }
)


def _scatter(palette: Palette, units: tuple[str, str] = ("nats", "nats")) -> go.Figure:
    x = np.linspace(-1, 1, 9)
    return score_scatter(
        x,
        x**3,
        marked=x > 0,
        marked_name="same class",
        texts=np.array(["#0"] * 9),
        names=("IF", "GIF"),
        units=units,
        title="T",
        palette=palette,
    )


def _steps(palette: Palette, chosen: float | None = 12.0) -> go.Figure:
    curves = pd.DataFrame(
        {
            "curve": ["self", "self", "retain", "score"],
            "x": [1.0, 10.0, 1.0, 1.0],
            "value": [0.9, 0.1, 0.8, 0.2],
        }
    )
    return step_search(curves, "gif", chosen, "T", palette, CLASS.curves)


WAYS = [
    Line("exact", "Exact", (10, 100), (0.1, 1.0), (0.5, 1.0), (0.4, 1.0), (0.6, 1.0)),
    Line("lissa", "LiSSA", (100,), (0.3,), (0.7,), (0.6,), (0.8,)),
    Line("preview", "Preview", (100,), (0.001,), (0.4,), (0.3,), (0.5,)),
]
AXES = {"share": True, "quality": "recall (%)", "counted": "solve and scores"}
FIGURES = {
    "accuracies": lambda p: accuracies(
        {
            "self": [Dot("Before", "before", "", 0.9, 0.8, 0.95, 40)],
            "retain": [Dot("GIF natural", "gif", "natural", 0.5, 0.4, 0.6, 40)],
        },
        "T",
        p,
    ),
    "agreement": lambda p: agreement(
        ["#1", "#2"],
        [0.5, float("nan")],
        [(0.4, 0.6), (float("nan"),) * 2],
        chosen=0,
        title="T",
        palette=p,
    ),
    "confusion": lambda p: confusion(
        Matrix(np.eye(3), np.eye(3, dtype=int)), ["a", "b", "c"], [0, 2], "T", p, cell=(2, 0)
    ),
    "confusion_change": lambda p: confusion(
        Matrix(-np.eye(3), -np.eye(3, dtype=int), difference=True), ["a", "b", "c"], [0, 1], "T", p
    ),
    "heatmap": lambda p: heatmap([Panel("IF", np.eye(3), 1.0)], "T", p, x_title="input"),
    "layers": lambda p: layers({"if": TABLE, "gif": TABLE}, "norm", "T", p),
    "overlap": lambda p: overlap(
        [1, 10, 100],
        {"Most helpful": np.array([1.0, 0.5, 1.0])},
        chosen="Most helpful",
        k=10,
        n=100,
        title="T",
        palette=p,
    ),
    "per_class": lambda p: per_class(
        [Series("Before", "before", "", [0.5, None])], ["a", "b"], 1, "T", p
    ),
    "recall_curves": lambda p: recall_curves(
        pd.DataFrame(
            {"criterion": ["largest", "helpful"] * 2, "k": [10, 10, 100, 100]}
            | dict.fromkeys(("kept", "found", "control"), [0.1, 0.2, 1.0, 1.0])
        ),
        100,
        found="LiSSA",
        title="T",
        palette=p,
    ),
    "residuals": lambda p: residuals(
        {"gif": pd.DataFrame({"x": [0, 1], "value": [1.0, 0.5]})}, "T", p
    ),
    "score_scatter": _scatter,
    "speed_quality": lambda p: speed_quality(WAYS, **AXES, title="T", palette=p),
    "step_search": _steps,
}


@pytest.mark.parametrize("palette", PALETTES, ids=["light", "dark"])
@pytest.mark.parametrize("name", FIGURES)
def test_every_chart_has_a_heading_axis_titles_and_no_background(
    name: str, palette: Palette
) -> None:
    figure = FIGURES[name](palette)
    assert heading(figure) == "T"
    assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert len(figure.data) > 0
    titles = [axis.title.text for axis in figure.select_xaxes()]
    assert any(titles) or name == "heatmap"
    figure.to_json()  # every value can be sent to a browser


def test_the_diverging_scale_passes_through_the_background() -> None:
    for palette in PALETTES:
        assert dict(palette.diverging)[0.5] == palette.background
        assert palette.unselected != palette.background


def test_unselected_cells_are_grey_and_not_the_colour_of_zero() -> None:
    values = np.array([[0.0, np.nan]])
    figure = heatmap([Panel("GIF", values, 1.0)], "T", PALETTES[0])
    grey, moves = figure.data
    assert np.isnan(grey.z[0][0])
    assert grey.z[0][1] == 1
    assert grey.colorscale[0][1] == PALETTES[0].unselected
    assert (moves.zmin, moves.zmax) == (-1.0, 1.0)


def test_a_gap_between_kernels_is_neither_grey_nor_coloured() -> None:
    there = np.array([[True, False]])
    figure = heatmap(
        [Panel("GIF", np.array([[np.nan, np.nan]]), 1.0, there=there)], "T", PALETTES[0]
    )
    assert figure.data[0].z[0][0] == 1
    assert np.isnan(figure.data[0].z[0][1])


def test_equal_limits_share_one_colour_bar_and_different_ones_do_not() -> None:
    def bars(limits: tuple[float, float]) -> int:
        panels = [Panel(str(i), np.eye(2), limit) for i, limit in enumerate(limits)]
        return sum(bool(trace.showscale) for trace in heatmap(panels, "T", PALETTES[0]).data)

    assert bars((1.0, 1.0)) == 1
    assert bars((1.0, 2.0)) == 2


def test_marks_on_log_axes_are_where_they_say() -> None:
    figure = _steps(PALETTES[0], chosen=100.0)
    assert [shape.x0 for shape in figure.layout.shapes] == [1.0, 100.0]
    assert [note.x for note in figure.layout.annotations] == [0.0, 2.0]
    low, high = figure.layout.xaxis.range
    assert low < 0
    assert 1 < high < 1.2  # the data end at 10; the axis is in powers of ten


def test_no_chosen_step_marks_only_the_natural_one() -> None:
    assert len(_steps(PALETTES[0], chosen=None).layout.shapes) == 1


def test_the_line_of_equal_scores_needs_equal_units() -> None:
    assert len(_scatter(PALETTES[0]).data) == 3
    assert len(_scatter(PALETTES[0], units=("nats", "10⁻³ nats")).data) == 2


def test_thinning_keeps_the_strongest_and_the_limit() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 1000))
    x[17] = 100
    kept = thin(x, y, most=100)
    assert len(kept) <= 100
    assert 17 in kept
    assert len(set(kept.tolist())) == len(kept)
    assert thin(x, y, most=1000).tolist() == list(range(1000))


def test_many_classes_leave_the_cells_without_text() -> None:
    names = [f"class {i}" for i in range(40)]
    matrix = Matrix(np.eye(40), np.eye(40, dtype=int))
    figure = confusion(matrix, names, list(range(40)), "T", PALETTES[0])
    assert figure.data[0].texttemplate is None


def test_every_method_has_a_look_and_the_name_that_records_give_it() -> None:
    assert set(METHOD_LOOKS) == set(METHODS)
    for dark in (False, True):
        palette = Palette(dark=dark)
        colours = {palette.method(method) for method in METHODS}
        assert len(colours) == len(METHODS)
        assert not colours & {palette.helpful, palette.harmful, palette.muted}
    assert len({look.symbol for look in METHOD_LOOKS.values()}) == len(METHODS)
    assert [label(method) for method in METHODS] == [METHOD_LABELS[method] for method in METHODS]
    assert label("of another engine") == "of another engine"


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("limits", [[1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]])
def test_more_than_three_panels_go_into_further_rows(limits: list[float], square: bool) -> None:
    panels = [Panel(str(i), np.eye(2), limit) for i, limit in enumerate(limits)]
    figure = heatmap(panels, "T", PALETTES[0], height=200, square=square)
    assert figure.layout.height == 400
    first, fourth = figure.get_subplot(1, 1), figure.get_subplot(2, 1)
    assert first.xaxis.domain == fourth.xaxis.domain
    assert fourth.yaxis.domain[1] < first.yaxis.domain[0]
    bars = [trace.colorbar for trace in figure.data if trace.showscale]
    assert len(bars) == len(set(limits))
    for bar, panel in zip(bars, [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)], strict=False):
        axes = figure.get_subplot(*panel if len(bars) > 1 else (1, 3))
        assert bar.x == pytest.approx(axes.xaxis.domain[1] + 0.01)
        if len(bars) > 1:
            assert axes.yaxis.domain[0] < bar.y < axes.yaxis.domain[1]
    if square:
        anchors = [axis.scaleanchor for axis in figure.select_yaxes()]
        assert anchors[:5] == ["x", "x2", "x3", "x4", "x5"]


def test_ways_are_told_apart_by_symbol_and_colour_and_say_their_k() -> None:
    figure = speed_quality(WAYS, **AXES, title="T", palette=PALETTES[1])
    looks = {(trace.marker.symbol, trace.marker.color) for trace in figure.data}
    assert len({symbol for symbol, _ in looks}) == len({colour for _, colour in looks}) == 3
    exact = figure.data[0]
    assert exact.text is None
    assert list(exact.y) == [50, 100]
    assert list(exact.customdata[0]) == ["10", 40.0, 60.0]
    close = [Line("gradient", "G", (10, 20, 100), (0.1, 0.2, 1), *[(0.5, 0.51, 1.0)] * 3)]
    words = speed_quality(close, **AXES, title="T", palette=PALETTES[0]).data[0].text
    assert [word.strip() for word in words] == ["k = 10", "", "k = 100"]

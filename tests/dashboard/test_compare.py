"""The page Compare, from the entry point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from dashboard.charts.score_scatter import FEW, MOST, cells, score_scatter, thin
from dashboard.charts.style import Palette
from dashboard.components import certificate as panel
from dashboard.components import measures
from dashboard.views import compare_scores
from gifcore.record import Record
from gifcore.study import EditSection, RankingSection
from tests.dashboard.make_record import QUERIES, certificate, make_record, make_study
from tests.dashboard.opened import open_page, said

RANKINGS = {"score-scatter"}


def drawn(at: AppTest) -> set[str]:
    """The keys of the charts of the page."""
    return {chart.proto.id.split("-chart-")[1] for chart in at.get("plotly_chart")}


def costs(at: AppTest) -> pd.DataFrame:
    """The table of costs."""
    return next(table.value for table in at.dataframe if "products" in table.value)


def _scores(record: Record, method: str) -> np.ndarray:
    frame = record.scores(method, QUERIES[0]).sort_values("train_index")
    return frame["influence"].to_numpy()


def test_the_answer_is_what_the_scores_say(workspace: Path) -> None:
    record = Record.open(workspace / "g05")
    x, y = (_scores(record, method) for method in ("if", "gif"))
    text = said(open_page("compare"))
    shared = measures.overlap(x, y, 50, "helpful")
    assert f"share {shared} of their 50 most helpful training images" in text
    assert f"ρ = **{measures.spearman(x, y):.3f}**" in text


@pytest.mark.parametrize("side", list(measures.SIDES))
@pytest.mark.usefixtures("workspace")
def test_every_end_of_the_ranking_can_be_compared(side: measures.Side) -> None:
    at = open_page("compare", k="10")
    at.session_state["compare-side"] = side
    at.run()
    assert not at.exception
    assert "of their 10 " in said(at)
    assert drawn(at) == RANKINGS


@pytest.mark.usefixtures("workspace")
def test_another_ratio_changes_the_agreement() -> None:
    texts = {said(open_page("compare", ratio=r)) for r in ("0.05", "0.1")}
    assert len(texts) == 2


def test_one_method_is_not_compared_but_its_cost_is_shown(empty_workspace: Path) -> None:
    make_record(empty_workspace / "one", study=make_study("highest-k-gradients", 0.05, ("gif",)))
    at = open_page("compare")
    assert "holds only GIF: nothing to compare" in said(at)
    assert costs(at)["method"].tolist() == ["GIF"]


def test_no_solve_has_no_residual() -> None:
    solved = certificate("query", "if", good=False)
    direct = solved | {"solver": "none", "status": "no system", "negative_curvature": False}
    direct |= {
        "residual": 0.0,
        "judged_by": "residual",
        "advice": "A gradient: no system was solved.",
        "rank_stability": None,
    }
    assert "% of the normal residual is left" in panel.sentence("if", solved)
    assert panel.sentence("gradient", direct) == (
        "**Gradient: no system.** A gradient: no system was solved."
    )
    shown = panel.table({"gradient": direct})["Gradient"]
    assert {shown["residual"], shown["judged by"], shown["negative curvature"]} == {"n/a"}


def test_three_methods_are_compared_in_pairs(empty_workspace: Path) -> None:
    methods = ("if", "gif", "gradient")
    make_record(empty_workspace / "one", study=make_study("highest-k-gradients", 0.05, methods))
    at = open_page("compare")
    at.selectbox(key="compare-first").set_value("gradient").run()
    assert not at.exception
    assert "Gradient and GIF share" in said(at)  # the second choice stays
    at.selectbox(key="compare-first").set_value("if").run()
    assert not at.exception


def test_without_ranked_images_only_costs_are_compared(empty_workspace: Path) -> None:
    study = make_study("highest-k-gradients", 0.05).model_copy(
        update={"ranking": RankingSection(queries=(), count=0)}
    )
    make_record(empty_workspace / "one", study=study)
    at = open_page("compare")
    assert "only edits and costs can be compared" in said(at)
    assert "rank a test image with both, under *Samples*" in said(at)
    at = open_page("compare", tab="every")
    assert "Both ranked no test image." in said(at)
    assert "rank a test image with both, under *Samples*" in said(at)
    assert not drawn(at)
    assert len(costs(open_page("compare", tab="costs"))) == 2
    assert drawn(open_page("compare", tab="moves")) == {"compare-layers", "compare-layer"}
    assert drawn(open_page("compare", tab="edits")) == {"compare-images"}


def test_one_common_test_image_is_not_compared_with_itself(empty_workspace: Path) -> None:
    study = make_study("highest-k-gradients", 0.05)
    study = study.model_copy(update={"ranking": RankingSection(queries=QUERIES[:1])})
    make_record(empty_workspace / "one", study=study)
    at = open_page("compare", tab="every")
    assert f"Both ranked only #{QUERIES[0]} ·" in said(at).replace("\\", "")
    assert "rank a second test image with both" in said(at)
    assert not drawn(at)


def test_a_record_without_edits_says_so_and_what_to_do(empty_workspace: Path) -> None:
    study = make_study("highest-k-gradients", 0.05)
    study = study.model_copy(update={"edit": EditSection(enabled=False)})
    make_record(empty_workspace / "one", study=study)
    words = {
        "moves": ("no parameter was moved by either", "choose methods above that edit one model"),
        "edits": ("Neither was evaluated as an edit", "under *New study*"),
    }
    for tab, said_there in words.items():
        at = open_page("compare", tab=tab)
        assert all(text in said(at) for text in said_there)
        assert not drawn(at)
    assert len(costs(open_page("compare", tab="costs"))) == 2


# --- tabs -----------------------------------------------------------------------------------------

TABS = {
    "rankings": ("Scores", RANKINGS),
    "overlap": ("Overlap", {"overlap"}),
    "flow": ("Rank flow", {"rank-flow"}),
    "every": ("All test images", {"agreement"}),
    "moves": ("Parameters", {"compare-layers", "compare-layer"}),
    "edits": ("Edits", {"compare-images"}),
    "costs": ("Costs", set()),
}


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.usefixtures("workspace")
def test_only_the_open_tab_is_drawn_and_the_address_says_which(tab: str) -> None:
    at = open_page("compare", tab=tab)
    assert [one.label for one in at.tabs] == [title for title, _ in TABS.values()]
    assert [one.label for one in at.tabs if one.children] == [TABS[tab][0]]
    assert drawn(at) == TABS[tab][1]
    assert len(drawn(at)) <= 3
    assert at.query_params.get("tab", "rankings") == tab
    at.selectbox(key="query").set_value(QUERIES[1]).run()  # whatever else is picked, it stays
    assert drawn(at) == TABS[tab][1]
    assert at.query_params.get("tab", "rankings") == tab
    assert at.query_params["query"] == str(QUERIES[1])


@pytest.mark.usefixtures("workspace")
def test_another_tab_is_opened_and_one_that_is_unknown_is_the_first() -> None:
    at = open_page("compare", tab="nonsense")
    assert not at.exception
    assert drawn(at) == RANKINGS
    for tab, (_, charts) in TABS.items():
        at.query_params["tab"] = tab
        at.run()
        assert not at.exception
        assert drawn(at) == charts, tab


@pytest.mark.usefixtures("workspace")
def test_downloads_are_in_the_tab_they_belong_to() -> None:
    words = {"rankings": "Both scores of every", "moves": "Every moved number", "costs": "CSV"}
    for tab, what in words.items():
        at = open_page("compare", tab=tab)
        labels = [button.label for button in at.get("download_button")]
        assert any(what in label for label in labels), tab
        others = [one for name, one in words.items() if name != tab and one != "CSV"]
        assert not any(one in label for one in others for label in labels), tab


@pytest.mark.usefixtures("workspace")
def test_messages_to_the_browser_stay_small() -> None:
    for tab in TABS:
        for chart in open_page("compare", tab=tab).get("plotly_chart"):
            assert len(chart.proto.spec) < 100_000, (tab, chart.proto.id)


# --- the scatter ----------------------------------------------------------------------------------


def scatter(n: int, palette: Palette | None = None) -> tuple[np.ndarray, np.ndarray, go.Figure]:
    """Two correlated lists of heavy-tailed scores and their chart."""
    rng = np.random.default_rng(4)
    x = rng.standard_t(2, n)
    y = x + rng.standard_t(2, n)
    dots = thin(x, y)
    return (
        x,
        y,
        score_scatter(
            x,
            y,
            marked=np.arange(n) % 7 == 0,
            marked_name="Bag",
            texts=np.array([f"#{i}" for i in dots], dtype=object),
            names=("IF", "GIF"),
            units=("nats", "nats"),
            title="T",
            palette=palette or Palette(),
        ),
    )


@pytest.mark.parametrize("dark", [False, True])
def test_every_sample_is_a_dot_or_counted_in_the_shading(dark: bool) -> None:
    x, y, figure = scatter(5_000, Palette(dark=dark))
    shading, others, own, _ = figure.data
    assert shading.type == "heatmap"
    assert {trace.type for trace in figure.data[1:]} == {"scatter"}  # no graphics card is needed
    assert len(others.x) + len(own.x) == MOST
    counts = np.asarray(shading.customdata)
    assert counts.sum() == 5_000 - MOST
    z = np.asarray(shading.z)
    np.testing.assert_allclose(10 ** z[counts > 0], counts[counts > 0], rtol=1e-5)
    assert np.isnan(z[counts == 0]).all()  # an empty cell is transparent
    assert list(shading.colorbar.ticktext)[:3] == ["1", "10", "100"]
    np.testing.assert_allclose([10**at for at in shading.colorbar.tickvals[:3]], [1, 10, 100])
    dots = thin(x, y)
    for values in (x, y):
        assert np.abs(values).argmax() in dots
    assert [int(text[1:]) % 7 for text in own.text] == [0] * len(own.x)
    np.testing.assert_array_equal(own.x, x[[int(text[1:]) for text in own.text]])
    assert len(figure.to_json()) < 30_000
    assert figure.layout.hoverdistance < 10  # else dots answer for the cells around them


def test_a_cell_counts_the_samples_that_lie_in_it() -> None:
    x, y, figure = scatter(5_000)
    shading = figure.data[0]
    dots = thin(x, y)
    counts = np.asarray(shading.customdata)
    row, column = np.unravel_index(counts.argmax(), counts.shape)
    middle = shading.x0 + column * shading.dx, shading.y0 + row * shading.dy
    here = (np.abs(x - middle[0]) < shading.dx / 2) & (np.abs(y - middle[1]) < shading.dy / 2)
    here[dots] = False
    assert counts[row, column] == here.sum() > 10


def test_few_samples_are_all_dots() -> None:
    x, _, figure = scatter(FEW)
    assert [trace.type for trace in figure.data] == ["scatter"] * 3
    assert len(figure.data[0].x) + len(figure.data[1].x) == len(x)
    assert compare_scores.scatter_words(FEW, FEW).startswith(
        f"One dot per training image, all {FEW};"
    )
    words = compare_scores.scatter_words(150, 8_000)
    assert words.startswith("Dots: the 150 of 8,000 training images")
    assert "The other 7,850 are in the shading" in words


def test_samples_that_all_score_the_same_are_drawn() -> None:
    x = np.zeros(1_000)
    counts, columns, rows = cells(x, x, thin(x, x))
    assert counts.tolist() == [[1_000 - MOST]]
    assert columns[0] == pytest.approx(0, abs=0.02)
    assert rows[0] == pytest.approx(0, abs=0.02)


def test_the_score_table_ranks_from_most_helpful() -> None:
    table = compare_scores.score_table({"gif": np.array([-1.0, 3.0, 2.0])})
    assert table["gif_rank"].tolist() == [2, 0, 1]


def test_the_finding_of_the_scatter_names_the_larger_method() -> None:
    title = compare_scores.scatter_title(np.array([1.0, -1.0]), np.array([4.0, 4.0]), ("IF", "GIF"))
    assert (
        title == "Signs agree for 50 % of the training images; "
        "the scores of GIF are 4.00 times as large"
    )

"""The page Compare, from the entry point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboard.components import certificate as panel
from dashboard.components import measures
from dashboard.views import compare_scores
from gifcore.record import Record
from gifcore.study import RankingSection
from tests.dashboard.make_record import QUERIES, certificate, make_record, make_study
from tests.dashboard.opened import open_page, said


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
    assert drawn(at) >= {"score-scatter", "overlap", "rank-flow", "agreement"}


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
    assert len(costs(at)) == 2
    assert drawn(at) == {"compare-layers", "compare-layer", "compare-images"}


def test_the_score_table_ranks_from_most_helpful() -> None:
    table = compare_scores.score_table({"gif": np.array([-1.0, 3.0, 2.0])})
    assert table["gif_rank"].tolist() == [2, 0, 1]


def test_the_finding_of_the_scatter_names_the_larger_method() -> None:
    title = compare_scores.scatter_title(np.array([1.0, -1.0]), np.array([4.0, 4.0]), ("IF", "GIF"))
    assert (
        title == "Signs agree for 50 % of the training images; "
        "the scores of GIF are 4.00 times as large"
    )

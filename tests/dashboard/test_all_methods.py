"""Every page with a record of every method; second-order is in it and ranks nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from dashboard.components import certificate as panel
from dashboard.components import sidebar
from dashboard.views import before_after, samples
from gifcore.cli import app as command
from gifcore.record import RECORD, Record
from gifcore.showing import WIDEST
from gifcore.study import METHOD_LABELS, RANKS, EditSection, parse
from tests.dashboard.make_record import (
    ALL_METHODS,
    LATER,
    QUERIES,
    REASON,
    certificate,
    make_record,
    make_record_of_all,
    make_study,
)
from tests.dashboard.opened import charts, open_page, said

EVERY = ",".join(ALL_METHODS)
RECORD_PAGES = ("samples", "parameters", "before-after", "compare")


@pytest.fixture(scope="session")
def record_of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_record_of_all(tmp_path_factory.mktemp("all") / "all")


@pytest.fixture
def all_methods(empty_workspace: Path, record_of_all: Path) -> Path:
    return Path(shutil.copytree(record_of_all, empty_workspace / "all"))


def only(folder: Path, *methods: str, edit: bool = True) -> Path:
    """A record of these methods alone."""
    study = make_study("highest-k-gradients", 0.05, methods)
    return make_record(folder, study=study.model_copy(update={"edit": EditSection(enabled=edit)}))


def without_later_keys(folder: Path) -> None:
    """Make the record one of an engine that did not write the newer facts."""
    info = json.loads((folder / RECORD).read_text())
    for entry in info["methods"].values():
        for one in [entry["certificate"], *entry.get("query_certificates", {}).values()]:
            for key in LATER:
                del one[key]
    (folder / RECORD).write_text(json.dumps(info))


def opened_panel(page: str, key: str, **address: str) -> AppTest:
    at = open_page(page, **address)
    at.session_state[f"sure-{key}"] = True
    at.run()
    assert not at.exception
    assert not at.error
    return at


# --- pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*RECORD_PAGES, "", "studies"])
@pytest.mark.usefixtures("all_methods")
def test_every_page_draws_two_methods_first_and_all_if_asked(page: str) -> None:
    at = open_page(page)
    if page in RECORD_PAGES:
        assert at.session_state["context"].methods == ["if", "gif"]
        at = open_page(page, methods=EVERY)
        assert at.session_state["context"].methods == list(ALL_METHODS)


@pytest.mark.usefixtures("all_methods")
def test_samples_shows_all_that_rank_and_says_who_does_not() -> None:
    at = open_page("samples", methods=EVERY)
    text = said(at)
    for method in ALL_METHODS:
        assert (f"**{METHOD_LABELS[method]}**: influence" in text) == RANKS[method]
    assert "Second-order gives an update and no ranking" in text
    alone = open_page("samples", methods="second-order")
    assert "Second-order gives an update and no ranking" in said(alone)
    assert alone.button(key=f"query-{QUERIES[1]}")


@pytest.mark.usefixtures("all_methods")
def test_compare_offers_what_ranks_and_gives_the_costs_of_all() -> None:
    at = open_page("compare")
    offered = [METHOD_LABELS[m] for m in ALL_METHODS if RANKS[m]]
    assert at.selectbox(key="compare-first").options == [*offered, "Second-order"]
    tables = open_page("compare", tab="costs").dataframe
    costs = next(table.value for table in tables if "products" in table.value)
    assert costs["method"].tolist() == [METHOD_LABELS[m] for m in ALL_METHODS]
    at.selectbox(key="compare-first").set_value("tracin").run()
    at.selectbox(key="compare-second").set_value("ekfac").run()
    assert not at.exception
    assert "TracIn and EK-FAC share" in said(at)
    at.session_state["sure-compare"] = True
    at.run()
    assert "**EK-FAC: closed form.**" in said(at)  # of the pair, whatever the sidebar says
    assert "**GIF:" not in said(at)


@pytest.mark.usefixtures("all_methods")
def test_parameters_and_edits_of_all_methods() -> None:
    at = open_page("parameters", methods=EVERY)
    for method in ALL_METHODS:
        assert f"**{METHOD_LABELS[method]}** moves" in at.markdown[0].value
    assert charts(at) == 1
    at = open_page("parameters", methods=EVERY, tab="layer")
    assert "of the moved numbers" in said(at)
    (layer,) = [one for one in at.selectbox(key="layer").options if "conv2.w" in one]
    assert layer == "conv2.weight: 16 units × 72 inputs; 72 selected"
    at = open_page("before-after", methods=EVERY)
    assert len(at.dataframe[0].value) == 1 + 2 * len(ALL_METHODS)
    assert "of 10 methods GIF scores best" in said(at)


@pytest.mark.usefixtures("all_methods")
def test_studies_lists_the_edits_of_all_methods() -> None:
    columns = list(open_page("studies").dataframe[0].value)
    assert columns[columns.index("Removed before") + 2 :: 2] == [
        f"Removed {METHOD_LABELS[m]}" for m in ("if", "gif", "gradient", *ALL_METHODS[3:])
    ]


@pytest.mark.parametrize("edit", [True, False])
@pytest.mark.parametrize("page", [*RECORD_PAGES, "", "studies"])
def test_a_study_of_second_order_alone_draws(empty_workspace: Path, page: str, edit: bool) -> None:
    only(empty_workspace / "one", "second-order", edit=edit)
    at = open_page(page)
    if page == "samples":
        at.number_input(key="preview").set_value(5).run()
        assert not at.exception
        assert "The methods of this study give no ranking." in said(at)


def test_one_ranking_and_one_update_are_not_compared(empty_workspace: Path) -> None:
    only(empty_workspace / "one", "gif", "second-order")
    assert "only GIF ranked test image \\#3" in said(open_page("compare"))
    assert "no second method" in said(open_page("samples", methods="gif"))


@pytest.mark.parametrize(
    ("offered", "shown"),
    [
        (["if", "gif", "gradient"], ["if", "gif", "gradient"]),
        (["tracin", "if", "ekfac", "gif"], ["if", "gif"]),
        (["tracin", "if", "ekfac", "freeze"], ["tracin", "if"]),
    ],
)
def test_few_methods_are_shown_first(offered: list[str], shown: list[str]) -> None:
    assert sidebar.first_shown(offered) == shown


def test_many_methods_have_a_heading_that_names_the_best(all_methods: Path) -> None:
    info = Record.open(all_methods).info
    title = before_after.accuracies_title(info, list(ALL_METHODS))
    assert title == (
        "8: of 10 methods GIF scores best (F1 0.965); the removed class is left at 0.9 % to "
        "60.5 %, 96.0 % before"
    )
    assert "after GIF’s searched step" in before_after.accuracies_title(info, ["if", "gif"])


def test_who_does_not_rank_is_named(all_methods: Path) -> None:
    at = open_page("samples")
    context = at.session_state["context"]
    assert samples.unranked(context, ["gif"]) == "Test image #3 is not ranked by GIF."
    assert all_methods.name == context.record_path.name


# --- certificates ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("all_methods")
def test_the_panel_of_a_ranking_says_every_new_fact() -> None:
    text = said(opened_panel("samples", "samples", methods=EVERY))
    assert "47 of the top 50 were already there at half the budget." in text
    assert "31 of the top 50 were already there at half the budget: the ranking still" in text
    assert "40 of the top 50 were already there at half the budget." in text  # 0.8 is enough
    assert "Freeze, set automatically: damping = sqrt(eps) lambda" in text
    assert "TracIn, note: a sum over 3 checkpoints" in text
    assert "**EK-FAC: closed form.**" in text


@pytest.mark.usefixtures("all_methods")
def test_the_panel_of_an_update_has_second_order_and_no_stability() -> None:
    at = opened_panel("parameters", "parameters", methods=EVERY)
    assert [len(table.value.columns) for table in at.table] == [5, 5]
    text = said(at)
    assert "**Second-order: iteration limit.**" in text
    assert "half the budget" not in text
    assert "note: two solves: the worse certificate" in text.replace("\\", "")


@pytest.mark.parametrize("page", RECORD_PAGES)
def test_old_records_lack_the_new_facts_and_draw(all_methods: Path, page: str) -> None:
    without_later_keys(all_methods)
    text = said(opened_panel(page, page, methods="if,gif"))
    assert "iteration limit" in text
    assert "half the budget" not in text


def column(method: str, **changes: Any) -> dict[str, str]:
    study = parse({"curvature": {"kind": "ggn", "sampler": "entropy"}})
    one = certificate("query", method, good=True) | changes
    return panel.table({method: one}, study, 50)[METHOD_LABELS[method]].to_dict()


def test_the_table_names_solver_curvature_and_effective_damping() -> None:
    shown = column("projected")
    assert shown["solver"] == "minres"
    assert shown["curvature"] == "Gauss-Newton, 512 samples, spread over uncertainty, full set"
    assert shown["effective damping (the solver's own)"] == "50.0"
    assert shown["top of the ranking there at half the budget"] == "40 of 50"
    assert column("gif")["effective damping (the solver's own)"] == "n/a"
    closed = column("ekfac")
    assert closed["curvature"].startswith("EK-FAC, 512 samples")
    assert closed["effective damping (the solver's own)"] == "0.0120"
    assert {closed["residual"], closed["judged by"]} == {"n/a"}
    assert column("gradient")["curvature"] == "none"


def test_a_small_training_set_has_a_shorter_top() -> None:
    one = certificate("query", "gif", good=True) | {"rank_stability": 0.5}
    assert "10 of the top 20 were" in panel.sentence("gif", one, 20)


# --- the terminal ---------------------------------------------------------------------------------


def shown(folder: Path) -> str:
    answer = CliRunner().invoke(command, ["show", str(folder)], env={"COLUMNS": "240"})
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def test_show_prints_the_new_facts_within_100_columns(all_methods: Path) -> None:
    text = shown(all_methods)
    table = [line for line in text.splitlines() if line[:1] in "┏┃┡│└"]
    assert max(len(line) for line in table) <= WIDEST == 100
    words = " ".join(" ".join(line.strip("│ ").split("│")[-1] for line in table).split())
    assert "top 50: 47 at half budget" in words
    assert "effective damping 50" in words
    assert f"auto: {REASON}" in words
    assert "note: two solves: the worse certificate" in words
    assert "ekfac closed form" in words
    for method in ALL_METHODS:
        assert METHOD_LABELS[method] in text


def test_show_of_an_old_record_leaves_them_out(all_methods: Path) -> None:
    without_later_keys(all_methods)
    text = shown(all_methods)
    assert "half budget" not in text
    assert "lsmr, 20 it, 43 products" in text

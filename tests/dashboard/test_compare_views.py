"""Compare holds two views against one another: ratios, selectors, studies, what is not there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import cache, library, pairing
from dashboard.components import measures, weights
from dashboard.views import compare_edits, compare_maps, compare_scores
from gifcore.record import Record
from gifcore.study import EditSection, RankingSection, Study
from tests.dashboard.make_record import QUERIES, make_record, make_study
from tests.dashboard.opened import ROOT, TABS, figures, open_page, said
from tests.dashboard.test_compare import RANKINGS as SCORES
from tests.dashboard.test_compare import costs, drawn

DEMO = ROOT / "assets" / "demo"
RANKINGS = SCORES | {"overlap", "rank-flow"}
UPDATES = {"compare-layers", "compare-layer"}


def scores(folder: Path, method: str = "gif", query: int = QUERIES[0]) -> np.ndarray:
    frame = Record.open(folder).scores(method, query).sort_values("train_index")
    return frame["influence"].to_numpy()


def key_of(folder: Path) -> str:
    return str(Record.open(folder).info["family"][: library.FAMILY_DIGITS])


def study_of(label: int, *, queries: tuple[int, ...] = QUERIES, edit: bool = True) -> Study:
    """A study of another family: another class is to be forgotten."""
    study = make_study("highest-k-gradients", 0.05)
    return study.model_copy(
        update={
            "title": f"Forget class {label}",
            "change": study.change.model_copy(update={"label": label}),
            "ranking": RankingSection(queries=queries),
            "edit": EditSection(enabled=edit),
        }
    )


def two_studies(folder: Path, second: Study | None = None) -> str:
    """Write two records of two families into a workspace; return how `other` names the second."""
    make_record(folder / "a")
    make_record(folder / "b", study=second or study_of(3))
    return key_of(folder / "b")


def tab(at: AppTest, name: str) -> AppTest:
    """Open another tab of the page, as a link does."""
    at.query_params["tab"] = name
    at.run()
    assert not at.exception
    return at


def all_drawn(at: AppTest) -> set[str]:
    """The keys of the charts of all tabs; the first one is open afterwards."""
    return set().union(*(drawn(tab(at, name)) for name in reversed(TABS["compare"])))


def answered(
    folder: Path, other: Path, methods: tuple[str, str] = ("gif", "gif"), query: int = QUERIES[0]
) -> str:
    """What the page says of the rankings of two records."""
    x, y = scores(folder, methods[0], query), scores(other, methods[1], query)
    shared = measures.overlap(x, y, 50, "helpful")
    return f"share {shared} of their 50 most helpful training images**"


# --- ratios and selectors -------------------------------------------------------------------------


def test_two_ratios_of_one_method(workspace: Path) -> None:
    at = open_page("compare", ratio="0.05", query="17", other="::0.1:gif:gif")
    text = said(at)
    assert (
        "**GIF at 5 % and GIF at 10 % " + answered(workspace / "g05", workspace / "g10", query=17)
        in text
    )
    assert all_drawn(at) == RANKINGS | UPDATES | {"compare-images", "agreement"}
    table = costs(tab(at, "costs"))
    assert table["method"].tolist() == ["GIF at 5 %", "GIF at 10 %"]
    assert {"products", "in all", "peak memory", "parameters touched"} <= set(table)
    assert at.query_params["other"] == ":highest-k-gradients:0.1:gif:gif"


def test_two_selectors_by_hand_are_kept_in_the_address(workspace: Path) -> None:
    at = open_page("compare", selector="highest-k-gradients", ratio="0.05")
    at.segmented_control(key="compare-what").set_value("setting").run()
    at.selectbox(key="compare-combination").set_value("highest-k-outputs:0.05").run()
    assert not at.exception
    names = "GIF (highest-k gradients) and GIF (highest-k outputs)"
    answer = answered(workspace / "g05", workspace / "o05")
    assert f"**{names} {answer}" in said(at)
    assert at.query_params["other"] == ":highest-k-outputs:0.05:gif:gif"
    again = open_page("compare", **at.query_params)
    assert f"**{names} {answer}" in said(again)
    at.selectbox(key="compare-first").set_value("if").run()
    answer = answered(workspace / "g05", workspace / "o05", ("if", "gif"))
    assert f"**IF and GIF (highest-k outputs) {answer}" in said(at)
    assert at.query_params["other"] == ":highest-k-outputs:0.05:if:gif"
    at.segmented_control(key="compare-what").set_value("method").run()
    assert at.query_params["other"] == ":::if:gif"
    assert "**IF and GIF share" in said(at)


@pytest.mark.parametrize("ratio", [1 / 3, 0.333333])
def test_ratios_of_many_digits_are_told_apart(workspace: Path, ratio: float) -> None:
    for name, own in (("third", 1 / 3), ("near", 0.333333)):
        make_record(workspace / name, selector="highest-k-outputs", ratio=own)
    other = f":highest-k-outputs:{ratio}:gif:gif"
    at = open_page("compare", ratio="0.05", other=other)
    assert at.query_params["other"] == other
    assert not at.warning


def test_the_sidebar_moves_the_first_view_and_leaves_the_second(workspace: Path) -> None:
    at = open_page("compare", ratio="0.05", other=":highest-k-outputs:0.1:gif:gif")
    at.select_slider(key="ratio").set_value(0.1).run()
    answer = answered(workspace / "g10", workspace / "o10")
    assert f"**GIF (highest-k gradients) and GIF (highest-k outputs) {answer}" in said(at)
    at.selectbox(key="selector").set_value("highest-k-outputs").run()  # onto the second view
    answer = answered(workspace / "o10", workspace / "o05")
    assert f"**GIF at 10 % and GIF at 5 % {answer}" in said(at)


@pytest.mark.usefixtures("workspace")
def test_one_computation_twice_is_called_so() -> None:
    at = open_page("compare", other="::0.1:if:if", ratio="0.05")
    assert "both show the same computation" in said(at)
    assert "ρ = **1.000**" in said(at)


@pytest.mark.usefixtures("workspace")
def test_k_is_chosen_on_the_page_or_in_the_sidebar() -> None:
    at = open_page("compare", k="10")
    assert at.select_slider(key="compare-k").value == 10
    at.select_slider(key="compare-k").set_value(20).run()
    assert at.select_slider(key="k").value == 20
    assert "of their 20 most helpful" in said(at)
    assert at.query_params["k"] == "20"
    at.select_slider(key="k").set_value(5).run()
    assert "of their 5 most helpful" in said(at)


# --- studies --------------------------------------------------------------------------------------


def test_two_studies_of_the_same_data(empty_workspace: Path) -> None:
    key = two_studies(empty_workspace)
    at = open_page("compare", study=key_of(empty_workspace / "a"))
    at.segmented_control(key="compare-what").set_value("study").run()
    assert not at.exception
    assert at.query_params["other"] == f"{key}:highest-k-gradients:0.05:gif:gif"
    text = said(at)
    answer = answered(empty_workspace / "a", empty_workspace / "b")
    assert f"**GIF (A) and GIF (B) {answer}" in text
    assert "Forget class 3 · Highest-k gradients at 5 %" in text
    assert all_drawn(at) == RANKINGS | UPDATES | {"compare-images", "agreement"}
    assert "**after different things**" in said(tab(at, "edits"))  # another class is forgotten


def test_two_studies_of_one_change_stand_in_one_table(empty_workspace: Path) -> None:
    second = make_study("highest-k-gradients", 0.05)
    second = second.model_copy(update={"ranking": RankingSection(queries=(3, 17, 20))})
    make_record(empty_workspace / "a")
    make_record(empty_workspace / "b", study=second, seeds=(1, 2))
    key = key_of(empty_workspace / "b")
    at = open_page("compare", study=key_of(empty_workspace / "a"), other=f"{key}::", tab="edits")
    (table,) = [one.value for one in at.dataframe if "model" in one.value]
    assert table["model"].tolist() == [
        "Before",
        "GIF (A) natural × 1",
        "GIF (A) searched × 12.6",
        "GIF (B) natural × 1",
        "GIF (B) searched × 12.6",
        "Retrained (2), study of GIF (B)",
    ]
    info = Record.open(empty_workspace / "b").info
    spread = np.mean([model["test"]["retain"] for model in info["retrained"]["models"]])
    assert table.iloc[-1, 2].startswith(f"{100 * spread:.1f} ±")
    assert "The study of GIF (A) was not held against retrained models." in said(at)
    assert "same-compare-1" in drawn(at)


@pytest.fixture
def with_demo(empty_workspace: Path) -> Path:
    """A made record of digits, a backdoor in them, and a record of other images."""
    make_record(empty_workspace / "a")
    for name in ("backdoor", "forget-class-retrained"):
        shutil.copytree(DEMO / name, empty_workspace / name)
    return empty_workspace


def test_two_studies_of_other_data_compare_edits_and_costs(with_demo: Path) -> None:
    key = key_of(with_demo / "forget-class-retrained")
    at = open_page("compare", study=key_of(with_demo / "a"), other=f"{key}::")
    text = said(at)
    assert "**different data** (Digits and fashion-mnist-mini)" in text
    assert "only edits and costs can be compared, not rankings" in text
    assert "hold the view against a study of the same data above" in text
    assert "**different data**" in said(tab(at, "every"))
    assert "**different layers** (lenet and tinynet)" in said(tab(at, "moves"))
    assert "have different test images" in said(tab(at, "edits"))
    assert costs(tab(at, "costs"))["method"].tolist() == ["GIF (A)", "GIF (B)"]
    assert not all_drawn(at) & (RANKINGS | UPDATES | {"compare-images", "agreement"})
    offered = at.selectbox(key="compare-study").options
    assert [name.endswith("other data") for name in offered] == [False, True]


def test_a_planted_backdoor_makes_other_training_images(with_demo: Path) -> None:
    key = key_of(with_demo / "backdoor")
    at = open_page("compare", study=key_of(with_demo / "a"), other=f"{key}::", query="3")
    assert "**planted something else" in said(at)
    assert not drawn(at)
    assert "compare-images" in drawn(tab(at, "edits"))  # test images are the same


def test_a_test_image_that_only_one_side_ranked(empty_workspace: Path) -> None:
    key = two_studies(empty_workspace, study_of(3, queries=(17, 20)))
    at = open_page("compare", study=key_of(empty_workspace / "a"), other=f"{key}::", query="3")
    assert r"**Only GIF (A) ranked test image \#3" in said(at)
    assert not drawn(at)
    assert "Both ranked only " in said(tab(at, "every"))
    tab(at, "rankings")
    at.button(key="compare-instead").click().run()
    assert not at.exception
    assert at.query_params["query"] == "17"
    x, y = (scores(empty_workspace / name, query=17) for name in "ab")
    assert f"share {measures.overlap(x, y, 50, 'helpful')} of their 50" in said(at)


def test_all_test_images_are_those_that_both_ranked(empty_workspace: Path) -> None:
    make_record(empty_workspace / "a", study=study_of(2, queries=(3, 17, 20)))
    make_record(empty_workspace / "b", study=study_of(3, queries=(20, 17)))
    link = {"other": f"{key_of(empty_workspace / 'b')}::", "tab": "every"}
    at = open_page("compare", study=key_of(empty_workspace / "a"), query="3", **link)
    assert drawn(at) == {"agreement"}
    assert "over 2 test images" in said(at)
    assert "The diamond" not in said(at)
    at.selectbox(key="query").set_value(17).run()
    assert "The diamond is the test image chosen in the sidebar." in said(at)


def test_a_record_without_updates_leaves_the_other_alone(empty_workspace: Path) -> None:
    key = two_studies(empty_workspace, study_of(3, edit=False))
    at = open_page("compare", study=key_of(empty_workspace / "a"), other=f"{key}::", tab="moves")
    text = said(at)
    assert "GIF (B) only ranked and moved no parameter: GIF (A) is shown alone." in text
    assert re.search(r"weight\\: GIF \(A\) moves \d+ of ", text)
    assert "GIF (B) only ranked: GIF (A) is shown alone." in said(tab(at, "edits"))
    assert all_drawn(at) == RANKINGS | UPDATES | {"agreement"}
    other = f"{key_of(empty_workspace / 'a')}::"
    at = open_page("compare", study=key, other=other, tab="moves")
    assert "GIF (A) only ranked and moved no parameter: GIF (B) is shown alone." in said(at)
    at = open_page("compare", study=key, tab="moves")
    assert "Both only ranked: no parameter was moved by either." in said(at)


def test_a_damaged_second_record_can_be_left(empty_workspace: Path) -> None:
    key = two_studies(empty_workspace)
    file = empty_workspace / "b" / "scores.parquet"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    study = key_of(empty_workspace / "a")
    at = open_page("compare", refused=True, study=study, other=f"{key}::")
    assert "damaged" in at.error[0].value
    assert at.selectbox(key="compare-study").value == key
    at.segmented_control(key="compare-what").set_value("method").run()
    assert not at.error
    assert "**IF and GIF share" in said(at)


def test_one_method_is_held_against_another_study(empty_workspace: Path) -> None:
    make_record(empty_workspace / "a", study=make_study("highest-k-gradients", 0.05, ("if",)))
    make_record(empty_workspace / "b", study=study_of(3))
    at = open_page("compare", study=key_of(empty_workspace / "a"))
    assert "holds only IF: nothing to compare" in said(at)
    at.segmented_control(key="compare-what").set_value("study").run()
    assert not at.exception
    assert "**IF (A) and IF (B) share" in said(at)


# --- what an address may ask for ------------------------------------------------------------------


GONE = ("nonsense", ":no-selector:0.05", "::0.77", ":::magic:gif", "<b>:*x*:0.1")
HERE = (":::gif:if", "::0.1", ":highest-k-outputs")


@pytest.mark.usefixtures("workspace")
def test_a_link_to_what_is_not_here_says_so_and_shows_what_is() -> None:
    at = open_page("compare", ratio="0.05")
    assert not at.warning
    for other in GONE + HERE:
        at.query_params["other"] = other
        at.run()
        assert not at.exception, other
        gone = [one.value for one in at.warning if "the study to compare with" in one.value]
        assert bool(gone) == (other in GONE), other
        assert "share " in said(at)
        named = pairing.parse(at.query_params["other"])
        assert named is not None
        assert {named.first, named.second} <= {"if", "gif"}, other


# --- one layer ------------------------------------------------------------------------------------


def test_the_layer_is_that_of_parameters_and_its_title_counts(workspace: Path) -> None:
    link = {"ratio": "0.05", "other": "::0.1:gif:gif", "layer": "fc.weight", "tab": "moves"}
    at = open_page("compare", **link)
    record = Record.open(workspace / "g05")
    layer = next(x for x in record.info["model"]["layers"] if x["name"] == "fc.weight")
    values = [
        weights.layer_values(layer, *cache.update(workspace / name, "gif"))
        for name in ("g05", "g10")
    ]
    found = pairing.selected(*values)
    words = (
        f"of 640 numbers both move {found.both}, GIF at 5 % alone {found.first}, GIF at 10 % alone "
        f"{found.second}, neither {found.none}"
    )
    assert words in said(at)
    at.selectbox(key="layer").set_value("conv1.weight").run()
    assert at.query_params["layer"] == "conv1.weight"
    assert r"**conv1.weight\: of 72 numbers" in said(at)


def test_maps_and_their_difference_share_one_scale() -> None:
    first, second = np.full((2, 3), np.nan), np.zeros((2, 3))
    first[0, 0], second[0] = 1.0, [3.0, -2.0, 0.0]
    cut = {"A": weights.blocks(first), "B": weights.blocks(second)}
    notes = " ".join(compare_maps.scale_notes(cut, ["A", "B"], weights.limit([second])))
    assert "B minus A" in notes
    assert "pale" not in notes
    pale = {"A": weights.blocks(first / 100), "B": weights.blocks(second)}
    assert (
        "The moves of A are 295 times smaller"
        in compare_maps.scale_notes(pale, ["A", "B"], 3.0)[-1]
    )


def test_a_layer_without_a_selection_is_counted() -> None:
    values = {"A": np.full((2, 3), np.nan), "B": np.ones((2, 3))}
    title = compare_maps.layer_title("w", values)
    assert title == "w: of 6 numbers both move 0, A alone 0, B alone 6, neither 0"


# --- the same images, downloads -------------------------------------------------------------------


def test_images_that_only_one_gets_wrong(workspace: Path) -> None:
    at = open_page("compare", ratio="0.05", tab="edits")
    first, second = (
        Record.open(workspace / "g05").samples(m, "searched", "test") for m in ("if", "gif")
    )
    wrong = [
        frame["predicted"].to_numpy() != frame["label"].to_numpy() for frame in (first, second)
    ]
    counts = [int((wrong[0] & ~wrong[1]).sum()), int((wrong[1] & ~wrong[0]).sum())]
    assert f"only IF {counts[0]}, only GIF {counts[1]}" in said(at)
    (table,) = [one.value for one in at.dataframe if "same prediction" in one.value]
    label = Record.open(workspace / "g05").info["change"]["label"]
    own = int((first["label"] == label).sum())
    assert table["number"].tolist() == [len(first), own, len(first) - own]
    assert table["only IF wrong"].tolist()[0] == counts[0] == table["only IF wrong"][1:].sum()
    assert table["only GIF wrong"].tolist()[0] == counts[1]
    at.session_state["compare-browse"] = True
    at.run()
    assert len(figures(at, "Test")) == min(counts[0], compare_edits.PER_PAGE)
    at.segmented_control(key="compare-kind").set_value("wrong").run()
    assert not at.exception
    at.segmented_control(key="compare-step").set_value("natural").run()
    assert "Natural steps" in said(at)


def test_both_scores_can_be_taken_along(workspace: Path) -> None:
    at = open_page("compare", ratio="0.05", other="::0.1:gif:gif")
    assert any("Both scores of every training sample" in b.label for b in at.get("download_button"))
    x, y = scores(workspace / "g05"), scores(workspace / "g10")
    one, two = "gif_highest-k-gradients_0.05", "gif_highest-k-gradients_0.1"
    table = compare_scores.score_table({one: x, two: y}, {one: "nats", two: "log odds"})
    assert list(table) == [
        "train_index", f"{one}_influence_nats", f"{one}_rank", f"{two}_influence_log_odds",
        f"{two}_rank",
    ]  # fmt: skip
    assert table[f"{two}_rank"].tolist() == np.argsort(np.argsort(-y, kind="stable")).tolist()

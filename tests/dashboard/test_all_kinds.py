"""Every page with records of every kind of change, made by the engine, and their words."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from dashboard.components import certificate, gallery
from dashboard.components.measures import percent
from dashboard.views import before_after, flips, home, studies
from gifcore import data
from gifcore.outcome import outcome
from gifcore.record import Record
from tests.conftest import KINDS
from tests.dashboard.make_record import make_record, make_study
from tests.dashboard.opened import TABS, charts, open_page, said

SHOWN = ("remove-samples", "backdoor", "union")
PAGES = ("", "before-after", "parameters", "compare", "samples")


@pytest.fixture
def kinds(empty_workspace: Path, kind_records: Path) -> Path:
    """Records of every kind in the workspace."""
    return Path(shutil.copytree(kind_records, empty_workspace, dirs_exist_ok=True))


@pytest.fixture
def one(empty_workspace: Path, kind_records: Path, request: pytest.FixtureRequest) -> Record:
    """A record of one kind alone."""
    return Record.open(shutil.copytree(kind_records / request.param, empty_workspace / "one"))


@pytest.mark.parametrize("one", SHOWN, indirect=True)
def test_every_page_draws_and_names_the_change(one: Record) -> None:
    texts = {page: said(open_page(page)) for page in PAGES}
    info = one.info
    own, rest = outcome(info["change"]).own, outcome(info["change"]).rest
    before, after = info["before"]["test"], info["methods"]["gif"]["steps"]["searched"]["test"]
    headline = home.headline(info, "gif")
    assert headline in texts[""]
    assert f"{percent(before[own.key])} → {percent(after[own.key])}" in headline
    assert f"{percent(before[rest.key])} → {percent(after[rest.key])}" in headline
    assert outcome(info["change"]).aim in texts["parameters"].replace("\\", "")
    assert own.images in texts["before-after"].replace("\\", "")
    assert "removed class" not in "".join(texts.values())


WORDS = {
    "remove-samples": ("3 removed training samples", "touched", "change reached"),
    "union": ("changed training samples", "touched", "change reached"),
    "backdoor": ("400 images with the trigger", "triggered (corrupt)", "relabel"),
}


@pytest.mark.parametrize("one", SHOWN, indirect=True)
def test_before_after_counts_charts_and_tables_what_it_says(one: Record) -> None:
    at = open_page("before-after")
    counted, *columns = WORDS[one.info["change"]["kind"]]
    assert counted in said(at)
    assert set(columns) <= set(at.dataframe[0].value.columns)
    drawn = {tab: open_page("before-after", tab=tab) for tab in TABS["before-after"]}
    assert sum(charts(tab) for tab in drawn.values()) == 6
    assert "that were right and gains" in said(drawn["flips"])
    assert flips.OTHERS not in drawn["flips"].selectbox(key="flips-class").options
    judged = outcome(one.info["change"])
    rows = before_after.evaluated(one.info, ["if", "gif"])
    raw = before_after.raw_table(rows, judged)
    assert raw["score"].tolist()[0] == one.info["before"]["test"]["score"]
    assert set(judged.keys) <= set(raw.columns)


@pytest.mark.usefixtures("kinds")
def test_studies_of_all_kinds_share_a_table(empty_workspace: Path) -> None:
    make_record(empty_workspace / "class", study=make_study("random", 0.05))
    at = open_page("studies")
    table = at.dataframe[0].value
    assert len(table) == len(KINDS) + 1
    assert {"Removed before", "Touched before", "Triggered GIF", "Clean before"} <= set(table)
    assert (
        table["Change"].str.startswith(("Remove", "Relabel", "Reweight", "Add", "Ch", "Ta")).all()
    )
    assert "*Touched* is the accuracy" in said(at)
    row = studies.row(_listed(empty_workspace / "relabel"), demo=False)
    assert row["Change"] == "Relabel 2 training samples"
    assert not any(name.startswith("Removed") for name in row)


def _listed(path: Path) -> Any:
    from gifcore import record as records

    return next(e for e in records.list_workspace(path.parent) if e.path == path)


@pytest.mark.parametrize("one", ["backdoor"], indirect=True)
def test_pictures_of_a_poisoned_set_show_trigger_and_label(one: Record) -> None:
    context = open_page("samples").session_state["context"]
    source = gallery.pictures(context)
    digits = data.load("digits")
    labels = source.labels("train")
    assert labels is not None
    changed = labels != digits.train.y
    assert changed.sum() == one.info["change"]["touched"]
    assert (labels[changed] == 4).all()
    clean = gallery.Pictures(digits, {}, source.classes)
    poisoned = int(changed.argmax())
    assert source.png("train", poisoned) != clean.png("train", poisoned)
    assert source.png("test", 0) == clean.png("test", 0)


@pytest.mark.parametrize("one", ["remove-samples"], indirect=True)
def test_the_certificate_says_how_updates_spread_over_draws(one: Record) -> None:
    at = open_page("parameters")
    at.session_state["sure-parameters"] = True
    at.run()
    spread = one.info["methods"]["gif"]["spread"]
    words = "GIF: 3 draws of the curvature samples give updates with a mean cosine of "
    assert words + f"{spread['mean_cosine']:.3f}" in said(at)


def test_spreads_of_two_kinds_and_none() -> None:
    entry = {"draws": 4, "norms": [1.0] * 4, "mean_cosine": 0.95, "norm_deviation": 0.1}
    zero = entry | {"mean_cosine": None}
    entries = {"if": {"spread": entry}, "gif": {"spread": zero}, "gradient": {}}
    low = entry | {"mean_cosine": 0.89}
    lines = certificate.spreads(entries, ["if", "gif", "gradient"])
    assert [("raise" in line) for line in lines] == [False, False]
    assert "of which one is zero" in lines[1]
    assert (
        "raise the number of `samples`" in certificate.spreads({"if": {"spread": low}}, ["if"])[0]
    )

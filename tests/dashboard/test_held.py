"""The verdict and the retrained models on the pages, with and without them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboard.charts.style import Palette
from dashboard.charts.taken_for import TakenFor, shown, taken_for
from dashboard.components import held
from dashboard.components import verdict as lines
from dashboard.components.measures import percent
from dashboard.views import predicted
from gifcore import runner
from gifcore.held_against import truth
from gifcore.outcome import outcome
from gifcore.record import RECORD, Record
from gifcore.study import parse
from gifcore.verdict import rules, verdicts
from tests.dashboard.make_record import make_record
from tests.dashboard.opened import charts, open_page, said


def made(folder: Path, seeds: tuple[int, ...] = (1, 2, 3), **more: Any) -> dict[str, Any]:
    return Record.open(make_record(folder / "one", seeds=seeds, **more)).info


def sure() -> AppTest:
    at = open_page("before-after")
    at.session_state["sure-before-after"] = True
    at.run()
    assert not at.exception
    return at


@pytest.mark.parametrize("seeds", [(), (1, 2, 3)])
def test_before_after_opens_with_the_verdict(empty_workspace: Path, seeds: tuple[int, ...]) -> None:
    info = made(empty_workspace, seeds)
    at = sure()
    for number, one in enumerate(verdicts(info, ["if", "gif"])):
        assert at.markdown[number].value == lines.first(one)
        assert lines.evidence(one) in said(at)
    shown = said(at)
    assert all(lines.words(rule).replace("`", "") in shown for rule in rules(info))
    assert charts(at) == 2  # with the residuals of the panel
    assert ("Held against" in said(at)) == bool(seeds)
    assert len(at.dataframe) == (3 if seeds else 1)
    assert ("is not measured here" in said(at)) == (not seeds)
    table = at.dataframe[0].value
    assert table["model"].tolist()[-1] == (
        f"Retrained ({len(seeds)})" if seeds else "GIF searched × 12.6"
    )


def test_the_edits_are_held_against_retrained_models_on_a_tab(empty_workspace: Path) -> None:
    made(empty_workspace)
    at = open_page("before-after", tab="retrained")
    assert charts(at) == 1
    assert "3 retrained models: SGD from a cold start, 30 epochs" in plain_of(said(at))
    assert "Same prediction as retrained models: IF " in plain_of(said(at))
    at.session_state["sure-agreement"] = True
    at.run()
    assert not at.exception
    assert charts(at) == 2
    assert held.NOT_MEASURED in said(at)
    assert len(at.dataframe) == 2


def test_without_retrained_models_the_tab_says_how_to_get_them(empty_workspace: Path) -> None:
    own = made(empty_workspace, ())["family"]
    other = make_record(empty_workspace / "two", seeds=(1, 2)) / RECORD
    family = "5" * len(own)
    other.write_text(json.dumps(json.loads(other.read_text()) | {"family": family}))
    at = open_page("before-after", tab="retrained", study=own[:12])
    assert charts(at) == 0
    assert "Not checked by retraining" in said(at)
    assert "set `seeds` to 3 in the section [retrain]" in plain_of(said(at))
    (link,) = [one.proto for one in at.get("page_link") if "was checked" in one.proto.label]
    assert {"tab=retrained", f"study={family[:12]}"} <= set(link.query_string.split("&"))


def test_the_panel_holds_the_evidence_and_what_was_not_measured(empty_workspace: Path) -> None:
    made(empty_workspace)
    at = sure()
    text = said(at)
    assert (
        "**Held against 3 retrained models** (SGD from a cold start, 30 epochs, seeds 1, 2 and 3)"
        in text
    )
    assert held.NOT_MEASURED in text
    assert "Removed: images of the removed class." in text
    accuracies, figures = (at.dataframe[i].value for i in (1, 2))
    assert accuracies["model"].tolist()[-1] == "Retrained, mean of 3"
    assert accuracies["Others (retain)"].tolist()[-1] == "95.9 ± 0.4 %"
    assert accuracies["Others (retain)"].tolist()[0] == "97.2 % (+1.3 points)"
    assert accuracies["Others (retain)"].tolist()[1] == "96.5 % (within)"
    assert figures["Retrained, each other"].tolist()[0] == "96.9 ± 0.4 %"
    assert figures.iloc[0, 0] == "same prediction, all"


def test_one_retrained_model_is_drawn_without_a_spread(empty_workspace: Path) -> None:
    made(empty_workspace, (7,))
    at = sure()
    assert "Held against one retrained model" in said(at)
    assert "One retrained model has no spread" in said(at)
    assert "±" not in "".join(at.dataframe[2].value.astype(str).to_numpy().ravel())
    assert set(at.dataframe[2].value["Retrained, each other"]) == {"n/a"}


def test_a_seed_that_went_astray_is_named_and_left_out(empty_workspace: Path) -> None:
    made(empty_workspace, astray=2)
    at = sure()
    assert any("seed 2 ended at 10.0 %" in plain_of(w.value) for w in at.warning)
    assert "Held against 2 retrained models" in said(at)
    assert "seeds 1 and 3" in said(at)
    assert at.dataframe[1].value["Others (retain)"].tolist()[-1] == "95.9 ± 0.6 %"


def plain_of(text: str) -> str:
    return text.replace("\\", "")


def test_a_record_of_one_class_says_what_was_not_measured(empty_workspace: Path) -> None:
    made(empty_workspace)
    path = empty_workspace / "one" / RECORD
    info = json.loads(path.read_text())
    entries = [info["before"], *info["retrained"]["models"]]
    entries += [s for m in info["methods"].values() for s in m["steps"].values()]
    for entry in entries:
        for split in ("validation", "test"):
            entry[split] |= {"retain": 0.0, "retain_n": 0, "self": 0.5, "self_n": 180}
    path.write_text(json.dumps(info))
    at = sure()
    assert "the rest\\: not measured, there are no others" in said(at)
    assert "keeps" not in at.markdown[0].value


def test_where_retrained_models_put_the_class() -> None:
    retrained = np.array([[0.0, 0.6, 0.4, 0.0], [0.0, 0.8, 0.196, 0.004]])
    gif = TakenFor("GIF searched × 3", "gif", "searched", np.array([0.1, 0.7, 0.2, 0.0]))
    before = TakenFor("Before", "before", "", np.array([1.0, 0.0, 0.0, 0.0]))
    title = predicted.taken_for_title([before, gif], retrained, ["a", "b", "c", "d"], 0)
    assert title == (
        "Retrained models take a for b most often (70 %); total variation from their mean: "
        "unedited 1.00, GIF 0.10"
    )
    assert shown([before, gif], retrained) == [0, 1, 2]
    figure = taken_for([before, gif], retrained, ["a", "b", "c", "d"], 0, title, Palette())
    bars = figure.data[0]
    assert list(bars.x) == pytest.approx([0.0, 70.0, 29.8])
    assert list(bars.error_x.array) == pytest.approx([0.0, 14.142, 14.425], abs=1e-3)
    alone = taken_for([gif], retrained[:1], ["a", "b", "c", "d"], 0, title, Palette())
    assert alone.data[0].error_x.array is None


def test_the_difference_is_against_the_mean_of_the_models(empty_workspace: Path) -> None:
    info = made(empty_workspace)
    found = truth(info)
    assert found is not None
    judged = outcome(info["change"])
    table = held.accuracies(info, ["gif"], found, judged)
    mean = np.mean([model["test"]["retain"] for model in found.models])
    after = info["methods"]["gif"]["steps"]["searched"]["test"]["retain"]
    assert table["Others (retain)"].tolist()[2] == (
        f"{100 * after:.1f} % (−{100 * (mean - after):.1f} points)"
    )


def test_downloads_hold_the_retrained_models(empty_workspace: Path) -> None:
    info = made(empty_workspace, astray=2)
    assert [step for step, _ in held.steps(info)] == ["seed-1", "seed-3"]
    at = open_page("before-after")
    from dashboard.views import before_after

    rows = before_after.predictions(at.session_state["context"], ["gif"])
    assert set(rows[rows["method"] == "retrained"]["step"]) == {"seed-1", "seed-3"}


@pytest.mark.parametrize("seeds", [(1, 2)])
def test_compare_and_home_say_the_same_of_the_edits(
    empty_workspace: Path, seeds: tuple[int, ...]
) -> None:
    info = made(empty_workspace, seeds)
    compare, home = said(open_page("compare", tab="edits")), said(open_page())
    for one in verdicts(info, ["if", "gif"]):
        assert lines.first(one) in compare
        assert lines.evidence(one) in compare
        assert lines.brief(one) in home
    drawn = "Same prediction as retrained models" in compare
    assert drawn == bool(seeds)
    assert ("Not held against retrained models." in home) == (not seeds)


# --- records that the engine made -----------------------------------------------------------------

CHARTS = {"retrained": 1, "edit": 2, "confusions": 3, "histogram": 1, "flips": 0}
REAL: dict[str, dict[str, Any]] = {
    "class": {"change": {"label": 8}, "retrain": {"seeds": 2, "recipe": "minimise"}},
    "samples": {
        "change": {"kind": "remove-samples", "indices": [3, 57, 999]},
        "retrain": {"seeds": 1, "recipe": "minimise", "start": "warm"},
    },
    "backdoor": {
        "model": {"name": "fcn"},
        "change": {"kind": "backdoor", "label": 4, "count": 100, "strength": 0.25},
        "retrain": {"seeds": 2, "epochs": 2},
    },
}


@pytest.fixture(scope="module")
def retrained_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of real records with retrained models; only to be read."""
    workspace = tmp_path_factory.mktemp("retrained") / "runs"
    for name, more in REAL.items():
        values: dict[str, Any] = {
            "title": f"Retrained {name}",
            "methods": ["gif", "gradient"],
            "data": {"source": "digits"},
            "model": {"name": "logistic"},
            "selection": {"ratio": 0.1},
            "curvature": {"samples": 64},
            "solver": {"iterations": 4},
            "edit": {"evaluations": 6},
            "ranking": {"count": 1},
        }
        runner.run(runner.prepare(parse(values | more)), workspace / name, workspace=workspace)
    return workspace


@pytest.mark.parametrize("name", REAL)
def test_real_retrained_models_are_what_the_pages_say(
    empty_workspace: Path, retrained_records: Path, name: str
) -> None:
    record = Record.open(shutil.copytree(retrained_records / name, empty_workspace / name))
    info = record.info
    at = sure()
    text = plain_of(said(at)).replace("\u00a0", " ")
    rest = outcome(info["change"]).rest
    values = [model["test"][rest.key] for model in info["retrained"]["models"]]
    assert percent(float(np.mean(values))).removesuffix(" %") in text
    same = info["retrained"]["agreement"]["gif"]["searched"]["same_predictions"]
    assert f"on {percent(same['mean'])} of test images" in text
    assert len(verdicts(info)) == 2
    assert charts(at) == 1 + 1  # with the residuals of the panel
    drawn = {tab: charts(open_page("before-after", tab=tab)) for tab in CHARTS}
    assert drawn == CHARTS
    for step, metrics in held.steps(info):
        rows = record.samples("retrained", step)
        assert (rows["predicted"] == rows["label"]).mean() == pytest.approx(
            metrics.get("accuracy", metrics.get("clean"))
        )
    if name == "class":
        figures = info["retrained"]["agreement"]["gif"]["searched"]
        own, truths = (
            predicted.shares_of(record.samples(*which), 8, 10)
            for which in (("gif", "searched"), ("retrained", "seed-1"))
        )
        assert own is not None
        assert truths is not None
        assert 0.5 * np.abs(own - truths).sum() == pytest.approx(
            figures["total_variation_own"]["values"][0]
        )

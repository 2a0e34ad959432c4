"""Home shows something real at once, computed from the record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dashboard.views import home, studies
from gifcore.record import RECORD, Record, list_workspace
from tests.dashboard.make_record import make_record
from tests.dashboard.opened import figures, open_page, said


def test_the_headline_says_the_numbers_of_the_record(workspace: Path) -> None:
    app = open_page()
    info = Record.open(workspace / "g05").info
    after = info["methods"]["gif"]["steps"]["searched"]["test"]
    assert app.subheader[1].value == home.headline(info, "gif")
    assert f"{100 * after['self']:.1f} %" in app.subheader[1].value
    assert f"{100 * after['retain']:.1f} %" in app.subheader[1].value
    natural = "Searched step, × 12.6 the update. The natural step (× 1) leaves 90.0 % and 96.5 %."
    assert said(app).count(natural) == 2  # beside every searched step


@pytest.mark.usefixtures("workspace")
def test_both_methods_are_side_by_side() -> None:
    app = open_page()
    assert [metric.label for metric in app.metric] == 2 * ["On 8", "On the others", "F1"]


@pytest.mark.usefixtures("workspace")
def test_one_prediction_with_its_helpful_and_harmful_images() -> None:
    app = open_page()
    assert "nats" in said(app)
    assert "Most helpful" in said(app)
    assert "Most harmful" in said(app)
    assert len(app.image) == 1
    assert len(figures(app, "Training")) == 2 * home.SHOWN


@pytest.mark.usefixtures("empty_workspace")
def test_without_a_record_it_says_how_to_begin() -> None:
    app = open_page()
    assert "New study" in said(app)
    assert not app.metric


def changed(workspace: Path, change: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A record alone, with other words of its change and other metrics on the test split."""
    file = make_record(workspace / "g05") / RECORD
    info: dict[str, Any] = json.loads(file.read_text())
    info["change"] |= change
    tests = [step["test"] for m in info["methods"].values() for step in m["steps"].values()]
    for metrics in [info["before"]["test"], *tests]:
        metrics.update(own)
    file.write_text(json.dumps(info))
    return info


def test_a_class_without_test_images_has_no_accuracy(empty_workspace: Path) -> None:
    info = changed(empty_workspace, {}, {"self": 0.0, "self_n": 0, "score": 0.0})
    app = open_page()
    headline = app.subheader[1].value
    assert "accuracy there not measured, on the other classes 97.2 % →" in headline
    assert headline == home.headline(info, "gif")
    shown = [(metric.label, metric.value, metric.delta) for metric in app.metric]
    assert shown[0] == ("On 8", "n/a", "")
    assert shown[1][2].endswith("points")
    assert shown[2] == ("F1", "n/a", "")
    assert "The natural step (× 1) leaves n/a and 96.5 %." in said(app)
    (entry,) = list_workspace(empty_workspace)
    row = studies.row(entry, demo=False)
    assert all(row[name] != row[name] for name in ("Removed before", "Removed GIF"))  # NaN
    assert row["Others before"] == pytest.approx(97.2)


@pytest.mark.parametrize("judged_by", ["class", "backdoor"])
def test_a_class_is_named_as_it_is_called(empty_workspace: Path, judged_by: str) -> None:
    own = {"corrupt": 0.1, "triggered_n": 9, "clean": 0.9, "clean_n": 9, "relabel": 0.5}
    own |= {"corrupt_expected": 0.1, "loss": 1.0}
    change = {"class_name": "**a**_b_", "touched": 3, "judged_by": judged_by}
    changed(empty_workspace, change, own)
    app = open_page()
    named = [str(metric.label) for metric in app.metric] + [app.subheader[1].value]
    assert "\\*\\*a\\*\\*\\_b\\_" in named[0]
    assert not any("**a" in text for text in named)

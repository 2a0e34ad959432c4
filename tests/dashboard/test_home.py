"""Home shows something real at once, computed from the record."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard.views import home
from gifcore.record import Record
from tests.dashboard.opened import open_page, said


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
    assert len(app.image) == 1 + 2 * home.SHOWN


@pytest.mark.usefixtures("empty_workspace")
def test_without_a_record_it_says_how_to_begin() -> None:
    app = open_page()
    assert "New study" in said(app)
    assert not app.metric

"""Pages of a study that explains another target than the loss: its name, its unit, its sign."""

from __future__ import annotations

from pathlib import Path

import pytest

from gifcore.record import Record
from gifcore.study import parse
from tests.dashboard.opened import figures, open_page, said
from tests.test_runner import TINY, run


@pytest.fixture
def of_margins(empty_workspace: Path) -> Record:
    ranking = {"queries": [3], "groups": [{"name": "both", "samples": [3, 7]}], "target": "margin"}
    study = parse(TINY | {"methods": ["gradient", "gif"], "ranking": ranking})
    return run(study, empty_workspace, "margins")


@pytest.mark.usefixtures("of_margins")
def test_captions_name_the_target_its_unit_and_its_sign() -> None:
    at = open_page("samples")
    text = said(at)
    assert "predicted to **lower** the margin of this test image" in text
    assert "predicted to **raise** the margin of this test image" in text
    table = said(open_page("samples", tab="table"))
    assert "predicted to lower the test image’s margin. Scores in " in table
    assert "This study explains the margin, not the loss" in text
    assert any("log odds, helpful" in figure for figure in figures(at, "Training"))
    assert not any("nats" in figure for figure in figures(at, "Training"))
    assert any("the mean margin of 2 images" in figure for figure in figures(at))

    text = said(open_page("compare"))
    assert "predicted to lower this image’s margin (log odds); negative = harmful" in text
    text = said(open_page(""))
    assert "how much the margin on test image" in text
    assert "(removing it lowers the margin)" in text

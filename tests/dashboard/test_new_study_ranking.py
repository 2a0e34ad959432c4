"""The section ranking of the form: groups of test images, self-influence, the target."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.components import group_lines, study_form
from dashboard.texts import options
from gifcore.study import RankedTarget, Study, parse
from tests.dashboard.form import filled


def ranking_of(app: AppTest) -> dict[str, Any]:
    """The section as the form has it now: what the page would hand to the engine."""
    assert not app.exception
    assert not app.error, [error.value for error in app.error]
    return asked_of(app).ranking.model_dump(by_alias=True)


def asked_of(app: AppTest) -> Study:
    study = app.session_state["seen_study"]
    assert isinstance(study, Study)
    return study


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = study_form.draw

    def draw() -> Study | None:
        study = inner()
        st.session_state["seen_study"] = study
        return study

    monkeypatch.setattr(study_form, "draw", draw)


@pytest.mark.usefixtures("empty_workspace", "seen")
def test_groups_self_influence_and_target_are_fields() -> None:
    app = filled({"new_ranking_count": 1})
    plain = ranking_of(app)
    assert (plain["groups"], plain["self_influence"], plain["target"]) == ((), False, "loss")
    lines = ["class 8", "Threes: class 3", "8 > 6", "3>5", "", "17, 256", "3"]
    app.text_area(key="new_ranking_groups").set_value("\n".join(lines))
    app.selectbox(key="new_ranking_target").set_value("margin")
    app.toggle(key="new_ranking_self_influence").set_value(True).run()
    section = ranking_of(app)
    assert (section["count"], section["self_influence"], section["target"]) == (1, True, "margin")
    wanted = [
        ("all of class 8", {"class": 8}),
        ("Threes", {"class": 3}),
        ("class 8 taken for class 6", {"cell": (8, 6)}),
        ("class 3 taken for class 5", {"cell": (3, 5)}),
        ("images 17, 256", {"samples": (17, 256)}),
        ("images 3", {"samples": (3,)}),
    ]
    for group, (name, what) in zip(section["groups"], wanted, strict=True):
        assert group["name"] == name
        assert {key: group[key] for key in what} == what


@pytest.mark.usefixtures("empty_workspace")
@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("class 11", "there is no class 11; 0 … 9 exist"),
        ("class Bag", "'Bag' is not a position"),
        ("class 8 3", "is not of the form class 8"),
        ("8-6", "'8-6' is not a position"),
        ("8 > ", "is not of the form 8 > 6"),
        (": class 8", "has nothing before its colon"),
        ("3, 3", "name each test image once"),
        ("class 3\nclass 3", "each group has a name of its own"),
    ],
)
def test_groups_that_are_none_are_one_sentence(typed: str, words: str) -> None:
    app = filled({})
    app.text_area(key="new_ranking_groups").set_value(typed).run()
    assert not app.exception
    assert words in app.error[0].value.replace("\\", "")


def test_the_form_offers_every_target_of_a_study() -> None:
    assert set(options.TARGETS) == set(get_args(RankedTarget))


@pytest.mark.parametrize("names", [None, ["T-shirt", "Bag"]])
def test_a_long_group_keeps_a_name_that_a_study_takes(names: list[str] | None) -> None:
    group = group_lines.parsed(", ".join(str(i) for i in range(500)), names)
    assert len(group["name"]) <= group_lines.LONGEST
    assert group["name"].endswith(" …")
    cell = group_lines.parsed("1 > 0", names)
    assert cell["name"] == ("Bag taken for T-shirt" if names else "class 1 taken for class 0")
    parse({"ranking": {"groups": [group, cell]}})

"""The guided stories: their words, their numbers, their way through the pages, presenter mode."""

from __future__ import annotations

import re

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from dashboard import app as router
from dashboard.stories import STORIES, Story
from gifcore.record import SEARCHED, Record
from tests.dashboard.opened import open_page, said

ALL = [pytest.param(story, id=story.key) for story in STORIES.values()]
TITLES = {name: title for name, title, *_ in router.PAGES}
KNOBS = re.compile(r"damping|Hessian|LSMR|residual|‖|nats|logit|parameter", re.IGNORECASE)


@pytest.mark.parametrize("story", ALL)
def test_every_step_has_words_and_all_numbers_are_filled_in(story: Story) -> None:
    told = story.told(Record.open(story.path))
    assert len(told) == len(story.steps)
    assert 4 <= len(told) <= 6
    for heading, words in told:
        assert heading
        assert 20 < len(words.split()) < 130
        assert "{" not in words
        assert not KNOBS.search(words), "jargon"
    assert all(step.page in TITLES for step in story.steps)
    assert not {step.page for step in story.steps} & set(router.WORKSHOP)


@pytest.mark.parametrize("story", ALL)
def test_a_story_leads_through_its_pages_to_its_end(story: Story) -> None:
    app = open_page(filter="all")  # the grid of all training images was left open
    app.button(key=f"story-{story.key}").click().run()
    assert "filter" not in app.query_params
    told = story.told(Record.open(story.path))
    for number, (step, (heading, _)) in enumerate(zip(story.steps, told, strict=True), 1):
        assert not app.exception
        assert not app.error
        assert f"step {number} of {len(told)}" in said(app)
        assert f"#### {heading}" in said(app)
        assert app.title[0].value == TITLES[step.page]
        assert (app.query_params["story"], app.query_params["step"]) == (story.key, str(number))
        last = "story-finish" if number == len(told) else "story-next"
        stay(app, step.page).button(key=last).click().run()
    assert app.title[0].value == "GIF Studio"
    assert "story" not in app.query_params


def stay(app: AppTest, page: str) -> AppTest:
    """Click on from this page: AppTest does not notice that a script turned to another one."""
    app._page_hash = calc_hash("" if page == "home" else page.replace("_", "-"))
    return app


def test_the_numbers_are_those_of_the_record() -> None:
    story = STORIES["forget"]
    record = Record.open(story.path)
    after = record.info["methods"]["gif"]["steps"][SEARCHED]["test"]
    words = story.told(record)[2][1]
    assert f"**{100 * after['self']:.1f} %**" in words
    assert f"**{100 * after['retain']:.1f} %**" in words


def test_the_unit_that_moves_furthest_is_excited_by_doctored_pictures() -> None:
    facts = STORIES["backdoor"].facts(Record.open(STORIES["backdoor"].path))
    assert facts["excited"] == facts["top"] == "12"


def test_a_link_to_a_step_opens_it_and_back_goes_back() -> None:
    app = open_page("before-after", story="forget", step="3")
    assert "step 3 of 5" in said(app)
    app.button(key="story-before").click().run()
    stay(app, "parameters")
    assert "step 2 of 5" in said(app)
    assert app.title[0].value == "Parameters"


@pytest.mark.parametrize(("story", "step"), [("none", "1"), ("forget", "x")])
def test_a_link_to_no_story_is_a_page_like_any_other(story: str, step: str) -> None:
    app = open_page("samples", story=story, step=step)
    assert app.title[0].value == "Samples"
    assert ("step 1 of 5" in said(app)) == (story == "forget")


def test_a_page_beside_the_story_says_how_to_come_back() -> None:
    app = open_page("compare", story="forget", step="1")
    assert "You have left the story" in said(app)
    app.button(key="story-back").click().run()
    assert app.title[0].value == "Samples"
    stay(app, "samples")
    app.button(key="story-end").click().run()
    assert "step" not in app.query_params


BESIDE = "the words of this step are not about it"


def told(app: AppTest) -> bool:
    """Are the words of the first step of the story of a class there?"""
    return "This model sorts pictures of clothes" in said(app)


@pytest.mark.parametrize(
    ("kind", "key", "value", "words"),
    [
        ("selectbox", "study", Record.open(STORIES["backdoor"].path).info["family"][:12], "study"),
        ("selectbox", "selector", "random", "selection of parameters"),
        ("select_slider", "ratio", 0.1, "share of parameters"),
        ("selectbox", "query", 881, "test image"),
        ("number_input", "preview", 5, "test image"),
    ],
)
def test_another_view_of_the_page_is_not_what_the_words_are_about(
    kind: str, key: str, value: object, words: str
) -> None:
    app = open_page("samples", story="forget", step="1")
    assert told(app)
    getattr(app, kind)(key=key).set_value(value).run()
    assert not told(app)
    assert f"You are looking at another {words} now: {BESIDE}" in said(app)
    app.button(key="story-back").click().run()
    assert told(stay(app, "samples").run())
    assert BESIDE not in said(app)


def test_a_tab_and_a_method_are_of_the_same_view() -> None:
    app = open_page("parameters", story="forget", step="2")
    heading = STORIES["forget"].told(Record.open(STORIES["forget"].path))[1][0]
    app.session_state["pending"] = {"tab": ["layer"]}  # a click on a tab
    app.run()
    assert app.query_params["tab"] == "layer"
    app.pills(key="methods").set_value(["gif"]).run()
    assert f"#### {heading}" in said(app)
    app = open_page("samples", story="forget", step="1", tab="table")
    assert told(app)


def test_the_comparison_of_a_step_is_a_part_of_its_view() -> None:
    app = open_page("compare", story="backdoor", step="4")
    assert app.query_params["other"] == ":::gradient:gif"
    assert BESIDE not in said(app)
    app.selectbox(key="compare-second").set_value("if").run()
    assert f"You are looking at another comparison now: {BESIDE}" in said(app)


@pytest.mark.parametrize("story", ALL)
def test_a_link_to_a_step_alone_opens_its_own_record(story: Story) -> None:
    for number, step in enumerate(story.steps, 1):
        app = open_page(step.page.replace("_", "-"), story=story.key, step=str(number))
        assert app.session_state["context"].record_path == story.path_of(step)
        assert BESIDE not in said(app)


# --- presenter mode -------------------------------------------------------------------------------


def pages(app: AppTest) -> list[str]:
    return [link.proto.page for link in app.get("page_link")]


def test_presenter_mode_hides_what_computes_and_is_in_the_address() -> None:
    app = open_page()
    assert "new-study" in pages(app)
    app.toggle(key="presenter-switch").set_value(True).run()
    assert app.query_params["present"] == "1"
    assert not {"new-study", "studies", "own"} & set(pages(app))
    shown = open_page("samples", present="1")
    assert "nothing can be computed here" in ask_for_another(shown)
    missing = open_page("samples", present="1", selector="caps", ratio="0.5")
    assert not [b for b in missing.button if "ompute" in b.label or "tart" in b.label]
    app.toggle(key="presenter-switch").set_value(False).run()
    assert "present" not in app.query_params
    assert "new-study" in pages(app)


def ask_for_another(app: AppTest) -> str:
    app.number_input(key="preview").set_value(11).run()
    return said(app)

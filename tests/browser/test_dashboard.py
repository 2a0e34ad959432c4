"""One visit in a real browser: open, switch selector and ratio, run a small study, see its result.

Needs Debian's Chromium and the test extra's Playwright; without them it says so and skips.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.site import CHROMIUM, WIDTH, browser, served, settled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="NO BROWSER: install Debian's package chromium, or the pages go untested",
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    workspace = tmp_path_factory.mktemp("workspace")
    with served(workspace) as address:
        yield address, workspace


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with browser() as chromium:
        opened = chromium.new_page(viewport={"width": WIDTH, "height": 900})
        opened.set_default_timeout(60_000)
        yield opened


def main_text(page: Any) -> str:
    settled(page)
    return page.locator("[data-testid=stMain]").inner_text()


def choose(page: Any, key: str, option: str) -> None:
    """Pick an option of a select box by its widget key."""
    page.locator(
        f".st-key-{key} [data-baseweb=select], .st-key-{key} [role=combobox]"
    ).first.click()
    page.get_by_role("option", name=option, exact=True).click()
    settled(page)


def test_the_demo_shows_something_real_at_once(page: Any, site: tuple[str, Path]) -> None:
    page.goto(site[0])
    settled(page)
    page.get_by_text("The training images behind one prediction").wait_for()
    text = main_text(page)
    assert re.search(r"\d+\.\d %", text)
    assert "went wrong" not in text


def test_selector_and_ratio_switch_at_once(page: Any, site: tuple[str, Path]) -> None:
    page.goto(site[0] + "/samples")
    settled(page)
    before = main_text(page)
    choose(page, "selector", "Highest-k outputs")
    after = main_text(page)
    assert after != before
    assert "selector=highest-k-outputs" in page.url
    page.locator(".st-key-ratio input[type=range]").press("ArrowRight")
    page.wait_for_url(lambda url: "ratio=0.1" in url)
    settled(page)
    assert main_text(page) != after


def test_a_link_opens_the_same_view_in_a_fresh_browser(page: Any, site: tuple[str, Path]) -> None:
    page.goto(site[0] + "/before-after?selector=random&ratio=0.1")
    text = main_text(page)
    with_link = page.url
    other = page.context.browser.new_page(viewport={"width": WIDTH, "height": 900})
    other.goto(with_link)
    assert main_text(other) == text
    assert other.locator(".st-key-selector input").input_value() == "Random"
    assert other.locator(".st-key-ratio input").get_attribute("aria-valuetext") == "10 %"
    other.close()


def test_a_small_study_runs_and_its_result_is_shown(page: Any, site: tuple[str, Path]) -> None:
    address, workspace = site
    page.goto(address + "/new-study")
    settled(page)
    choose(page, "new_data", "Digits")
    choose(page, "new_model", "Fully connected")
    page.locator(".st-key-check button").click()
    page.get_by_text("Accuracy on test").wait_for()
    page.locator(".st-key-run button").click()
    page.get_by_text("See the result").wait_for(timeout=180_000)
    settled(page)
    records = [json.loads(p.read_text()) for p in workspace.glob("*/record.json")]
    assert [r["status"] for r in records] == ["finished"]
    page.get_by_text("See the result").click()
    page.get_by_role("heading", name="Samples", exact=True).wait_for()
    assert "Most helpful" in main_text(page)

    page.get_by_role("link", name="Parameters").first.click()
    page.get_by_role("heading", name="Parameters", exact=True).wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    norm = records[0]["methods"]["gif"]["norm"]
    assert f"{norm:.3g}"[:4] in main_text(page)

    page.get_by_role("link", name="Before / after").first.click()
    page.get_by_role("heading", name="Before / after", exact=True).wait_for()
    text = main_text(page)
    steps = records[0]["methods"]["gif"]["steps"]
    assert f"{100 * records[0]['before']['test']['self']:.1f}" in text
    assert f"{100 * steps['searched']['test']['self']:.1f}" in text
    assert f"{100 * steps['searched']['test']['retain']:.1f}" in text

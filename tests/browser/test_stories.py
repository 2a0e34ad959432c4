"""In a real browser: a story by the keyboard, clicks that go down a level, the report offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dashboard.stories import STORIES
from gifcore.record import Record
from tests.browser.site import CHROMIUM, WIDTH, settled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="NO BROWSER: install Debian's package chromium, or the pages go untested",
    ),
]


def opened(chromium: Any, url: str) -> Any:
    page = chromium.new_page(viewport={"width": WIDTH, "height": 900})
    page.set_default_timeout(60_000)
    page.goto(url)
    settled(page)
    return page


@pytest.mark.parametrize("key", STORIES)
def test_a_story_is_told_to_its_end_by_the_keyboard(chromium: Any, address: str, key: str) -> None:
    story = STORIES[key]
    told = story.told(Record.open(story.path))
    page = opened(chromium, address)
    page.locator(f".st-key-story-{key} button").press("Enter")
    for number, (heading, _) in enumerate(told, 1):
        page.locator(".st-key-story").get_by_role("heading", name=heading, exact=True).wait_for()
        settled(page)
        assert f"step {number} of {len(told)}" in page.locator(".st-key-story").inner_text()
        assert f"story={key}&step={number}" in page.url or f"step={number}" in page.url
        page.keyboard.press("n")
    page.get_by_role("heading", name="GIF Studio", exact=True).wait_for()
    settled(page)
    assert "story=" not in page.url
    page.close()


def test_clicks_go_from_the_network_to_a_layer_to_a_unit_and_back(
    chromium: Any, address: str
) -> None:
    page = opened(chromium, f"{address}/parameters")
    for unit in ("low", "low again", "high"):  # the second click is on the same tile and cell
        page.locator(".st-key-chart-network g.slice", has_text="conv3").first.wait_for()
        page.wait_for_timeout(1000)  # Plotly listens a moment after it has drawn
        page.locator(".st-key-chart-network g.slice", has_text="conv3").first.click()
        page.get_by_role("heading", name="conv3.weight: units by inputs").wait_for()
        settled(page)
        assert "layer=conv3.weight" in page.url
        assert "tab=layer" in page.url
        cells = page.locator(".st-key-chart-layer .nsewdrag").last
        cells.wait_for()
        page.wait_for_timeout(1000)
        box = cells.bounding_box()
        down = box["height"] - 12 if unit == "high" else 12
        cells.click(position={"x": box["width"] / 2, "y": down})
        page.get_by_role("heading", name="One unit of conv3.weight").wait_for()
        settled(page)
        assert "tab=unit" in page.url
        picked = int(page.url.split("unit=")[1].split("&")[0])
        assert picked > 100 if unit == "high" else picked < 28  # of 128
        assert page.locator(".st-key-unit input").input_value().startswith(f"Unit {picked}:")
        page.get_by_role("tab", name="Network", exact=True).click()
    page.close()


def test_the_report_opens_from_disk_without_a_network(
    chromium: Any, address: str, tmp_path: Path
) -> None:
    page = opened(chromium, f"{address}/samples")
    page.get_by_text("Share this view").click()
    with page.expect_download() as download:
        page.get_by_text("Report: one HTML file").click()
    file = tmp_path / "report.html"
    download.value.save_as(file)
    page.close()
    context = chromium.new_context(offline=True)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(file.as_uri())
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    assert page.locator(".js-plotly-plot").count() == 5
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert problems == []
    context.close()

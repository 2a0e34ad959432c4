"""A click on a cell of a confusion matrix in a real browser: its images, then one on Samples."""

from __future__ import annotations

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
PLACE = """([chart, row, column]) => {
    const plot = document.querySelector(`${chart} .js-plotly-plot`), {_size, xaxis, yaxis} =
        plot._fullLayout, box = plot.getBoundingClientRect();
    return [box.x + _size.l + xaxis.d2p(column), box.y + _size.t + yaxis.d2p(row)];
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    workspace: Path = tmp_path_factory.mktemp("workspace")
    with served(workspace) as address, browser() as chromium:
        opened = chromium.new_page(viewport={"width": WIDTH, "height": 900})
        opened.set_default_timeout(120_000)
        opened.goto(address + "/before-after")
        settled(opened, 180_000)
        opened.get_by_role("tab", name="Confusion matrices", exact=True).click()
        opened.wait_for_url(re.compile(r"tab=confusions"))
        yield opened


def click(page: Any, model: str, row: int, column: int) -> None:
    chart = f".st-key-chart-confusion-{model}"
    page.locator(f"{chart} .js-plotly-plot").scroll_into_view_if_needed()
    page.wait_for_function(
        "chart => document.querySelector(`${chart} .js-plotly-plot`)?._fullLayout", arg=chart
    )
    x, y = page.evaluate(PLACE, [chart, row, column])
    page.mouse.move(x, y)
    page.locator(f"{chart} .hoverlayer text").first.wait_for()
    page.mouse.click(x, y)


def test_a_click_on_a_cell_shows_its_images_and_one_opens_on_samples(page: Any) -> None:
    click(page, "edited", 8, 5)
    page.wait_for_url(re.compile(r"cell=8-5(&|$)"))
    page.get_by_text(re.compile(r"test images of Bag taken for Sandal by GIF searched")).wait_for()
    assert page.locator(".st-key-cell-label input").input_value() == "Bag"
    assert page.locator(".st-key-cell-predicted input").input_value() == "Sandal"
    click(page, "before", 6, 0)
    page.wait_for_url(re.compile(r"cell=6-0-before"))
    page.get_by_text(re.compile(r"test images of Shirt taken for T-shirt/top by the")).wait_for()
    image = page.locator("[class*=st-key-cell-6-0-before-open-] button").first
    number = image.inner_text().split("#")[-1].strip()
    image.click()
    page.get_by_role("heading", name="Samples", exact=True).wait_for()
    assert re.search(rf"(query|preview)={number}(&|$)", page.url)

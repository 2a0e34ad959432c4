"""A preview in a real browser: only a part of the page is drawn again for the next test image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gifcore.assets_path import asset
from gifcore.record import Record
from tests.browser.site import CHROMIUM, WIDTH, browser, served, settled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="NO BROWSER: install Debian's package chromium, or the pages go untested",
    ),
]

BANNER = ".st-key-preview-banner"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    workspace: Path = tmp_path_factory.mktemp("workspace")
    with served(workspace) as address, browser() as chromium:
        opened = chromium.new_page(viewport={"width": WIDTH, "height": 900})
        opened.set_default_timeout(60_000)
        opened.goto(address + "/samples")
        settled(opened)
        yield opened


@pytest.fixture(scope="module")
def record() -> Record:
    """The bundled record that the dashboard opens with."""
    return Record.open(asset("demo") / "highest-k-gradients-05")


def ask(page: Any, index: int) -> None:
    field = page.locator(".st-key-preview input")
    field.fill(str(index))
    field.press("Enter")


def helpful(page: Any) -> list[int]:
    """The training images of the first sheet, in order."""
    alts = page.locator("figure img").evaluate_all("found => found.map(one => one.alt)")
    training = [alt for alt in alts if alt.startswith("Training image ")]
    return [int(alt.split(",")[0].removeprefix("Training image ")) for alt in training[:24]]


def best(record: Record, index: int) -> list[int]:
    sketch = record.sketch()
    assert sketch is not None
    scores = sketch.scores(index, record.methods[0])
    return [int(i) for i in sketch.positions[(-scores).argsort(kind="stable")[:24]]]


def test_one_preview_after_the_other_and_back(page: Any, record: Record) -> None:
    ranked = [query["index"] for query in record.queries]
    first, second = [i for i in range(60) if i not in ranked][:2]
    for index in (first, second):
        ask(page, index)
        page.locator(BANNER, has_text=f"Test image #{index} is not ranked yet").wait_for()
        settled(page)
        assert f"preview={index}" in page.url
        text = page.locator("[data-testid=stMain]").inner_text()
        assert f"#{index} ·" in text.split("Any other")[0]  # the answer above the pickers
        assert helpful(page) == best(record, index)
    with_link = page.url
    other = page.context.browser.new_page(viewport={"width": WIDTH, "height": 900})
    other.goto(with_link)
    other.locator(BANNER, has_text=f"Test image #{second} is not ranked yet").wait_for()
    settled(other)
    assert helpful(other) == helpful(page)
    other.close()

    page.locator(f".st-key-query-{ranked[1]} button").first.click()
    page.locator(BANNER).wait_for(state="detached")
    settled(page)
    assert "preview=" not in page.url
    assert f"query={ranked[1]}" in page.url
    scores = record.scores(record.methods[0], ranked[1])
    assert helpful(page) == scores["train_index"].head(24).tolist()

    ask(page, ranked[0])  # ranked: it is offered, not previewed
    page.locator(".st-key-samples-show button").first.click()
    page.wait_for_url(lambda url: f"query={ranked[0]}" in url and "preview=" not in url)
    settled(page)
    assert (
        helpful(page)
        == record.scores(record.methods[0], ranked[0])["train_index"].head(24).tolist()
    )

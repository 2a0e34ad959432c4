"""A copied link opens the same view for somebody else; Back returns to the page as it was."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.site import CHROMIUM, WIDTH, settled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="NO BROWSER: install Debian's package chromium, or the pages go untested",
    ),
]

PICKED = "selector=highest-k-outputs&ratio=0.1&methods=gif&k=20"
PAGES = {  # what is chosen on each page, beside what is chosen for all
    "samples": "query=104&filter=",
    "parameters": "layer=conv3.weight&unit=5&tab=unit",
    "before-after": "tab=confusions&cell=8-6&edit=gif-natural",
    "compare": "query=104&methods=if%2Cgif&tab=moves",
    "wrong-labels": "marked=5,17",
    "speed": "",
}
SAYS = """wanted => wanted === document.querySelector('.st-key-ratio input').ariaValueText"""
WIDE = {"width": WIDTH, "height": 900}


@pytest.fixture(scope="module")
def page(chromium: Any) -> Any:
    """The browser of who sends the links."""
    return opened(chromium)


def opened(chromium: Any) -> Any:
    found = chromium.new_context(viewport=WIDE).new_page()
    found.set_default_timeout(60_000)
    return found


def view(page: Any) -> dict[str, Any]:
    """What one sees: every word of the page, what its pickers say, the names of its pictures."""
    settled(page)
    page.wait_for_function("!document.querySelector('[data-stale=true]')")
    fields = page.locator("[data-testid=stMain] input, [data-testid=stSidebar] input")
    said = "all => all.map(e => [e.ariaLabel, e.getAttribute('aria-valuetext') ?? e.value])"
    chosen = page.locator("[aria-checked=true], [aria-pressed=true], [data-selected=true]")
    return {
        "words": page.locator("[data-testid=stMain]").inner_text(),
        "fields": fields.evaluate_all(said),
        "chosen": chosen.all_inner_texts(),
        "pictures": page.locator("img").evaluate_all("all => all.map(e => e.alt)"),
    }


def copied(page: Any) -> str:
    """The link that the popover offers."""
    page.get_by_text("Share this view").click()
    link = page.locator("[data-testid=stPopoverBody] code").first
    link.wait_for()
    text = str(link.inner_text()).strip()
    page.keyboard.press("Escape")
    return text


@pytest.mark.parametrize("name", PAGES)
def test_a_copied_link_opens_the_same_view(
    chromium: Any, page: Any, address: str, name: str
) -> None:
    page.goto(f"{address}/{name}?{PICKED}&{PAGES[name]}")
    settled(page)
    link = copied(page)
    here = view(page)
    assert link.startswith(f"{address}/{name}?")
    assert "selector=highest-k-outputs" in link
    assert "record=" in link
    other = opened(chromium)
    other.goto(link)
    other.get_by_role("heading", level=1).wait_for()
    assert view(other) == here
    assert "went wrong" not in here["words"]
    assert "not here" not in here["words"]
    other.context.close()


def test_back_returns_to_the_page_before_with_its_selection(page: Any, address: str) -> None:
    page.goto(f"{address}/samples?{PICKED}&query=104")
    settled(page)
    before, url = view(page), page.url
    page.get_by_role("link", name="Compare").first.click()
    page.get_by_role("heading", name="Compare", exact=True).wait_for()
    settled(page)
    page.locator(".st-key-ratio input[type=range]").press("ArrowLeft")
    page.wait_for_url("**ratio=0.05**")
    settled(page)
    page.go_back()
    page.wait_for_function(SAYS, arg="10 %")  # the ratio as it was on Compare
    settled(page)
    while "/compare" in page.url:  # what a page adds to the address is a step of its own
        page.go_back()
        page.wait_for_timeout(500)  # the address follows
    page.get_by_role("heading", name="Samples", exact=True).wait_for()
    page.wait_for_url(url)
    assert view(page) == before


def test_a_link_to_what_is_gone_says_so(page: Any, address: str) -> None:
    page.goto(f"{address}/samples?study=0123456789ab&query=104")
    warning = page.get_by_role("alert").filter(has_text="0123456789ab")
    warning.wait_for()
    assert "not here" in warning.inner_text()
    settled(page)
    assert page.get_by_role("heading", name="Samples", exact=True).count() == 1

"""The whole dashboard by the keyboard alone: Tab, Enter, Space, arrows; one sees where one is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dashboard import jobs
from tests.browser.site import CHROMIUM, WIDTH, browser, served, settled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="NO BROWSER: install Debian's package chromium, or the pages go untested",
    ),
]

MOST = 200  # presses of Tab until something must have been reached
AROUND = 8  # pixels around a control where its focus may be drawn
HAS_FOCUS = "css => Boolean(document.activeElement?.closest(css))"
FOCUSED = """() => {
    const field = document.activeElement.closest('[data-baseweb=select], label') ??
        document.activeElement;
    const box = field.getBoundingClientRect();
    return [box.x, box.y, box.width, box.height];
}"""

MARKED = """() => document.getElementById(
    document.activeElement.getAttribute('aria-activedescendant'))?.innerText ?? ''"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def page(workspace: Path) -> Iterator[Any]:
    """One page that nobody has a mouse for; it begins at Home."""
    with served(workspace) as address, browser() as chromium:
        opened = chromium.new_page(viewport={"width": WIDTH, "height": 900})
        opened.set_default_timeout(45_000)
        opened.goto(address)
        settled(opened)
        yield opened
        for folder in jobs.started(workspace):
            jobs.cancel(folder, workspace)


def tab_to(page: Any, css: str, *, seen: bool = True) -> None:
    """Press Tab until the focus is there, and look whether it is to be seen."""
    for _ in range(MOST):
        page.keyboard.press("Tab")
        if page.evaluate(HAS_FOCUS, css):
            break
    else:
        pytest.fail(f"{MOST} times Tab did not lead to {css}")
    assert not seen or focus_is_drawn(page), f"nothing shows that {css} has the focus"


def focus_is_drawn(page: Any) -> bool:
    """Does the page look different around the focused control when the focus is taken away?"""
    x, y, width, height = page.evaluate(FOCUSED)
    left, top = max(0, x - AROUND), max(0, y - AROUND)
    clip = {"x": left, "y": top, "width": width + 2 * AROUND, "height": height + 2 * AROUND}
    with_it = page.screenshot(clip=clip, animations="disabled")
    page.evaluate("() => { window.focused = document.activeElement; window.focused.blur(); }")
    without = page.screenshot(clip=clip, animations="disabled")
    page.evaluate("() => window.focused.focus({focusVisible: true})")
    one, other = (
        np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), int)
        for picture in (with_it, without)
    )
    # Streamlit only tints a link of the navigation, by 10 of 255; other controls get a ring.
    return bool((np.abs(one - other).max(axis=2) > 6).sum() > 100)


def go(page: Any, name: str) -> None:
    """Follow a link of the navigation, in its menu if it is there."""
    path = name.lower().replace(" / ", "-").replace(" ", "-")
    if page.locator(f"header a[href$='/{path}']").count():
        tab_to(page, f"header a[href$='/{path}']")
    else:
        tab_to(page, "[data-testid=stTopNavSection]")
        page.keyboard.press("Enter")
        page.get_by_role("menuitem", name=name).wait_for()
        while not page.evaluate(HAS_FOCUS, f"a[href$='/{path}']"):
            page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=name, exact=True).wait_for()
    settled(page)


def choose(page: Any, key: str, words: str = "") -> str:
    """Pick in a select box what begins with the words, or else the next one; return its words."""
    tab_to(page, f".st-key-{key} input")
    page.keyboard.press("ArrowDown")
    page.get_by_role("listbox").wait_for()
    if words:
        page.keyboard.type(words)
        page.wait_for_function(f"words => ({MARKED})().startsWith(words)", arg=words)
    else:
        page.keyboard.press("ArrowDown")
    option = page.evaluate(MARKED)
    assert option.startswith(words)
    page.keyboard.press("Enter")
    page.get_by_role("listbox").wait_for(state="detached")
    settled(page)
    return str(option)


def main_text(page: Any) -> str:
    return str(page.locator("[data-testid=stMain]").inner_text())


def test_a_story_is_opened_stepped_through_and_ended(page: Any) -> None:
    tab_to(page, ".st-key-story-forget button")
    page.keyboard.press("Enter")
    page.wait_for_url("**step=1**")
    settled(page)
    tab_to(page, ".st-key-story-next button")
    page.keyboard.press("Enter")
    page.wait_for_url("**step=2**")
    settled(page)
    assert "step 2 of" in page.locator(".st-key-story").inner_text()
    tab_to(page, ".st-key-story-end button")
    page.keyboard.press("Space")
    page.get_by_role("heading", name="GIF Studio", exact=True).wait_for()
    settled(page)


def test_samples_another_test_image_one_method_how_sure_and_a_training_image(page: Any) -> None:
    go(page, "Samples")
    option = choose(page, "query", "#104")
    index = option.split(" ")[0].removeprefix("#")
    page.wait_for_url(f"**query={index}**")
    settled(page)
    assert f"#{index} ·" in main_text(page)
    tab_to(page, ".st-key-methods [data-variant=pills]")
    page.keyboard.press("Space")  # the first, IF, is no longer shown
    page.wait_for_url("**methods=gif**")
    settled(page)
    tab_to(page, ".st-key-sure-samples summary")
    page.keyboard.press("Enter")
    page.locator(".st-key-sure-samples").get_by_text("GIF:").first.wait_for()
    settled(page)

    tab_to(page, ".st-key-browse-browse [role=radio]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.locator(".st-key-browse-grid").wait_for()
    settled(page)
    tab_to(page, "[class*=st-key-tile-] button")
    number = page.evaluate("document.activeElement.innerText").strip().removeprefix("#")
    page.keyboard.press("Enter")
    page.locator(f".st-key-card-{number}").wait_for()
    page.wait_for_url(f"**sample={number}**")
    settled(page)


def test_parameters_a_layer_and_a_unit_by_the_pickers(page: Any) -> None:
    go(page, "Parameters")
    choose(page, "layer", "conv3.weight")
    page.wait_for_url("**layer=conv3.weight**")
    settled(page)
    tab_to(page, "[role=tab]")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    page.wait_for_url("**tab=unit**")
    page.get_by_role("heading", name="One unit of conv3.weight").wait_for()
    settled(page)
    unit = choose(page, "unit")
    page.wait_for_url(f"**unit={unit.split(':')[0].removeprefix('Unit ')}**")
    settled(page)


def test_compare_another_k(page: Any) -> None:
    go(page, "Compare")
    tab_to(page, ".st-key-k input")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**k=100**")
    settled(page)
    assert "of their 100 most helpful training images" in main_text(page)


def test_a_study_is_checked_started_and_cancelled(page: Any, workspace: Path) -> None:
    go(page, "New study")
    choose(page, "new_data", "Digits")
    choose(page, "new_model", "Fully connected")
    tab_to(page, ".st-key-check button")
    page.keyboard.press("Enter")
    page.get_by_text("Accuracy on test").wait_for()
    settled(page)
    tab_to(page, ".st-key-run button")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Cancel", exact=True).wait_for()
    tab_to(page, "[class*=st-key-cancel-] button", seen=False)  # drawn anew every second
    page.keyboard.press("Enter")
    page.get_by_text("Cancelled").first.wait_for()
    (folder,) = jobs.started(workspace)
    assert jobs.status(folder, workspace)["status"] == "cancelled"

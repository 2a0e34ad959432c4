"""Every control of every page is reached by the Tab key, the menus of charts too."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.site import CHROMIUM, WIDTH, settled
from tests.browser.test_accessibility import PAGES

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="NO BROWSER: install Debian's package chromium, or the pages go untested",
    ),
]

ROUND, MOST = 40, 400  # presses of Tab at once, and in all: more than any page has controls
# Numbers every control that can be used now, notes which come into focus, and returns what each is.
# Of several that belong together (options of a choice, tabs, the parts of one field) one is reached
# by Tab and the others from there.
CONTROLS = """() => {
    const wanted = 'a[href], button, input, select, textarea, summary, canvas[tabindex], '
        + '[role=tab], [role=radio], [role=checkbox], [role=combobox], [role=slider]';
    const together = '[role=radiogroup], [role=tablist], [role=toolbar], [data-testid=stSelectbox],'
        + '[data-testid=stMultiSelect], [data-testid=stNumberInput],'
        + '[data-testid=stFileUploaderDropzone]';
    const usable = [...document.querySelectorAll(wanted)].filter(one =>
        !one.disabled && !one.closest('[inert], [aria-hidden=true]')
        && one.checkVisibility({visibilityProperty: true}));
    const names = new Map();
    window.reached = new Set();
    for (const one of usable) {
        const keyed = one.closest('[class*="st-key-"]')?.className.match(/st-key-\\S+/)?.[0] ?? '';
        const whole = one.closest(together) ?? one;
        if (!names.has(whole)) names.set(whole, `${keyed} ${one.outerHTML.slice(0, 120)}`);
    }
    addEventListener('focusin', event => {
        const whole = event.target.closest(together) ?? event.target.closest(wanted);
        if (names.has(whole)) reached.add(names.get(whole));
    }, true);
    window.unreached = () => [...names.values()].filter(name => !reached.has(name));
}"""


def unreached(page: Any) -> list[str]:
    """Press Tab until the focus has gone round, and return the controls it never came to."""
    page.evaluate(CONTROLS)
    missing: list[str] = []
    for _ in range(MOST // ROUND):
        for _ in range(ROUND):
            page.keyboard.press("Tab")
        missing = page.evaluate("unreached()")
        if not missing:
            break
    return missing


@pytest.mark.parametrize("name", PAGES)
def test_every_control_is_reached_by_tab(chromium: Any, address: str, name: str) -> None:
    page = chromium.new_page(viewport={"width": WIDTH, "height": 900})
    page.set_default_timeout(60_000)
    page.goto(address + PAGES[name][0])
    settled(page)
    page.wait_for_timeout(500)
    missing = unreached(page)
    page.close()
    assert missing == []

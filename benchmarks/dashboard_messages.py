"""How large the messages to the browser are: of every page, of the demo and the large record."""

from __future__ import annotations

from typing import Any

from benchmarks.dashboard_browser import Frames, Viewer, chromium
from benchmarks.dashboard_numbers import Measured
from benchmarks.dashboard_parts import (
    OTHER_PAGES,
    RECORD_PAGES,
    Part,
    Size,
    address,
    large_record,
    tell,
)
from benchmarks.dashboard_server import server

MOST = 8  # things of a kind that are used on a page
USED = ("[role=tab]", "details > summary", "button[data-variant]", "label[data-rac]", "[role=tab]")


async def messages(size: Size) -> list[Part]:  # noqa: ARG001 - it takes as long as it takes
    """The largest message of every page, of the demo and of the large record."""
    path = large_record()
    rows = []
    with server(path.parent) as running:
        async with chromium() as browser:
            for name, query in (("demo", ""), ("60,000", address(path))):
                tell(f"messages: {name}")
                for page in RECORD_PAGES + OTHER_PAGES:
                    frames = await _everything(browser, running.address, page, query)
                    what = f"{name}, {page or 'home'}: largest message"
                    rows.append(Measured(what, "kB", 2000, "max", [frames.largest / 1000]))
                    what = f"{name}, {page or 'home'}: all messages"
                    rows.append(Measured(what, "kB", values=[frames.total / 1000]))
    notes = [
        "WebSocket frames from the server, uncompressed: the page is opened in an empty browser, "
        f"and of the tabs, choices, panels and switches in its main part the first {MOST} each are "
        "used."
    ]
    return [Part("Messages to the browser", rows, notes)]


async def _everything(browser: Any, address: str, page: str, query: str) -> Frames:  # noqa: ANN401
    """Open a page and use what may send more: tabs, choices, panels and switches."""
    from playwright.async_api import Error

    viewer = await Viewer.come(browser, address)
    await viewer.open(page, query)
    if page in RECORD_PAGES:
        for selector in USED:
            found = viewer.page.locator(f"[data-testid=stMain] {selector}:visible")
            for i in range(min(await found.count(), MOST)):
                try:
                    await found.nth(i).click(timeout=3_000)
                    await viewer.page.wait_for_timeout(250)
                    await viewer.settled()
                except Error:
                    continue  # it went with the choice before
    await viewer.leave()
    return viewer.frames

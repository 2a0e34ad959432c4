"""A viewer in a real browser: what it clicks, and how long until the page has answered.

Measured is, in the browser, from the click or key that made Streamlit send (the event's own time)
to the frame after the last change of the page's content (nodes, texts, pictures, lines of charts
in the main part and the sidebar). The answer is over when the script has ended, and nothing has
come from the server nor changed for `QUIET` ms. Not counted: colours that fade, tooltips, and what
is drawn once more as it was (Streamlit has Plotly draw every new chart twice). Where the server's
answer changes nothing to be seen, the end of the script is taken.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.dashboard_companions import Recording
from tests.browser.site import CHROMIUM, FLAGS, WIDTH

QUIET = 400  # ms without any change: the answer is over
LATE = 30_000  # ms: an answer that is not over by then counts as late
UNHEARD = 1_500  # ms: a click that sends nothing by then has no effect
AWAKE = (  # five windows on one screen: none of them is put to sleep
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)
WATCH = """(() => {
  if (window.watch) return;
  const seen = window.watch = {input: 0, start: null, sent: null, heard: null, got: 0,
                               changed: null, painted: null, ended: null};
  for (const kind of ['pointerup', 'click', 'keydown'])
    addEventListener(kind, event => { seen.input = event.timeStamp; }, true);
  const Native = window.WebSocket;
  window.WebSocket = class extends Native {
    constructor(...given) {
      super(...given);
      this.addEventListener('message', () => {
        seen.got = performance.now();
        if (seen.sent !== null) seen.heard ??= seen.got;
      });
    }
    send(data) {
      if (seen.start === null) { seen.start = seen.input; seen.sent = performance.now(); }
      return super.send(data);
    }
  };
  const content = node => {
    const at = node.nodeType === 1 ? node : node.parentElement;
    if (at?.closest('canvas')) return null;  // read to the blind, never painted
    return at?.closest('[data-testid=stMain], [data-testid=stSidebar]');
  };
  const drawn = new WeakMap();  // what each chart shows
  const other = chart => {
    const shows = [...chart.querySelectorAll('.main-svg')].map(svg => svg.innerHTML).join('');
    if (drawn.get(chart) === shows) return false;
    drawn.set(chart, shows);
    return true;
  };
  const look = records => {
    const now = performance.now();
    const charts = new Set();
    let changed = false;
    for (const record of records) {
      if (record.attributeName === 'data-test-script-state') {
        if (record.target.dataset.testScriptState === 'notRunning') seen.ended = now;
      } else if (content(record.target)) {
        const chart = record.target.closest?.('.js-plotly-plot');
        if (chart) charts.add(chart);
        else changed ||= record.type !== 'attributes'
          || record.oldValue !== record.target.getAttribute(record.attributeName);
      }
    }
    for (const chart of charts) changed = other(chart) || changed;
    if (changed) {
      seen.changed = now;
      requestAnimationFrame(() => { seen.painted = performance.now(); });
    }
  };
  new MutationObserver(look).observe(document, {
    subtree: true, childList: true, characterData: true, attributes: true, attributeOldValue: true,
    attributeFilter: ['src', 'alt', 'd', 'points', 'href', 'x', 'y', 'data-test-script-state'],
  });
  window.arm = () => {
    Object.assign(seen, {start: null, sent: null, heard: null, got: 0, changed: null,
                         painted: null, ended: null});
  };
  window.answer = ([quiet, late, unheard]) => new Promise(resolve => {
    const asked = performance.now();
    const state = () =>
      document.querySelector('[data-testid=stApp]')?.dataset.testScriptState;
    const poll = () => {
      const now = performance.now();
      if (seen.start === null) {
        if (now - asked > unheard) return resolve(null);
      } else {
        const last = Math.max(seen.got, seen.changed ?? 0, seen.ended ?? 0);
        const over = seen.got > seen.sent && state() === 'notRunning' && now - last > quiet;
        if (over || now - asked > late) {
          const end = (seen.changed ?? 0) > seen.heard ? Math.max(seen.painted ?? 0, seen.changed)
            : Math.max(seen.ended ?? 0, seen.heard);
          return resolve(over ? end - seen.start : late);
        }
      }
      setTimeout(poll, 20);
    };
    poll();
  });
})();"""
# What is on the page to choose from, as [kind, number in the page, its key or label]
CHOICES = """() => {
  const kinds = {
    select: '[data-testid=stSelectbox]', buttons: '[data-testid=stButtonGroup]',
    slider: '[data-testid=stSlider]', query: '[class*="st-key-query-"] button',
    pages: '[data-testid=stPagination]', tabs: '[data-testid=stTabs]',
  };
  const found = [];
  for (const [kind, selector] of Object.entries(kinds))
    [...document.querySelectorAll(selector)].forEach((one, number) => {
      if (one.getClientRects().length === 0 || one.querySelector('[disabled]')) return;
      const keyed = one.closest('[class*="st-key-"]');
      const key = [...(keyed?.classList ?? [])].find(name => name.startsWith('st-key-'));
      found.push([kind, number, (key ?? kind).replace('st-key-', '')]);
    });
  return found;
}"""
SELECTORS = {
    "select": "[data-testid=stSelectbox]",
    "buttons": "[data-testid=stButtonGroup]",
    "slider": "[data-testid=stSlider]",
    "query": '[class*="st-key-query-"] button',
    "pages": "[data-testid=stPagination]",
    "tabs": "[data-testid=stTabs]",
}


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """Yield one Chromium for any number of viewers, each with a context of its own."""
    from playwright.async_api import async_playwright

    if CHROMIUM is None:
        raise SystemExit("No browser: install Debian's package chromium.")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *AWAKE])
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Frames:
    """How large the messages of the server to one page were."""

    largest: int = 0
    total: int = 0

    def take(self, payload: str | bytes) -> None:
        """Count one message."""
        size = len(payload)
        self.largest, self.total = max(self.largest, size), self.total + size


@dataclass
class Viewer:
    """One person in front of the dashboard, in a browser context of its own."""

    page: Any
    address: str
    frames: Frames = field(default_factory=Frames)

    @classmethod
    async def come(
        cls,
        browser: Any,  # noqa: ANN401
        address: str,
        recording: Recording | None = None,
    ) -> Viewer:
        """Open a fresh context; nothing is loaded yet. What it sends may be recorded."""
        context = await browser.new_context(viewport={"width": WIDTH, "height": 900})
        await context.add_init_script(WATCH)
        page = await context.new_page()
        page.set_default_timeout(120_000)
        viewer = cls(page, address)

        def connected(socket: Any) -> None:  # noqa: ANN401
            socket.on("framereceived", viewer.frames.take)
            if recording is not None:
                sent = recording.connection()
                socket.on("framesent", lambda payload: recording.take(sent, payload))

        page.on("websocket", connected)
        return viewer

    async def leave(self) -> None:
        """Close the context and all that belongs to it."""
        await self.page.context.close()

    async def open(self, path: str = "", query: str = "") -> None:
        """Load a page from its address and wait until it is drawn."""
        await self.page.goto(f"{self.address}/{path}{query}")
        await self.settled()

    async def settled(self) -> None:
        """Wait until the script has ended and nothing is left to be drawn."""
        for selector, state in (
            ("[data-testid=stApp][data-test-connection-state=CONNECTED]", "attached"),
            ("[data-test-script-state=notRunning]", "attached"),
            ("[data-testid=stSkeleton]", "detached"),
        ):
            await self.page.wait_for_selector(selector, state=state)

    async def turn_to(self, path: str) -> float | None:
        """Click a page in the navigation; return what that took, None if it is not there."""
        links = self.page.locator("[data-testid=stTopNavLink]")
        for i in range(await links.count()):
            href = (await links.nth(i).get_attribute("href")) or ""
            if href.split("?")[0].rstrip("/") == f"{self.address}/{path}".rstrip("/"):
                await self.page.evaluate("arm()")
                await links.nth(i).click()
                return await self._answer()
        return None

    async def choices(self) -> list[tuple[str, int, str]]:
        """Return what can be chosen on the page now: kind, number, key."""
        return [tuple(one) for one in await self.page.evaluate(CHOICES)]

    async def choose(self, kind: str, number: int, rng: random.Random) -> float | None:
        """Choose something else in one widget; return what that took, None if nothing was sent."""
        one = self.page.locator(SELECTORS[kind]).nth(number)
        act = {"select": _option, "slider": _step, "query": _press, "pages": _next_page}
        act["tabs"] = _tab
        if not await act.get(kind, _button)(self.page, one, rng):
            return None
        return await self._answer()

    async def _answer(self) -> float | None:
        found: float | None = await self.page.evaluate(
            "given => answer(given)", [QUIET, LATE, UNHEARD]
        )
        return found


# --- ways to choose: each arms the watch just before the input that counts ------------------------


async def _option(page: Any, one: Any, rng: random.Random) -> bool:  # noqa: ANN401
    await one.locator("[role=combobox]").first.click()
    others = page.locator('[role=option][aria-selected="false"]:visible')
    try:
        await others.first.wait_for(timeout=2_000)
    except Exception:  # noqa: BLE001 - a list of one option has no other
        await page.keyboard.press("Escape")
        return False
    other = others.nth(rng.randrange(min(await others.count(), 6)))
    await page.evaluate("arm()")
    await other.click()
    return True


async def _step(page: Any, one: Any, rng: random.Random) -> bool:  # noqa: ANN401
    handle = one.locator("input[type=range]").first
    at, low, high = [
        int(float(await handle.get_attribute(name) or 0)) for name in ("value", "min", "max")
    ]
    if low == high:
        return False
    left = at == high or (at > low and rng.random() < 0.5)
    await handle.focus()
    await page.evaluate("arm()")
    await page.keyboard.press("ArrowLeft" if left else "ArrowRight")
    return True


async def _press(page: Any, one: Any, _: random.Random) -> bool:  # noqa: ANN401
    await one.scroll_into_view_if_needed()
    await page.evaluate("arm()")
    await one.click()
    return True


async def _button(page: Any, one: Any, rng: random.Random) -> bool:  # noqa: ANN401
    buttons = one.locator("button[data-variant]")
    free = one.locator('button[data-variant]:not([data-selected="true"])')
    if await free.count() == 0:  # of several that are all chosen one is let go
        free = buttons
        if await buttons.count() < 2:
            return False
    return await _press(page, free.nth(rng.randrange(await free.count())), rng)


async def _tab(page: Any, one: Any, rng: random.Random) -> bool:  # noqa: ANN401
    free = one.locator('[role=tab][aria-selected="false"]')
    count = await free.count()
    return count > 0 and await _press(page, free.nth(rng.randrange(count)), rng)


async def _next_page(page: Any, one: Any, rng: random.Random) -> bool:  # noqa: ANN401
    free = one.locator("button:not([disabled]):not([aria-current])")
    count = await free.count()
    return count > 0 and await _press(page, free.nth(rng.randrange(count)), rng)

"""From the address to the first ranking on screen: a fresh server, again, and other visitors."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.dashboard_browser import Viewer, chromium
from benchmarks.dashboard_numbers import Measured
from benchmarks.dashboard_parts import Part, Size, tell
from benchmarks.dashboard_server import server

FIRST = """() => {
  const shown = [...document.querySelectorAll('[data-testid=stMain] img[alt^="Training image"]')];
  return shown.length >= 4 && shown.slice(0, 4).every(img => img.complete && img.naturalWidth > 0)
    && document.querySelector('[data-testid=stApp]')?.dataset.testScriptState !== 'initial';
}"""
PAINTED = f"""() => new Promise(resolve => {{
  const first = {FIRST};
  const look = () => first() ? requestAnimationFrame(() => resolve(performance.now()))
                             : requestAnimationFrame(look);
  look();
}})"""


async def first(size: Size) -> list[Part]:
    """From the address of Samples to its first pictures: a fresh server, again, and others."""
    fresh = Measured("first visit to a fresh server, empty browser", aim=5000, of="max")
    again = Measured("second visit, the same browser", aim=1000)
    new = Measured("another visitor, empty browser", aim=5000, of="max")
    for number in range(size.servers):
        tell(f"first ranking: server {number + 1} of {size.servers}")
        with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as running:
            async with chromium() as browser:
                visitor = await Viewer.come(browser, running.address)
                fresh.values.append(await _first_ranking(visitor))
                for _ in range(size.visits):
                    again.values.append(await _first_ranking(visitor))
                await visitor.leave()
                for _ in range(size.visits):
                    visitor = await Viewer.come(browser, running.address)
                    new.values.append(await _first_ranking(visitor))
                    await visitor.leave()
    notes = [
        "From the navigation's start (`performance.timeOrigin`) to the frame in which the first "
        "four training images of the ranking on Samples are loaded; one viewer. An empty browser "
        "has to read and compile the page's program first: cold.",
    ]
    return [Part("From the address to the first ranking", [fresh, again, new], notes)]


async def _first_ranking(visitor: Viewer) -> float:
    await visitor.page.goto(f"{visitor.address}/samples", wait_until="commit")
    painted: float = await visitor.page.evaluate(PAINTED)
    await visitor.settled()
    return painted

"""How long a preview takes until it is painted: a real browser on the page Samples of the demo."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from dashboard.views.samples import top_of
from gifcore.assets_path import asset
from gifcore.preview import Sketch
from gifcore.record import Record
from tests.browser.site import CHROMIUM, WIDTH, browser, served, settled

DEMO = "highest-k-gradients-05"
IMAGES, WARM = 20, 2
FIELD = ".st-key-preview input"
# Resolves with [until painted, until the script had ended] in ms from the key Enter on: painted is
# when the headline names the image, all its pictures are the expected ones and loaded, and a frame
# has gone by.
WATCH = """([index, alts]) => { window.seen = new Promise(resolve => {
    let start = null, painted = null;
    addEventListener('keydown', () => { start ??= performance.now(); },
                     {capture: true, once: true});
    const shown = () => {
        const main = document.querySelector('[data-testid=stMain]');
        const found = [...main.querySelectorAll('img[alt^="Training image"]')];
        return main.querySelector('.st-key-preview-banner')?.innerText.includes(`#${index} `)
            && found.length === alts.length
            && found.every((img, n) => img.alt.startsWith(alts[n]) && img.complete);
    };
    const ended = () => document.querySelector('[data-test-script-state=notRunning]');
    const look = () => {
        if (start !== null && painted === null && shown()) {
            requestAnimationFrame(() => { painted = performance.now() - start; });
        }
        if (painted !== null && ended()) resolve([painted, performance.now() - start]);
        else requestAnimationFrame(look);
    };
    look();
}); }"""


def of_the_browser(images: int = IMAGES) -> Table:
    """Return median and 95 % of the time from a number and Enter to the painted preview."""
    if CHROMIUM is None:
        raise SystemExit("No browser: install Debian's package chromium.")
    record = Record.open(asset("demo") / DEMO)
    sketch = record.sketch()
    assert sketch is not None
    ranked = {query["index"] for query in record.queries}
    others = [i for i in range(record.info["data"]["sizes"]["test"]) if i not in ranked]
    rng = np.random.default_rng(0)
    chosen = rng.permutation(others)[: WARM + images].tolist()
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as address, browser() as b:
        page = b.new_page(viewport={"width": WIDTH, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(address + "/samples")
        settled(page)
        times = [shown(page, index, expected(sketch, record, index)) for index in chosen]
    table = Table("what", "median", "95 % below", title="Preview of a test image, in a browser")
    names = ("until banner and pictures are painted", "until the page's script has ended")
    for name, values in zip(names, zip(*times[WARM:], strict=True), strict=True):
        table.add_row(
            f"From Enter {name}, {images} images of the demo",
            f"{statistics.median(values) / 1000:.3f} s",
            f"{np.quantile(values, 0.95) / 1000:.3f} s",
        )
    return table


def expected(sketch: Sketch, record: Record, index: int) -> list[str]:
    """Return how the alternative texts of the pictures begin, as the page shows them."""
    scores = {m: sketch.scores(index, m).astype(float) for m in record.methods}
    best = [top_of(scores[m], side) for side in ("helpful", "harmful") for m in scores]
    return [f"Training image {sketch.positions[i]}," for top in best for i in top]


def shown(page: Any, index: int, alts: list[str]) -> tuple[float, float]:
    """Ask for one test image; return the milliseconds until painted and until all is done."""
    page.locator(FIELD).fill(str(index))
    page.evaluate(WATCH, [index, alts])
    page.locator(FIELD).press("Enter")
    painted, ended = page.evaluate("window.seen")
    page.wait_for_timeout(300)  # the next one begins on a page at rest
    return painted, ended

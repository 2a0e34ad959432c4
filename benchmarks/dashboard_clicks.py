"""How long a click and a page switch take until the browser shows their answer."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.dashboard_browser import LATE, QUIET, Viewer, chromium
from benchmarks.dashboard_companions import Recording, companions
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
from benchmarks.dashboard_server import Server, server
from gifcore.assets_path import asset

VIEWERS, PACE, SEED = 5, 2.0, 0
GONE = 3_000  # ms: a widget that cannot be used by then is gone
CLICKS_A_PAGE = 3  # before a viewer turns to another page
STUDIES = ("highest-k-gradients-05", "wrong-labels", "forget-class-retrained", "fastif-recall")


@dataclass
class Answers:
    """What was measured: ms by kind of click, and how often nothing was."""

    painted: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    silent: int = 0  # clicks without any effect
    lost: int = 0  # clicks whose widget was gone

    def rows(self) -> list[Measured]:
        """Return all clicks, all page switches, and every kind of click."""
        clicks = {kind: values for kind, values in self.painted.items() if kind.startswith("click")}
        everything = [value for values in clicks.values() for value in values]
        switches = self.painted["page switch"]
        return [
            Measured("every click that changes a selection", aim=300, values=everything),
            Measured("every page switch", aim=500, values=switches),
            *(Measured(kind, values=values) for kind, values in sorted(clicks.items())),
        ]


def demo_addresses() -> list[str]:
    """Return the bundled studies that a viewer looks at one after the other."""
    return [address(asset("demo") / name) for name in STUDIES]


async def demo(size: Size) -> list[Part]:
    """Clicks on the demo: one viewer after the other, five viewers, five browsers."""
    recordings = [Recording() for _ in range(VIEWERS)]
    studies = demo_addresses()
    single, found, crowd = Answers(), Answers(), Answers()
    with _fresh_server() as running:
        await _visit(running, studies)
        for number, recording in enumerate(recordings):
            await _clicked(running, studies, size.seconds, single, [(number, recording)])
    with _fresh_server() as running:
        await _visit(running, studies)
        async with companions(running.address, recordings[1:]) as company:
            await _clicked(running, studies, 3 * size.seconds, found, [(0, None)])
    with _fresh_server() as running:
        await _visit(running, studies)
        everyone = [(number, None) for number in range(VIEWERS)]
        await _clicked(running, studies, size.seconds, crowd, everyone)
    without = [
        f"Measured is one browser. The other {VIEWERS - 1} viewers have none here, since viewers "
        "have machines of their own: the server gets from them, at the same times, what the "
        f"browsers of the table below sent ({company.sent:,} messages; {company.received:,} "
        f"messages, {company.bytes / 1e6:,.0f} MB, were its answers).",
    ]
    title = "Clicks on the demo"
    return [
        Part(f"{title}, five viewers", found.rows(), without + _notes(found, 1)),
        Part(f"{title}, one viewer", single.rows(), _notes(single, 1)),
        Part(
            f"{title}, five browsers on the server's own threads",
            [Measured(row.what, row.unit, values=row.values) for row in crowd.rows()[:2]],
            [
                "A hard case without an aim: the browsers take most of the two threads.",
                *_notes(crowd, VIEWERS),
            ],
        ),
    ]


@contextmanager
def _fresh_server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as running:
        yield running


async def large(size: Size) -> list[Part]:
    """One viewer on the large record."""
    path = large_record()
    with server(path.parent) as running:
        found = Answers()
        await _visit(running, [address(path)])
        await _clicked(running, [address(path)], 3 * size.seconds, found, [(0, None)])
    title = "Clicks on 60,000 training samples and 64 queries, one viewer"
    return [Part(title, found.rows(), _notes(found, 1))]


def _notes(found: Answers, count: int) -> list[str]:
    return [
        "From the click or key to the frame after the last change of the page: nodes, texts, "
        f"pictures and lines of charts; over when nothing moves for {QUIET} ms (see "
        f"`benchmarks/dashboard_browser.py`). An answer later than {LATE / 1000:.0f} s counts as "
        "that.",
        f"Browsers at once: {count}, each with a click every {PACE:g} s on average (uniform "
        f"± 25 %, seed {SEED}) on anything that chooses, every {CLICKS_A_PAGE + 1}th turns to "
        "another page; one study after the other. Each page was opened once before by another "
        "browser, and one page with charts by this one.",
        f"{found.silent} clicks had no effect and {found.lost} found their widget gone; they are "
        "not counted.",
    ]


async def _clicked(
    running: Server,
    studies: Sequence[str],
    seconds: float,
    found: Answers,
    who: Sequence[tuple[int, Recording | None]],
) -> None:
    """Let viewers click at a human pace for some time, on one study after the other."""
    async with chromium() as browser, AsyncExitStack() as stack:
        tell(f"viewer {', '.join(str(number) for number, _ in who)}: {seconds:.0f} s")
        viewers = []
        for number, recording in who:
            viewers.append((number, await Viewer.come(browser, running.address, recording)))
            stack.push_async_callback(viewers[-1][1].leave)
        begin = time.monotonic()
        await asyncio.gather(
            *(_look(viewer, number, studies, begin, seconds, found) for number, viewer in viewers)
        )


async def _visit(running: Server, studies: Sequence[str]) -> None:
    """Open every page once: what is read from records and shared by all is then in memory."""
    async with chromium() as browser:
        viewer = await Viewer.come(browser, running.address)
        for study in studies:
            for page in RECORD_PAGES:
                await viewer.open(page, study)
        for page in OTHER_PAGES:
            await viewer.open(page)


async def _look(
    viewer: Viewer,
    number: int,
    studies: Sequence[str],
    begin: float,
    seconds: float,
    found: Answers,
) -> None:
    """Look at one study after the other, each viewer in another order."""
    rng = random.Random(SEED + number)
    await viewer.open("compare")  # the browser reads the program that draws charts but once
    for turn in range(len(studies)):
        path = RECORD_PAGES[(number + turn) % len(RECORD_PAGES)]
        viewer.page.set_default_timeout(120_000)
        await viewer.open(path, studies[(number + turn) % len(studies)])
        end = begin + seconds * (turn + 1) / len(studies)
        await _browse(viewer, path, end, rng, found)


async def _browse(
    viewer: Viewer, path: str, end: float, rng: random.Random, found: Answers
) -> None:
    """Click one thing after the other at a human pace until the time is over."""
    from playwright.async_api import Error

    since = 0
    due = time.monotonic() + PACE * rng.random()
    viewer.page.set_default_timeout(GONE)
    while (now := time.monotonic()) < end:
        await asyncio.sleep(max(0.0, due - now))
        due = max(due, time.monotonic() - PACE) + PACE * rng.uniform(0.75, 1.25)
        try:
            if since == CLICKS_A_PAGE:
                path, since = _another(path, rng), 0
                took, kind = await viewer.turn_to(path), "page switch"
            else:
                since += 1
                choices = [one for one in await viewer.choices() if one[2] != "study"]
                if not choices:
                    continue
                what, place, key = rng.choice(choices)
                took = await viewer.choose(what, place, rng)
                kind = f"click: {'query button' if what == 'query' else key}"
        except Error:
            found.lost += 1
            continue
        if took is None:
            found.silent += 1
        else:
            found.painted[kind].append(took)


def _another(path: str, rng: random.Random) -> str:
    pages = [page for page in RECORD_PAGES + OTHER_PAGES[:1] if page != path]
    return rng.choice(pages)

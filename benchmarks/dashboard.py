"""`python -m benchmarks.dashboard`: how the dashboard feels, in a real browser, in percentiles.

    python -m benchmarks.dashboard             all parts, about ten minutes; writes the table
    python -m benchmarks.dashboard --quick     a short look; prints only
    python -m benchmarks.dashboard --only clicks

Parts: cold (from the address to the first ranking), clicks (on the demo, five viewers), alone (one
viewer), large (one viewer, 60,000 training samples and 64 queries), messages (how large they are),
memory (of the server, while viewers come and go). Browser and server share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import dashboard_record
from benchmarks.dashboard_browser import LATE, QUIET, Frames, Viewer, chromium
from benchmarks.dashboard_numbers import Measured, markdown
from benchmarks.dashboard_server import Memory, Server, server
from gifcore.assets_path import asset
from gifcore.record import Record, RecordError

TABLE = Path(__file__).with_name("tables") / "dashboard.md"
BENCH = Path("runs") / "bench" / "dashboard"
RECORD_PAGES = ("samples", "parameters", "before-after", "compare", "wrong-labels", "speed")
OTHER_PAGES = ("", "own", "new-study", "studies")
VIEWERS, PACE, SEED = 5, 2.0, 0
FAMILY_DIGITS = 12  # by which an address names a study
GONE = 3_000  # ms: a widget that cannot be used by then is gone
CLICKS_A_PAGE = 3  # before a viewer turns to another page
MOST = 8  # things of a kind that are used on a page
COME_AND_GO, AT_ONCE, ROUNDS, FORGET = 20, 5, 3, 10
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


@dataclass
class Part:
    """What one part measured, and what exactly that is."""

    title: str
    rows: list[Measured]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Size:
    """How long each part goes on."""

    servers: int  # fresh ones, for the first ranking
    visits: int  # of each, after the first
    seconds: float  # of clicking
    rounds: int  # of viewers that come and go
    viewers: int  # of each round


FULL, QUICK = Size(2, 6, 75, ROUNDS, COME_AND_GO), Size(1, 2, 20, 2, 5)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write the table where everything was measured in full."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard")
    parser.add_argument("--quick", action="store_true", help="a short look; nothing is written")
    parser.add_argument("--only", choices=PARTS, help="one part; nothing is written")
    options = parser.parse_args(arguments)
    began, load = time.perf_counter(), os.getloadavg()[0]
    size = QUICK if options.quick else FULL
    text = [heading(load)]
    print(text[0], flush=True)
    for name, measure in PARTS.items():
        if options.only in (None, name):
            try:
                part = asyncio.run(measure(size))
            except Exception as problem:  # noqa: BLE001 - the other parts are measured all the same
                first = str(problem).partition("\n")[0]
                part = Part(f"Not measured: {name}", [], [f"{type(problem).__name__}: {first}"])
            text.append(markdown(part.title, part.rows, part.notes))
            print(text[-1], flush=True)
    took = time.perf_counter() - began
    text.append(f"Took {took / 60:.1f} min; load average at the end {os.getloadavg()[0]:.1f}.\n")
    print(text[-1])
    if not options.quick and options.only is None:
        TABLE.write_text("\n".join(text), encoding="utf-8")


def heading(load: float) -> str:
    """Return on what this was measured, and whether the machine was busy with other things."""
    cores = os.cpu_count() or 1
    busy = (
        f"\n**The machine was busy when this began (load average {load:.1f}): times are too long, "
        "only sizes count.**\n"
        if load > 0.5
        else ""
    )
    return (
        "# The dashboard in a browser\n\n"
        f"`python -m benchmarks.dashboard`, {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, "
        f"{cores} CPU threads ({platform.machine()}), Python {platform.python_version()}; server, "
        f"Chromium and this script share them.\n{busy}"
    )


# --- the first ranking ----------------------------------------------------------------------------


async def cold(size: Size) -> Part:
    """From the address of Samples to its first pictures: a fresh server, again, and others."""
    first = Measured("first visit to a fresh server, empty browser", aim=5000, of="max")
    again = Measured("second visit, the same browser", aim=1000)
    new = Measured("another visitor, empty browser", aim=1000)
    for number in range(size.servers):
        tell(f"cold: server {number + 1} of {size.servers}")
        with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as running:
            async with chromium() as browser:
                visitor = await Viewer.come(browser, running.address)
                first.values.append(await _first_ranking(visitor))
                for _ in range(size.visits):
                    again.values.append(await _first_ranking(visitor))
                await visitor.leave()
                for _ in range(size.visits):
                    visitor = await Viewer.come(browser, running.address)
                    new.values.append(await _first_ranking(visitor))
                    await visitor.leave()
    notes = [
        "From the navigation's start (`performance.timeOrigin`) to the frame in which the first "
        "four training images of the ranking on Samples are loaded; one viewer."
    ]
    return Part("From the address to the first ranking", [first, again, new], notes)


async def _first_ranking(visitor: Viewer) -> float:
    await visitor.page.goto(f"{visitor.address}/samples", wait_until="commit")
    painted: float = await visitor.page.evaluate(PAINTED)
    await visitor.settled()
    return painted


# --- clicks ---------------------------------------------------------------------------------------


async def clicks(size: Size) -> Part:
    """Five viewers on the demo."""
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as running:
        return await _clicked("Clicks on the demo, five viewers", running, "", size, VIEWERS)


async def alone(size: Size) -> Part:
    """One viewer on the demo: four more browsers take most of the processor from the server."""
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as running:
        return await _clicked("Clicks on the demo, one viewer", running, "", size, 1)


async def large(size: Size) -> Part:
    """One viewer on the large record."""
    path = large_record()
    with server(path.parent) as running:
        title = "Clicks on 60,000 training samples and 64 queries, one viewer"
        return await _clicked(title, running, _address(path), size, 1)


def large_record() -> Path:
    """Return the large record; it is made where it is not there."""
    path = BENCH / "workspace" / f"clothes-{dashboard_record.SAMPLES}"
    try:
        Record.open(path)
    except RecordError:
        tell("making the record of 60,000 training samples")
        return dashboard_record.make(BENCH)
    return path


def _address(path: Path, number: int | None = None) -> str:
    """Return the address of a record, with its test image of this number if one is given."""
    info = Record.open(path).info
    study, selection = info["family"][:FAMILY_DIGITS], info["selection"]
    address = f"?study={study}&selector={selection['selector']}&ratio={selection['ratio']:g}"
    if number is None:
        return address
    return f"{address}&query={info['queries'][number % len(info['queries'])]['index']}"


async def _clicked(title: str, running: Server, query: str, size: Size, count: int) -> Part:
    """Let so many viewers click at a human pace for some time."""
    found: dict[str, list[float]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    async with chromium() as browser:
        await _visit(browser, running.address, query, RECORD_PAGES + OTHER_PAGES)  # fills caches
        tell(f"{title}: {size.seconds:.0f} s")
        viewers = [await Viewer.come(browser, running.address) for _ in range(count)]
        for at, viewer in enumerate(viewers):
            await viewer.open(RECORD_PAGES[at % len(RECORD_PAGES)], query)
        end = time.monotonic() + size.seconds
        await asyncio.gather(
            *(_browse(viewer, at, end, found, counts) for at, viewer in enumerate(viewers))
        )
        for viewer in viewers:
            await viewer.leave()
    everything = [value for kind, values in found.items() if kind[0] == "c" for value in values]
    rows = [
        Measured("every click that changes a selection", aim=300, values=everything),
        Measured("every page switch", aim=500, values=found["page switch"]),
        Measured("every click, until the script has ended", values=found["script, clicks"]),
        Measured("every page switch, until the script has ended", values=found["script, pages"]),
    ]
    rows += [
        Measured(kind, values=values) for kind, values in sorted(found.items()) if kind[0] == "c"
    ]
    notes = [
        "From the click or key to the frame after the last change of the page: nodes, texts, "
        f"pictures and lines of charts; over when nothing moves for {QUIET} ms (see "
        "`benchmarks/dashboard_browser.py`). An answer later than "
        f"{LATE / 1000:.0f} s counts as that.",
        f"Browser contexts at once: {count}, each with a click every {PACE:g} s on average "
        f"(uniform ± 25 %, seed {SEED}), every {CLICKS_A_PAGE + 1}th turns to another page; each "
        "page was opened once before.",
        f"{counts['silent']} clicks had no effect and {counts['lost']} found their widget gone; "
        "they are not counted.",
    ]
    return Part(title, rows, notes)


async def _visit(browser: Any, address: str, query: str, pages: tuple[str, ...]) -> Frames:  # noqa: ANN401
    viewer = await Viewer.come(browser, address)
    for page in pages:
        await viewer.open(page, query)
    await viewer.leave()
    return viewer.frames


async def _browse(
    viewer: Viewer,
    number: int,
    end: float,
    found: dict[str, list[float]],
    counts: dict[str, int],
) -> None:
    """Click one thing after the other at a human pace until the time is over."""
    from playwright.async_api import Error

    rng = random.Random(SEED + number)
    path, since = RECORD_PAGES[number % len(RECORD_PAGES)], 0
    due = time.monotonic() + PACE * number / VIEWERS
    viewer.page.set_default_timeout(GONE)
    while (now := time.monotonic()) < end:
        await asyncio.sleep(max(0.0, due - now))
        due = max(due, time.monotonic() - PACE) + PACE * rng.uniform(0.75, 1.25)
        try:
            if since == CLICKS_A_PAGE:
                path, since = _another(path, rng), 0
                answer = await viewer.turn_to(path)
                kind = "page switch"
            else:
                since += 1
                choices = await viewer.choices()
                wanted = [one for one in choices if _counts(one[2])]
                if not wanted:
                    continue
                one = rng.choice(wanted)
                answer = await viewer.choose(one[0], one[1], rng)
                kind = f"click: {'query button' if one[0] == 'query' else one[2]}"
        except Error:
            counts["lost"] += 1
            continue
        if answer is None:
            counts["silent"] += 1
            continue
        found[kind].append(answer["painted"])
        found["script, pages" if kind == "page switch" else "script, clicks"].append(
            answer["ended"]
        )


def _another(path: str, rng: random.Random) -> str:
    pages = [page for page in RECORD_PAGES + OTHER_PAGES[:1] if page != path]
    return rng.choice(pages)


def _counts(key: str) -> bool:
    """Does choosing here change what is looked at, within the study?"""
    return key != "study"


# --- messages -------------------------------------------------------------------------------------


async def messages(size: Size) -> Part:  # noqa: ARG001 - it takes as long as it takes
    """The largest message of every page, of the demo and of the large record."""
    path = large_record()
    rows = []
    with server(path.parent) as running:
        async with chromium() as browser:
            for name, query in (("demo", ""), ("60,000", _address(path))):
                tell(f"messages: {name}")
                for page in RECORD_PAGES + OTHER_PAGES:
                    frames = await _everything(browser, running.address, page, query)
                    what = f"{name}, {page or 'home'}: largest message"
                    rows.append(Measured(what, "kB", 2000, "max", [frames.largest / 1000]))
                    what = f"{name}, {page or 'home'}: all messages"
                    rows.append(Measured(what, "kB", values=[frames.total / 1000]))
    notes = [
        "WebSocket frames from the server, uncompressed: the page is opened in an empty browser, "
        f"and of the choices, panels and switches in its main part the first {MOST} each are used."
    ]
    return Part("Messages to the browser", rows, notes)


async def _everything(browser: Any, address: str, page: str, query: str) -> Frames:  # noqa: ANN401
    """Open a page and use what may send more: choices, panels and switches."""
    from playwright.async_api import Error

    viewer = await Viewer.come(browser, address)
    await viewer.open(page, query)
    if page in RECORD_PAGES:
        for selector in ("details > summary", "button[data-variant]", "label[data-rac]"):
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


# --- memory ---------------------------------------------------------------------------------------


async def memory(size: Size) -> Part:
    """The server's memory before, while and after viewers come and go, round after round."""
    path, demo = large_record(), asset("demo") / dashboard_record.RANKED
    addresses = [_address(path if n % 2 else demo, n // 2) for n in range(size.viewers)]
    with server(path.parent, forget=FORGET) as running:
        before = Measured("before anyone came", "MB", values=[running.memory()])
        rows, after = [before], []
        async with chromium() as browser:
            for number in range(1, size.rounds + 1):
                tell(f"memory: round {number} of {size.rounds}")
                seen = await _round(browser, running, addresses)
                after.append(seen.server.memory())
                rows.append(Measured(f"round {number}, while they look", "MB", values=seen.seen))
                rows.append(Measured(f"round {number}, all gone", "MB", values=after[-1:]))
    grown = [after[-1] - after[-2]]
    rows.append(Measured("growth in the last round", "MB", 10, "max", grown))
    notes = [
        f"Resident set of the server. A round: {size.viewers} viewers, {AT_ONCE} at a time, each "
        "with test images of its own, half on the demo and half on the large record; each opens "
        f"{len(RECORD_PAGES)} pages and closes. Every round is the same, so what caches hold is "
        f"held after the first. Sessions are dropped {FORGET} s after their viewer left (by "
        "default 120 s); gone is 5 s later, and one more visitor."
    ]
    return Part("Memory of the server", rows, notes)


async def _round(browser: Any, running: Server, addresses: list[str]) -> Memory:  # noqa: ANN401
    watched = Memory(running)
    looking = asyncio.create_task(watched.watch())
    for start in range(0, len(addresses), AT_ONCE):
        together = addresses[start : start + AT_ONCE]
        await asyncio.gather(*(_come_and_go(browser, running.address, one) for one in together))
    looking.cancel()
    await asyncio.sleep(FORGET + 5)
    await _visit(browser, running.address, "", ("",))  # sessions are dropped when another one ends
    await asyncio.sleep(1)
    return watched


async def _come_and_go(browser: Any, address: str, query: str) -> None:  # noqa: ANN401
    from playwright.async_api import Error

    viewer = await Viewer.come(browser, address)
    await viewer.open("samples", query)
    for page in RECORD_PAGES[1:]:
        try:
            await viewer.turn_to(page)
        except Error:  # too late on a busy machine: by its address then
            await viewer.open(page, query)
    await viewer.leave()


def tell(what: str) -> None:
    """Say what goes on."""
    print(f"… {what}", file=sys.stderr, flush=True)


PARTS: dict[str, Callable[[Size], Awaitable[Part]]] = {
    "cold": cold,
    "clicks": clicks,
    "alone": alone,
    "large": large,
    "messages": messages,
    "memory": memory,
}

if __name__ == "__main__":
    main()

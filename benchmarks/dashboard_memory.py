"""What the server holds in memory while viewers come and go."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks import dashboard_record
from benchmarks.dashboard_browser import Viewer, chromium
from benchmarks.dashboard_numbers import Measured
from benchmarks.dashboard_parts import RECORD_PAGES, Part, Size, address, large_record, tell
from benchmarks.dashboard_server import Memory, Server, server
from gifcore.assets_path import asset

AT_ONCE, FORGET = 5, 10


async def memory(size: Size) -> list[Part]:
    """The server's memory before, while and after viewers come and go, round after round."""
    path, demo = large_record(), asset("demo") / dashboard_record.RANKED
    addresses = [address(path if n % 2 else demo, n // 2) for n in range(size.viewers)]
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
    return [Part("Memory of the server", rows, notes)]


async def _round(browser: Any, running: Server, addresses: list[str]) -> Memory:  # noqa: ANN401
    watched = Memory(running)
    looking = asyncio.create_task(watched.watch())
    for start in range(0, len(addresses), AT_ONCE):
        together = addresses[start : start + AT_ONCE]
        await asyncio.gather(*(_come_and_go(browser, running.address, one) for one in together))
    looking.cancel()
    await asyncio.sleep(FORGET + 5)
    visitor = await Viewer.come(browser, running.address)  # sessions go when another one ends
    await visitor.open()
    await visitor.leave()
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

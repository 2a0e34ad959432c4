"""`python -m benchmarks.dashboard`: how the dashboard feels, in a real browser, in percentiles.

    python -m benchmarks.dashboard             all parts, about 20 minutes; writes the table
    python -m benchmarks.dashboard --quick     a short look; prints only
    python -m benchmarks.dashboard --only demo

Parts: first (from the address to the first ranking), demo (clicks, by one viewer and by five),
large (one viewer, 60,000 training samples and 64 queries), messages (how large they are), memory
(of the server, while viewers come and go). Browser and server share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from benchmarks.dashboard_clicks import demo, large
from benchmarks.dashboard_first import first
from benchmarks.dashboard_memory import memory
from benchmarks.dashboard_messages import messages
from benchmarks.dashboard_numbers import markdown
from benchmarks.dashboard_parts import Part, Size

TABLE = Path(__file__).with_name("tables") / "dashboard.md"
FULL, QUICK = Size(2, 6, 45, 3, 20), Size(1, 2, 12, 2, 5)
BUSY = 0.1  # share of the processor in use, from which times are too long
LOOK = 3  # s
PARTS: dict[str, Callable[[Size], Coroutine[Any, Any, list[Part]]]] = {
    "first": first,
    "demo": demo,
    "large": large,
    "messages": messages,
    "memory": memory,
}


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write the table where everything was measured in full."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard")
    parser.add_argument("--quick", action="store_true", help="a short look; nothing is written")
    parser.add_argument("--only", choices=PARTS, help="one part; nothing is written")
    options = parser.parse_args(arguments)
    began, load = time.perf_counter(), busy_share()
    size = QUICK if options.quick else FULL
    text = [heading(load)]
    print(text[0], flush=True)
    for name, measure in PARTS.items():
        if options.only in (None, name):
            try:
                parts = asyncio.run(measure(size))
            except Exception as problem:  # noqa: BLE001 - the other parts are measured all the same
                words = str(problem).partition("\n")[0]
                parts = [Part(f"Not measured: {name}", [], [f"{type(problem).__name__}: {words}"])]
            for part in parts:
                text.append(markdown(part.title, part.rows, part.notes))
                print(text[-1], flush=True)
    took = time.perf_counter() - began
    text.append(f"Took {took / 60:.1f} min; {100 * load:.0f} % of the processor in use before.\n")
    print(text[-1])
    if not options.quick and options.only is None:
        TABLE.write_text("\n".join(text), encoding="utf-8")


def busy_share() -> float:
    """Return which share of the processor others use now, over `LOOK` seconds.

    The load average of a machine that has just come to rest still says that it is busy.
    """
    first = _ticks()
    time.sleep(LOOK)
    used, every = (now - then for now, then in zip(_ticks(), first, strict=True))
    return used / max(every, 1)


def _ticks() -> tuple[int, int]:
    """Return what all processors have worked, and how long they have been there, in ticks."""
    line = Path("/proc/stat").read_text().splitlines()[0]
    ticks = [int(word) for word in line.split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)  # idle, and waiting for a disk


def heading(load: float) -> str:
    """Return on what this was measured, and whether the machine was busy with other things.

    Args:
        load: the share of the processor in use.
    """
    cores = os.cpu_count() or 1
    busy = (
        f"\n**The machine was busy when this began ({100 * load:.0f} % of the processor): times "
        "are too long, only sizes count.**\n"
        if load > BUSY
        else ""
    )
    return (
        "# The dashboard in a browser\n\n"
        f"`python -m benchmarks.dashboard`, {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, "
        f"{cores} CPU threads ({platform.machine()}), Python {platform.python_version()}; server, "
        f"Chromium and this script share them.\n{busy}"
    )


if __name__ == "__main__":
    main()

"""The dashboard's server as a process of its own, and how much memory it holds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.browser.site import served

TTL = "STREAMLIT_SERVER_DISCONNECTED_SESSION_TTL"  # s that a session is kept for who comes back
LOOK = 0.5  # s between two looks at the memory


@dataclass
class Server:
    """A running server: its address and its process."""

    address: str
    pid: int

    def memory(self) -> float:
        """Return its resident set [MB]."""
        return resident(self.pid)


@contextmanager
def server(workspace: Path, *, forget: int | None = None) -> Iterator[Server]:
    """Start a server; `forget` is after how many seconds it drops the session of who left."""
    before = os.environ.get(TTL)
    if forget is not None:
        os.environ[TTL] = str(forget)
    try:
        with served(workspace) as address:
            yield Server(address, _process(urlsplit(address).port or 0))
    finally:
        os.environ.pop(TTL, None)
        if before is not None:
            os.environ[TTL] = before


def resident(pid: int) -> float:
    """Return the resident set of a process [MB], 0 if it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _process(port: int) -> int:
    """Return the process that was started with this port."""
    wanted = ["--port", str(port)]
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            given = (folder / "cmdline").read_text().split("\0")
            if any(given[i : i + 2] == wanted for i in range(len(given))):
                return int(folder.name)
    raise RuntimeError(f"No process serves port {port}.")


@dataclass
class Memory:
    """The largest memory while something went on."""

    server: Server
    seen: list[float] = field(default_factory=list)

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.seen.append(self.server.memory())
            await asyncio.sleep(LOOK)

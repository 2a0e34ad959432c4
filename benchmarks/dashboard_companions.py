"""Viewers without a browser: they send the server, at their time, what a browser once sent.

Viewers have machines of their own, and five browsers on the server's two threads leave it a
fraction of them. So what browsers send is recorded, and sent again from here: the server does the
same work, runs the same scripts and writes the same messages, which are read and thrown away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

LARGEST = 64_000_000  # bytes of one message


@dataclass
class Recording:
    """What one browser sent, one list for every connection, and when, in s from its beginning."""

    began: float = field(default_factory=time.monotonic)
    sent: list[list[tuple[float, bytes]]] = field(default_factory=list)

    def connection(self) -> list[tuple[float, bytes]]:
        """Return the list of a connection that has just been opened."""
        self.sent.append([])
        return self.sent[-1]

    def take(self, into: list[tuple[float, bytes]], payload: bytes | str) -> None:
        """Note a message that was sent now."""
        content = payload if isinstance(payload, bytes) else payload.encode()
        into.append((time.monotonic() - self.began, content))

    @property
    def messages(self) -> int:
        """How many messages there are in all."""
        return sum(len(one) for one in self.sent)


@dataclass
class Replayed:
    """What the server did for all companions."""

    sent: int = 0
    received: int = 0
    bytes: int = 0


@asynccontextmanager
async def companions(address: str, recordings: Sequence[Recording]) -> AsyncIterator[Replayed]:
    """Send the recordings to a server, each again and again, until the block ends."""
    found = Replayed()
    tasks = [asyncio.create_task(_again(address, one, found)) for one in recordings if one.messages]
    try:
        yield found
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def _again(address: str, recording: Recording, found: Replayed) -> None:
    while True:
        began = time.monotonic()
        for sent in recording.sent:
            if sent:
                await _connection(address, sent, began, found)


async def _connection(
    address: str, sent: list[tuple[float, bytes]], began: float, found: Replayed
) -> None:
    """Open one connection as the browser does, send what it sent and read what comes."""
    url = address.replace("http", "ws", 1) + "/_stcore/stream"
    async with connect(
        url,
        origin=Origin(address),
        subprotocols=[Subprotocol("streamlit")],
        max_size=LARGEST,
        compression=None,
    ) as socket:
        reader = asyncio.create_task(_read(socket, found))
        try:
            for at, payload in sent:
                await asyncio.sleep(max(0.0, began + at - time.monotonic()))
                await socket.send(payload)
                found.sent += 1
            await asyncio.sleep(1.0)  # the answer to the last
        finally:
            reader.cancel()


async def _read(socket: ClientConnection, found: Replayed) -> None:
    with suppress(ConnectionClosed):
        async for message in socket:
            found.received += 1
            found.bytes += len(message)

"""Companions of the dashboard's bench: what a browser sent is sent again, in order, at its time."""

from __future__ import annotations

import asyncio
import time

from websockets.asyncio.server import ServerConnection, serve

from benchmarks.dashboard_clicks import Answers
from benchmarks.dashboard_companions import Recording, companions


def recorded(*connections: list[tuple[float, bytes]]) -> Recording:
    found = Recording()
    found.sent.extend(connections)
    return found


def test_a_recording_keeps_connections_apart_and_when_each_message_was_sent() -> None:
    recording = Recording()
    first, second = recording.connection(), recording.connection()
    recording.take(first, b"one")
    time.sleep(0.02)
    recording.take(second, "two")
    assert [[payload for _, payload in sent] for sent in recording.sent] == [[b"one"], [b"two"]]
    assert second[0][0] - first[0][0] >= 0.02
    assert recording.messages == 2


def test_companions_send_what_was_recorded_and_read_every_answer() -> None:
    came: list[tuple[str, float, bytes | str]] = []

    async def answered(socket: ServerConnection) -> None:
        assert socket.subprotocol == "streamlit"
        path = socket.request.path if socket.request else ""
        async for message in socket:
            came.append((path, time.monotonic(), message))
            await socket.send(b"x" * 1000)

    async def company() -> tuple[float, int, int, int]:
        async with serve(answered, "127.0.0.1", 0, subprotocols=["streamlit"]) as server:  # type: ignore[list-item]
            port = server.sockets[0].getsockname()[1]
            recording = recorded([(0.1, b"a"), (0.3, b"b")])
            began = time.monotonic()
            silent = recorded([])
            async with companions(f"http://127.0.0.1:{port}", [recording, silent]) as found:
                await asyncio.sleep(0.8)
            return began, found.sent, found.received, found.bytes

    began, sent, received, size = asyncio.run(company())
    assert [message for _, _, message in came] == [b"a", b"b"]
    assert {path for path, _, _ in came} == {"/_stcore/stream"}
    assert came[0][1] - began >= 0.1
    assert came[1][1] - began >= 0.3
    assert (sent, received, size) == (2, 2, 2000)


def test_clicks_and_page_switches_are_told_apart_and_have_their_aims() -> None:
    answers = Answers()
    answers.painted["click: k"] = [100.0, 200.0]
    answers.painted["click: query"] = [400.0]
    answers.painted["page switch"] = [450.0]
    clicks, switches, *kinds = answers.rows()
    assert (clicks.values, clicks.aim) == ([100.0, 200.0, 400.0], 300)
    assert (switches.values, switches.aim) == ([450.0], 500)
    assert [kind.what for kind in kinds] == ["click: k", "click: query"]

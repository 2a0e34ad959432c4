"""Processes of their own (spawn) that do one numbered job after the other; the pipes to them."""

from __future__ import annotations

import multiprocessing
import pickle
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from typing import Any

from gifcore.errors import GifError

LISTENING = 0.2  # seconds between two calls of `progress` while processes work
Serve = Callable[[Connection], None]  # at the top level of a module


class Worker:
    """A process that does one job after the other, and the pipe to it."""

    def __init__(self, context: SpawnContext, serve: Serve) -> None:
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self.job: int | None = None

    def take(self, waiting: deque[int]) -> None:
        """Begin the next job, if there is one."""
        self.job = waiting.popleft() if waiting else None
        if self.job is not None:
            self.send(pickle.dumps(self.job))

    def send(self, content: bytes) -> None:
        """Send bytes to the process."""
        with suppress(OSError):  # it has ended: that is read from the pipe
            self.pipe.send_bytes(content)

    def read(self) -> tuple[str, Any] | None:
        """Return a message, None if the process has ended."""
        try:
            message: tuple[str, Any] = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            return None
        return message

    def ending(self) -> str:
        """Return how the process ended, once it has."""
        self.process.join()
        code = self.process.exitcode or 0
        return f"its process was killed by signal {-code}" if code < 0 else f"exit code {code}"

    def stop(self) -> None:
        """End the process now."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


@contextmanager
def workers(count: int, serve: Serve, payload: bytes) -> Iterator[list[Worker]]:
    """Give a list of processes that hold the payload; end them all after."""
    context = multiprocessing.get_context("spawn")
    started: list[Worker] = []
    try:
        for _ in range(count):
            started.append(Worker(context, serve))
        for worker in started:
            worker.send(payload)
        yield list(started)
    finally:
        for worker in started:
            worker.stop()


def pickled(content: Any, what: str) -> bytes:
    """Return a plain pickle: multiprocessing's own would move the caller's tensors elsewhere.

    Raises:
        GifError: something in it cannot be pickled.
    """
    try:
        return pickle.dumps(content)
    except Exception as error:  # pickling runs the code of anybody's classes
        raise not_portable(what, error) from error


def not_portable(what: str, error: Exception) -> GifError:
    """Return the refusal of what cannot be sent: `what` ("LiSSA") has to pickle it."""
    return GifError(
        f"{what} in processes of its own has to pickle the model, the data and the loss ({error}); "
        "define their classes and functions at the top level of a module, or set processes=1."
    )


def portable(what: str, error: Exception) -> Exception:
    """Return the error, as a sentence if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return GifError(f"{what} failed ({type(error).__name__}: {error}).")
    return error

"""Chains of LiSSA, one after the other in this process or side by side in processes of their own.

A chain is its number and the seed: where it is walked changes nothing but rounding.
"""

from __future__ import annotations

import math
import multiprocessing
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.problem import Progress
from gifcore.solvers.solution import Status, half

Batches = Callable[[int, int], LinearOperator]  # (chain, step) -> curvature of one mini-batch

GROWN = 1e6  # a step so many times longer than b: the recursion has diverged
LISTENING = 0.2  # seconds between two calls of `progress` while processes work


@dataclass(frozen=True)
class Draws:
    """Seeded mini-batches: each chain walks through permutations of the samples of its own.

    Args:
        curvature: the operator of some samples.
        samples: (m,) the curvature samples.
        size: B.
    """

    curvature: Callable[[Tensor], LinearOperator]
    samples: Tensor
    size: int
    seed: int

    def __call__(self, chain: int, step: int) -> LinearOperator:
        round_, place = divmod(step, len(self.samples) // self.size)
        state = np.random.SeedSequence([self.seed, chain, round_]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(state))
        order = torch.randperm(len(self.samples), generator=generator)
        part = order[place * self.size : (place + 1) * self.size].sort().values
        return self.curvature(self.samples[part.to(self.samples.device)])


@dataclass
class Chain:
    """One run of the recursion; a step is its residual b - (H_j + damp scale I) e_j / scale."""

    e: Tensor
    halfway: Tensor
    history: list[float] = field(default_factory=list)
    products: int = 0
    failed: Status | None = None


@dataclass(frozen=True)
class Recursion:
    """e_0 = b, e_{j+1} = b + (1 - damp) e_j - H_j e_j / scale, J = `iterations` times."""

    iterations: int
    damp: float
    scale: float

    def walk(
        self, number: int, b: Tensor, batches: Batches, stepped: Callable[[int], None]
    ) -> Chain:
        """Return chain `number` after its J steps, or after the step that failed.

        Args:
            stepped: told how many steps are done before each; raises to stop.
        """
        chain, norm = Chain(b, b), float(b.norm())
        for step in range(self.iterations):
            stepped(step)
            H = batches(number, step)
            move = b - self.damp * chain.e - (H @ chain.e) / self.scale
            chain.products += 1
            size = float(move.norm()) / norm
            if not math.isfinite(size):
                grown = bool(chain.history) and chain.history[-1] > 1
                chain.failed = Status.DIVERGED if grown else Status.NOT_FINITE
                break
            chain.history.append(size)
            chain.e = chain.e + move
            if step + 1 <= half(self.iterations):
                chain.halfway = chain.e
            if size > GROWN:
                chain.failed = Status.DIVERGED
                break
        return chain


def walk_here(
    recursion: Recursion, count: int, b: Tensor, batches: Batches, progress: Progress
) -> list[Chain]:
    """Return the chains in order, up to the first that fails."""
    chains: list[Chain] = []
    for number in range(count):

        def stepped(step: int, before: int = number * recursion.iterations) -> None:
            progress(before + step, count * recursion.iterations, "LiSSA")

        chains.append(recursion.walk(number, b, batches, stepped))
        if chains[-1].failed is not None:
            break
    return chains


# --- in processes ---------------------------------------------------------------------------------


def walk_apart(
    recursion: Recursion,
    count: int,
    processes: int,
    b: Tensor,
    batches: Batches,
    progress: Progress,
) -> tuple[list[Chain], dict[int, str]]:
    """Return the chains in order, up to the first that fails, and how others of them were lost.

    Each process is a fresh interpreter (spawn) with one torch thread and a copy of all that
    `batches` holds: the model, the data. A chain whose process ends is lost and not walked again;
    the other processes take those that nobody has begun.

    Raises:
        GifError: something cannot be pickled, or all chains are lost.
        Exception: what a chain raised.
    """
    payload = _pickled((recursion, b, batches))
    run = _Run(count)
    with _workers(min(processes, count), payload) as workers:
        while workers and run.missing():
            ready = wait([worker.pipe for worker in workers], LISTENING)
            for worker in [w for w in workers if w.pipe in ready]:
                if not run.hears(worker):
                    workers.remove(worker)
            progress(sum(run.steps.values()), count * recursion.iterations, "LiSSA")
    chains = [run.found[number] for number in range(run.end) if number in run.found]
    lost = {number: run.lost.get(number, "no process was left") for number in run.gone()}
    if not chains:
        raise GifError(
            f"All {count} chains of LiSSA were lost ({run.last}); free some memory, start a script "
            "under `if __name__ == '__main__':`, or set processes=1."
        )
    return chains, lost


class _Run:
    """What is known of the chains while processes walk them."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.waiting = deque(range(count))
        self.steps = dict.fromkeys(range(count), 0)
        self.found: dict[int, Chain] = {}
        self.lost: dict[int, str] = {}
        self.last = ""  # how a process ended

    @property
    def end(self) -> int:
        """How many chains count: those up to the first that failed."""
        failed = (number for number, chain in self.found.items() if chain.failed is not None)
        return min(failed, default=self.count - 1) + 1

    def gone(self) -> list[int]:
        return [number for number in range(self.end) if number not in self.found]

    def missing(self) -> list[int]:
        return [number for number in self.gone() if number not in self.lost]

    def hears(self, worker: _Worker) -> bool:
        """Take one message of a process and give it a chain if it has none; False if it ended."""
        message = worker.read()
        if message is None:
            self.last = worker.ending()
            if worker.chain is not None:
                self.lost[worker.chain] = self.last
            return False
        kind, content = message
        if kind == "raised":
            raise content
        if kind == "steps":
            self.steps[content[0]] = content[1]
            return True
        if kind == "chain":
            number, self.found[number] = content
            self.steps[number] = self.found[number].products
        worker.chain = self.waiting.popleft() if self.waiting else None
        if worker.chain is not None:
            worker.send(_pickled(worker.chain))
        return True


class _Worker:
    """A process that walks one chain after the other, and the pipe to it."""

    def __init__(self, context: SpawnContext) -> None:
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self.chain: int | None = None

    def send(self, content: bytes) -> None:
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
        self.process.join()
        code = self.process.exitcode or 0
        return f"its process was killed by signal {-code}" if code < 0 else f"exit code {code}"

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


@contextmanager
def _workers(count: int, payload: bytes) -> Iterator[list[_Worker]]:
    """Give a list of processes that hold the payload; end them all after."""
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    try:
        for _ in range(count):
            workers.append(_Worker(context))
        for worker in workers:
            worker.send(payload)
        yield list(workers)
    finally:
        for worker in workers:
            worker.stop()


def _pickled(content: Any) -> bytes:
    """Return a plain pickle: multiprocessing's own would move the caller's tensors elsewhere."""
    try:
        return pickle.dumps(content)
    except Exception as error:  # pickling runs the code of anybody's classes
        raise GifError(_not_portable(error)) from error


def _not_portable(error: Exception) -> str:
    return (
        f"LiSSA in processes of its own has to pickle the model, the data and the loss ({error}); "
        "define their classes and functions at the top level of a module, or set processes=1."
    )


def _serve(pipe: Connection) -> None:
    """Walk the chains that come through the pipe, until it is closed."""
    torch.set_num_threads(1)

    def send(kind: str, content: Any) -> None:
        pipe.send_bytes(pickle.dumps((kind, content)))

    try:
        recursion, b, batches = pickle.loads(pipe.recv_bytes())
    except Exception as error:
        send("raised", GifError(_not_portable(error)))
        return
    send("ready", None)
    with suppress(EOFError, BrokenPipeError):  # the caller is gone
        while True:
            number = pickle.loads(pipe.recv_bytes())
            try:
                chain = recursion.walk(number, b, batches, _Report(send, number))
            except Exception as error:
                send("raised", _portable(error))
                return
            send("chain", (number, chain))


def _portable(error: Exception) -> Exception:
    """Return the error, as a sentence if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return GifError(f"A chain of LiSSA failed ({type(error).__name__}: {error}).")
    return error


class _Report:
    """Says how many steps of a chain are done, now and then."""

    def __init__(self, send: Callable[[str, Any], None], number: int) -> None:
        self.send, self.number, self.said = send, number, time.monotonic()

    def __call__(self, step: int) -> None:
        if time.monotonic() - self.said > LISTENING:
            self.said = time.monotonic()
            self.send("steps", (self.number, step))

"""Chains of LiSSA, one after the other in this process or side by side in processes of their own.

A chain is its number and the seed: where it is walked changes nothing but rounding.
"""

from __future__ import annotations

import math
import pickle
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.problem import Progress
from gifcore.processes import LISTENING, Worker, not_portable, pickled, portable, workers
from gifcore.solvers.solution import Status, half

Batches = Callable[[int, int], LinearOperator]  # (chain, step) -> curvature of one mini-batch

GROWN = 1e6  # a step so many times longer than b: the recursion has diverged


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
    payload = pickled((recursion, b, batches), "LiSSA")
    run = _Run(count)
    with workers(min(processes, count), _serve, payload) as working:
        while working and run.missing():
            ready = wait([worker.pipe for worker in working], LISTENING)
            for worker in [w for w in working if w.pipe in ready]:
                if not run.hears(worker):
                    working.remove(worker)
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

    def hears(self, worker: Worker) -> bool:
        """Take one message of a process and give it a chain if it has none; False if it ended."""
        message = worker.read()
        if message is None:
            self.last = worker.ending()
            if worker.job is not None:
                self.lost[worker.job] = self.last
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
        worker.take(self.waiting)
        return True


def _serve(pipe: Connection) -> None:
    """Walk the chains that come through the pipe, until it is closed."""
    torch.set_num_threads(1)

    def send(kind: str, content: Any) -> None:
        pipe.send_bytes(pickle.dumps((kind, content)))

    try:
        recursion, b, batches = pickle.loads(pipe.recv_bytes())
    except Exception as error:
        send("raised", not_portable("LiSSA", error))
        return
    send("ready", None)
    with suppress(EOFError, BrokenPipeError):  # the caller is gone
        while True:
            number = pickle.loads(pipe.recv_bytes())
            try:
                chain = recursion.walk(number, b, batches, _Report(send, number))
            except Exception as error:
                send("raised", portable("A chain of LiSSA", error))
                return
            send("chain", (number, chain))


class _Report:
    """Says how many steps of a chain are done, now and then."""

    def __init__(self, send: Callable[[str, Any], None], number: int) -> None:
        self.send, self.number, self.said = send, number, time.monotonic()

    def __call__(self, step: int) -> None:
        if time.monotonic() - self.said > LISTENING:
            self.said = time.monotonic()
            self.send("steps", (self.number, step))

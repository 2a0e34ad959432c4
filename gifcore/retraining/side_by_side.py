"""Trainings in processes of their own: fresh interpreters (spawn) with one torch thread each.

Model, data, jobs and recipe are sent once to each process; then numbers of jobs, and models back.
"""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from typing import Any, Protocol

import torch

from gifcore.errors import GifError
from gifcore.problem import Problem, Progress
from gifcore.retraining.recipes import Recipe
from gifcore.retraining.retrained import Retrained

log = logging.getLogger(__name__)

LISTENING = 0.2  # seconds between two calls of `progress` while processes train

Done = Callable[[str, Retrained | GifError], None]
Train = Callable[[Problem, Any, Recipe, Progress], Retrained | GifError]


class Listens(Protocol):
    """Hears how far each training is; raises to stop."""

    def part(self, key: str) -> Progress: ...
    def at(self, key: str, share: float) -> None: ...
    def finished(self, key: str) -> None: ...
    def say(self) -> None: ...


def train_apart(
    problem: Problem,
    jobs: Mapping[str, Any],
    recipe: Recipe,
    processes: int,
    train: Train,
    done: Done,
    listening: Listens,
) -> None:
    """Train every job and tell `done` of each as it comes.

    A job whose process ends is trained again here, once the others are done; its model says so.

    Args:
        jobs: by key.
        train: what a process calls for a job; a function at the top level of a module.

    Raises:
        GifError: something cannot be pickled.
        Exception: what a training raised, other than a GifError, or what `listening` raised.
    """
    keys = list(jobs)
    payload = _pickled((problem, list(jobs.values()), recipe, train))
    waiting, lost = deque(range(len(keys))), dict[int, str]()
    with _workers(min(processes, len(keys)), payload) as workers:
        while workers and (waiting or any(worker.job is not None for worker in workers)):
            ready = wait([worker.pipe for worker in workers], LISTENING)
            for worker in [w for w in workers if w.pipe in ready]:
                message = worker.read()
                if message is None:
                    workers.remove(worker)
                    _say_lost(worker, lost)
                    continue
                kind, content = message
                if kind == "raised":
                    raise content
                if kind == "share":
                    listening.at(keys[content[0]], content[1])
                    continue
                if kind == "model":
                    worker.job = None
                    done(keys[content[0]], content[1])
                    listening.finished(keys[content[0]])
                worker.take(waiting)
            listening.say()
    for number in [*sorted(lost), *waiting]:  # waiting: no process is left
        why = lost.get(number, "no process was left")
        found = train(problem, jobs[keys[number]], recipe, listening.part(keys[number]))
        if isinstance(found, Retrained):
            found = replace(found, note=f"Trained again in the main process: {why}.")
        done(keys[number], found)
        listening.finished(keys[number])


def _say_lost(worker: _Worker, lost: dict[int, str]) -> None:
    how = worker.ending()
    if worker.job is None:
        log.warning("A process that retrains ended before it had a model to train: %s.", how)
        return
    lost[worker.job] = how
    log.warning("A retraining was lost: %s; it is done again in the main process.", how)


class _Worker:
    """A process that trains one model after the other, and the pipe to it."""

    def __init__(self, context: SpawnContext) -> None:
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self.job: int | None = None

    def take(self, waiting: deque[int]) -> None:
        """Begin the next job, if there is one."""
        self.job = waiting.popleft() if waiting else None
        if self.job is not None:
            self.send(_pickled(self.job))

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
        f"Retraining in processes of its own has to pickle the model, the data and the loss "
        f"({error}); define their classes and functions at the top level of a module, or set "
        "processes=1."
    )


def _serve(pipe: Connection) -> None:
    """Train the jobs whose numbers come through the pipe, until it is closed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, which ends this one

    def send(kind: str, content: Any) -> None:
        pipe.send_bytes(pickle.dumps((kind, content)))

    try:
        problem, jobs, recipe, train = pickle.loads(pipe.recv_bytes())
    except Exception as error:
        send("raised", GifError(_not_portable(error)))
        return
    send("ready", None)
    with suppress(EOFError, BrokenPipeError):  # the caller is gone
        while True:
            number = pickle.loads(pipe.recv_bytes())
            try:
                found = train(problem, jobs[number], recipe, _Report(send, number))
            except Exception as error:
                send("raised", _portable(error))
                return
            send("model", (number, found))


def _portable(error: Exception) -> Exception:
    """Return the error, as a sentence if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return GifError(f"A retraining failed ({type(error).__name__}: {error}).")
    return error


class _Report:
    """Says how far a training is, now and then."""

    def __init__(self, send: Callable[[str, Any], None], number: int) -> None:
        self.send, self.number, self.said = send, number, time.monotonic()

    def __call__(self, done: int, total: int, _note: str) -> None:
        if time.monotonic() - self.said > LISTENING:
            self.said = time.monotonic()
            self.send("share", (self.number, done / max(total, 1)))

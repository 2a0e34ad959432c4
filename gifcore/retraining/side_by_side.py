"""Trainings in processes of their own: fresh interpreters (spawn) with one torch thread each.

Model, data, jobs and recipe are sent once to each process; then numbers of jobs, and models back.
"""

from __future__ import annotations

import logging
import pickle
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import torch

from gifcore.errors import GifError
from gifcore.problem import Problem, Progress
from gifcore.processes import LISTENING, Worker, not_portable, pickled, portable, workers
from gifcore.retraining.recipes import Recipe
from gifcore.retraining.retrained import Retrained

log = logging.getLogger(__name__)


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
    payload = pickled((problem, list(jobs.values()), recipe, train), "Retraining")
    waiting, lost = deque(range(len(keys))), dict[int, str]()
    with workers(min(processes, len(keys)), _serve, payload) as working:
        while working and (waiting or any(worker.job is not None for worker in working)):
            ready = wait([worker.pipe for worker in working], LISTENING)
            for worker in [w for w in working if w.pipe in ready]:
                message = worker.read()
                if message is None:
                    working.remove(worker)
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


def _say_lost(worker: Worker, lost: dict[int, str]) -> None:
    how = worker.ending()
    if worker.job is None:
        log.warning("A process that retrains ended before it had a model to train: %s.", how)
        return
    lost[worker.job] = how
    log.warning("A retraining was lost: %s; it is done again in the main process.", how)


def _serve(pipe: Connection) -> None:
    """Train the jobs whose numbers come through the pipe, until it is closed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, which ends this one

    def send(kind: str, content: Any) -> None:
        pipe.send_bytes(pickle.dumps((kind, content)))

    try:
        problem, jobs, recipe, train = pickle.loads(pipe.recv_bytes())
    except Exception as error:
        send("raised", not_portable("Retraining", error))
        return
    send("ready", None)
    with suppress(EOFError, BrokenPipeError):  # the caller is gone
        while True:
            number = pickle.loads(pipe.recv_bytes())
            try:
                found = train(problem, jobs[number], recipe, _Report(send, number))
            except Exception as error:
                send("raised", portable("A retraining", error))
                return
            send("model", (number, found))


class _Report:
    """Says how far a training is, now and then."""

    def __init__(self, send: Callable[[str, Any], None], number: int) -> None:
        self.send, self.number, self.said = send, number, time.monotonic()

    def __call__(self, done: int, total: int, _note: str) -> None:
        if time.monotonic() - self.said > LISTENING:
            self.said = time.monotonic()
            self.send("share", (self.number, done / max(total, 1)))

"""Runs of an experiment, one after the other; each finished one is kept, so that it goes on later.

DIR/experiment.toml and identity, DIR/runs/KEY.json a run, then the tables. A failed run is kept and
shown as failed; asked again, it is tried again.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gifcore.errors import Cancelled, GifError
from gifcore.experiments.kind import Kind, Place, Run
from gifcore.experiments.spec import Experiment, dumps, identity
from gifcore.record import write_atomically

Listen = Callable[[float, float, str], None]  # seconds' worth done, of all; what is being done


@dataclass(frozen=True)
class Done:
    """A run that was made: its numbers, or the sentence that says why it failed."""

    protocol: str
    seed: int
    row: dict[str, str]
    numbers: dict[str, float | None]
    failed: str | None
    seconds: float


class Ear:
    """Passes on what a run says it is doing, to whoever listens at that moment."""

    def __init__(self) -> None:
        self.hear: Callable[[str], None] = lambda _note: None

    def __call__(self, note: str) -> None:
        self.hear(note)


@dataclass(frozen=True, eq=False)
class Planned:
    """The runs of an experiment in its folder: those that are kept, those that are left."""

    spec: Experiment
    kind: Kind
    folder: Path
    runs: tuple[Run, ...]
    ear: Ear

    def path(self, run: Run) -> Path:
        return self.folder / "runs" / f"{run.key}.json"

    def kept(self, run: Run) -> Done | None:
        """Return a run that was finished before; None if it failed, is damaged or not there."""
        found = read_run(self.path(run))
        return None if found is None or found.failed is not None else found

    @property
    def left(self) -> list[Run]:
        return [run for run in self.runs if self.kept(run) is None]

    @property
    def seconds(self) -> float:
        """Expected of the runs that are left."""
        return sum(run.seconds for run in self.left)


def plan(spec: Experiment, kind: Kind, folder: Path, cache: Path) -> Planned:
    """Return the runs of an experiment; its folder is made, and refused if it holds another one.

    Raises:
        GifError: the folder holds runs of other settings, data or version.
    """
    mark = folder / "identity.json"
    mine = identity(spec)
    if mark.is_file() and json.loads(mark.read_text(encoding="utf-8")).get("identity") != mine:
        raise GifError(
            f"{folder} holds runs of an experiment with other settings, data or version; give "
            "another folder with --out, or remove it."
        )
    ear = Ear()
    runs = tuple(kind.runs(spec, Place(cache, ear)))
    keys = [run.key for run in runs]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise GifError(f"Two runs are called {twice}; name what they differ in.")
    write_atomically(mark, json.dumps({"identity": mine}).encode())
    write_atomically(folder / "experiment.toml", dumps(spec).encode())
    return Planned(spec, kind, folder, runs, ear)


def carry_out(planned: Planned, listen: Listen) -> list[Done]:
    """Make the runs that are left and return all, in their order.

    Raises:
        Cancelled: by Ctrl-C; what is finished is kept.
    """
    done, total = 0.0, planned.seconds
    finished = []
    for run in planned.runs:
        found = planned.kept(run)
        if found is None:
            name = ", ".join((run.protocol, *run.row.values(), f"seed {run.seed}"))
            planned.ear.hear = _reporter(listen, done, total, name)
            listen(done, total, name)
            found = _made(run)
            write_atomically(planned.path(run), _as_json(found))
            done += run.seconds
            listen(done, total, name)
        finished.append(found)
    return finished


def finished(planned: Planned) -> list[Done]:
    """Return the runs that were made so far, failed ones too, in their order."""
    found = (read_run(planned.path(run)) for run in planned.runs)
    return [done for done in found if done is not None]


def read_run(path: Path) -> Done | None:
    """Return a run of a file; None where there is none or it is damaged."""
    try:
        return Done(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _made(run: Run) -> Done:
    started = time.perf_counter()
    numbers: dict[str, float | None] = {}
    failed = None
    try:
        numbers = {key: _finite(value) for key, value in run.compute().items()}
    except Cancelled:
        raise
    except KeyboardInterrupt:
        raise Cancelled("Stopped.") from None
    except GifError as error:
        failed = str(error)
    seconds = time.perf_counter() - started
    return Done(run.protocol, run.seed, dict(run.row), numbers, failed, seconds)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _as_json(done: Done) -> bytes:
    return (json.dumps(asdict(done), indent=1, ensure_ascii=False) + "\n").encode()


def _reporter(listen: Listen, done: float, total: float, name: str) -> Callable[[str], None]:
    return lambda note: listen(done, total, f"{name}: {note}")


def write(folder: Path, files: Sequence[tuple[str, str]]) -> None:
    """Write the tables."""
    for name, text in files:
        write_atomically(folder / name, text.encode())


def words_of(seconds: float) -> str:
    """Return a duration for people.

    >>> words_of(59), words_of(600), words_of(8000)
    ('59 s', '10 min', '2.2 h')
    """
    if seconds < 100:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

"""What a kind of experiment is made of: its keys, its columns and a function that yields runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gifcore.experiments.spec import Experiment

if TYPE_CHECKING:
    from gifcore.experiments.runner import Done

Numbers = Mapping[str, float | None]  # what a run measured; None: not measurable here
Listen = Callable[[str], None]  # hears what a run is doing; raises Cancelled to stop


@dataclass(frozen=True)
class Column:
    """One column of the tables.

    Args:
        key: of the numbers of a run.
        heading: of the table.
        form: of the mean and the deviation, such as ".4f"; ".1%" for shares.
    """

    key: str
    heading: str
    form: str = ".4f"


class Published(NamedTuple):
    """A number as the paper's authors have it; the deviation is NaN where they give none."""

    mean: float
    deviation: float = math.nan


@dataclass(frozen=True, eq=False)
class Run:
    """One run of an experiment: a row of a table at one seed.

    Args:
        protocol: "ours" or "paper".
        row: what the row is called, heading -> words, such as {"method": "GIF", "ratio": "5 %"};
            runs of one row differ in their seed alone.
        seconds: expected.
        compute: measures; a GifError makes it a failed run, which is shown as such.
    """

    protocol: str
    seed: int
    row: Mapping[str, str]
    seconds: float
    compute: Callable[[], Numbers]

    @property
    def key(self) -> str:
        """The name of its file, unique in its experiment."""
        words = "-".join((self.protocol, *self.row.values(), f"seed-{self.seed}"))
        return "".join(c if c.isalnum() or c in "-." else "_" for c in words.lower())


@dataclass(frozen=True)
class Place:
    """Where a kind may keep trained models, shared by all experiments, and who listens."""

    cache: Path
    listen: Listen


@dataclass(frozen=True)
class Kind:
    """One kind of experiment.

    Args:
        spec: its keys.
        columns: of its tables, in order.
        judged: key of the column by which rows are compared; "" for none.
        smaller: is less better there?
        references: first words of rows that are no result to compare, such as "retrained".
        runs: (spec, place) -> its runs, in the order in which they are best done; rows appear in
            the table in the order of their first run.
        notes: a paragraph under the table of a protocol: what was done, what it does not show.
        published: (name of a row, key of a column) -> the published number; beside that column.
        published_in: where it is from, such as "table 3".
        files: further files from the finished runs, name -> content.
        about: spec -> a line over the tables: which data, model and change.
    """

    spec: type[Experiment]
    columns: tuple[Column, ...]
    judged: str
    runs: Callable[[Any, Place], Iterator[Run]]
    notes: Mapping[str, str] = field(default_factory=dict)
    smaller: bool = False
    references: frozenset[str] = frozenset()
    published: Mapping[tuple[str, str], Published] = field(default_factory=dict)
    published_in: str = ""
    files: Callable[[Sequence[Done]], Mapping[str, str]] | None = None
    about: Callable[[Any], str] | None = None

    @property
    def judged_by(self) -> str:
        return next((c.heading for c in self.columns if c.key == self.judged), self.judged)

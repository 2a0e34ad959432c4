"""Scores as they come: kept whole, their extremes alone, or written to a file, batch by batch.

A sweep over the training set hands each block of scores, (m, b), to its sinks. What the centring
subtracts is known at the end of the sweep; the sinks get it then:

    score = factor (product - centre of its row)
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.solvers import Solution
from gifcore.targets import LOSS, Target
from gifcore.ways import Choice

CHUNK = 2**18  # numbers of the score file in memory at a time


@dataclass(frozen=True, eq=False)
class Scores:
    """Influence of n training samples on m queries: the change of the target if one is removed.

    The target is the loss, in nats, unless the queries name another: then positive = helpful.
    Of a target that is better when it is higher, negative = helpful.

    Args:
        values: (m, n), column i is training sample `train_indices[i]`; None if not kept.
        solutions: one certificate a query.
        extremes: of every query, if the values are not kept.
        file: the score file, (m, n) in float32, if one was asked for.
        choice: how the products with the training gradients were taken, and why.
    """

    values: Tensor | None
    train_indices: Tensor
    queries: tuple[Any, ...]
    solutions: tuple[Solution, ...]
    method: str
    extremes: Extremes | None = None
    target: Target = LOSS
    file: Path | None = None
    choice: Choice | None = None

    def helpful(self, query: int, count: int = 10) -> list[tuple[int, float]]:
        """Return the most helpful training samples of row `query`: (position, influence)."""
        return self._named(query, count, "smallest" if self.target.better_high else "largest")

    def harmful(self, query: int, count: int = 10) -> list[tuple[int, float]]:
        """Return the most harmful training samples of row `query`: (position, influence)."""
        return self._named(query, count, "largest" if self.target.better_high else "smallest")

    def top(self, query: int, count: int = 10) -> list[tuple[int, float]]:
        """Return the training samples of largest |influence| on row `query`."""
        return self._named(query, count, "magnitude")

    def _named(self, query: int, count: int, side: str) -> list[tuple[int, float]]:
        """Raises GifError if the values are not kept and `count` is beyond the extremes."""
        kept = self.extremes
        if self.values is not None:
            kept = Extremes(count)
            kept.take(self.values[query][None], 0)
            query = 0
        assert kept is not None
        if kept.count < min(count, len(self.train_indices)):
            raise GifError(
                f"The {kept.count} most extreme scores of each query were kept, not {count}; ask "
                f"for fewer, or rank with top={count} or keep=True."
            )
        columns, values = kept.side(query, side)
        return [
            (int(self.train_indices[i]), float(value))
            for i, value in zip(columns[:count], values[:count], strict=True)
        ]


class ScoreFileError(GifError):
    """The score file could not be written; `scores` holds the certificates and the extremes."""

    def __init__(self, sentence: str, scores: Scores | None = None) -> None:
        super().__init__(sentence)
        self.scores = scores


class Sink(Protocol):
    """Where the blocks of a sweep go."""

    def take(self, block: Tensor, first: int) -> None:
        """Take products or scores (m, b) of the columns from `first` on."""

    def finish(self, centre: Tensor, factor: float) -> None:
        """Turn what was taken into factor (product - centre), centre (m,)."""


class Extremes:
    """The `count` largest and smallest of every row of a stream, and so the largest |.| too.

    Ties go to the earlier column, as in a stable sort of the whole row. The largest |p - c| are
    among them whatever c is, so the centring can come last. Memory: m count, whatever n is.
    """

    def __init__(self, count: int) -> None:
        self.wanted = count
        self._sides: dict[bool, tuple[Tensor, Tensor]] = {}  # largest? -> values, columns

    @property
    def count(self) -> int:
        """How many are kept a side."""
        return self._sides[True][0].shape[1] if self._sides else 0

    def take(self, block: Tensor, first: int) -> None:
        """Merge a block (m, b) whose columns follow those taken before."""
        columns = torch.arange(first, first + block.shape[1], device=block.device)
        for largest in (True, False):
            values, places = block, columns.expand_as(block)
            known = self._sides.get(largest)
            if known is not None:
                values = torch.cat([known[0], values], dim=1)
                places = torch.cat([known[1], places], dim=1)
            order = values.argsort(dim=1, descending=largest, stable=True)[:, : self.wanted]
            self._sides[largest] = values.gather(1, order), places.gather(1, order)

    def finish(self, centre: Tensor, factor: float) -> None:
        """Centre and scale; factor is above 0, so that the order stays."""
        for largest, (values, columns) in self._sides.items():
            self._sides[largest] = (values - centre[:, None]) * factor, columns

    def side(self, row: int, name: str) -> tuple[list[int], list[float]]:
        """Return columns and values, (count,), of the "largest", "smallest" or "magnitude"."""
        if name != "magnitude":
            values, columns = (part[row].tolist() for part in self._sides[name == "largest"])
            return columns, values
        both = {
            int(column): float(value)
            for values, columns in self._sides.values()
            for value, column in zip(values[row], columns[row], strict=True)
        }
        order = sorted(both, key=lambda column: (-abs(both[column]), column))[: self.count]
        return order, [both[column] for column in order]

    def overlap(self, row: int, other: Extremes, other_row: int, top: int) -> float:
        """Return the share of the `top` largest |scores| that two rows have in common."""
        count = min(top, self.count)
        mine, theirs = self.side(row, "magnitude")[0], other.side(other_row, "magnitude")[0]
        return len(set(mine[:count]) & set(theirs[:count])) / count

    @staticmethod
    def joined(parts: Sequence[Extremes]) -> Extremes:
        """Return the rows of several as rows of one."""
        whole = Extremes(parts[0].wanted)
        for largest in (True, False):
            sides = [part._sides[largest] for part in parts]
            whole._sides[largest] = (
                torch.cat([values for values, _ in sides]),
                torch.cat([columns for _, columns in sides]),
            )
        return whole

    def rows(self, count: int) -> Extremes:
        """Return the first rows alone."""
        found = Extremes(self.wanted)
        found._sides = {
            largest: (values[:count], columns[:count])
            for largest, (values, columns) in self._sides.items()
        }
        return found


@dataclass(frozen=True, eq=False)
class Whole:
    """All scores of the first rows of a stream, in a tensor (rows, n) that is given."""

    values: Tensor

    def take(self, block: Tensor, first: int) -> None:
        self.values[:, first : first + block.shape[1]] = block[: len(self.values)]

    def finish(self, centre: Tensor, factor: float) -> None:
        self.values.sub_(centre[: len(self.values), None]).mul_(factor)


class ScoreFile:
    """An .npy file (m, n) of float32, filled batch by batch; `np.load(mmap_mode="r")` reads parts.

    Its room is reserved first, so that a full disk is refused before anything is computed. It is
    written under a temporary name and gets its own when it is whole.

    Raises:
        GifError: no .npy name, a folder that cannot be written, no room.
    """

    def __init__(self, path: str | os.PathLike[str], rows: int, columns: int) -> None:
        self.path, self.rows, self.columns = Path(path), rows, columns
        if self.path.suffix != ".npy":
            raise GifError(f"The score file is {self.path.name}; give it a name that ends in .npy.")
        self.error: OSError | None = None
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)}
        try:
            self._file = self._temporary.open("w+b")
            np.lib.format.write_array_header_1_0(self._file, header)
            self._file.flush()
            self._offset = self._file.tell()
            _reserve(self._file.fileno(), self._offset + 4 * rows * columns)
        except OSError as error:
            self._forget()
            raise GifError(self._sentence(error)) from None

    def part(self, first_row: int, rows: int) -> _FileRows:
        """Return the sink that fills these rows."""
        return _FileRows(self, first_row, rows)

    def write(self, row: int, column: int, values: np.ndarray[Any, Any]) -> None:
        """Write numbers of one row; after an error nothing more is written."""
        if self.error is not None:
            return
        left, place = memoryview(values.astype("<f4").tobytes()), self._place(row, column)
        try:
            while left:
                done = os.pwrite(self._file.fileno(), left, place)
                left, place = left[done:], place + done
        except OSError as error:
            self.error = error
            self._forget()

    def read(self, row: int, column: int, count: int) -> np.ndarray[Any, Any]:
        """Return numbers of one row that were written."""
        raw = os.pread(self._file.fileno(), 4 * count, self._place(row, column))
        return np.frombuffer(raw, "<f4")

    def close(self, scores: Scores) -> Scores:
        """Give the file its name and return the scores with it.

        Raises:
            ScoreFileError: it could not be written; what was found is in the error.
        """
        if self.error is None:
            try:
                os.fsync(self._file.fileno())
                self._file.close()
                self._temporary.replace(self.path)
            except OSError as error:
                self.error = error
                self._forget()
        if self.error is None:
            return replace(scores, file=self.path)
        raise ScoreFileError(
            f"{self._sentence(self.error)} What was computed is kept in this error's `scores`.",
            scores,
        )

    def abandon(self) -> None:
        """Remove what was written, unless it has its name."""
        if not self._file.closed:
            self._forget()

    def _place(self, row: int, column: int) -> int:
        return self._offset + 4 * (row * self.columns + column)

    def _forget(self) -> None:
        with suppress(OSError, AttributeError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _sentence(self, error: OSError) -> str:
        megabytes = 4 * self.rows * self.columns / 2**20
        return (
            f"Cannot write the score file {self.path} of {megabytes:.3g} MB: {error.strerror}; "
            "free some space, choose another folder, or leave `out` away."
        )


@dataclass(frozen=True, eq=False)
class _FileRows:
    """Rows of a score file as a sink."""

    file: ScoreFile
    first_row: int
    rows: int

    def take(self, block: Tensor, first: int) -> None:
        for row, values in enumerate(block[: self.rows].cpu().numpy()):
            self.file.write(self.first_row + row, first, values)

    def finish(self, centre: Tensor, factor: float) -> None:
        """Centre row by row, CHUNK numbers at a time."""
        for row, c in enumerate(centre[: self.rows].tolist()):
            for column in range(0, self.file.columns, CHUNK):
                if self.file.error is not None:
                    return
                count = min(CHUNK, self.file.columns - column)
                products = self.file.read(self.first_row + row, column, count)
                self.file.write(self.first_row + row, column, (products - c) * factor)


def _reserve(descriptor: int, size: int) -> None:
    """Take the room of a file on its disk; where the system cannot, its writes will say.

    Raises:
        OSError: there is not enough.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise


_NOT_OFFERED = (errno.EINVAL, errno.EOPNOTSUPP)  # a file system that cannot reserve

"""Tables of an experiment: mean and sample standard deviation over runs, markdown and CSV.

A row holds the runs that differ in their seed alone. Its count says how many there are of how many
were asked for, and how many failed: a failed run is in no mean and never left out in silence.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev

from gifcore.experiments.kind import Column, Kind, Run
from gifcore.experiments.published import Known, compared, has, interleaved, words
from gifcore.experiments.runner import Done

Label = tuple[tuple[str, str], ...]  # (heading, words) of a row
NAMES = {"ours": "our protocol", "paper": "the published protocol"}
SHOWN = 3  # reversed pairs that are named


@dataclass(frozen=True)
class Cell:
    """Mean and sample standard deviation of one number over the runs that have it.

    Args:
        deviation: NaN for fewer than two.
    """

    mean: float
    deviation: float
    count: int


@dataclass(frozen=True)
class Row:
    """The runs of one row under one protocol.

    Args:
        asked: how many there are when all are done.
    """

    protocol: str
    label: Label
    done: tuple[Done, ...]
    asked: int

    @property
    def name(self) -> str:
        return " ".join(words for _, words in self.label if words)

    def cell(self, key: str) -> Cell:
        """Return a column's mean over the runs that did not fail; NaN where none has it."""
        known = [run.numbers.get(key) for run in self.done if run.failed is None]
        values = [value for value in known if value is not None]
        mean = fmean(values) if values else math.nan
        return Cell(mean, stdev(values) if len(values) > 1 else math.nan, len(values))

    @property
    def failed(self) -> int:
        return sum(run.failed is not None for run in self.done)

    @property
    def count(self) -> str:
        """How many runs are in the means: "5", "3 of 5", "4 of 5 (1 failed)"."""
        good = len(self.done) - self.failed
        words = str(good) if good == self.asked else f"{good} of {self.asked}"
        return words + (f" ({self.failed} failed)" if self.failed else "")


def rows_of(runs: Iterable[Run], done: Iterable[Done]) -> list[Row]:
    """Return the rows of all runs that are asked for, in the order of their first run."""
    grouped: dict[tuple[str, Label], list[Done]] = {}
    asked: dict[tuple[str, Label], int] = {}
    for run in runs:
        place = run.protocol, tuple(run.row.items())
        grouped.setdefault(place, [])
        asked[place] = asked.get(place, 0) + 1
    for one in done:
        grouped[one.protocol, tuple(one.row.items())].append(one)
    return [Row(*place, tuple(mine), asked[place]) for place, mine in grouped.items()]


# --- markdown -------------------------------------------------------------------------------------


def markdown(rows: Sequence[Row], columns: Sequence[Column], known: Known | None = None) -> str:
    """Return the rows of one protocol as a markdown table, and the reason of every failed run.

    Columns that no row has are left out.

    Args:
        known: published numbers, each shown behind its column.
    """
    known = known or {}
    if not rows:
        return "No run is finished."
    headings = _headings(rows)
    columns = [c for c in columns if any(row.cell(c.key).count for row in rows)]
    figures = [*interleaved(columns, known, rows), "runs"]
    lines = [
        _line([*headings, *figures]),
        _line([*("---" for _ in headings), *("---:" for _ in figures)]),
    ]
    for row in rows:
        label = dict(row.label)
        cells = []
        for column in columns:
            cells.append(shown(row.cell(column.key), column.form))
            if has(known, column.key, rows):
                cells.append(words(known.get((row.name, column.key)), column.form))
        lines.append(_line([*(label.get(h, "") for h in headings), *cells, row.count]))
    reasons = [
        f"Failed: {row.name}, seed {run.seed}: {run.failed}"
        for row in rows
        for run in row.done
        if run.failed is not None
    ]
    return "\n".join([*lines, *(f"\n{reason}" for reason in reasons)])


def shown(cell: Cell, form: str) -> str:
    """Return "mean ± sd", the mean alone of one run, "–" where there is none."""
    if cell.count == 0:
        return "–"
    mean = format(cell.mean, form)
    return mean if math.isnan(cell.deviation) else f"{mean} ± {format(cell.deviation, form)}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


# --- CSV ------------------------------------------------------------------------------------------


def table_csv(rows: Sequence[Row], columns: Sequence[Column], known: Known | None = None) -> str:
    """Return one line a cell: protocol, row, column, mean, deviation, runs in it, failed runs.

    Behind them the published mean and deviation, empty where there is none.
    """
    known = known or {}
    headings = _headings(rows)
    lines: list[list[object]] = []
    for row in rows:
        label = dict(row.label)
        for column in columns:
            cell = row.cell(column.key)
            figures = [_number(cell.mean), _number(cell.deviation), cell.count, row.failed]
            theirs = known.get((row.name, column.key), (None, None))
            named = [row.protocol, *(label.get(h, "") for h in headings), column.key]
            lines.append([*named, *figures, *map(_number, theirs)])
    head = ["column", "mean", "sd", "runs", "failed", "published", "published_sd"]
    return _csv(["protocol", *headings, *head], lines)


def raw_csv(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Return one line a run: protocol, row, seed, every number, seconds, why it failed."""
    headings = _headings(rows)
    known = (key for row in rows for run in row.done for key in run.numbers)
    keys = list(dict.fromkeys([*(column.key for column in columns), *known]))
    lines: list[list[object]] = []
    for row in rows:
        label = dict(row.label)
        for run in row.done:
            numbers = [_number(run.numbers.get(key)) for key in keys]
            named = [row.protocol, *(label.get(h, "") for h in headings), run.seed]
            lines.append([*named, *numbers, _number(run.seconds), run.failed or ""])
    return _csv(["protocol", *headings, "seed", *keys, "run_seconds", "failed"], lines)


def _headings(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(heading for row in rows for heading, _ in row.label))


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))


def _csv(head: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return buffer.getvalue()


# --- where the protocols disagree -----------------------------------------------------------------


def disagreement(rows: Sequence[Row], kind: Kind) -> str:
    """Return a paragraph on where the two protocols disagree in the column that is judged.

    Compared are rows that both have: which is best, how many pairs change places, and which figure
    differs most, beside the deviation of its runs.
    """
    sides = {
        name: {r.label: r.cell(kind.judged) for r in rows if r.protocol == name} for name in NAMES
    }
    both = [
        label
        for label, cell in sides["ours"].items()
        if cell.count
        and label[0][1] not in kind.references
        and label in sides["paper"]
        and sides["paper"][label].count
    ]
    if not kind.judged or not both:
        return "Only one protocol was run: there is nothing to compare."
    named = {label: " ".join(words for _, words in label if words) for label in both}
    form = next(c.form for c in kind.columns if c.key == kind.judged)
    ours, paper = sides["ours"], sides["paper"]
    sentences = []
    sign = -1 if kind.smaller else 1
    first, second = (max(both, key=lambda label: sign * side[label].mean) for side in (ours, paper))
    what, end = kind.judged_by, "lowest" if kind.smaller else "highest"
    if first == second:
        sentences.append(f"Both protocols give {named[first]} the {end} {what}")
        sentences[-1] += f": {shown(ours[first], form)} and {shown(paper[first], form)}."
    else:
        sentences.append(
            f"The protocols disagree on the {end} {what}: {named[first]} by ours "
            f"({shown(ours[first], form)}; published {shown(paper[first], form)}), {named[second]} "
            f"by the published one ({shown(paper[second], form)}; ours "
            f"{shown(ours[second], form)})."
        )
    pairs = list(combinations(both, 2))
    swapped = [
        pair
        for pair in pairs
        if (ours[pair[0]].mean - ours[pair[1]].mean) * (paper[pair[0]].mean - paper[pair[1]].mean)
        < 0
    ]
    if pairs:
        sentences.append(_swaps(swapped, len(pairs), named, ours))
    gap = {label: paper[label].mean - ours[label].mean for label in both}
    widest = max(both, key=lambda label: abs(gap[label]))
    sentences.append(
        f"The largest difference is at {named[widest]}: {shown(ours[widest], form)} by ours, "
        f"{shown(paper[widest], form)} by the published one. It is {_against(ours, paper, widest)}."
    )
    higher = sum(value > 0 for value in gap.values())
    sentences.append(
        f"The published protocol gives the higher {what} in {higher} of {len(both)} rows, by "
        f"{fmean(gap.values()):+.4f} in the mean."
    )
    return " ".join(sentences)


def _swaps(
    swapped: list[tuple[Label, Label]],
    pairs: int,
    named: dict[Label, str],
    ours: dict[Label, Cell],
) -> str:
    """Return how many pairs of rows change places, and the widest of them."""
    if not swapped:
        return f"They put all {pairs} pairs of rows in the same order."
    widest = sorted(swapped, key=lambda pair: -abs(ours[pair[0]].mean - ours[pair[1]].mean))
    words = [
        f"{named[a]} above {named[b]}"
        if ours[a].mean > ours[b].mean
        else f"{named[b]} above {named[a]}"
        for a, b in widest[:SHOWN]
    ]
    more = f" and {len(swapped) - SHOWN} more" if len(swapped) > SHOWN else ""
    return (
        f"{len(swapped)} of {pairs} pairs of rows change places: by ours "
        f"{'; '.join(words)}{more}, the other way round by the published one."
    )


def _against(ours: dict[Label, Cell], paper: dict[Label, Cell], label: Label) -> str:
    """Return a difference in units of the deviation of the runs."""
    spread = [c.deviation for c in (ours[label], paper[label]) if not math.isnan(c.deviation)]
    size = math.sqrt(fmean(d * d for d in spread)) if spread else 0.0
    if size == 0:
        return "from runs without a known spread"
    times = abs(paper[label].mean - ours[label].mean) / size
    return f"{times:.1f} times the deviation of the runs"


def report(rows: Sequence[Row], kind: Kind, title: str, about: str = "") -> str:
    """Return all of it as markdown: a table a protocol with its note, then the comparison."""
    parts = [f"# {title}", about] if about else [f"# {title}"]
    for protocol, name in NAMES.items():
        mine = [row for row in rows if row.protocol == protocol]
        if mine:
            parts += [f"## By {name}", markdown(mine, kind.columns, kind.published)]
            parts += [kind.notes[protocol]] if protocol in kind.notes else []
    if kind.judged:
        parts += ["## Where the protocols disagree", disagreement(rows, kind)]
        parts += [text for text in [compared(rows, kind)] if text]
    return "\n\n".join(parts) + "\n"

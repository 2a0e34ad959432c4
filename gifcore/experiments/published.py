"""The published numbers beside ours: what the tables show, and where they differ in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from gifcore.experiments.kind import Column, Kind, Published

if TYPE_CHECKING:
    from gifcore.experiments.tables import Row

Known = Mapping[tuple[str, str], Published]  # (name of a row, key of a column) -> number


def has(known: Known, key: str, rows: Sequence[Row]) -> bool:
    """Is there a published number for this column in one of these rows?"""
    return any((row.name, key) in known for row in rows)


def words(found: Published | None, form: str) -> str:
    """Return a published number as the table shows it, "" where there is none.

    >>> words(Published(0.968, 0.0038), ".4f"), words(Published(26.0), ".0f"), words(None, ".1f")
    ('0.9680 ± 0.0038', '26', '')
    """
    if found is None:
        return ""
    mean = format(found.mean, form)
    return mean if math.isnan(found.deviation) else f"{mean} ± {format(found.deviation, form)}"


def compared(rows: Sequence[Row], kind: Kind) -> str:
    """Return where runs by the published protocol differ from the published numbers; "" for none.

    Of the judged column: the widest difference, and how many pairs of rows stand in another order.
    """
    column = next((c for c in kind.columns if c.key == kind.judged), None)
    here = {
        row.name: row.cell(kind.judged).mean
        for row in rows
        if row.protocol == "paper" and row.cell(kind.judged).count
    }
    both = [name for name in here if (name, kind.judged) in kind.published]
    if column is None or not both:
        return ""
    theirs = {name: kind.published[name, kind.judged].mean for name in both}
    widest = max(both, key=lambda name: abs(here[name] - theirs[name]))
    text = (
        f"Against the published numbers ({kind.published_in}), {len(both)} rows: the widest "
        f"difference in {column.heading} is at {widest}, {format(here[widest], column.form)} here "
        f"by the published protocol and {format(theirs[widest], column.form)} published."
    )
    pairs = list(combinations(both, 2))
    swapped = [(a, b) for a, b in pairs if (here[a] - here[b]) * (theirs[a] - theirs[b]) < 0]
    if not pairs:
        return text
    if not swapped:
        return f"{text} The order of the rows is the published one."
    one, other = max(swapped, key=lambda pair: abs(theirs[pair[0]] - theirs[pair[1]]))
    if theirs[one] < theirs[other]:
        one, other = other, one
    return (
        f"{text} {len(swapped)} of {len(pairs)} pairs of rows stand in another order, such as "
        f"{one} above {other}, which is published and not found here."
    )


def interleaved(columns: Sequence[Column], known: Known, rows: Sequence[Row]) -> list[str]:
    """Return the headings of the columns, that of the published number behind each that has one."""
    headings = []
    for column in columns:
        headings.append(column.heading)
        if has(known, column.key, rows):
            headings.append(f"{column.heading}, published")
    return headings

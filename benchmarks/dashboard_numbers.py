"""What was measured, its percentiles and its aim, as a table on the screen and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

QUANTILES = (0.50, 0.95, 0.99)
COLUMNS = ("n", "p50", "p95", "p99", "max", "aim", "met")


@dataclass
class Measured:
    """One row: the values of what was measured, and what is aimed at."""

    what: str
    unit: str = "ms"
    aim: float | None = None
    of: str = "p95"  # the column that the aim is about
    values: list[float] = field(default_factory=list)

    def cells(self) -> list[str]:
        """Return the row as text; without values it says so."""
        head = f"{self.what} [{self.unit}]"
        aimed = "" if self.aim is None else f"{self.of} ≤ {self.aim:,g}"
        if not self.values:
            return [head, "0", "", "", "", "", aimed, "not measured" if aimed else ""]
        numbers = [percentile(self.values, q) for q in QUANTILES] + [max(self.values)]
        written = [_written(number) for number in numbers]
        return [head, f"{len(self.values)}", *written, aimed, self._met(numbers)]

    def _met(self, numbers: list[float]) -> str:
        if self.aim is None:
            return ""
        return "yes" if numbers[COLUMNS.index(self.of) - 1] <= self.aim else "**no**"


def percentile(values: Sequence[float], q: float) -> float:
    """Return the smallest value that a share `q` of the values does not exceed (nearest rank).

    No value is invented between two: with few samples the high percentiles are the largest ones.

    >>> percentile([40, 10, 30, 20], 0.5), percentile([40, 10, 30, 20], 0.95)
    (20, 40)
    """
    if not values or not 0 < q <= 1:
        raise ValueError(f"a percentile needs values and 0 < q <= 1, not {len(values)} and {q}")
    return sorted(values)[math.ceil(q * len(values)) - 1]


def markdown(title: str, rows: Sequence[Measured], notes: Sequence[str] = ()) -> str:
    """Return one part: a heading, the table, and what exactly was measured."""
    lines = [f"## {title}", ""]
    if rows:
        lines += ["| what | " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * 5 + "---|---|"]
        lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in notes), ""])


def _written(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:,.2f}"

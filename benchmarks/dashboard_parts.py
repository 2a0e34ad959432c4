"""What the parts of the measuring of the dashboard share: sizes, records, addresses, words."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import dashboard_record
from benchmarks.dashboard_numbers import Measured
from gifcore.record import Record, RecordError

BENCH = Path("runs") / "bench" / "dashboard"
RECORD_PAGES = ("samples", "parameters", "before-after", "compare", "wrong-labels", "speed")
OTHER_PAGES = ("", "own", "new-study", "studies")
FAMILY_DIGITS = 12  # by which an address names a study


@dataclass
class Part:
    """What one part measured, and what exactly that is."""

    title: str
    rows: list[Measured]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Size:
    """How long each part goes on."""

    servers: int  # fresh ones, for the first ranking
    visits: int  # of each, after the first
    seconds: float  # of clicking
    rounds: int  # of viewers that come and go
    viewers: int  # of each round


def large_record() -> Path:
    """Return the large record; it is made where it is not there."""
    path = BENCH / "workspace" / f"clothes-{dashboard_record.SAMPLES}"
    try:
        Record.open(path)
    except RecordError:
        tell("making the record of 60,000 training samples")
        return dashboard_record.make(BENCH)
    return path


def address(path: Path, number: int | None = None) -> str:
    """Return the address of a record, with its test image of this number if one is given."""
    info = Record.open(path).info
    study, selection = info["family"][:FAMILY_DIGITS], info["selection"]
    found = f"?study={study}&selector={selection['selector']}&ratio={selection['ratio']:g}"
    if number is None:
        return found
    return f"{found}&query={info['queries'][number % len(info['queries'])]['index']}"


def tell(what: str) -> None:
    """Say what goes on."""
    print(f"… {what}", file=sys.stderr, flush=True)

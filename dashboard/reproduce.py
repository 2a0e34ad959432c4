"""How to compute again what is shown: the study file, a command line, lines of Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dashboard import cache
from dashboard.state import Context
from gifcore.record import STUDY


@dataclass(frozen=True)
class Lines:
    """The three ways, each ready to be copied."""

    study: str
    command: str
    python: str


def of(context: Context) -> Lines:
    """Return the lines for the record that is shown."""
    record = context.shown
    text = (record.path / STUDY).read_text(encoding="utf-8")
    command = "python -m gifcore run study.toml\npython -m gifcore list"
    return Lines(text, command, _python(context))


def _python(context: Context) -> str:
    """Return the study run and read by the public functions: a method, a test image."""
    methods = [m for m in context.methods if "certificate" in context.info["methods"][m]]
    query, by = _ranked(context)
    later = query is not None and query["added"]
    lines = [
        "from pathlib import Path",
        "",
        "from gifcore import runner",
        f"from gifcore.study import {'for_query, read' if later else 'read'}",
        "",
        'study, runs = read("study.toml"), Path("runs")',
        'record = runner.run(runner.prepare(study), runs / "again", workspace=runs)',
    ]
    if methods:
        lines += [
            f'indices, delta = record.update("{methods[-1]}")  # which parameters move, how far',
            f'record.info["methods"]["{methods[-1]}"]["certificate"]["status"]',
        ]
    if query is not None:
        index, of = query["index"], "ranked" if later else "record"
        if later:  # the study does not name it
            one = f"runner.prepare(for_query(study, {index}))"
            lines.append(f'ranked = runner.run({one}, runs / "test-{index}", workspace=runs)')
        lines.append(f'{of}.scores("{by}", {index}).head(10)  # the most helpful')
    return "\n".join(lines) + "\n"


def _ranked(context: Context) -> tuple[dict[str, Any] | None, str]:
    """Return the test image looked at and the last of the methods shown that ranked it.

    None where no method did.
    """
    found = next((q for q in cache.queries(context.shown) if q["index"] == context.query), None)
    by = [] if found is None else list(found["certificates"])
    shown = [method for method in context.methods if method in by] or by
    return (found, shown[-1]) if shown else (None, "")

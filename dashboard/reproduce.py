"""How to compute again what is shown: the study file, a command line, lines of Python."""

from __future__ import annotations

from dataclasses import dataclass

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
    method = methods[-1] if methods else context.methods[-1]
    lines = [
        "from pathlib import Path",
        "",
        "from gifcore import runner",
        "from gifcore.study import read",
        "",
        'runs, prepared = Path("runs"), runner.prepare(read("study.toml"))',
        'record = runner.run(prepared, runs / "again", workspace=runs)',
    ]
    if methods:
        lines += [
            f'indices, delta = record.update("{method}")  # which parameters move, how far',
            f'record.info["methods"]["{method}"]["certificate"]["status"]',
        ]
    if context.query is not None:
        lines.append(f'record.scores("{method}", {context.query}).head(10)  # the most helpful')
    return "\n".join(lines) + "\n"

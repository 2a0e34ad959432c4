"""What `python -m gifcore reproduce` does: plan, say how long, run, write and return the tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gifcore.errors import Cancelled, GifError
from gifcore.experiments import registry
from gifcore.experiments.runner import (
    Done,
    Listen,
    Planned,
    carry_out,
    finished,
    plan,
    words_of,
    write,
)
from gifcore.experiments.spec import PROTOCOLS
from gifcore.experiments.tables import raw_csv, report, rows_of, table_csv

CACHE = ".retrained"  # of a workspace: models that studies and experiments share


@dataclass(frozen=True)
class Asked:
    """What the command line says beside the file; "" and None: as the file."""

    preset: str = "quick"
    protocol: str = ""
    seeds: int | None = None
    data: str = ""

    def over(self) -> dict[str, Any]:
        """Return the keys that replace those of the file."""
        found: dict[str, Any] = {}
        if self.protocol:
            if self.protocol not in (*PROTOCOLS, "both"):
                raise GifError(
                    f"There is no protocol '{self.protocol}'; choose ours, paper or both."
                )
            found["protocols"] = PROTOCOLS if self.protocol == "both" else (self.protocol,)
        if self.seeds is not None:
            found["seeds"] = self.seeds
        return found | ({"data": self.data} if self.data else {})


def reproduce(
    file: Path,
    asked: Asked,
    out: Path | None,
    workspace: Path,
    *,
    listen: Listen,
    say: Callable[[str], None],
) -> str:
    """Run an experiment, write table.md, table.csv and raw.csv, and return the report.

    Args:
        out: folder; None: WORKSPACE/experiments/FILE-PRESET, and the data if they were replaced.

    Raises:
        GifError: a file, key or folder that cannot be used.
        Cancelled: by Ctrl-C; finished runs are kept, and the tables hold them.
    """
    spec, kind = registry.read(file, asked.preset, asked.over())
    name = "-".join(filter(None, (file.stem, asked.preset, Path(asked.data).stem)))
    folder = out or workspace / "experiments" / name
    planned = plan(spec, kind, folder, workspace / CACHE)
    left, total = len(planned.left), len(planned.runs)
    kept = f", {total - left} of them finished before" if left < total else ""
    say(
        f"{total} runs{kept}; about {words_of(planned.seconds)} at the speed measured now. {folder}"
    )
    try:
        done = carry_out(planned, listen)
    except (Cancelled, KeyboardInterrupt):
        done = finished(planned)
        _written(planned, done)
        raise Cancelled(
            f"Stopped: {len(done)} of {total} runs are kept in {folder}; the same command goes on."
        ) from None
    return _written(planned, done)


def _written(planned: Planned, done: list[Done]) -> str:
    spec, kind = planned.spec, planned.kind
    rows = rows_of(planned.runs, done)
    about = "" if kind.about is None else kind.about(spec)
    text = report(rows, kind, spec.title or spec.experiment, about)
    files = [("table.md", text)]
    files += [
        ("table.csv", table_csv(rows, kind.columns, kind.published)),
        ("raw.csv", raw_csv(rows, kind.columns)),
    ]
    if kind.files is not None:
        files += kind.files(done).items()
    write(planned.folder, files)
    return text

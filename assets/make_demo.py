"""Make the demo: one record for each selector and ratio, the rows of `if` shared by all.

The record that is shown first has a sketch too, for previews of every test image. Records of their
own measure FastIF, take a backdoor back and look for wrong labels: stories are told on them.
Run from the top of a checkout: `make demo`. What is there already and up to date is kept. The
seconds in that of FastIF are those of the machine: make it on an idle one.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from gifcore import data, opinions, runner, study  # noqa: E402
from gifcore.changing import asked  # noqa: E402
from gifcore.errors import GifError  # noqa: E402
from gifcore.preview import Sketch  # noqa: E402
from gifcore.record import (  # noqa: E402
    INDEX,
    RECORD,
    SEARCHED,
    SKETCH,
    STUDY,
    TRAIN,
    UNITS,
    Record,
    listing,
    write_atomically,
    write_json,
)
from gifcore.run_state import RUN  # noqa: E402
from gifcore.stages import load_problem  # noqa: E402
from gifcore.tables import MethodResult, frame_bytes  # noqa: E402
from gifcore.units import most_exciting  # noqa: E402
from gifcore.version import ENGINE_VERSION  # noqa: E402

RATIOS = (0.05, 0.01, 0.10, 0.25)
SELECTORS = (
    "highest-k-gradients",
    "highest-k-outputs",
    "lowest-k-gradients",
    "lowest-k-outputs",
    "random",
)
DEMO, STUDIES = HERE / "demo", HERE / "studies"
FASTIF = "fastif-recall"
OTHERS = (
    FASTIF,
    "backdoor",
    "wrong-labels",
    "forget-class-retrained",
)  # studies of one record each, from `studies/`
RANK = 352  # of the sketch: the largest multiple of 32 below 8 MB


def folder(selector: str, ratio: float) -> Path:
    """Return where the record of one combination lives."""
    return DEMO / f"{selector}-{ratio * 100:02.0f}"


def main() -> None:
    """Compute every combination that is not there yet."""
    base = study.read(STUDIES / "demo.toml")
    first = folder("highest-k-gradients", RATIOS[0])
    with tempfile.TemporaryDirectory() as workspace:
        for ratio in RATIOS:
            for selector in SELECTORS:
                wanted = study.parse(
                    base.model_dump() | {"selection": {"selector": selector, "ratio": ratio}}
                )
                out, prepared = folder(selector, ratio), runner.prepare(wanted)
                _drop_stale(out, prepared)
                if runner.finished(out, prepared, DEMO) is None:
                    reuse = first if first != out else None
                    runner.run(prepared, out, workspace=Path(workspace), reuse=reuse, link=True)
                    _tidy(out)
                print(out.name, flush=True)
        if _sketch_of(first) is None:
            _make_sketch(first, Path(workspace))
            print(first.name, SKETCH, flush=True)
        _add_units([folder(selector, ratio) for selector in SELECTORS for ratio in RATIOS])
        for name in OTHERS:
            out, prepared = DEMO / name, runner.prepare(study.read(STUDIES / f"{name}.toml"))
            _drop_stale(out, prepared)
            if runner.finished(out, prepared, DEMO) is None:
                runner.run(prepared, out, workspace=Path(workspace))
                _tidy(out)
            print(out.name, flush=True)
        _add_opinions([path for path in sorted(DEMO.iterdir()) if path.is_dir()])


def _sketch_of(out: Path) -> Sketch | None:
    """Return the sketch of a record if this engine made it at this rank."""
    try:
        found = Record.open(out).sketch()
    except GifError:
        return None
    made = found is not None and (found.info["engine"], found.info["rank"])
    return found if made == (ENGINE_VERSION, RANK) else None


def _make_sketch(out: Path, workspace: Path) -> None:
    """Add the sketch that the study would make with a preview; nothing else of a record changes."""
    record = Record.open(out)
    asked = study.parse(study.read(out / STUDY).model_dump() | {"preview": {"rank": RANK}})
    made = runner.run(runner.prepare(asked), workspace / "sketch", workspace=workspace, reuse=out)
    sketch = made.sketch()
    assert sketch is not None, made.info["preview"]
    content = sketch.content(compressed=True)
    write_atomically(out / SKETCH, content)
    files = record.info["files"] | {SKETCH: listing(content)}
    write_json(out / RECORD, record.info | {"preview": made.info["preview"], "files": files})


def _add_units(folders: list[Path]) -> None:
    """Add what excites each unit to records made before that was kept; the model is one."""
    without = [out for out in folders if UNITS not in Record.open(out).info["files"]]
    if not without:
        return
    prepared = runner.prepare(study.read(without[0] / STUDY))
    source = data.load(prepared.study.data.source)
    problem = load_problem(prepared.study, source, prepared.weights, prepared.weight_decay)
    content = frame_bytes(most_exciting(problem))
    for out in without:
        _add(out, UNITS, content)


def _add_opinions(folders: list[Path]) -> None:
    """Add what the model says of every training sample to records made before that was kept."""
    for out in folders:
        record = Record.open(out)
        if TRAIN in record.info["files"]:
            continue
        prepared = runner.prepare(study.read(out / STUDY))
        source = asked(prepared.study, data.load(prepared.study.data.source)).data
        problem = load_problem(prepared.study, source, prepared.weights, prepared.weight_decay)
        parts = {("", ""): opinions.opinion(problem)}
        for method, entry in record.info["methods"].items():
            if "steps" in entry and record.folder(method) == out:  # else they are in a sibling
                theta = opinions.edited(problem, MethodResult.taken_from(record, method))
                parts[method, SEARCHED] = opinions.opinion(problem, theta)
        _add(out, TRAIN, opinions.content(parts))
        print(out.name, TRAIN, flush=True)


def _add(out: Path, name: str, content: bytes) -> None:
    """Add a file to a record; nothing else of it changes."""
    record = Record.open(out)
    write_atomically(out / name, content)
    files = record.info["files"] | {name: listing(content)}
    write_json(out / RECORD, record.info | {"files": files})


def _drop_stale(out: Path, prepared: runner.Prepared) -> None:
    """Remove what another study, model or version of the engine left here."""
    try:
        stale = Record.open(out).hash != prepared.hash
    except GifError:
        return
    if stale:
        shutil.rmtree(out)


def _tidy(out: Path) -> None:
    (out / RUN).unlink(missing_ok=True)
    (out / ".lock").unlink(missing_ok=True)
    shutil.rmtree(out / ".stages", ignore_errors=True)
    for path in (out / INDEX, (out / INDEX).with_suffix(".json")):  # made again where it is needed
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()

"""Stands in for `python -m gifcore` where a test needs a process, not numbers.

    run STUDY.toml --out DIR …    a stage list, then an invented record; SIGTERM cancels
    doctor STUDY.toml --json      an invented answer

FAKE_SECONDS: how long a run takes (default 1). FAKE_DIES: end before run.json is written.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from gifcore import data as datasets
from gifcore.record import RECORD, write_json
from gifcore.run_state import RUN, process_started
from gifcore.study import Study, read, study_hash
from tests.dashboard.make_record import WEIGHTS_HASH, make_record

NAMES = ("load", "select", "solve", "rank", "edit", "evaluate")


def run(study: Study, out: Path) -> None:
    if os.environ.get("FAKE_DIES"):
        sys.exit("There is no checkpoint for this model.")
    state = {
        "status": "running",
        "pid": os.getpid(),
        "pid_started": process_started(os.getpid()),
        "title": study.title,
        "hash": study_hash(study, datasets.fingerprint("digits"), WEIGHTS_HASH),
        "created": "2026-01-02T03:04:05Z",
        "message": "",
        "eta_seconds": 9.0,
        "stages": [
            {"name": n, "done": 0, "total": 20, "note": "", "seconds": None, "state": "todo"}
            for n in NAMES
        ],
    }

    def cancelled(_signal: int, _frame: FrameType | None) -> None:
        write_json(out / RUN, state | {"status": "cancelled", "eta_seconds": None})
        write_json(out / RECORD, {"schema": 1, "status": "cancelled"})  # as the engine does
        sys.exit(130)

    signal.signal(signal.SIGTERM, cancelled)
    seconds = float(os.environ.get("FAKE_SECONDS", "1"))
    for number, stage in enumerate(state["stages"]):
        stage["state"] = "running"
        for done in range(4):
            stage["done"] = 5 * done
            state["eta_seconds"] = seconds * (1 - (number + done / 4) / len(NAMES))
            write_json(out / RUN, state)
            time.sleep(seconds / len(NAMES) / 4)
        stage |= {"state": "done", "done": 20, "seconds": seconds / len(NAMES)}
    make_record(out, study=study, queries=study.ranking.queries or range(study.ranking.count))
    write_json(out / RUN, state | {"status": "finished", "eta_seconds": None})


def doctor(study: Study) -> None:
    if study.data.source != "digits":
        print(json.dumps({"ok": False, "error": f"There is no data set '{study.data.source}'."}))
        return
    data = datasets.load("digits")
    print(
        json.dumps(
            {
                "ok": True,
                "data": {
                    "name": "Digits",
                    "classes": list(data.classes),
                    "shape": list(data.shape),
                    "sizes": {s: len(data.split(s)) for s in ("train", "validation", "test")},
                    "note": data.note,
                    "hash": data.hash,
                },
                "model": {
                    "name": study.model.name,
                    "parameters": 1898,
                    "weights": None,
                    "hash": WEIGHTS_HASH,
                    "weight_decay": 0.0,
                },
                "accuracy": {"test": 0.971, "validation": 0.974},
                "estimate": {"seconds": 21.0, "memory_mb": 640.0, "stages": {}},
            }
        )
    )


if __name__ == "__main__":
    command, path, *rest = sys.argv[1:]
    asked = read(path)
    if command == "run":
        run(asked, Path(rest[rest.index("--out") + 1]))
    else:
        doctor(asked)

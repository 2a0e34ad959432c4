"""Run a study into a folder: its turn, its stages, its record; cancel and resume."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gifcore import data as datasets
from gifcore.data.hashing import sha256_of
from gifcore.errors import Cancelled, GifError
from gifcore.models import MODELS, bundled, checkpoint_card
from gifcore.record import (
    BEFORE,
    RECORD,
    SCHEMA,
    STUDY,
    THUMBNAILS,
    Record,
    RecordError,
    list_workspace,
    write_atomically,
    write_json,
    write_record,
)
from gifcore.run_state import Listener, RunState, locked, read_state, turn
from gifcore.study import (
    METHOD_LABELS,
    USES_SELECTION,
    Study,
    dumps,
    family_hash,
    method_hash,
    study_hash,
)
from gifcore.version import ENGINE_VERSION

if TYPE_CHECKING:
    from gifcore.selection import Selection
    from gifcore.stages import Loaded
    from gifcore.tables import MethodResult

STAGES_FOLDER = ".stages"
TOP = 24  # images kept a side for every query and method


@dataclass(frozen=True)
class Prepared:
    """A study with the identity of everything it depends on; made without torch."""

    study: Study
    data_hash: str
    weights: Path
    weights_hash: str
    weight_decay: float

    @property
    def hash(self) -> str:
        return study_hash(self.study, self.data_hash, self.weights_hash)

    @property
    def family(self) -> str:
        return family_hash(self.study, self.data_hash, self.weights_hash)

    def method_key(self, method: str) -> str:
        return method_hash(self.study, method, self.data_hash, self.weights_hash)


def prepare(study: Study) -> Prepared:
    """Find the study's data and weights and hash them.

    Raises:
        GifError: an unknown name or a file that is not there.
    """
    if study.model.name not in MODELS:
        raise GifError(
            f"There is no model '{study.model.name}'; choose one of: {', '.join(MODELS)}."
        )
    data_hash = datasets.fingerprint(study.data.source)
    if study.model.weights:
        weights = Path(study.model.weights)
    else:
        found = bundled(study.model.name, study.data.source)
        if found is None:
            raise GifError(
                f"No trained {study.model.name} for {study.data.source} is bundled; train one "
                "(`python -m gifcore train`) and give its checkpoint as model.weights."
            )
        weights = found
    if not weights.is_file():
        raise GifError(f"There is no checkpoint {weights}.")
    decay = study.model.weight_decay
    if decay is None:
        decay = float((checkpoint_card(weights) or {}).get("weight_decay", 0.0))
    # the decay the card states decides the objective: it belongs to the identity of the weights
    identity = hashlib.sha256(f"{sha256_of([weights])} {decay!r}".encode()).hexdigest()
    return Prepared(study, data_hash, weights, identity, decay)


def finished(out: Path, prepared: Prepared, workspace: Path) -> Record | None:
    """Return the record of this very study: in `out`, or linked there from the workspace.

    Raises:
        GifError: `out` holds another study, or something that is no study.
    """
    if out.exists() and not out.is_dir():
        raise GifError(f"{out} is a file; give a folder.")
    found = _hash_in(out)
    if found is not None and found != prepared.hash:
        raise GifError(f"{out} holds another study; choose another --out or remove it.")
    if found is not None:
        try:
            return Record.open(out)
        except RecordError:
            return None  # unfinished or damaged: computed again
    if out.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise GifError(f"{out} holds other files; choose an empty or new folder for --out.")
    for entry in list_workspace(workspace):
        if entry.status == "finished" and entry.hash == prepared.hash:
            record = Record.open(entry.path)
            if out.exists():
                shutil.rmtree(out)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.symlink_to(Path(entry.path).resolve())
            return record
    return None


def _hash_in(out: Path) -> str | None:
    """Return the hash of the study a folder holds, None if it holds none."""
    if (out / RECORD).exists():
        try:
            return str(json.loads((out / RECORD).read_text(encoding="utf-8"))["hash"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
    state = read_state(out)
    return None if state is None else state["hash"] or "damaged"


def run(
    prepared: Prepared,
    out: Path,
    *,
    workspace: Path,
    reuse: Path | None = None,
    link: bool = False,
    listen: Listener | None = None,
) -> Record:
    """Run a study whole and return its record.

    Args:
        out: the folder of the record.
        workspace: studies of one workspace run one at a time, first come, first served.
        reuse: a record from which methods with the same key are taken, not computed.
        link: point to those methods' rows in `reuse`, a sibling folder, instead of copying them.
        listen: called with run.json's content whenever it changes.

    Raises:
        Cancelled: by SIGINT or SIGTERM; the folder says so and keeps the finished stages.
        GifError: anything a user can mend, in one sentence; the folder says so too.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        workspace.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GifError(f"Cannot make the folder {error.filename}: {error.strerror}.") from None
    with locked(out / ".lock", f"This study is running already in {out}; wait for it or cancel it."):
        from gifcore.stages import STAGES

        state = RunState(out, prepared.study.title, prepared.hash, STAGES, listen)
        with _signals(state):
            return _guarded(prepared, out, workspace, reuse, link, state)


def _guarded(
    prepared: Prepared, out: Path, workspace: Path, reuse: Path | None, link: bool, state: RunState
) -> Record:
    try:
        (out / RECORD).unlink(missing_ok=True)
        write_atomically(out / STUDY, dumps(prepared.study).encode())
        state.write()
        with turn(workspace, state):
            state.values["status"] = "running"
            state.write()
            _compute(prepared, out, Record.open(reuse) if reuse else None, link, state)
        state.end("finished")
        shutil.rmtree(out / STAGES_FOLDER, ignore_errors=True)
        return Record.open(out)
    except Cancelled as error:
        state.end("cancelled", str(error))
        entry = {"hash": prepared.hash, "title": prepared.study.title, "methods": {}, "queries": []}
        write_json(out / RECORD, {"schema": SCHEMA, "status": "cancelled", **entry, "files": {}})
        raise
    except GifError as error:
        _say_failed(state, str(error))
        raise
    except MemoryError:
        sentence = "Out of memory: lower curvature.memory_mb, curvature.batch_size or the queries."
        _say_failed(state, sentence)
        raise GifError(sentence) from None
    except Exception as error:
        _say_failed(state, f"Unexpected {type(error).__name__}: {error}")
        raise


def _say_failed(state: RunState, message: str) -> None:
    try:
        state.end("failed", message)
    except GifError:
        pass  # the disk is full: the sentence still reaches the terminal


@contextmanager
def _signals(state: RunState) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into a cancel at the next tick; a second one ends at once."""

    def ask(number: int, _frame: Any) -> None:
        if state.cancelled.is_set():
            sys.exit(128 + number)
        state.cancelled.set()

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever called cancels by state
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- the stages and the record -------------------------------------------------------------------


def _compute(
    prepared: Prepared, out: Path, reuse: Record | None, link: bool, state: RunState
) -> None:
    from gifcore import stages
    from gifcore.tables import MethodResult

    study, began = prepared.study, time.perf_counter()
    state.tick("load", 0, 3, "data")
    data = datasets.load(study.data.source)
    loaded = stages.load(study, data, prepared.weights, prepared.weight_decay, state)
    queries = stages.choose_queries(study, loaded)
    kept = stages.Kept(out / STAGES_FOLDER)
    selected = stages.selection(study, loaded, kept, state)
    shared = _reusable(prepared, reuse, queries)
    results = {
        m: MethodResult.taken_from(reuse, m) if m in shared and reuse else MethodResult(m, {})
        for m in study.methods
    }
    todo = [m for m in study.methods if m not in shared]
    solving = stages.Solving(study, loaded, selected, kept, state, queries, todo)
    updates = solving.updates(results) if study.edit.enabled else {}
    solving.rank({m: results[m] for m in todo})
    state.finish("solve")
    state.finish("rank")
    if study.edit.enabled:
        stages.edits(study, loaded, updates, results, kept, state)
    for stage in ("edit", "evaluate"):
        if not study.edit.enabled:
            state.finish(stage, "skipped")
    info = _info(prepared, loaded, selected, queries, state)
    info["costs"] |= _measured_costs([results[m] for m in todo], loaded)
    info |= {"seconds": round(time.perf_counter() - began, 2), "peak_memory_mb": peak_memory_mb()}
    _write(prepared, out, info, results, shared if link else [], loaded, queries, reuse)


def _reusable(prepared: Prepared, reuse: Record | None, queries: list[int]) -> list[str]:
    if reuse is None or [q["index"] for q in reuse.queries] != queries:
        return []
    return [
        method
        for method in prepared.study.methods
        if reuse.info["methods"].get(method, {}).get("key") == prepared.method_key(method)
    ]


def _write(
    prepared: Prepared, out: Path, info: dict[str, Any], results: dict[str, MethodResult],
    linked: list[str], loaded: Loaded, queries: list[int], reuse: Record | None,
) -> None:
    from gifcore.tables import record_files, sample_frame

    info["methods"] = {}
    for method, result in results.items():
        folder = f"../{reuse.folder(method).name}" if method in linked and reuse else "."
        info["methods"][method] = result.info | {
            "key": prepared.method_key(method),
            "folder": folder,
            "label": METHOD_LABELS[method],
            "uses_selection": USES_SELECTION[method],
        }
    own = [result for method, result in results.items() if method not in linked]
    before = [sample_frame(p, split, BEFORE) for split, p in loaded.before.items()]
    files = record_files(own, before)
    if prepared.study.data.source not in datasets.DATASETS:
        files[THUMBNAILS] = _thumbnails(loaded, own, queries)
    files[STUDY] = dumps(prepared.study).encode()
    write_record(out, info, files)


def _thumbnails(loaded: Loaded, results: list[MethodResult], queries: list[int]) -> bytes:
    """Return the images a page shows first, so that a record speaks when its data is gone."""
    import numpy as np

    train = {
        int(i)
        for result in results
        for scores in result.scores.values()
        for i in [*np.argsort(-scores, kind="stable")[:TOP], *np.argsort(scores, kind="stable")[:TOP]]
    }
    chosen = {"train": np.array(sorted(train), dtype=np.int64), "test": np.array(queries, np.int64)}
    buffer = io.BytesIO()
    arrays = {f"{split}.index": index for split, index in chosen.items()}
    arrays |= {f"{split}.images": loaded.data.images(split, i) for split, i in chosen.items()}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _info(
    prepared: Prepared, loaded: Loaded, selected: Selection, queries: list[int], state: RunState
) -> dict[str, Any]:
    """Return record.json without its methods: what was computed, from what, at what cost."""
    import torch

    from gifcore import stages

    study, data = prepared.study, loaded.data
    by_layer = selected.by_layer()
    tested = loaded.before["test"]
    return {
        "status": "finished",
        "hash": prepared.hash,
        "family": prepared.family,
        "title": study.title,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "engine": ENGINE_VERSION,
        "versions": _versions(),
        "commit": _commit(),
        "threads": torch.get_num_threads(),
        "seed": study.seed,
        "data": {
            "source": study.data.source,
            "name": data.name,
            "hash": data.hash,
            "classes": list(data.classes),
            "shape": list(data.shape),
            "sizes": loaded.sizes,
            "note": data.note,
        },
        "model": {
            "name": study.model.name,
            "weights": prepared.weights.name,
            "hash": prepared.weights_hash,
            "parameters": loaded.problem.space.size,
            "weight_decay": prepared.weight_decay,
            "layers": stages.layer_rows(loaded.problem),
        },
        "change": {
            "kind": study.change.kind,
            "label": study.change.label,
            "class_name": data.classes[study.change.label],
            "removed": len(loaded.change.samples(loaded.problem)),
        },
        "selection": {
            "selector": study.selection.selector,
            "ratio": study.selection.ratio,
            "k": selected.k,
            "p": loaded.problem.space.size,
            "layers": [
                {"name": b.name, "k": by_layer[b.name], "size": b.size}
                for b in loaded.problem.space.blocks
            ],
        },
        "queries": [
            {
                "index": q,
                "label": int(tested.labels[q]),
                "predicted": int(tested.predicted[q]),
                "p_label": float(tested.p_label[q]),
                "loss": float(tested.loss[q]),
            }
            for q in queries
        ],
        "before": {split: stages.measured(p, study, data) for split, p in loaded.before.items()},
        "timings": {s["name"]: s["seconds"] for s in state.values["stages"]},
        "costs": dict(loaded.costs),
    }


def _measured_costs(results: list[MethodResult], loaded: Loaded) -> dict[str, float]:
    """Return what products and rankings cost in this run, in seconds a sample."""
    queried = [c for r in results for c in r.info.get("query_certificates", {}).values()]
    solves = [c for c in queried if c["samples"]]
    ranked = sum(len(r.scores) for r in results)
    costs = {}
    if solves:
        products = sum((c["hvps"] + c["check_hvps"]) * c["samples"] for c in solves)
        costs["hvp_per_sample"] = sum(c["seconds"] for c in solves) / products
    if ranked:
        seconds = sum(r.info["seconds"]["rank"] for r in results if r.scores)
        costs["jvp_per_sample"] = seconds / (ranked * loaded.sizes["train"])
    return costs


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("torch", "numpy", "gif-studio"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """Return the git commit of a checkout, None for an installed package."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    answer = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None


def peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 if sys.platform != "darwin" else 1024**2), 1)


def default_folder(prepared: Prepared, workspace: Path) -> Path:
    """Return where a study without --out goes: equal studies to equal folders."""
    words = "".join(c if c.isalnum() else "-" for c in prepared.study.title.lower())
    name = "-".join(filter(None, words.split("-")))[:40] or "study"
    return workspace / f"{name}-{prepared.hash[:8]}"

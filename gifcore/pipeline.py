"""A study from its stages to its record: what `runner.run` does once it is its turn."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gifcore import data as datasets
from gifcore import fastif, manifest, mislabel, opinions, previewing, stages, truth
from gifcore.record import BEFORE, SKETCH, STUDY, THUMBNAILS, UNITS, Record, write_record
from gifcore.run_state import RunState
from gifcore.runner import STAGES_FOLDER, Prepared
from gifcore.solving import Solving
from gifcore.stages import Loaded
from gifcore.study import METHOD_LABELS, USES_SELECTION, Study, dumps
from gifcore.tables import MethodResult, frame_bytes, record_files, sample_frame
from gifcore.themselves import on_themselves
from gifcore.units import most_exciting


def compute(
    prepared: Prepared,
    out: Path,
    reuse: Record | None,
    link: bool,
    state: RunState,
    workspace: Path,
) -> None:
    """Run every stage and write the record; `runner.run` says what the arguments mean."""
    study, began = prepared.study, time.perf_counter()
    _skip(study, state)
    state.tick("load", 0, 3, "data")
    data = datasets.load(study.data.source)
    loaded = stages.load(study, data, prepared.weights, prepared.weight_decay, state)
    truth.expect(study, prepared.weights, loaded, state)
    queries = stages.choose_queries(study, loaded)
    fastif.refuse(study, loaded, queries)
    kept = stages.Kept(out / STAGES_FOLDER / prepared.hash[:16])
    selected = stages.selection(study, loaded, kept, state)
    shared = _reusable(prepared, reuse, queries)
    results: dict[str, MethodResult] = {
        m: MethodResult.taken_from(reuse, m) if m in shared and reuse else MethodResult(m, {})
        for m in study.methods
    }
    todo = [m for m in study.methods if m not in shared]
    solving = Solving(study, loaded, selected, kept, state, queries, todo)
    updates = solving.updates(results) if study.edit.enabled else {}
    solving.rank({m: results[m] for m in todo})
    if study.on_themselves:
        on_themselves(study, loaded, solving, {m: results[m] for m in todo}, kept)
    state.finish("solve")
    state.finish("rank")
    searched = mislabel.look(
        study, prepared.weights, loaded, solving, results, workspace, kept, state
    )
    measured = None
    if study.fastif.enabled:
        own: dict[str, MethodResult] = {m: results[m] for m in todo}
        asked = fastif.asked(loaded, queries)
        measured = fastif.measure(study, loaded, selected, kept, state, asked, own, out)
    shown: dict[str, Any] = {}
    sketch = None
    if study.preview.rank:
        shown, sketch = previewing.preview(
            study, loaded, prepared.weights_hash, solving, results, kept, state
        )
        state.finish("preview")
    if study.edit.enabled:
        stages.edits(study, loaded, updates, results, kept, state)
    linked = shared if link else []
    more = opinions.look(study, loaded, results, reuse, linked, kept, state)
    true = truth.look(study, prepared.weights, loaded, results, workspace, state)
    info = manifest.describe(prepared, loaded, selected, queries, state)
    info["costs"] |= manifest.measured_costs([results[m] for m in todo], loaded)
    info |= {
        "seconds": round(time.perf_counter() - began, 2),
        "peak_memory_mb": manifest.peak_memory_mb(),
    }
    if measured is not None:
        info["fastif"], more = measured.info, more | measured.files
    info |= searched.info | true.info
    more = more | searched.files
    if shown:
        info["preview"] = shown
    if sketch is not None:
        more = more | {SKETCH: sketch.content()}
    samples = [sample_frame(p, split, BEFORE) for split, p in loaded.before.items()] + true.samples
    _write(prepared, out, info, results, linked, loaded, queries, reuse, more, samples)


def _skip(study: Study, state: RunState) -> None:
    """Say which stages the study does not ask for."""
    asked = {
        "mislabel": study.mislabel.enabled,
        "fastif": study.fastif.enabled,
        "preview": study.preview.rank > 0,
        "edit": study.edit.enabled,
        "evaluate": study.edit.enabled,
        "retrain": study.retrain.enabled,
    }
    for stage, wanted in asked.items():
        if not wanted:
            state.finish(stage, "skipped")


def _reusable(prepared: Prepared, reuse: Record | None, queries: list[int]) -> list[str]:
    if reuse is None or [q["index"] for q in reuse.queries] != queries:
        return []
    return [
        method
        for method in prepared.study.methods
        if reuse.info["methods"].get(method, {}).get("key") == prepared.method_key(method)
    ]


def _write(
    prepared: Prepared,
    out: Path,
    info: dict[str, Any],
    results: Mapping[str, MethodResult],
    linked: list[str],
    loaded: Loaded,
    queries: list[int],
    reuse: Record | None,
    more: Mapping[str, bytes],
    samples: list[pd.DataFrame],
) -> None:
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
    files = record_files(own, samples)
    files |= more
    if prepared.study.edit.enabled:
        files[UNITS] = frame_bytes(most_exciting(loaded.problem))
    if prepared.study.data.source not in datasets.DATASETS:
        files[THUMBNAILS] = manifest.thumbnails(loaded, own, queries)
    files[STUDY] = dumps(prepared.study).encode()
    write_record(out, info, files)

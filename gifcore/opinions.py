"""What the model says of every training sample: before the edit, and after each method's step.

The step is the one that was searched on validation. Labels are those the model was trained with,
a planted backdoor and wrong labels among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from gifcore.edit import edited_parameters
from gifcore.estimate import query_count
from gifcore.evaluate import predict
from gifcore.influence import Update
from gifcore.problem import Problem, Progress, silent
from gifcore.record import SEARCHED, TRAIN, Record, parquet_bytes
from gifcore.run_state import RunState
from gifcore.stages import Kept, Loaded, Meter
from gifcore.study import METHOD_LABELS, Study
from gifcore.tables import MethodResult

NOTE = "training set, {}"


def asked(study: Study) -> bool:
    """Does a record of this study say it? One image that is ranked alone adds to one that does."""
    return study.edit.enabled or query_count(study) != 1


def opinion(problem: Problem, theta: Tensor | None = None, progress: Progress = silent) -> pa.Table:
    """Return train_index, predicted, p_label and loss [nats] at theta (default: the trained).

    Cost: one forward pass over the training set. Memory: one batch, and four numbers a sample.
    """
    found = predict(problem, problem.train, theta=theta, progress=progress)
    return pa.table(
        {
            "train_index": pa.array(np.arange(len(found.labels)), pa.int32()),
            "predicted": pa.array(found.predicted, pa.int16()),
            "p_label": pa.array(found.p_label.astype(np.float32)),
            "loss": pa.array(found.loss.astype(np.float32)),
        }
    )


def look(
    study: Study,
    loaded: Loaded,
    results: Mapping[str, MethodResult],
    reuse: Record | None,
    linked: Iterable[str],
    kept: Kept,
    state: RunState,
) -> dict[str, bytes]:
    """Return `train.parquet` by its name, {} where a study is not asked.

    Rows of a method that is shared with a sibling are read from it, or stay there if `linked`.
    """
    if not asked(study):
        state.finish("opinions", "skipped")
        return {}
    methods = sorted(method for method, result in results.items() if "steps" in result.info)
    meter = Meter(state, "opinions", 1 + len(methods))
    parts = {("", ""): _part("", loaded, None, kept, meter.part(1, NOTE.format("before")))}
    meter.add(1)
    for method in methods:
        known = None if reuse is None else _known(reuse, method, results[method])
        if known is None:
            note = NOTE.format(METHOD_LABELS[method])
            report = meter.part(1, note)
            parts[method, SEARCHED] = _part(method, loaded, results[method], kept, report)
        elif method not in linked:
            parts[method, SEARCHED] = pa.Table.from_pandas(known, preserve_index=False)
        meter.add(1)
    state.finish("opinions")
    return {TRAIN: content(parts)}


def _known(reuse: Record, method: str, result: MethodResult) -> pd.DataFrame | None:
    """Return a sibling's rows of a method whose results were taken from it."""
    theirs = reuse.info["methods"].get(method, {}).get("key")
    return reuse.train(method, SEARCHED) if theirs and theirs == result.info.get("key") else None


def _part(
    method: str, loaded: Loaded, result: MethodResult | None, kept: Kept, report: Progress
) -> pa.Table:
    problem = loaded.problem

    def compute() -> tuple[dict[str, str], dict[str, np.ndarray]]:
        theta = None if result is None else edited(problem, result)
        table = opinion(problem, theta, report)
        return {}, {name: table[name].to_numpy() for name in table.column_names}

    return pa.table(kept.part(f"opinion-{method or 'before'}", compute)[1])


def edited(problem: Problem, result: MethodResult) -> Tensor:
    """Return the parameters after a method's searched step, (p,)."""
    assert result.delta is not None
    indices = None if result.indices is None else torch.from_numpy(result.indices).long()
    update = Update(torch.from_numpy(result.delta).to(problem.theta), indices, result.method)
    return edited_parameters(problem, update, result.info["steps"][SEARCHED]["scale"])


def content(parts: Mapping[tuple[str, str], pa.Table]) -> bytes:
    """Return the file of these parts by method and step, in that order, one row group each."""
    return parquet_bytes(map(partial(_named, parts), sorted(parts)))


def _named(parts: Mapping[tuple[str, str], pa.Table], key: tuple[str, str]) -> pa.Table:
    table, (method, step) = parts[key], key
    words = {"method": method, "step": step}
    for place, (name, word) in enumerate(words.items(), start=1):
        table = table.add_column(place, name, pa.array([word] * len(table), pa.string()))
    return table

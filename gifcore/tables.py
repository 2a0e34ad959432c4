"""From a method's results to the rows of a record, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
from safetensors.numpy import save

from gifcore.record import (
    BEFORE,
    CURVES,
    SAMPLES,
    SCORES,
    SELF_INFLUENCE,
    UPDATES,
    Content,
    Record,
    parquet_bytes,
    write_parquet,
)


class ScoreRows(MutableMapping[int, np.ndarray]):
    """Scores by query, (n,) nats each; a row that is elsewhere is read whenever it is asked for."""

    def __init__(self) -> None:
        self._rows: dict[int, np.ndarray | Callable[[], np.ndarray]] = {}

    def __getitem__(self, query: int) -> np.ndarray:
        row = self._rows[query]
        return row() if callable(row) else row

    def __setitem__(self, query: int, row: np.ndarray | Callable[[], np.ndarray]) -> None:
        self._rows[query] = row

    def __delitem__(self, query: int) -> None:
        del self._rows[query]

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


@dataclass
class MethodResult:
    """Everything one method leaves in a record."""

    method: str
    info: dict[str, Any]
    scores: ScoreRows = field(default_factory=ScoreRows)  # query -> (n,) nats
    self_influence: np.ndarray | None = None  # (n,) nats, in the order of `train_index`
    train_index: np.ndarray | None = None  # (n,)
    indices: np.ndarray | None = None  # (k,) None: all parameters
    delta: np.ndarray | None = None  # (k,) or (p,)
    samples: list[pd.DataFrame] = field(default_factory=list)
    curves: list[pd.DataFrame] = field(default_factory=list)

    @classmethod
    def taken_from(cls, record: Record, method: str) -> MethodResult:
        """Return a method's results as another record holds them."""
        result = cls(
            method, {k: v for k, v in record.info["methods"][method].items() if k != "folder"}
        )
        for query in record.ranked(method):
            result.scores[query] = partial(_in_order, record, method, query)
        own = record.self_influence(method)
        if len(own):
            result.train_index = own["train_index"].to_numpy()
            result.self_influence = own["value"].to_numpy()
        if "steps" in result.info:
            result.indices, result.delta = record.update(method)
            for step in result.info["steps"]:
                for split in ("validation", "test"):
                    frame = record.samples(method, step, split)
                    result.samples.append(frame.assign(split=split, method=method, step=step))
        result.curves.append(record.curves(method))
        return result


def _in_order(record: Record, method: str, query: int) -> np.ndarray:
    """Return a ranking's scores in the order of the training samples."""
    frame = record.scores(method, query)
    scores = np.empty(len(frame), dtype=np.float32)
    scores[frame["train_index"]] = frame["influence"]
    return scores


def self_table(result: MethodResult) -> pa.Table:
    """Return one row group, in the order of the training samples."""
    assert result.self_influence is not None
    return pa.table(
        {
            "method": pa.array([result.method] * len(result.self_influence), pa.string()),
            "train_index": pa.array(result.train_index, pa.int32()),
            "value": pa.array(result.self_influence, pa.float32()),
        }
    )


def score_table(method: str, query: int, scores: np.ndarray) -> pa.Table:
    """Return one row group, most helpful first."""
    order = np.argsort(-scores, kind="stable").astype(np.int32)
    n = len(order)
    return pa.table(
        {
            "query": np.full(n, query, np.int32),
            "method": pa.array([method] * n, pa.string()),
            "train_index": order,
            "influence": scores[order].astype(np.float32),
            "rank": np.arange(n, dtype=np.int32),
        }
    )


def sample_frame(
    predictions: Any, split: str, method: str = BEFORE, step: str = ""
) -> pd.DataFrame:
    """Return the rows of one split under one method and step."""
    return pd.DataFrame(
        {
            "split": split,
            "method": method,
            "step": step,
            "index": np.arange(len(predictions.labels), dtype=np.int32),
            "label": predictions.labels.astype(np.int32),
            "predicted": predictions.predicted.astype(np.int32),
            "p_label": predictions.p_label.astype(np.float32),
            "loss": predictions.loss.astype(np.float32),
        }
    )


def _write_scores(results: list[MethodResult], file: BinaryIO) -> None:
    tables = (
        score_table(result.method, query, scores)
        for result in results
        for query, scores in result.scores.items()
    )
    write_parquet(file, tables)


_SAMPLE_COLUMNS = ["split", "method", "step", "index", "label", "predicted", "p_label", "loss"]
_CURVE_COLUMNS = ["method", "curve", "query", "x", "value"]


def curve_frame(curve: str, x: Any, value: Any, query: int = -1) -> pd.DataFrame:
    """Return the rows of one curve; query -1 is the update."""
    return pd.DataFrame(
        {
            "curve": curve,
            "query": np.int32(query),
            "x": np.asarray(x, dtype=np.float64),
            "value": np.asarray(value, dtype=np.float64),
        }
    )


def frame_bytes(frame: pd.DataFrame) -> bytes:
    """Return a parquet file of one row group."""
    return parquet_bytes([pa.Table.from_pandas(frame, preserve_index=False)])


def record_files(results: list[MethodResult], before: list[pd.DataFrame]) -> dict[str, Content]:
    """Return the files of a record by name; results that live in another folder are not given.

    The scores are written ranking by ranking: one is in memory, however many there are.
    """
    files: dict[str, Content] = {}
    if any(result.scores for result in results):
        files[SCORES] = partial(_write_scores, results)
    own = [self_table(result) for result in results if result.self_influence is not None]
    if own:
        files[SELF_INFLUENCE] = parquet_bytes(own)
    frames = before + [frame for result in results for frame in result.samples]
    samples = pd.concat(frames, ignore_index=True)[_SAMPLE_COLUMNS]
    files[SAMPLES] = frame_bytes(samples)
    curves = [
        frame.assign(method=result.method)[_CURVE_COLUMNS]
        for result in results
        for frame in result.curves
    ]
    if curves:
        joined = pd.concat(curves, ignore_index=True)
        files[CURVES] = frame_bytes(joined)
    arrays = {}
    for result in results:
        if result.delta is not None:
            arrays[f"{result.method}.delta"] = result.delta.astype(np.float32)
        if result.indices is not None:
            arrays[f"{result.method}.indices"] = result.indices.astype(np.int32)
    if arrays:
        files[UPDATES] = save(arrays)
    return files

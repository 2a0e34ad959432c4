"""Invented opinions of training samples: right nearly always, not on the removed class after."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def opinion_tables(y: np.ndarray, methods: list[str], removed: int) -> list[pa.Table]:
    """One table before and one after each method's searched step, in the order of a record."""
    parts = [("", "")] + [(method, "searched") for method in sorted(methods)]
    return [_table(np.asarray(y), *part, removed, seed) for seed, part in enumerate(parts)]


def _table(y: np.ndarray, method: str, step: str, removed: int, seed: int) -> pa.Table:
    rng, n = np.random.default_rng(seed), len(y)
    right = rng.random(n) < np.where((y == removed) & (method != ""), 0.1, 0.97)
    p = np.where(right, rng.uniform(0.5, 1, n), rng.uniform(0.01, 0.45, n))
    return pa.table(
        {
            "train_index": pa.array(np.arange(n), pa.int32()),
            "method": pa.array([method] * n, pa.string()),
            "step": pa.array([step] * n, pa.string()),
            "predicted": pa.array(np.where(right, y, (y + 1) % 10), pa.int16()),
            "p_label": pa.array(p, pa.float32()),
            "loss": pa.array(-np.log(p), pa.float32()),
        }
    )

"""What the stage retrain leaves in a record, with invented numbers; for `make_record`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from gifcore import data as datasets


def retrained_entry(
    methods: list[str],
    seeds: tuple[int, ...],
    astray: int | None,
    metrics: Callable[[float], dict[str, Any]],  # of the accuracy on the other classes
) -> dict[str, Any]:
    """As the stage retrain writes it; the model of the seed `astray` did not learn."""
    models, at = [], {seed: i for i, seed in enumerate(seeds)}
    for seed in seeds:
        retain = 0.1 if seed == astray else 0.955 + 0.004 * at[seed]
        found = metrics(retain)
        models.append(
            {
                "seed": seed,
                "key": f"{seed:064x}",
                "seconds": 2.5,
                "gradient_norm": 0.03,
                "converged": None,
                "steps": 900,
                "cached": False,
                "validation": found,
                "test": found,
            }
        )

    def figure(value: float, count: int = len(seeds)) -> dict[str, Any]:
        values = [value + 0.004 * i for i in range(count)]
        if astray is not None and count == len(seeds):
            values[at[astray]] = 0.1
        spread = float(np.std(values, ddof=1)) if count > 1 else None
        return {"mean": float(np.mean(values)), "std": spread, "values": values}

    def figures(same: float, count: int = len(seeds)) -> dict[str, Any]:
        return {
            "same_predictions": figure(same, count),
            "same_predictions_own": figure(same - 0.3, count),
            "same_predictions_rest": figure(same + 0.01, count),
            "total_variation_own": figure(1.05 - same, count),
            "total_variation": figure(1.02 - same, count),
            "loss_difference_own": figure(-0.4, count),
            "loss_difference_rest": figure(0.02, count),
            "distance": figure(0.8, count),
        }

    pairs = len(seeds) * (len(seeds) - 1) // 2
    reached = {"gif": 0.95, "if": 0.9, "gradient": 0.91}
    return {
        "recipe": {"kind": "sgd", "start": "cold", "epochs": 30},
        "seconds": 2.5 * len(seeds),
        "models": models,
        "agreement": {
            m: {"natural": figures(0.87), "searched": figures(reached.get(m, 0.89))}
            for m in methods
        },
        "between": figures(0.965, pairs) if pairs else None,
        "before": figures(0.88),
    }


def retrained_tables(
    data: datasets.Data, label: int, seeds: tuple[int, ...], rng: np.random.Generator
) -> list[pa.Table]:
    """Predictions of retrained models: images of the removed class are taken for 1, 3 or 9."""
    tables = []
    for split in ("validation", "test"):
        y = data.split(split).y
        for seed in seeds:
            wrong = rng.choice([1, 3, 9], len(y), p=[0.6, 0.3, 0.1])
            p = rng.uniform(0.5, 1, len(y))
            tables.append(_predictions(split, y, "retrained", f"seed-{seed}", (wrong, y, label), p))
    return tables


def _predictions(
    split: str,
    y: np.ndarray,
    method: str,
    step: str,
    predicted: tuple[np.ndarray, np.ndarray, int],
    p: np.ndarray,
) -> pa.Table:
    wrong, right, label = predicted
    return pa.table(
        {
            "split": [split] * len(y),
            "index": pa.array(np.arange(len(y)), pa.int32()),
            "label": pa.array(y, pa.int16()),
            "method": [method] * len(y),
            "step": [step] * len(y),
            "predicted": pa.array(np.where(y == label, wrong, right), pa.int16()),
            "p_label": pa.array(p, pa.float32()),
            "loss": pa.array(-np.log(p), pa.float32()),
        }
    )

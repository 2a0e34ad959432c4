"""The training samples' influence on themselves in a study, by every method that ranks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from gifcore.curved import Curved
from gifcore.estimate import SELF_RANK
from gifcore.methods import METHODS
from gifcore.self_influence import LISTED, self_influence
from gifcore.sketch import largest_rank
from gifcore.solving import Solving
from gifcore.stages import Kept, Loaded
from gifcore.study import METHOD_LABELS, Study
from gifcore.tables import MethodResult

MEMORY_MB = 1024  # for the vectors of a sketch


def on_themselves(
    study: Study,
    loaded: Loaded,
    solving: Solving,
    results: Mapping[str, MethodResult],
    kept: Kept,
) -> None:
    """Put every method's self-influence into its results: exact where that is no solve a sample.

    Elsewhere in a sketch of up to SELF_RANK numbers a sample, checked on a few samples; `info` of
    the method says which, and how far off the checked ones were.
    """
    ranked = [method for method in results if METHODS[method].adjoint]
    curved: list[Curved] = []

    def compute(method: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        if not curved:
            curved.append(solving.full_curvature(ranked))
        problem, started = loaded.problem, time.perf_counter()
        few = problem.n <= LISTED
        found = self_influence(
            problem,
            method=method,
            selected=solving.selected,
            curvature=curved[0],
            solver=solving.solver,
            seed=study.seed,
            rank=None if few else min(SELF_RANK, largest_rank(problem, MEMORY_MB)),
            checkpoints=loaded.checkpoints,
            progress=solving.rank_meter.part(1, f"{METHOD_LABELS[method]} on themselves"),
        )
        info = found.info | {"seconds": round(time.perf_counter() - started, 3)}
        return info, {
            "value": found.values.numpy(),
            "train_index": found.train_indices.numpy(),
        }

    for method in ranked:
        info, arrays = kept.part(f"self-{method}", partial(compute, method))
        result = results[method]
        result.info["self_influence"] = info
        result.self_influence, result.train_index = arrays["value"], arrays["train_index"]
        solving.rank_meter.add(1)

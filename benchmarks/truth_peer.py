"""kronfluence's EK-FAC on the models of `benchmarks.truth` (`pip install '.[bench]'`)."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.kronfluence_scores import pairwise_stage
from benchmarks.truth_bases import Base, Runner
from benchmarks.truth_methods import Scored
from gifcore.queries import Queries

DAMPINGS: dict[str, float | None] = {
    "damping 1e-8, its default": 1e-8,
    "damping 0.1 mean eigenvalue, its heuristic": None,
    "damping 1e-3": 1e-3,
}


def scores(base: Base, queries: Sequence[int], runner: Runner) -> dict[str, Scored]:
    """Return its scores at each damping, factors fitted on all samples; {} without it."""
    asked = Queries(base.test, [[q] for q in queries])
    found = {}
    for name, damping in DAMPINGS.items():
        started = time.perf_counter()
        try:
            stage = pairwise_stage(base.problem, asked, fitted=base.problem.n, damping=damping)
        except ImportError:
            runner.console.print("kronfluence is left out: pip install '.[bench]'")
            return {}
        values = stage().double().numpy()
        seconds = time.perf_counter() - started
        found[f"kronfluence EK-FAC, {name}"] = Scored(values, seconds, "")
    return found

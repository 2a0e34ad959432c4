"""Brittleness by method: how many of the highest ranked samples must go to flip a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.truth_bases import Base, Runner
from benchmarks.truth_methods import Row, scores
from gifcore.evaluate.brittleness import Brittleness, brittleness
from gifcore.queries import predictions
from gifcore.retraining import Minimise

QUERIES = 16
MOST = 512
CHECKS = 3  # k tried beside those of the search
ASKED = 100  # test samples among which they are drawn


def fill(report: Any, base: Base, runner: Runner, rows: Sequence[Row]) -> None:
    """Add a row for each ranking, and one for a random order of each query."""
    recipe = base.recipe
    assert isinstance(recipe, Minimise)
    recipe = Minimise("warm", 1e-6, recipe.evaluations, recipe.scaling)
    labels = base.test.tensors[1][:ASKED]
    right = (predictions(base.problem, base.test)[:ASKED] == labels).nonzero().flatten()
    generator = torch.Generator().manual_seed(0)
    queries = right[torch.randperm(len(right), generator=generator)[:QUERIES]].tolist()
    noise = np.random.default_rng(0).normal(size=(ASKED, base.problem.n))
    tables = {name: one.values for name, one in scores(base, range(ASKED), rows, runner)}
    tables["random"] = noise
    for name, values in tables.items():
        rankings = [np.argsort(-values[q], kind="stable").tolist() for q in queries]
        found = brittleness(
            base.problem, base.test, queries, rankings, recipe, most=MOST, checks=CHECKS,
            cache=runner.folder / "models", processes=runner.processes,
        )  # fmt: skip
        _add(report, name, found)
        runner.console.print(f"{name}: {report.rows[-1][1:4]}")
    report.notes.append(
        f"{QUERIES} rightly predicted test samples (seed 0); up to {MOST} of {base.problem.n:,} "
        "training samples removed, highest score first; k doubles, then is halved down to a k "
        "whose k - 1 leaves the prediction. Every model was retrained (to a gradient norm of "
        "1e-6). A dash: no flip among those tried."
    )


def _add(report: Any, name: str, found: Sequence[Brittleness]) -> None:
    ks = [one.k for one in found]
    flipped = sum(k is not None for k in ks)
    median = float(np.median([np.inf if k is None else k for k in ks]))
    models = [tried for one in found for tried in one.tried]
    worst = max(model.gradient_norm for model in models)
    come_and_go = sum(not one.monotone for one in found)
    report.add(
        name,
        f"{flipped} of {len(ks)}",
        f"{median:g}" if np.isfinite(median) else f"over {MOST}",
        " ".join("-" if k is None else str(k) for k in ks),
        f"{len(models)}, gradient norm {worst:.0e} at most; flips came and went for {come_and_go}",
    )

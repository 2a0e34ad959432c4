"""The stage preview: a sketch for the ranking methods of a study, its recall measured."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from gifcore.errors import GifError
from gifcore.estimate import preview_parts
from gifcore.preview import Sketch
from gifcore.problem import Problem, Progress
from gifcore.run_state import RunState
from gifcore.sketch import Known, largest_rank, measured, unmeasured
from gifcore.solving import Solving
from gifcore.stages import Kept, Loaded
from gifcore.study import Study
from gifcore.tables import MethodResult
from gifcore.version import ENGINE_VERSION

MEMORY_MB = 4096  # for the vectors of size p of a sketch, and at most half of this machine's
NO_PREVIEW = {
    "second-order": "it gives an update and no ranking",
    "tracin": "its gradients are of many checkpoints",
}
STEPS = {  # first words of what the engine reports -> the part of the estimate it belongs to
    "products": "products",
    "training": "training",
    "test": "test",
    "preview": "solves",
    "exact": "recall",
}

Part = tuple[dict[str, Any], dict[str, np.ndarray]]


def preview(
    study: Study,
    loaded: Loaded,
    weights_hash: str,
    solving: Solving,
    results: Mapping[str, MethodResult],
    kept: Kept,
    state: RunState,
) -> tuple[dict[str, Any], Sketch | None]:
    """Return what record.json says of the preview, and the sketch; None if none can be made.

    Exact rankings that the study has measure the recall; their test images count as held out,
    because nothing of the test set goes into a sketch.
    """
    methods = [method for method in results if method not in NO_PREVIEW]
    entry: dict[str, Any] = {
        "asked": study.preview.rank,
        "left_out": {m: NO_PREVIEW[m] for m in results if m in NO_PREVIEW},
        "notes": [],
    }
    asked, memory = study.preview.rank, _memory_mb()
    rank = min(asked, largest_rank(loaded.problem, memory))
    if not methods or rank < 1:
        return entry | {"notes": why_fewer(loaded.problem, asked, rank, memory)}, None
    report = _report(study, loaded, state)
    try:
        shared: dict[str, Any] = {
            "curved": solving.full_curvature(methods),
            "selected": solving.selected,
            "solver": solving.solver,
            "seed": study.seed,
            "progress": report,
        }
        problem, test = loaded.problem, loaded.splits["test"]

        def make() -> Part:
            sketch = unmeasured(
                problem, test, methods=methods, rank=rank, memory_mb=memory, model=weights_hash,
                data=loaded.data.hash, **shared,
            )  # fmt: skip
            return dict(sketch.info), sketch.arrays

        def measure() -> Part:
            found = measured(
                sketch, problem, test, held_out=min(study.preview.held_out, len(test)),
                known=_known(results, methods, problem.n), batch_size=study.ranking.batch_size,
                **shared,
            )  # fmt: skip
            return dict(found.info), {}

        sketch = Sketch.of(*kept.part("preview-sketch", make))
        info, _ = kept.part("preview-recall", measure)
    except GifError as error:  # what the study computed so far stays
        return entry | {"notes": [f"No preview: {error}"]}, None
    sketch = Sketch.of({**info, "engine": ENGINE_VERSION}, sketch.arrays)
    entry["notes"] = why_fewer(loaded.problem, asked, len(sketch.mean), memory)
    return entry | described(sketch), sketch


def described(sketch: Sketch) -> dict[str, Any]:
    """Return what record.json says of a sketch."""
    info = sketch.info
    return {
        "rank": info["rank"],
        "numbers": info["numbers"],
        "bytes_per_sample": sketch.bytes_per_sample,
        "bytes": sketch.nbytes,
        "seconds": dict(info["seconds"]),
        "held_out": list(info["held_out"]),
        "recall": {method: dict(sketch.recall(method)) for method in sketch.methods},
    }


def _known(results: Mapping[str, MethodResult], methods: list[str], n: int) -> Known:
    """Return the exact scores of all training samples that the study has, by method and query."""
    return {
        method: {
            query: scores
            for query, scores in results[method].scores.items()
            if query >= 0 and len(scores) == n
        }
        for method in methods
    }


def _memory_mb() -> float:
    try:
        own = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    except (AttributeError, ValueError, OSError):  # a system that does not tell
        return MEMORY_MB
    return min(MEMORY_MB, own / 2)


def why_fewer(problem: Problem, asked: int, made: int, memory: float) -> list[str]:
    """Return why a sketch has fewer numbers a sample than were asked for, [] if it has not."""
    p, n, fits = problem.space.size, problem.n, largest_rank(problem, memory)
    if made >= asked:
        return []
    if made < min(asked, fits):
        why = "gradients and their products with the curvature span no more directions"
    elif fits < min(p, n):
        why = f"{memory:,.0f} MB hold no more vectors of {p:,} parameters"
    else:
        why = f"there are {p:,} parameters" if p <= n else f"there are {n:,} training samples"
    return [f"rank {made} instead of {asked}: {why}"]


def _report(study: Study, loaded: Loaded, state: RunState) -> Progress:
    """Return a callback that turns the progress of the parts into that of the stage."""
    parts = preview_parts(study, loaded.sizes, loaded.costs)
    total = max(sum(parts.values()), 1e-9)
    names = list(parts)

    def report(done: int, of: int, note: str) -> None:
        part = STEPS.get(note.partition(" ")[0])
        if part is None:
            state.check()
            return
        before = sum(parts[name] for name in names[: names.index(part)])
        state.tick("preview", before + parts[part] * done / max(of, 1), total, note)

    return report

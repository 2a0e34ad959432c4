"""Can a study run here, how good is its model, and what will it cost? Before anything is solved."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from gifcore import data as datasets
from gifcore.errors import GifError
from gifcore.estimate import estimate
from gifcore.runner import STAGES, Prepared, prepare
from gifcore.study import Study, read


def of_file(path: Path) -> dict[str, Any]:
    """Return what `of` says of a study file.

    Raises:
        GifError: one sentence, if it cannot run.
    """
    return of(read(path))


def of(study: Study) -> dict[str, Any]:
    """Return data, model, accuracies, an estimate of seconds and megabytes, and unit costs [s].

    Raises:
        GifError: one sentence, if it cannot run.
    """
    prepared = prepare(study)  # refuses much before torch is imported
    from gifcore import fastif, stages, truth
    from gifcore.run_state import RunState

    data = datasets.load(study.data.source)
    with tempfile.TemporaryDirectory() as folder:
        state = RunState(Path(folder), study.title, prepared.hash, STAGES, None)
        loaded = stages.load(study, data, prepared.weights, prepared.weight_decay, state)
    truth.measure_costs(study, prepared.weights, loaded)
    fastif.refuse(study, loaded, stages.choose_queries(study, loaded))
    p = loaded.problem.space.size
    return {
        "ok": True,
        "hash": prepared.hash,
        "data": {
            "name": data.name,
            "classes": list(data.classes),
            "shape": list(data.shape),
            "sizes": loaded.sizes,
            "note": data.note,
            "hash": data.hash,
        },
        "model": {
            "name": study.model.name,
            "parameters": p,
            "weights": prepared.weights.name,
            "hash": prepared.weights_hash,
            "training": prepared.training,
            "weight_decay": prepared.weight_decay,
        },
        "accuracy": {
            split: float((found.predicted == found.labels).mean())
            for split, found in loaded.before.items()
        },
        "estimate": estimate(study, loaded.sizes, loaded.costs)
        | {"memory_mb": _memory_mb(prepared, loaded.sizes, p, loaded.problem)},
        "costs": loaded.costs,
    }


def _memory_mb(prepared: Prepared, sizes: dict[str, int], p: int, problem: Any) -> float:
    """Return this process's peak plus the kept gradient graphs and the solver's vectors."""
    from gifcore.curvature import Hessian
    from gifcore.manifest import peak_memory_mb

    c = prepared.study.curvature
    samples = sizes["train"] if c.samples == "all" else min(int(c.samples), sizes["train"])
    few = problem.positions[: min(c.batch_size, samples)]
    hessian = Hessian(problem, few, c.batch_size, 1e9)
    hessian @ problem.theta
    kept = min(hessian.kept_megabytes * samples / len(few), float(c.memory_mb))
    vectors = 12 * 4 * p / 2**20
    return round(peak_memory_mb() + kept + vectors, 0)


def machine() -> dict[str, Any]:
    """Return what this machine offers: versions, threads, memory."""
    import os
    import platform

    import torch

    from gifcore.version import ENGINE_VERSION

    if not hasattr(os, "sysconf"):
        raise GifError("This system does not tell its memory; use Linux or macOS.")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "ok": True,
        "engine": ENGINE_VERSION,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "memory_gb": round(memory, 1),
        "cuda": torch.cuda.is_available(),
    }

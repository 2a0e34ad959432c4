"""How long a study will take, from unit costs measured on this or a like machine; no torch."""

from __future__ import annotations

import math
import os
from typing import Any

from gifcore.change_section import singles
from gifcore.fastif_section import LISSA_SOLVES
from gifcore.study import RANKS, Study

CHECK_PRODUCTS = 2  # spent on the final residuals of every solve
SMALLEST = 8  # samples that a product of fewer takes the time of
FIXED_SECONDS = 6.0  # start of the process and import of torch


def products(method: str, study: Study) -> int:
    """Return the products of one solve by LSMR or MINRES at its limit, certificate included.

    Other solvers take about as many an iteration.
    """
    iterations = study.solver.iterations
    match method:
        case "if" | "projected" | "freeze":
            return iterations + CHECK_PRODUCTS
        case "gif":
            return 2 * iterations + 1 + CHECK_PRODUCTS
        case "second-order":  # two solves and a product of the removed samples between them
            return 2 * (iterations + CHECK_PRODUCTS) + 1
        case "hyperinf":  # as many doublings as fit the iterations, and six power iterations
            terms = 2 ** ((iterations + 1).bit_length() - 1) - 1
            return 2 * terms + 2 * 6 + 1 + CHECK_PRODUCTS
        case _:  # closed forms
            return 0


def probes(study: Study) -> int:
    """Return the products spent on a Jacobi preconditioner, shared by all solves of one matrix."""
    jacobi = study.solver.kind == "lsmr" and study.solver.preconditioner == "jacobi"
    if "gif" not in study.methods or not jacobi:
        return 0
    if study.solver.probes is not None:
        return study.solver.probes
    default = min(8, 2 * study.solver.iterations // 8)
    return default if default >= 4 else 0


COLUMN = 0.15  # forward passes: a sample's gradient times a column of a sketch, if not measured
SELF_RANK = 256  # numbers a sample of the sketch that self-influence is taken in
SMALL_SOLVE = 3e-3  # seconds of one query by one method in a small space


def previewed(study: Study) -> list[str]:
    """Return the study's methods that a sketch can hold."""
    return [m for m in study.methods if RANKS[m] and m != "tracin"]


def preview_parts(study: Study, sizes: dict[str, int], costs: dict[str, float]) -> dict[str, float]:
    """Return the seconds of a sketch: products with H, coordinates of both splits, solves, recall.

    The recall takes full solves where fewer test images are ranked than it is measured on.
    """
    methods, rank = previewed(study), min(study.preview.rank, sizes["train"])
    names = ("products", "training", "test", "solves", "recall")
    if not (rank and methods):
        return dict.fromkeys(names, 0.0)
    hvp, forward = _samples(study, sizes) * costs["hvp_per_sample"], costs["forward_per_sample"]
    sample = rank * costs.get("column_per_sample", COLUMN * forward) + 3 * forward
    solving = [m for m in methods if products(m, study)]
    more = max(0, min(study.preview.held_out, sizes["test"]) - query_count(study))
    full = more * sum(products(m, study) for m in methods) * hvp
    swept = sum(sweeps(more) for _ in methods) + sweeps(query_count(study) + more)
    seconds = (
        rank * hvp * bool(solving),
        sizes["train"] * sample,
        sizes["test"] * sample,
        sizes["test"] * len(solving) * SMALL_SOLVE,
        full + swept * sizes["train"] * costs["jvp_per_sample"] / 3,
    )
    return dict(zip(names, seconds, strict=True))


def _samples(study: Study, sizes: dict[str, int]) -> int:
    """Return how many samples the curvature is averaged over."""
    wanted = study.curvature.samples
    return sizes["train"] if wanted == "all" else min(int(wanted), sizes["train"])


STACKED = 64  # solves whose scores one sweep over the training set gives, at most
FORMED = 16  # passes of a sweep that forms gradients, and for so many solves another
A_PASS = 6


def sweeps(solves: int) -> float:
    """Return the forward passes over the training set that the scores of these solves cost."""
    whole, rest = divmod(solves, STACKED)
    return whole * _passes(STACKED) + _passes(rest)


def _passes(solves: int) -> float:
    """Return those of one sweep: by forward mode, layer by layer, or with gradients formed."""
    if solves < 2:
        return 3.0 * solves
    return min(2.0 + solves, FORMED + solves / A_PASS)


def query_count(study: Study) -> int:
    """Return how many test images, and groups of them, are ranked."""
    return (len(study.ranking.queries) or study.ranking.count) + len(study.ranking.groups)


def estimate(
    study: Study,
    sizes: dict[str, int],  # samples by split: train, validation, test
    costs: dict[str, float],  # seconds: hvp_per_sample, jvp_per_sample, forward_per_sample, …
) -> dict[str, Any]:
    """Return {"seconds", "stages": {stage: seconds}}: iteration limits reached, nothing reused."""
    hvp = _samples(study, sizes) * costs["hvp_per_sample"]
    m, updates, draws = query_count(study), int(study.edit.enabled), study.curvature.draws
    ranked = [method for method in study.methods if RANKS[method]]
    solves = sum(
        products(method, study) * (m * RANKS[method] + updates * draws) for method in study.methods
    )
    solves += probes(study) * (updates * draws + (1 if m else 0))
    forward = costs["forward_per_sample"]
    gradient = 3 * forward
    both = sizes["validation"] + sizes["test"]
    judged = _judged(study, sizes)
    searched = (sizes["validation"] + judged["validation"]) * study.edit.evaluations * forward
    stages = {
        "load": FIXED_SECONDS + both * forward,
        "select": gradient * sizes["train"] / 10,
        "solve": solves * hvp + updates * gradient * sizes["train"],
        "rank": sweeps(2 * m * len(ranked)) * sizes["train"] * costs["jvp_per_sample"] / 3
        + _on_themselves(study, sizes, hvp, forward),
        "mislabel": _mislabel(study, sizes, costs),
        "fastif": _fastif(study, sizes, costs, hvp),
        "preview": sum(preview_parts(study, sizes, costs).values()),
        "edit": updates * searched * len(study.methods),
        "evaluate": updates * 2 * (both + judged["both"]) * forward * len(study.methods),
        "opinions": _opinions(study, sizes, forward),
        "retrain": _retrained(study, sizes, costs),
    }
    return {"seconds": sum(stages.values()), "stages": stages}


TRAINED_PASSES = 30  # over the training set, where no card says how many


def _mislabel(study: Study, sizes: dict[str, int], costs: dict[str, float]) -> float:
    """Return the seconds of the search for wrong labels: predictions, and models of the folds."""
    asked, forward, n = study.mislabel, costs["forward_per_sample"], sizes["train"]
    if not asked.enabled:
        return 0.0
    seconds = costs.get("training_per_sample", 3 * forward) * costs.get("training_passes", 0.0)
    return 2 * forward * n + max(asked.folds - 1, 0) * n * seconds


def _opinions(study: Study, sizes: dict[str, int], forward: float) -> float:
    """Return the seconds of a pass over the training set before the edit and after each step."""
    passes = 1 + len(study.methods) if study.edit.enabled else int(query_count(study) != 1)
    return passes * sizes["train"] * forward


def _retrained(study: Study, sizes: dict[str, int], costs: dict[str, float]) -> float:
    """Return the seconds of all retrained models, as if none were kept, and of looking at them."""
    asked, forward = study.retrain, costs["forward_per_sample"]
    if not asked.enabled:
        return 0.0
    passes = asked.epochs or costs.get("training_passes", TRAINED_PASSES)
    one = passes * sizes["train"] * costs.get("training_per_sample", 3 * forward)
    at_once = min(asked.processes, asked.seeds, os.cpu_count() or 1)
    images = sizes["validation"] + 2 * sizes["test"]
    compared = (asked.seeds + 1 + 2 * len(study.methods) * study.edit.enabled) * images * forward
    return math.ceil(asked.seeds / at_once) * one + FIXED_SECONDS * (at_once > 1) + compared


def _on_themselves(study: Study, sizes: dict[str, int], hvp: float, forward: float) -> float:
    """Return the seconds of all self-influences: by sketch where the method solves."""
    if not study.on_themselves:
        return 0.0
    rank, n = min(SELF_RANK, sizes["train"]), sizes["train"]
    seconds = 0.0
    for method in (name for name in study.methods if RANKS[name]):
        seconds += 6 * forward * n
        if products(method, study) and study.solver.kind != "dense":
            seconds += rank * (hvp + COLUMN * forward * n) + n * SMALL_SOLVE
    return seconds


def _fastif(study: Study, sizes: dict[str, int], costs: dict[str, float], hvp: float) -> float:
    """Return the seconds of the stage fastif: index, exact and LiSSA solves, a sweep a way."""
    asked = study.fastif
    if not asked.enabled:
        return 0.0
    solver = study.solver.model_copy(
        update={"iterations": asked.iterations or study.solver.iterations}
    )
    exact = study.model_copy(update={"solver": solver})
    m, total = query_count(study), 4 * sizes["train"] * costs["forward_per_sample"]
    sweep = sweeps(m) * sizes["train"] * costs["jvp_per_sample"] / 3
    for method in (name for name in study.methods if RANKS[name] and name != "tracin"):
        total += m * products(method, exact) * hvp + 2 * sweep
        total += sum(m * k for k in asked.k) * costs["jvp_per_sample"]
        for one in asked.solves if method in LISSA_SOLVES else ():
            steps = one.iterations * one.chains
            total += m * steps * max(one.batch_size, SMALLEST) * costs["hvp_per_sample"] + sweep
    return total + sum(asked.previews) * hvp


def _judged(study: Study, sizes: dict[str, int]) -> dict[str, int]:
    """Return the images evaluated beside the splits: on validation, and on both splits at once."""
    change = study.change
    match change.kind:
        case "remove-class":
            return {"validation": 0, "both": 0}
        case "backdoor":  # each split with the trigger on it
            return {
                "validation": sizes["validation"],
                "both": sizes["validation"] + sizes["test"],
            }
        case _:
            touched = sum(_touched(one, sizes) for one in singles(change))
            return {"validation": touched, "both": touched}


def _touched(change: Any, sizes: dict[str, int]) -> int:
    """Return how many training samples a change touches, a tenth of all if nothing says it."""
    listed = getattr(change, "indices", None)
    if listed is not None:
        return len(listed)
    return getattr(change, "count", None) or sizes["train"] // 10

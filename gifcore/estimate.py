"""How long a study will take, from unit costs measured on this or a like machine; no torch."""

from __future__ import annotations

from typing import Any

from gifcore.change_section import singles
from gifcore.study import RANKS, Study

CHECK_PRODUCTS = 2  # spent on the final residuals of every solve
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


STACKED = 16  # solves whose scores one sweep over the training set gives


def sweeps(solves: int) -> float:
    """Return the forward passes over the training set that the scores of these solves cost."""
    whole, rest = divmod(solves, STACKED)
    return whole * (2 + STACKED) + (3 if rest == 1 else 2 + rest if rest else 0)


def query_count(study: Study) -> int:
    """Return how many test images are ranked."""
    return len(study.ranking.queries) or study.ranking.count


def estimate(
    study: Study,
    sizes: dict[str, int],  # samples by split: train, validation, test
    costs: dict[str, float],  # seconds: hvp_per_sample, jvp_per_sample, forward_per_sample, …
) -> dict[str, Any]:
    """Return {"seconds", "stages": {stage: seconds}}: iteration limits reached, nothing reused."""
    wanted = study.curvature.samples
    samples = sizes["train"] if wanted == "all" else min(int(wanted), sizes["train"])
    hvp = samples * costs["hvp_per_sample"]
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
        "rank": sweeps(2 * m * len(ranked)) * sizes["train"] * costs["jvp_per_sample"] / 3,
        "edit": updates * searched * len(study.methods),
        "evaluate": updates * 2 * (both + judged["both"]) * forward * len(study.methods),
    }
    return {"seconds": sum(stages.values()), "stages": stages}


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

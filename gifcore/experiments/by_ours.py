"""An edit by our protocol: training samples alone, the step by validation, the test split once."""

from __future__ import annotations

import math
import time

from gifcore.edit import StepSearch, edited_parameters, search_step
from gifcore.errors import GifError
from gifcore.evaluate import predict
from gifcore.experiments.kind import Numbers
from gifcore.experiments.removal import PASS, PRODUCT, Bench, Points
from gifcore.influence import influence
from gifcore.methods import METHODS
from gifcore.selection import select
from gifcore.solvers import LSMR

NOTE = (
    "Each seed has its own base model, and one retrained without the class from the same start. "
    "Change and curvature samples are training samples; the step is the one of best F1 on the "
    "validation split; all figures are of the test split, looked at once. `self`: accuracy on "
    "images of the removed class, `retain`: on all others. `total variation`: between the classes "
    "that the edited and the retrained model of the same seed predict for images of the removed "
    "class; `agreement`: share of all test images on which both predict the same. In the row "
    "`retrained` both are against the retrained model of the seed before: how well truth agrees "
    "with itself. The *least* step is the smallest that was tried whose validation F1 is within "
    "one standard error of the best: F1 is flat where predictions still move."
)


def edited(
    bench: Bench,
    seed: int,
    method: str,
    selector: str,
    ratio: float,
    points: Points,
) -> Numbers:
    """Return what an edit of a seed's base model does, at the searched step and at scale 1."""
    base, keys, say = bench.base(seed), bench.spec.ours, bench.place.listen
    g = None if METHODS[method].checkpoints else base.gradient
    curved = base.curved_full if method == "second-order" else base.curved
    truth = bench.truth(seed)
    followed = points()
    started = time.perf_counter()
    say("selecting")
    selected = select(base.problem, bench.change, selector=selector, ratio=ratio, seed=seed)
    found = influence(
        base.problem,
        bench.change,
        method=method,
        selected=selected,
        curvature=curved,
        solver=LSMR(keys.iterations, preconditioner=keys.preconditioner),
        seed=seed,
        gradient=g,
        checkpoints=followed,
        progress=bench.solving,
    )
    seconds = time.perf_counter() - started

    def measure(scale: float) -> dict[str, float]:
        say(f"step x {scale:g}")
        try:
            theta = edited_parameters(base.problem, found, scale)
        except GifError:
            return {"self": 1.0, "retain": 0.0, "score": 0.0}
        validated = bench.judged(predict(base.problem, bench.splits["validation"], theta=theta))
        return {name: validated[name] for name in ("self", "retain", "score")}

    searched = search_step(
        measure,
        min_scale=keys.min_scale,
        max_scale=keys.max_scale,
        evaluations=keys.evaluations,
    )
    images = bench.splits["validation"].tensors[1] == bench.spec.label
    least = least_step(searched, int(images.sum()), int((~images).sum()))

    def tested(scale: float) -> dict[str, float | None]:
        theta = edited_parameters(base.problem, found, scale)
        return bench.measured(bench.tested(base.problem, theta), truth)

    careful = tested(least)
    return tested(searched.scale) | {
        "f1_natural": tested(1.0)["f1"],
        **{f"{name}_least": careful[name] for name in ("f1", "total_variation", "agreement")},
        "scale_least": least,
        "f1_validation": searched.values[searched.best]["score"],
        "scale": searched.scale,
        "products": found.solution.hvps,
        "certificate": found.solution.residual,
        "normal_residual": found.solution.normal_residual,
        "seconds": seconds,
    }


def least_step(searched: StepSearch, own: int, others: int) -> float:
    """Return the smallest step that was tried whose F1 is within one standard error of the best.

    Args:
        own: validation images of the removed class.
        others: all other validation images.

    F1 = 2 a b / (a + b) of a = 1 - self and b = retain, each a share of independent images:
    var F1 = (2 b^2 / (a + b)^2)^2 a (1 - a) / own + (2 a^2 / (a + b)^2)^2 b (1 - b) / others.
    """
    best = searched.values[searched.best]
    a, b = 1 - best["self"], best["retain"]
    if a + b == 0:
        return searched.scale
    slopes = 2 * b**2 / (a + b) ** 2, 2 * a**2 / (a + b) ** 2
    variance = slopes[0] ** 2 * a * (1 - a) / own + slopes[1] ** 2 * b * (1 - b) / others
    enough = best["score"] - math.sqrt(variance)
    good = zip(searched.scales, searched.values, strict=True)
    return min(scale for scale, value in good if value["score"] >= enough)


def expected(bench: Bench, method: str) -> float:
    """Return how long an edit takes, without the models."""
    keys, forward = bench.spec.ours, bench.forward
    products = 2 * keys.iterations * (2 if method == "second-order" else 1)
    if not METHODS[method].solves:
        products = 0
    images = keys.evaluations * len(bench.splits["validation"]) + 2 * len(bench.splits["test"])
    own = len(bench.splits["train"]) / bench.data.n_classes  # the selector looks at them
    return forward * (products * keys.samples * PRODUCT + images + PASS * own)


def shared(bench: Bench) -> float:
    """Return how long a seed's gradient over all training samples takes."""
    return PASS * bench.forward * len(bench.splits["train"])

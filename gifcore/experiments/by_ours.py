"""An edit by our protocol: training samples alone, the step by validation, the test split once."""

from __future__ import annotations

import time

from gifcore.edit import edited_parameters, search_step
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
    "with itself."
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
            return {"score": 0.0}
        validated = predict(base.problem, bench.splits["validation"], theta=theta)
        return {"score": bench.judged(validated)["score"]}

    searched = search_step(
        measure,
        min_scale=keys.min_scale,
        max_scale=keys.max_scale,
        evaluations=keys.evaluations,
    )
    best = bench.tested(base.problem, edited_parameters(base.problem, found, searched.scale))
    natural = bench.tested(base.problem, edited_parameters(base.problem, found))
    return bench.measured(best, truth) | {
        "f1_natural": bench.judged(natural)["score"],
        "f1_validation": searched.values[searched.best]["score"],
        "scale": searched.scale,
        "products": found.solution.hvps,
        "certificate": found.solution.residual,
        "normal_residual": found.solution.normal_residual,
        "seconds": seconds,
    }


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

"""What a study asks for that cannot run here, in one sentence, before it is started."""

from __future__ import annotations

from pathlib import Path

from dashboard import cache
from dashboard.charts.style import label, listed
from gifcore.models.bundle import checkpoints_beside
from gifcore.study import Study

EXCLUSIVE_RATIO = 0.5  # the most an exclusive selector can take
DENSE_UNKNOWNS, DENSE_MB = 2000, 2048  # the limits of gifcore.solvers.Dense
WHOLE = ("if", "projected", "second-order")  # solve with H, (p, p)
SYMMETRIC = (*WHOLE, "freeze")


def refusal(study: Study, parameters: int | None = None) -> str:
    """Return why a study cannot run, "" if nothing is known to be in its way.

    Args:
        parameters: of the model, if they are known already.
    """
    said = ratio_problem(study.selection.selector, study.selection.ratio)
    if not said and "tracin" in study.methods:
        said = checkpoints_problem(cache.weights_file(study))
    if not said and study.solver.kind == "dense":
        said = _dense_problem(study, parameters)
    return said


def ratio_problem(selector: str, ratio: float) -> str:
    """Return why a selector cannot take such a share, "" if it can."""
    if not selector.startswith("exclusive") or ratio <= EXCLUSIVE_RATIO:
        return ""
    return (
        f"An exclusive selector takes units outside the top, so it works up to a ratio of "
        f"{100 * EXCLUSIVE_RATIO:g} %, not at {100 * ratio:g} %: choose a smaller ratio or another "
        "selector."
    )


def checkpoints_problem(weights: Path | None) -> str:
    """Return why TracIn cannot run on these weights, "" if it can."""
    if weights is None:
        return "TracIn needs checkpoints of the training: choose the weights first."
    needed = checkpoints_beside(weights)
    if needed.is_file():
        return ""
    return (
        f"TracIn cannot run here: it needs checkpoints of the training, and there is no "
        f"`{needed.name}` beside the weights: train with `python -m gifcore train --checkpoints N` "
        "and pick the new weights from its folder, or leave TracIn out."
    )


def _dense_problem(study: Study, parameters: int | None) -> str:
    symmetric = [label(m) for m in study.methods if m in SYMMETRIC]
    if study.solver.ridge > 0 and symmetric:
        return (
            f"The dense solver takes a ridge for GIF alone: set it to 0, or leave "
            f"{listed(symmetric)} out."
        )
    for method in study.methods if parameters else ():
        rows, columns = _system(method, study, parameters or 0)
        if columns > DENSE_UNKNOWNS or 8 * rows * columns > DENSE_MB * 2**20:
            return (
                f"The dense solver takes up to {DENSE_UNKNOWNS:,} unknowns and {DENSE_MB:,} MB; "
                f"{label(method)} here is a system of {rows:,} x {columns:,}: leave it out, choose "
                "a smaller ratio, or another solver."
            )
    return ""


def _system(method: str, study: Study, p: int) -> tuple[int, int]:
    """Return the shape that the dense solver meets, about; (0, 0) if it is not asked."""
    k = p if study.selection.selector == "all" else round(study.selection.ratio * p)
    if method in WHOLE:
        return p, p
    return {"gif": (p, k), "freeze": (k, k)}.get(method, (0, 0))

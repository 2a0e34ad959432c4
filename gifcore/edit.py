"""Apply an update: a new state dict; the caller's model is never touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.influence import Update, embedded
from gifcore.problem import Problem


def edited_parameters(problem: Problem, result: Update, scale: float = 1.0) -> Tensor:
    """Return theta + scale * E delta, (p,)."""
    theta = problem.theta + scale * embedded(result, problem.space.size)
    if not bool(torch.isfinite(theta).all()):
        raise GifError(f"The edit at scale {scale:g} overflows; choose a smaller scale.")
    return theta


def edit(problem: Problem, result: Update, scale: float = 1.0) -> dict[str, Tensor]:
    """Return a new state dict with theta + scale * E delta; 1 is the natural step."""
    state = {key: value.detach().clone() for key, value in problem.model.state_dict().items()}
    named = problem.space.unflatten(edited_parameters(problem, result, scale))
    first = {id(tensor): name for name, tensor in problem.model.named_parameters()}
    for key, tensor in problem.model.named_parameters(remove_duplicate=False):
        state[key] = named[first[id(tensor)]].clone()  # tied parameters have several names
    return state


@dataclass(frozen=True)
class StepSearch:
    """Every scale that was tried on validation, with its measurement, and the best of them."""

    scales: tuple[float, ...]
    values: tuple[dict[str, float], ...]
    best: int

    @property
    def scale(self) -> float:
        return self.scales[self.best]


def search_step(
    measure: Callable[[float], dict[str, float]],
    *,
    min_scale: float = 0.1,
    max_scale: float = 1000.0,
    evaluations: int = 21,
) -> StepSearch:
    """Find the scale with the highest validation `score` on a log grid, then between neighbours.

    Args:
        measure: scale -> measurements on the validation split, `score` among them.
        min_scale, max_scale: the ends of the grid.
        evaluations: measurements at most; 8 of 21 between the best point's neighbours.

    The grid stops early once the score has fallen to half of the best three times in a row.
    Ties go to the smaller scale. Cost: one evaluation of the validation split a measurement.
    """
    fine = round(8 * evaluations / 21)
    tried: dict[float, dict[str, float]] = {}
    worse = 0
    for scale in _log_grid(min_scale, max_scale, evaluations - fine):
        tried[scale] = measure(scale)
        worse = worse + 1 if tried[scale]["score"] < 0.5 * _best(tried)[1] else 0
        if worse >= 3 and _best(tried)[1] > 0.5:
            break
    centre = _best(tried)[0]
    order = sorted(tried)
    place = order.index(centre)
    low, high = order[max(place - 1, 0)], order[min(place + 1, len(order) - 1)]
    for scale in _log_grid(low, high, fine + 2)[1:-1]:
        if scale not in tried:
            tried[scale] = measure(scale)
    scales = tuple(sorted(tried))
    return StepSearch(scales, tuple(tried[s] for s in scales), scales.index(_best(tried)[0]))


def _best(tried: dict[float, dict[str, float]]) -> tuple[float, float]:
    scale = min(tried, key=lambda s: (-tried[s]["score"], s))
    return scale, tried[scale]["score"]


def _log_grid(low: float, high: float, count: int) -> Sequence[float]:
    steps = torch.linspace(0, 1, count, dtype=torch.float64)
    return [float(f"{low * (high / low) ** float(t):.4g}") for t in steps]

"""Objectives over all samples with their gradients, and their minimum by L-BFGS."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gifcore.curvature import Hessian
from gifcore.errors import GifError
from gifcore.problem import Problem, Progress, engine_mode, silent
from gifcore.retraining.retrained import Retrained

CHUNK = 1000  # samples of a full-batch gradient at a time
HISTORY = 20  # steps that L-BFGS remembers

Objective = Callable[[Tensor], tuple[float, Tensor]]  # theta -> value, gradient (p,)


def objective_of(problem: Problem) -> Objective:
    """Return L with its gradient, over all samples in chunks; memory is flat in n."""
    data = data_objective(problem)

    def value(theta: Tensor) -> tuple[float, Tensor]:
        found, gradient = data(theta)
        decay = problem.weight_decay
        return found + decay / 2 * float(theta @ theta), gradient + decay * theta

    return value


def data_objective(problem: Problem) -> Objective:
    """Return the weighted mean of the losses with its gradient: L without weight decay."""

    def losses(parameters: dict[str, Tensor], batch: Any, _start: int) -> Tensor:
        return problem.losses(parameters, batch)

    return _weighted(problem, losses)


class Bregman:
    """The weighted mean of D_i with its gradient; outputs of the trained model are kept, n x C."""

    def __init__(self, problem: Problem) -> None:
        self.anchors: list[tuple[Tensor, Tensor, Tensor]] = []  # y0, l(y0), grad l(y0), a chunk
        trained = problem.space.unflatten(problem.theta)
        with engine_mode(problem.model):
            for _, batch in _chunks(problem):
                y0 = problem.outputs(trained, batch).detach().requires_grad_()
                losses = problem.loss(y0, batch)
                (slope,) = torch.autograd.grad(losses.sum(), y0)
                self.anchors.append((y0.detach(), losses.detach(), slope))
        self.problem = problem
        self.value = _weighted(problem, self._divergences)

    def __call__(self, theta: Tensor) -> tuple[float, Tensor]:
        return self.value(theta)

    def _divergences(self, parameters: dict[str, Tensor], batch: Any, start: int) -> Tensor:
        y0, losses, slope = self.anchors[start // CHUNK]
        y = self.problem.outputs(parameters, batch)
        linear = (slope * (y - y0)).flatten(1).sum(dim=1)
        return self.problem.loss(y, batch) - losses - linear


def _weighted(
    problem: Problem, values: Callable[[dict[str, Tensor], Any, int], Tensor]
) -> Objective:
    """Return sum w_i v_i / W and its gradient as a function of theta."""
    w = problem.weights_of(problem.positions).double()  # rounding of a sum misleads line searches

    def value(theta: Tensor) -> tuple[float, Tensor]:
        leaves = problem.leaves(theta)
        total, gradient = 0.0, torch.zeros_like(theta)
        with engine_mode(problem.model):
            for start, batch in _chunks(problem):
                found = values(leaves, batch, start)
                part = (found.double() * w[start : start + CHUNK]).sum() / w.sum()
                total += float(part.detach())
                gradient += problem.flat_gradient(part, leaves)
        return total, gradient

    return value


def _chunks(problem: Problem) -> Iterator[tuple[int, Any]]:
    for number, batch in enumerate(problem.batches(problem.positions, CHUNK)):
        yield number * CHUNK, batch


# --- L-BFGS ---------------------------------------------------------------------------------------


def newton_scaling(problem: Problem, *, progress: Progress = silent) -> Tensor:
    """Return R, (p, p), with R R^T = |H|^-1 at theta: coordinates in which steps are Newton's.

    A retraining near theta then needs a few evaluations instead of hundreds. Made once for all.

    Cost: p products with H and p^3 operations; for some thousand parameters.
    """
    H = Hessian(problem, problem.positions, batch_size=CHUNK)
    columns = []
    for number, unit in enumerate(torch.eye(problem.space.size).to(problem.theta)):
        columns.append(H @ unit)
        progress(number + 1, problem.space.size, "Hessian")
    values, vectors = torch.linalg.eigh(torch.stack(columns).double())
    floor = 1e-6 * float(values.abs().max())
    return (vectors * values.abs().clamp_min(floor).rsqrt()).to(problem.theta)


def minimum(
    objective: Objective,
    theta: Tensor,
    tolerance: float,
    evaluations: int,
    progress: Progress,
    R: Tensor | None = None,
) -> Retrained:
    """Return the minimum by SciPy's L-BFGS-B, over z with theta + R z."""
    from scipy.optimize import minimize

    started, done = time.perf_counter(), 0
    best = (math.inf, theta)

    def value(z: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal done, best
        done += 1
        moved = torch.from_numpy(z).to(theta)
        here = theta + (moved if R is None else R @ moved)
        found, gradient = objective(here)
        norm = float(gradient.norm())
        if not math.isfinite(norm):
            raise GifError("Retraining met a loss that is not finite; raise the weight decay.")
        if norm < best[0]:
            best = (norm, here)
        progress(min(done, evaluations), evaluations, "retraining")
        if best[0] <= tolerance:
            raise StopIteration
        slope = gradient if R is None else R.T @ gradient
        return found, slope.double().cpu().numpy()

    limits = {"maxfun": evaluations, "maxiter": evaluations, "maxcor": HISTORY, "maxls": 40}
    with suppress(StopIteration):
        start = np.zeros(len(theta))
        minimize(value, start, jac=True, method="L-BFGS-B", options=limits | {"ftol": 0, "gtol": 0})
    seconds = time.perf_counter() - started
    return Retrained(best[1], best[0], best[0] <= tolerance, done, seconds)

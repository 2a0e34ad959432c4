"""Models really trained on other data: the truth that predictions are held against.

    Minimise    the minimum of the objective by full-batch L-BFGS, to a stated gradient
    Proximal    the nearest model that responds to the change as if retrained (PBRF)
    Sgd         the training run itself, again from a fresh start or from the trained parameters

All work on the `Problem` that a change gives, so weights, labels, added samples and weight decay
are those of the changed objective.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gifcore.change import Change
from gifcore.curvature import Hessian
from gifcore.errors import GifError
from gifcore.problem import Problem, Progress, engine_mode, fetch, inputs_of, silent
from gifcore.training import Settings

CHUNK = 1000  # samples of a full-batch gradient at a time
HISTORY = 20  # steps that L-BFGS remembers
STARTS = ("warm", "cold")

Objective = Callable[[Tensor], tuple[float, Tensor]]  # theta -> value, gradient (p,)


@dataclass(frozen=True, eq=False)
class Retrained:
    """Parameters of a model trained on changed data, and how far its training got.

    Args:
        theta: (p,).
        gradient_norm: of the objective it minimises, at theta.
        converged: is it at most the tolerance? None: SGD, which has no tolerance.
        steps: evaluations of the objective, or SGD steps.
    """

    theta: Tensor
    gradient_norm: float
    converged: bool | None
    steps: int
    seconds: float


@dataclass(frozen=True)
class Minimise:
    """Minimise L' by full-batch L-BFGS.

    Args:
        start: "warm" from the trained parameters, "cold" from fresh ones.
        tolerance: on ||grad L'||; about 1e-8 is the end of what L-BFGS reaches in float64, 1e-4 in
            float32.
        evaluations: of the objective, at most.
        scaling: (p, p) R from `newton_scaling`, for few parameters: the search is over theta = R z.
    """

    start: str = "warm"
    tolerance: float = 1e-6
    evaluations: int = 2000
    scaling: Tensor | None = None

    def __call__(
        self, problem: Problem, changed: Problem, *, seed: int, progress: Progress = silent
    ) -> Retrained:
        theta = start_of(problem, self.start, seed)
        return _minimum(
            objective_of(changed), theta, self.tolerance, self.evaluations, progress, self.scaling
        )


@dataclass(frozen=True)
class Proximal:
    """Minimise the proximal Bregman response objective of the change, from the trained parameters.

        sum_i w_i / W D_i(theta) + L'_data(theta) - L_data(theta)
            + ((wd + damping) / 2) ||theta - theta_0||^2

    D_i = l(y_i) - l(y0_i) - grad l(y0_i) . (y_i - y0_i), the Bregman divergence of the loss between
    outputs y_i and those of the trained model y0_i. It asks how *this* model moves: no noise of
    another training run is in it. For small moves from the minimum of L it is the retrained model.

    Reference: Bae et al. 2022 (arXiv 2209.05364), equation 8.
    """

    damping: float = 1e-3
    tolerance: float = 1e-6
    evaluations: int = 2000

    def __call__(
        self, problem: Problem, changed: Problem, *, seed: int, progress: Progress = silent
    ) -> Retrained:
        del seed  # nothing is drawn
        return _minimum(
            self.objective(problem, changed),
            problem.theta.clone(),
            self.tolerance,
            self.evaluations,
            progress,
        )

    def objective(self, problem: Problem, changed: Problem) -> Objective:
        """Return the objective; its gradient at theta_0 is that of L'_data - L_data."""
        after, before = _data_objective(changed), _data_objective(problem)
        divergence = _Bregman(problem)
        pull = problem.weight_decay + self.damping

        def value(theta: Tensor) -> tuple[float, Tensor]:
            moved = theta - problem.theta
            parts = [divergence(theta), after(theta), before(theta)]
            total = parts[0][0] + parts[1][0] - parts[2][0] + pull / 2 * float(moved @ moved)
            return total, parts[0][1] + parts[1][1] - parts[2][1] + pull * moved

        return value


@dataclass(frozen=True)
class Sgd:
    """Train again by SGD with momentum and a cosine schedule, as `train` does, for all epochs.

    Args:
        settings: of the run; its seed is not used: the seed of the call draws start and batches.
        start: "cold" from fresh parameters, "warm" from the trained ones.
    """

    settings: Settings
    start: str = "cold"

    def __call__(
        self, problem: Problem, changed: Problem, *, seed: int, progress: Progress = silent
    ) -> Retrained:
        asked, started, steps = self.settings, time.perf_counter(), 0
        net = copy.deepcopy(problem.model)
        _put(net, changed, start_of(problem, self.start, seed))
        optimizer = torch.optim.SGD(
            net.parameters(), asked.lr, asked.momentum, weight_decay=changed.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, asked.epochs)
        generator = torch.Generator().manual_seed(seed)
        mean = float(changed.weights_of(changed.positions).mean())
        for epoch in range(asked.epochs):
            net.train()
            order = changed.positions[torch.randperm(changed.n, generator=generator)]
            for part in order.split(asked.batch_size):
                batch = fetch(changed.train, part, changed.device)
                inputs = inputs_of(batch)
                outputs = net(*inputs) if isinstance(inputs, tuple) else net(inputs)
                loss = (changed.loss(outputs, batch) * changed.weights_of(part)).mean() / mean
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                steps += 1
            schedule.step()
            progress(epoch + 1, asked.epochs, "retraining")
        theta = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
        if not bool(torch.isfinite(theta).all()):
            raise GifError(f"Retraining diverged: lower the learning rate (lr, now {asked.lr}).")
        gradient = objective_of(changed)(theta)[1]
        seconds = time.perf_counter() - started
        return Retrained(theta, float(gradient.norm()), None, steps, seconds)


Recipe = Minimise | Proximal | Sgd


def retrain(
    problem: Problem,
    change: Change | None,
    recipe: Recipe,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Retrained:
    """Return the model trained by a recipe on the changed data; None: on the data as they are.

    Raises:
        GifError: an unknown start, a model that cannot be started afresh, or a training that
            diverged.

    Cost: that of the recipe; Minimise: one gradient over all samples an evaluation, Proximal 3.
    """
    changed = problem if change is None else change.apply(problem)
    return recipe(problem, changed, seed=seed, progress=progress)


# --- starts ---------------------------------------------------------------------------------------


def start_of(problem: Problem, start: str, seed: int) -> Tensor:
    """Return the parameters that a training starts from, (p,).

    Raises:
        GifError: an unknown start, or parameters that no `reset_parameters` draws.
    """
    if start not in STARTS:
        raise GifError(f"start is '{start}'; choose one of: {', '.join(STARTS)}.")
    if start == "warm":
        return problem.theta.clone()
    net = copy.deepcopy(problem.model)
    fresh: set[int] = set()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in net.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
                fresh |= {id(parameter) for parameter in module.parameters()}
    left = [name for name, parameter in net.named_parameters() if id(parameter) not in fresh]
    if left:
        raise GifError(
            f"The parameter {left[0]} cannot be drawn afresh: give its module a method "
            "reset_parameters(), or start warm."
        )
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()]).to(problem.theta)


def _put(net: nn.Module, problem: Problem, theta: Tensor) -> None:
    """Put parameters into a copy of the model."""
    named = problem.space.unflatten(theta)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(named[name])
            parameter.requires_grad_()


# --- objectives -----------------------------------------------------------------------------------


def objective_of(problem: Problem) -> Objective:
    """Return L with its gradient, over all samples in chunks; memory is flat in n."""
    data = _data_objective(problem)

    def value(theta: Tensor) -> tuple[float, Tensor]:
        found, gradient = data(theta)
        decay = problem.weight_decay
        return found + decay / 2 * float(theta @ theta), gradient + decay * theta

    return value


def _data_objective(problem: Problem) -> Objective:
    def losses(parameters: dict[str, Tensor], batch: Any, _start: int) -> Tensor:
        return problem.losses(parameters, batch)

    return _weighted(problem, losses)


class _Bregman:
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
    w = problem.weights_of(problem.positions)

    def value(theta: Tensor) -> tuple[float, Tensor]:
        leaves = problem.leaves(theta)
        total, gradient = 0.0, torch.zeros_like(theta)
        with engine_mode(problem.model):
            for start, batch in _chunks(problem):
                found = values(leaves, batch, start)
                part = (found * w[start : start + CHUNK]).sum() / w.sum()
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


def _minimum(
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

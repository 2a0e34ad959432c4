"""How a model is trained on changed data.

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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gifcore.change import Change
from gifcore.errors import GifError
from gifcore.problem import Problem, Progress, fetch, inputs_of, silent
from gifcore.retraining.objectives import (
    Bregman,
    Objective,
    data_objective,
    minimum,
    objective_of,
)
from gifcore.retraining.retrained import Retrained
from gifcore.training import Settings

STARTS = ("warm", "cold")


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
        return minimum(
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
        return minimum(
            self.objective(problem, changed),
            problem.theta.clone(),
            self.tolerance,
            self.evaluations,
            progress,
        )

    def objective(self, problem: Problem, changed: Problem) -> Objective:
        """Return the objective; its gradient at theta_0 is that of L'_data - L_data."""
        after, before = data_objective(changed), data_objective(problem)
        divergence = Bregman(problem)
        pull = problem.weight_decay + self.damping

        def value(theta: Tensor) -> tuple[float, Tensor]:
            moved = theta - problem.theta
            parts = [divergence(theta), after(theta), before(theta)]
            total = parts[0][0] + parts[1][0] - parts[2][0] + pull / 2 * float(moved @ moved)
            return total, parts[0][1] + parts[1][1] - parts[2][1] + pull * moved

        return value


@dataclass(frozen=True)
class Sgd:
    """Train again by SGD with momentum and a cosine schedule, as `train` does, to the last epoch.

    Args:
        settings: of the run; its seed is not used: the seed of the call draws start and batches.
        start: "cold" from fresh parameters, "warm" from the trained ones.
        stop: epochs after which to stop, as an early stopping did; None: all. The learning rate
            falls as if all were to come.
    """

    settings: Settings
    start: str = "cold"
    stop: int | None = None

    def __call__(
        self, problem: Problem, changed: Problem, *, seed: int, progress: Progress = silent
    ) -> Retrained:
        started = time.perf_counter()
        with drawn_from(seed):  # dropout
            net, steps = self._trained(problem, changed, seed, progress)
        theta = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
        if not bool(torch.isfinite(theta).all()):
            raise GifError(
                f"Retraining diverged: lower the learning rate (lr, now {self.settings.lr})."
            )
        buffers = {name: value.detach().clone() for name, value in net.named_buffers()}
        here = Retrained(theta, math.nan, None, steps, 0.0, buffers=buffers)
        gradient = objective_of(here.problem(changed) if buffers else changed)(theta)[1]
        seconds = time.perf_counter() - started
        return replace(here, gradient_norm=float(gradient.norm()), seconds=seconds)

    def _trained(
        self, problem: Problem, changed: Problem, seed: int, progress: Progress
    ) -> tuple[nn.Module, int]:
        """Return the model after all epochs and the number of steps; `progress` hears each."""
        asked = self.settings
        net = started_from(problem, self.start, seed)
        optimizer = torch.optim.SGD(
            net.parameters(), asked.lr, asked.momentum, weight_decay=changed.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, asked.epochs)
        generator = torch.Generator().manual_seed(seed)
        mean = float(changed.weights_of(changed.positions).mean())
        total, steps = self.steps(changed), 0
        net.train()
        for _ in range(self.epochs):
            order = changed.positions[torch.randperm(changed.n, generator=generator)]
            for part in order.split(asked.batch_size):
                batch = fetch(changed.train, part, changed.device)
                inputs = inputs_of(batch)
                outputs = net(*inputs) if isinstance(inputs, tuple) else net(inputs)
                loss = changed.loss(outputs, batch)
                if changed.weights is not None:
                    loss = loss * changed.weights_of(part) / mean
                optimizer.zero_grad(set_to_none=True)
                loss.mean().backward()
                optimizer.step()
                steps += 1
                progress(steps, total, "retraining")
            schedule.step()
        return net, steps

    def timed(self, problem: Problem, progress: Progress) -> None:
        """Train only for `progress` to hear the steps; what it gives is dropped."""
        with drawn_from(0):
            self._trained(problem, problem, 0, progress)

    def steps(self, changed: Problem) -> int:
        """Return how many steps a training takes."""
        return self.epochs * math.ceil(changed.n / self.settings.batch_size)

    @property
    def epochs(self) -> int:
        """How many epochs are trained."""
        return min(self.settings.epochs, self.stop or self.settings.epochs)


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
    return torch.cat(
        [p.detach().reshape(-1) for p in started_from(problem, start, seed).parameters()]
    ).to(problem.theta)


def started_from(problem: Problem, start: str, seed: int) -> nn.Module:
    """Return a copy of the model as a training starts with it; cold: its statistics are new too.

    Raises:
        GifError: as `start_of`.
    """
    if start not in STARTS:
        raise GifError(f"start is '{start}'; choose one of: {', '.join(STARTS)}.")
    net = copy.deepcopy(problem.model)
    fresh: set[int] = set()
    with drawn_from(seed):
        for module in net.modules() if start == "cold" else ():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
                fresh |= {id(parameter) for parameter in module.parameters()}
    left = [name for name, parameter in net.named_parameters() if id(parameter) not in fresh]
    if start == "cold" and left:
        raise GifError(
            f"The parameter {left[0]} cannot be drawn afresh: give its module a method "
            "reset_parameters(), or start warm."
        )
    named = problem.space.unflatten(problem.theta)
    for name, parameter in net.named_parameters():
        if start == "warm":
            parameter.data.copy_(named[name])
        parameter.requires_grad_()
    return net.to(problem.device)


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Draw from this seed; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield

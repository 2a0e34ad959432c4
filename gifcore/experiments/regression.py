"""Figure 2: a linear regression whose retrained parameters are known in closed form.

4,000 samples in 5 dimensions, the first 500 with labels -5 times the others'; they are removed ten
at a time, and only the first two weights are free to move. The objective is quadratic, so that a
Newton step is the retrained model itself and every method is exact, each for a truth of its own:

    if          all parameters refitted
    projected   the free parameters of that refit; the others are not moved with them
    freeze      the free parameters refitted, the others fixed where they were
    gif         the free parameters at which the whole gradient is least, the others fixed

Reference: Lyu et al. 2023 (arXiv 2312.05586), figure 2; numbers of the code's toy example.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from gifcore.change import RemoveSamples
from gifcore.curved import curvature
from gifcore.influence import embedded, influence
from gifcore.problem import Problem
from gifcore.selection import Selection
from gifcore.solvers import Dense

Array = NDArray[Any]

DIMENSIONS = 5
FREE = (0, 1)  # the parameters that may move
TOXIC_FACTOR = -5.0
MIXED = (  # of the features, as published
    (1, 0, 6, 4, 3),
    (0, 1, -2, -4, -2),
    (0, 0, 1, 0, 0),
    (0, 0, 0, 1, 0),
    (0, 0, 0, 0, 1),
)
METHODS = ("if", "projected", "freeze", "gif")
TRUTHS = ("free", "all", "gradient")
OWN_TRUTH = {"if": "all", "projected": "all", "freeze": "free", "gif": "gradient"}
PUBLISHED_FACTOR = 1.04  # the code divides by 1.04 n instead of by the samples that are left
PUBLISHED_SHRINK = 10  # and its projected step by ten once more


@dataclass(frozen=True, eq=False)
class Toy:
    """The data: x (n, 5), y (n,); the first `toxic` samples are the toxic ones."""

    x: Array
    y: Array
    toxic: int

    @property
    def features(self) -> Array:
        """Return x with a column of ones for the bias, (n, 6)."""
        return np.hstack([self.x, np.ones((len(self.x), 1))])


def toy(seed: int, *, samples: int = 4000, toxic: int = 500) -> Toy:
    """Return the data; seed 0 with the default sizes are the published numbers."""
    # the old generator, because the published data are from it
    x = np.random.RandomState(seed).rand(samples, DIMENSIONS)  # noqa: NPY002
    y = x.sum(axis=1)
    y[:toxic] *= TOXIC_FACTOR
    return Toy(x @ np.array(MIXED, dtype=np.float64), y, toxic)


# --- truths in closed form ------------------------------------------------------------------------


def normal_equations(toy: Toy, first: int = 0) -> tuple[Array, Array]:
    """Return H = 2 X^T X / m and b = 2 X^T y / m of the samples from `first` on."""
    X, y = toy.features[first:], toy.y[first:]
    return 2 * X.T @ X / len(y), 2 * X.T @ y / len(y)


def refit(toy: Toy, first: int = 0) -> Array:
    """Return the parameters of least loss on the samples from `first` on, (6,)."""
    return np.linalg.solve(*normal_equations(toy, first))


def truths(toy: Toy, first: int, theta: Array, free: tuple[int, ...] = FREE) -> dict[str, Array]:
    """Return the free parameters that each truth asks for once the first samples are gone.

    "free": least loss with the others fixed at theta; "all": their part of the refit of all;
    "gradient": least norm of the whole gradient with the others fixed.
    """
    H, b = normal_equations(toy, first)
    J = list(free)
    fixed = theta.copy()
    fixed[J] = 0.0
    rest = b - H @ fixed
    return {
        "free": np.linalg.solve(H[np.ix_(J, J)], rest[J]),
        "all": refit(toy, first)[J],
        "gradient": np.linalg.lstsq(H[:, J], rest, rcond=None)[0],
    }


def loss_at(toy: Toy, first: int, theta: Array) -> float:
    """Return the mean squared error of the samples from `first` on."""
    return float(((toy.features[first:] @ theta - toy.y[first:]) ** 2).mean())


def gradient_at(toy: Toy, first: int, theta: Array) -> Array:
    """Return the gradient of `loss_at`, (6,)."""
    H, b = normal_equations(toy, first)
    return H @ theta - b


# --- the engine's steps ---------------------------------------------------------------------------


def problem_of(toy: Toy, theta: Array) -> Problem:
    """Return the regression at these parameters as a problem of the engine."""
    model = nn.Linear(DIMENSIONS, 1).double()
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(theta[None, :DIMENSIONS]))
        model.bias.copy_(torch.from_numpy(theta[DIMENSIONS:]))
    data = TensorDataset(torch.from_numpy(toy.x), torch.from_numpy(toy.y))
    return Problem(model, data, _squared_error)


def _squared_error(outputs: Tensor, batch: Any) -> Tensor:
    return (outputs[:, 0] - batch[1]) ** 2


def one_shot(problem: Problem, method: str, removed: int, free: tuple[int, ...] = FREE) -> Array:
    """Return the parameters after one step that removes the first samples, (6,).

    Cost: a gradient over all samples and the six columns of H.
    """
    space, change = problem.space, RemoveSamples(range(removed))
    found = influence(
        problem,
        change,
        method=method,
        selected=Selection(torch.tensor(free), space, "given", len(free) / space.size, 0),
        curvature=curvature(change.apply(problem), of="retained", batch_size=problem.n),
        gradient=change.gradient(problem, batch_size=problem.n),
        solver=Dense(),
    )
    return (problem.theta + embedded(found, space.size)).numpy()


# --- the published steps --------------------------------------------------------------------------


def published_path(
    toy: Toy, method: str, *, steps: int, seed: int, free: tuple[int, ...] = FREE
) -> Array:
    """Return the parameters after 0 … `steps` removals as the published code makes them, (s, 6).

    Each step solves at the parameters the last one left, on the samples that are then left, for the
    mean gradient of the removed ones, and scales by m / (1.04 n). "projected" is the step on all
    parameters divided by ten and moves all of them; "if" is that without the ten, which the code
    does not have. The bias is drawn anew for each method: the code copies the weights alone.
    """
    theta = refit(toy)
    theta[DIMENSIONS] = _fresh_bias(seed, method)
    size, J = toy.toxic // steps, list(free)
    path = [theta]
    for step in range(steps):
        last = (step + 1) * size
        removed = Toy(toy.x[last - size : last], toy.y[last - size : last], size)
        g = gradient_at(removed, 0, theta)
        H = normal_equations(toy, last)[0]
        delta = np.zeros_like(theta)
        if method in ("if", "projected"):
            delta = np.linalg.solve(H, g)
            delta[DIMENSIONS] = 0.0  # the code adds the step of the weights alone
        elif method == "freeze":
            delta[J] = np.linalg.solve(H[np.ix_(J, J)], g[J])
        else:
            delta[J] = np.linalg.lstsq(H[:, J], g, rcond=None)[0]
        shrink = PUBLISHED_SHRINK if method == "projected" else 1
        theta = theta + delta * size / (PUBLISHED_FACTOR * len(toy.y) * shrink)
        path.append(theta)
    return np.stack(path)


def _fresh_bias(seed: int, method: str) -> float:
    bound = DIMENSIONS**-0.5
    return float(np.random.default_rng([seed, METHODS.index(method)]).uniform(-bound, bound))


# --- one run --------------------------------------------------------------------------------------


def path(toy: Toy, protocol: str, method: str, *, steps: int, seed: int) -> Array:
    """Return the parameters of a method after 0 … `steps` removals of equal size, (steps + 1, 6).

    Ours: one step of the engine from the trained parameters for each number of removed samples.
    """
    if protocol == "paper":
        return published_path(toy, method, steps=steps, seed=seed)
    problem, size = problem_of(toy, refit(toy)), toy.toxic // steps
    moved = [one_shot(problem, method, (step + 1) * size) for step in range(steps)]
    return np.stack([problem.theta.numpy(), *moved])


def figures(toy: Toy, moved: Array, method: str) -> dict[str, float]:
    """Return how far a path's last point reaches each truth, and the objective there.

    reached_*: 1 - distance of the free parameters to the truth / distance of the start to it:
    1 is exact, 0 as far as no step at all, below 0 farther. `reached_own` is that of the method's
    own truth. loss_excess is above the least loss with the others fixed at the start; that and the
    norm of the gradient are of the samples that are left.
    """
    start, last, J = moved[0], moved[-1], list(FREE)
    removed = toy.toxic // (len(moved) - 1) * (len(moved) - 1)
    wanted = truths(toy, removed, start)
    found = {
        f"reached_{name}": 1.0
        - float(np.linalg.norm(last[J] - truth) / np.linalg.norm(truth - start[J]))
        for name, truth in wanted.items()
    }
    best = start.copy()
    best[J] = wanted["free"]
    return found | {
        "reached_own": found[f"reached_{OWN_TRUTH[method]}"],
        "loss_excess": loss_at(toy, removed, last) - loss_at(toy, removed, best),
        "gradient": float(np.linalg.norm(gradient_at(toy, removed, last))),
    }

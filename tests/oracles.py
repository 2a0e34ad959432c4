"""Slow and obvious references: dense, one sample at a time, with none of the engine's own tricks.

From the engine they read only what a problem was given: model, data, loss, weight decay, samples.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import default_collate

from gifcore.problem import Problem

# --- the objective, sample by sample ------------------------------------------------------------


def theta_of(problem: Problem) -> Tensor:
    """All parameters as one vector, in the order of named_parameters()."""
    return torch.cat([p.detach().reshape(-1) for p in problem.model.parameters()])


def sample_loss(problem: Problem, theta: Tensor, sample: Any) -> Tensor:
    """The loss of one sample at theta, as a scalar that can be differentiated."""
    return _losses(problem, theta, default_collate([sample]))[0]


def _losses(problem: Problem, theta: Tensor, batch: Any) -> Tensor:
    model, named, offset = _evaluated(problem), {}, 0
    for name, parameter in model.named_parameters():
        named[name] = theta[offset : offset + parameter.numel()].reshape(parameter.shape)
        offset += parameter.numel()
    inputs = batch if isinstance(batch, dict) else batch[0]
    return problem.loss(functional_call(model, named, (inputs,)), batch)


@lru_cache(maxsize=8)
def _evaluated(problem: Problem) -> nn.Module:
    return copy.deepcopy(problem.model).eval()


def objective(problem: Problem, theta: Tensor) -> Tensor:
    """L(theta): the mean data loss over the samples that count, plus half the decay."""
    losses = [sample_loss(problem, theta, problem.train[int(i)]) for i in problem.positions]
    return torch.stack(losses).mean() + problem.weight_decay / 2 * theta @ theta


def sample_gradients(problem: Problem, data: Any, indices: Sequence[int]) -> np.ndarray:
    """The gradient of every sample's own loss, (m, p), in a loop."""
    rows = []
    for i in indices:
        theta = theta_of(problem).requires_grad_()
        (gradient,) = torch.autograd.grad(sample_loss(problem, theta, data[int(i)]), theta)
        rows.append(gradient.numpy())
    return np.stack(rows)


def train_gradients(problem: Problem) -> np.ndarray:
    return sample_gradients(problem, problem.train, problem.positions.tolist())


def gradient(problem: Problem) -> np.ndarray:
    """grad L(theta), weight decay included, (p,)."""
    theta = theta_of(problem).requires_grad_()
    return torch.autograd.grad(objective(problem, theta), theta)[0].numpy()


def hessian(problem: Problem) -> np.ndarray:
    """The dense Hessian of L, (p, p)."""
    return torch.autograd.functional.hessian(
        lambda theta: objective(problem, theta), theta_of(problem)
    ).numpy()


# --- the methods in closed form (design, section 1) ----------------------------------------------


def embedding(J: np.ndarray, p: int) -> np.ndarray:
    return np.eye(p)[:, J]


def update(method: str, H: np.ndarray, J: np.ndarray, g: np.ndarray) -> np.ndarray:
    """delta of each method: (k,), or (p,) for `if`."""
    E = embedding(J, len(g))
    match method:
        case "gradient":
            return E.T @ g
        case "if":
            return np.linalg.solve(H, g)
        case "gif":
            return np.linalg.lstsq(H @ E, g, rcond=None)[0]
    raise AssertionError(f"no closed form of {method}")


def adjoint(method: str, H: np.ndarray, J: np.ndarray, g_q: np.ndarray) -> np.ndarray:
    """s of each method, (p,)."""
    E = embedding(J, len(g_q))
    match method:
        case "gradient":
            return E @ E.T @ g_q
        case "if":
            return np.linalg.solve(H, g_q)
        case "gif":
            return H @ E @ np.linalg.solve(E.T @ H @ H @ E, E.T @ g_q)
    raise AssertionError(f"no closed form of {method}")


def scores(s: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """I(i, q) = s . (grad l_i - mean grad l) / (n - 1)."""
    n = len(gradients)
    return np.array([s @ (gradients[i] - gradients.mean(0)) / (n - 1) for i in range(n)])


# --- training to the end -------------------------------------------------------------------------


def refit(problem: Problem, *, steps: int = 30) -> np.ndarray:
    """The minimiser of a convex objective by Newton's method with dense Hessians, (p,).

    All samples as one batch: this is done once for every sample that is left out.
    """
    batch = default_collate([problem.train[int(i)] for i in problem.positions])

    def value(theta: Tensor) -> Tensor:
        return _losses(problem, theta, batch).mean() + problem.weight_decay / 2 * theta @ theta

    theta = theta_of(problem)
    for _ in range(steps):
        theta = theta.detach().requires_grad_()
        (g,) = torch.autograd.grad(value(theta), theta)
        if float(g.norm()) < 1e-12:
            break
        H = torch.autograd.functional.hessian(value, theta.detach(), vectorize=True)
        theta = theta - torch.linalg.solve(H, g)
    assert float(g.norm()) < 1e-10, "the oracle itself did not converge"
    return theta.detach().numpy()


def at(problem: Problem, theta: np.ndarray) -> nn.Module:
    """A copy of the problem's model with these parameters."""
    model = copy.deepcopy(problem.model)
    nn.utils.vector_to_parameters(torch.from_numpy(theta), model.parameters())
    return model


# --- selection, from the description of the published code (papers.md, A3) -----------------------


def unit_scores(problem: Problem, samples: Sequence[int], of: str) -> dict[str, list[float]]:
    """|mean over samples and positions| of every unit's output or output gradient, by layer."""
    model = copy.deepcopy(problem.model).eval()
    seen: dict[str, list[Tensor]] = {}
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            output.retain_grad()
            outputs[name] = output

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(keep(name))
    for i in samples:
        batch = default_collate([problem.train[int(i)]])
        loss = problem.loss(model(batch if isinstance(batch, dict) else batch[0]), batch)[0]
        loss.backward()
        for name, output in outputs.items():
            value = output.grad if of == "gradient" else output
            seen.setdefault(name, []).append(value[0].detach())
    found = {}
    for name, values in seen.items():
        units = len(values[0])
        found[name] = [
            abs(float(np.mean([v[u].reshape(-1).numpy() for v in values]))) for u in range(units)
        ]
    return found


def layer_quota(ratio: float, count: int) -> int:
    """int(ratio * count) of the decimal number that was written."""
    return int(Fraction(str(ratio)) * count)


def unit_rule(
    problem: Problem, name: str, unit_score: list[float], ratio: float, *, highest: bool
) -> tuple[set[int], set[int], int]:
    """(indices that must be taken, indices some of which are taken at random, how many of them)."""
    offsets, offset = {}, 0
    for key, parameter in problem.model.named_parameters():
        offsets[key] = offset
        offset += parameter.numel()
    layer = problem.model.get_submodule(name)
    units = len(layer.weight)
    fan_in = layer.weight.numel() // units
    per_unit = fan_in + (layer.bias is not None)
    k = layer_quota(ratio, per_unit * units)
    order = sorted(range(units), key=lambda u: ((-1 if highest else 1) * unit_score[u], u))

    def weights(u: int) -> set[int]:
        start = offsets[f"{name}.weight"] + u * fan_in
        return set(range(start, start + fan_in))

    taken: set[int] = set()
    for u in order[: k // per_unit]:
        taken |= weights(u)
        if layer.bias is not None:
            taken.add(offsets[f"{name}.bias"] + u)
    rest = k % per_unit
    pool = weights(order[k // per_unit]) if rest else set()
    return taken, pool, rest

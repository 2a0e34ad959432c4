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
        case "projected":
            return E.T @ np.linalg.solve(H, g)
        case "freeze":
            return np.linalg.solve(E.T @ H @ E, E.T @ g)
        case "gif" | "hyperinf":  # HyperINF is another way to the same solution
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
        case "projected":
            return np.linalg.solve(H, E @ E.T @ g_q)
        case "freeze":
            return E @ np.linalg.solve(E.T @ H @ E, E.T @ g_q)
        case "gif" | "hyperinf":
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


# --- selection, from the description of the published code (papers.md, A3 and d) ------------------

OUTPUT_KINDS = nn.Conv2d | nn.Linear
NORMS = nn.BatchNorm2d | nn.LayerNorm


def unit_scores(
    problem: Problem, samples: Sequence[int], of: str, kinds: Any = OUTPUT_KINDS
) -> dict[str, list[float]]:
    """The score of every unit, by layer, one sample and one unit at a time."""
    if of == "magnitude":
        return {
            name: [float(np.mean(np.abs(row.detach().numpy()))) for row in module.weight]
            for name, module in problem.model.named_modules()
            if isinstance(module, kinds)
        }
    if of == "fisher":
        F = diagonal_fisher(problem, samples, 1)
        means = {
            name: [float(np.mean([F[i] for i in unit])) for unit in layer_units(problem, name)]
            for name, module in problem.model.named_modules()
            if isinstance(module, kinds)
        }
        return {name: values for name, values in means.items() if any(values)}
    found = {}
    for name, values in _responses(problem, samples, "gradient" in of, kinds).items():
        if "absolute" in of:
            found[name] = [float(np.mean([np.abs(v[u]) for v in values])) for u in _units(values)]
        else:
            found[name] = [abs(float(np.mean([v[u] for v in values]))) for u in _units(values)]
    return found


def _units(values: list[np.ndarray]) -> range:
    return range(len(values[0]))


def _responses(
    problem: Problem, samples: Sequence[int], gradient: bool, kinds: Any
) -> dict[str, list[np.ndarray]]:
    """The output of every layer on every sample, or its gradient, each (units, positions)."""
    model = copy.deepcopy(problem.model).eval()
    seen: dict[str, list[np.ndarray]] = {}
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            output.retain_grad()
            outputs[name] = output
            return output.clone()  # what comes next may overwrite it

        return hook

    for name, module in model.named_modules():
        if isinstance(module, kinds):
            module.register_forward_hook(keep(name))
    for i in samples:
        batch = default_collate([problem.train[int(i)]])
        loss = problem.loss(model(batch if isinstance(batch, dict) else batch[0]), batch)[0]
        loss.backward()
        for name, output in outputs.items():
            value = (output.grad if gradient else output.detach())[0]
            last = isinstance(model.get_submodule(name), nn.Linear | nn.LayerNorm)
            value = value.movedim(-1, 0) if last else value
            seen.setdefault(name, []).append(value.reshape(len(value), -1).numpy())
    return seen


def diagonal_fisher(problem: Problem, samples: Sequence[int], batch_size: int) -> np.ndarray:
    """The mean over batches of the squared mean gradient of the batch, (p,)."""
    G = sample_gradients(problem, problem.train, list(samples))
    starts = range(0, len(G), batch_size)
    return np.mean([np.mean(G[s : s + batch_size], axis=0) ** 2 for s in starts], axis=0)


def caps_scores(
    problem: Problem, target: Sequence[int], blocks: Sequence[Sequence[int]], batch_size: int
) -> list[float | None]:
    """sum over each block of g^2 / (F + 1e-6), None if its mean Fisher is below 1e-12."""
    retained = [i for i in problem.positions.tolist() if i not in set(target)]
    g = sample_gradients(problem, problem.train, list(target)).mean(0)
    F = diagonal_fisher(problem, retained, batch_size)
    return [
        None
        if np.mean([F[j] for j in block]) < 1e-12
        else float(sum(g[j] ** 2 / (F[j] + 1e-6) for j in block))
        for block in blocks
    ]


def tensor_offsets(problem: Problem) -> dict[str, int]:
    offsets, offset = {}, 0
    for key, parameter in problem.model.named_parameters():
        offsets[key] = offset
        offset += parameter.numel()
    return offsets


def layer_units(problem: Problem, name: str) -> list[list[int]]:
    """The flat indices of every unit of a layer: its weights, then its bias."""
    offsets, layer = tensor_offsets(problem), problem.model.get_submodule(name)
    units = len(layer.weight)
    fan_in = layer.weight.numel() // units
    found = []
    for u in range(units):
        start = offsets[f"{name}.weight"] + u * fan_in
        unit = list(range(start, start + fan_in))
        if layer.bias is not None:
            unit.append(offsets[f"{name}.bias"] + u)
        found.append(unit)
    return found


def layer_quota(ratio: float, count: int) -> int:
    """int(ratio * count) of the decimal number that was written."""
    return int(Fraction(str(ratio)) * count)


def ranked(scores: Sequence[float], rule: str) -> list[int]:
    sign = -1 if rule == "highest-k" else 1
    return sorted(range(len(scores)), key=lambda u: (sign * scores[u], u))


def unit_rule(
    units: list[list[int]],
    weights: list[int],
    scores: list[float],
    ratio: float,
    *,
    rule: str,
) -> tuple[set[int], set[int], int]:
    """(indices that must be taken, indices some of which are taken at random, how many of them).

    units: indices of every unit, the first `weights[u]` of them weights, the others biases.
    """
    left = layer_quota(ratio, sum(len(unit) for unit in units))
    taken: set[int] = set()
    for u in ranked(scores, rule):
        if len(units[u]) > left:
            return taken, set(units[u][: weights[u]]) if left else set(), left
        taken |= set(units[u])
        left -= len(units[u])
    return taken, set(), 0


def threshold_rule(
    layers: list[tuple[list[list[int]], list[float]]], ratio: float
) -> list[tuple[set[int], int]]:
    """For each layer the indices that may be drawn and how many are; the threshold never rises."""
    found, hundredth = [], 100
    for units, scores in layers:
        k = layer_quota(ratio, sum(len(unit) for unit in units))
        while True:
            above = {i for unit, s in zip(units, scores, strict=True) for i in unit
                     if s > hundredth / 100}  # fmt: skip
            if len(above) >= k:
                break
            hundredth -= 1
        found.append((above, k))
    return found


def greedy_rule(
    layers: list[list[tuple[float | None, list[int]]]],
    ratio: float,
    *,
    highest: bool,
    split: bool,
) -> set[int]:
    """Whole blocks (score, indices) by score per parameter in a budget, split over layers or not.

    Shares in proportion to what can be selected, by largest remainder; then the pooled rest.
    """
    total = layer_quota(ratio, sum(len(block) for blocks in layers for _, block in blocks))
    alive = [[(s / len(b), b) for s, b in blocks if s is not None] for blocks in layers]
    sizes = [sum(len(b) for _, b in blocks) for blocks in alive]
    total = min(total, sum(sizes))
    exact = [Fraction(total * size, sum(sizes)) for size in sizes]
    shares = [int(e) for e in exact]
    while sum(shares) < total:
        gaps = [e - s for e, s in zip(exact, shares, strict=True)]
        shares[gaps.index(max(gaps))] += 1
    taken: list[list[int]] = []

    def pack(blocks: list[tuple[float, list[int]]], budget: int) -> None:
        for _, block in sorted(blocks, key=lambda b: b[0], reverse=highest):
            if len(block) <= budget and block not in taken:
                taken.append(block)
                budget -= len(block)

    if split:
        for blocks, share in zip(alive, shares, strict=True):
            pack(blocks, share)
    pack([b for blocks in alive for b in blocks], total - sum(map(len, taken)))
    return {i for block in taken for i in block}

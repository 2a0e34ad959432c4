"""Dense curvatures, one sample at a time, without the engine's own tricks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from gifcore.problem import Problem


def shares(problem: Problem, samples: Sequence[int]) -> np.ndarray:
    """w_i / sum w, (m,)."""
    w = [1.0 if problem.weights is None else float(problem.weights[i]) for i in samples]
    return np.array(w) / sum(w)


def gradients(problem: Problem, samples: Sequence[int]) -> np.ndarray:
    """The gradient of every sample's own loss, (m, p), whatever the model is called with."""
    model, rows = copy.deepcopy(problem.model).eval(), []
    for i in samples:
        batch = default_collate([problem.train[int(i)]])
        loss = problem.loss(model(*_arguments(batch)), batch)[0]
        found = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
        rows.append(torch.cat([g.reshape(-1) for g in found]).numpy())
    return np.stack(rows)


def gauss_newton(problem: Problem, samples: Sequence[int]) -> np.ndarray:
    """sum of share_i J_i^T H_out J_i, plus decay: J row by row, H_out dense, (p, p)."""
    model = copy.deepcopy(problem.model).eval()
    parameters = list(model.parameters())
    total = problem.weight_decay * np.eye(sum(q.numel() for q in parameters))
    for i, share in zip(samples, shares(problem, samples), strict=True):
        batch = default_collate([problem.train[int(i)]])
        outputs = model(*_arguments(batch))
        rows = []
        for value in outputs.reshape(-1):
            found = torch.autograd.grad(
                value, parameters, retain_graph=True, materialize_grads=True
            )
            rows.append(torch.cat([g.reshape(-1) for g in found]).numpy())
        H_out = torch.autograd.functional.hessian(
            lambda z, batch=batch: problem.loss(z, batch)[0], outputs.detach()
        ).reshape(outputs.numel(), outputs.numel())
        J = np.stack(rows)
        total = total + share * J.T @ H_out.numpy() @ J
    return total


def fisher(problem: Problem, samples: Sequence[int]) -> np.ndarray:
    """sum of share_i g_i g_i^T, plus decay, (p, p)."""
    g, share = gradients(problem, samples), shares(problem, samples)
    total = problem.weight_decay * np.eye(g.shape[1])
    for row, c in zip(g, share, strict=True):
        total = total + c * np.outer(row, row)
    return total


def _arguments(batch: Any) -> tuple[Any, ...]:
    inputs = batch if isinstance(batch, dict) else batch[0]
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


def modules(problem: Problem) -> dict[str, list[int]]:
    """The flat coordinates of every module's own parameters, by its name."""
    found: dict[str, list[int]] = {}
    offset = 0
    for name, parameter in problem.model.named_parameters():
        module = name.rpartition(".")[0]
        found.setdefault(module, []).extend(range(offset, offset + parameter.numel()))
        offset += parameter.numel()
    return found


def block_diagonal(H: np.ndarray, blocks: Sequence[Sequence[int]]) -> np.ndarray:
    cut = np.zeros_like(H)
    for block in blocks:
        cut[np.ix_(block, block)] = H[np.ix_(block, block)]
    return cut


def datainf_inverse(
    g: np.ndarray, share: np.ndarray, blocks: Sequence[Sequence[int]], d: float
) -> np.ndarray:
    """The matrix of DataInf's inverse: (1/(n d)) sum (I - g g^T / (d + |g|^2)) on every block."""
    total = np.zeros((g.shape[1], g.shape[1]))
    for row, c in zip(g, share, strict=True):
        for block in blocks:
            part = row[list(block)]
            inverse = np.eye(len(part)) - np.outer(part, part) / (d + part @ part)
            total[np.ix_(block, block)] += c / d * inverse
    return total


# --- EK-FAC ---------------------------------------------------------------------------------------


def ekfac(problem: Problem, samples: Sequence[int]) -> np.ndarray:
    """The EK-FAC matrix at the true labels, without decay, (p, p)."""
    g, share = gradients(problem, samples), shares(problem, samples)
    total = np.zeros((g.shape[1], g.shape[1]))
    for name, indices in modules(problem).items():
        module = problem.model.get_submodule(name)
        if _kronecker(module):
            order = np.array(indices)
            rows = len(module.weight)
            weights = order[: module.weight.numel()].reshape(rows, -1)
            biases = order[module.weight.numel() :].reshape(rows, -1)
            order = np.concatenate([weights, biases], axis=1)
            A, S = _factors(problem, samples, name, share)
            Q = np.kron(np.linalg.eigh(S)[1], np.linalg.eigh(A)[1])
            order = order.reshape(-1)
            rotated = g[:, order] @ Q
            block = Q @ np.diag(share @ rotated**2) @ Q.T
        else:
            order = np.array(indices)
            block = np.diag(share @ g[:, order] ** 2)
        total[np.ix_(order, order)] = block
    return total


def _kronecker(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.groups == 1
    return isinstance(module, nn.Linear)


def _factors(
    problem: Problem, samples: Sequence[int], name: str, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Second moments of the inputs (with a 1 if there is a bias) and of the output gradients."""
    model = copy.deepcopy(problem.model).eval()
    module = model.get_submodule(name)
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output.retain_grad()
        seen.append((inputs[0].detach().clone(), output))
        return output.clone()  # what comes next may overwrite it

    module.register_forward_hook(keep)
    A, S = 0.0, 0.0
    for i, c in zip(samples, share, strict=True):
        seen.clear()
        batch = default_collate([problem.train[int(i)]])
        problem.loss(model(*_arguments(batch)), batch)[0].backward()
        for x, output in seen:
            if output.grad is None:
                continue
            for inputs, s in _positions(module, x[0].numpy(), output.grad[0].numpy()):
                a = inputs if module.bias is None else np.append(inputs, 1.0)
                A, S = A + c * np.outer(a, a), S + c * np.outer(s, s)
    if not seen or isinstance(A, float):
        rows, columns = len(module.weight), module.weight[0].numel() + (module.bias is not None)
        return np.eye(columns), np.eye(rows)
    return A, S


def _positions(
    module: nn.Module, x: np.ndarray, slope: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(input, output gradient) at every output position, with loops."""
    if isinstance(module, nn.Linear):
        flat, slopes = x.reshape(-1, x.shape[-1]), slope.reshape(-1, slope.shape[-1])
        return list(zip(flat, slopes, strict=True))
    (kh, kw), (sh, sw), (ph, pw) = module.kernel_size, module.stride, module.padding
    dh, dw = module.dilation
    x = np.pad(x, ((0, 0), (ph, ph), (pw, pw)))
    found = []
    for i in range(slope.shape[1]):
        for j in range(slope.shape[2]):
            patch = x[:, i * sh : i * sh + dh * kh : dh, j * sw : j * sw + dw * kw : dw]
            found.append((patch.reshape(-1), slope[:, i, j]))
    return found

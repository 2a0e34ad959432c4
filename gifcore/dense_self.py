"""Self-influence by dense matrices: one factorisation for all samples.

    if  g H^-1 r     projected  gJ [H^-1]_J r     freeze  gJ (E^T H E)^-1 rJ     gif  gJ A^+ r

g = grad l_i, r = g - gbar, A = H E; gJ and rJ are their selected coordinates.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gifcore.closed_self import Inner, formed_rows
from gifcore.curvature.layers import layers_of
from gifcore.curved import Curved
from gifcore.operators import Identity, LinearOperator
from gifcore.problem import Problem, Progress
from gifcore.selection import Selection
from gifcore.solvers import Dense, auto_ridge
from gifcore.solvers.many import products_of

BLOCK = 32  # columns made at once
BATCH = 64  # samples whose gradients are formed at once

DENSE = ("if", "projected", "freeze", "gif")


def by_dense(
    problem: Problem,
    method: str,
    selected: Selection | None,
    curved: Curved,
    solver: Dense,
    asked: Tensor,
    progress: Progress,
) -> Tensor:
    """Return s_i . (grad l_i - gbar), (n,) in float64.

    Singular values below max(m, n) eps s_max count as zero, as in `Dense`.

    Raises:
        GifError: a matrix beyond the solver's limits.

    Cost: as many products as the matrix has columns, one decomposition, then a gradient and a
    matrix product a sample.
    """
    p = problem.space.size
    J = torch.arange(p) if selected is None else selected.indices
    E = Identity(p) if selected is None else selected.embedding
    H = curved.H
    if curved.automatic and method != "gif":
        H = H + curved.auto_damping().value * Identity(p)
    system = {"gif": lambda: H @ E, "freeze": lambda: E.T @ (H @ E)}.get(method, lambda: H)()
    solver.refuse_large(system.shape)
    ridge = solver.ridge if method == "gif" else 0.0
    if curved.automatic and method == "gif" and ridge == 0:
        ridge = auto_ridge(system, problem.theta.new_zeros(len(J)), seed=curved.seed).value
    inverse = _inverse(_matrix(system, problem.theta, progress), ridge, problem.theta)
    everything = Inner(problem, None, asked, BATCH, progress)
    gbar = everything.mean_gradient().double()
    pairs: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "if": lambda g, r: (g @ inverse) * r,
        "projected": lambda g, r: (g[:, J] @ inverse[J]) * r,
        "freeze": lambda g, r: (g[:, J] @ inverse) * r[:, J],
        "gif": lambda g, r: (g[:, J] @ inverse) * r,
    }
    found = []
    for rows in formed_rows(everything, layers_of(problem, problem.positions)):
        g = rows.double()
        found.append(pairs[method](g, g - gbar).sum(dim=1))
        progress(sum(map(len, found)), len(asked), "self-influence")
    return torch.cat(found)


def _matrix(A: LinearOperator, like: Tensor, progress: Progress) -> Tensor:
    """Return A in float64, (rows, columns), by its products."""
    columns, blocks = A.shape[1], []
    for first in range(0, columns, BLOCK):
        part = torch.arange(first, min(first + BLOCK, columns), device=like.device)
        units = like.new_zeros(columns, len(part))
        units[part, torch.arange(len(part), device=like.device)] = 1
        blocks.append(products_of(A, units).double())
        progress(min(first + BLOCK, columns), columns, "dense")
    return torch.cat(blocks, dim=1)


def _inverse(A: Tensor, ridge: float, like: Tensor) -> Tensor:
    """Return A^+, (columns, rows); with a ridge (A^T A + ridge I)^-1 A^T."""
    U, s, Vt = torch.linalg.svd(A, full_matrices=False)
    kept = s > max(A.shape) * torch.finfo(like.dtype).eps * s[:1].sum()
    factors = torch.where(kept, s / (s.square() + ridge).clamp_min(1e-300), 0.0)
    return Vt.T @ (factors[:, None] * U.T)

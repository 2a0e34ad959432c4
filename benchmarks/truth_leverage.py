"""Leverage: how much of each sample's own curvature is in the Hessian that predicts its removal."""

from __future__ import annotations

import torch

from gifcore.curvature import Hessian
from gifcore.problem import Problem
from gifcore.solvers.many import products_of

TOGETHER = 64  # columns made at once


def mean_leverage(problem: Problem) -> float:
    """Return tr((H - wd I) H^-1) / n, H positive definite.

    It is 0 where a sample bends nothing and reaches 1 where each decides its own fit; a removal
    then does about 1 / (1 - leverage) of what its score says.

    Cost: p products with H and p^3 operations.
    """
    H = Hessian(problem, problem.positions, batch_size=1000)
    p = problem.space.size
    units = torch.eye(p).to(problem.theta).split(TOGETHER, dim=1)
    matrix = torch.cat([products_of(H, unit) for unit in units], dim=1)
    inverse = float(torch.linalg.inv(matrix).trace())
    return (p - problem.weight_decay * inverse) / problem.n

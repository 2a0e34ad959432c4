"""Leverage: how much of each sample's own curvature is in the Hessian that predicts its removal."""

from __future__ import annotations

import torch

from gifcore.curvature import Hessian
from gifcore.problem import Problem
from gifcore.solvers import CG

PROBES = 16
DENSE = 2000  # parameters, at most, for the exact trace


def mean_leverage(problem: Problem) -> tuple[float, bool]:
    """Return tr((H - wd I) H^-1) / n, H positive definite, and whether it is exact.

    It is 0 where a sample bends nothing and reaches 1 where each decides its own fit; a removal
    then does about 1 / (1 - leverage) of what its score says.

    Cost: p products with H, or a CG solve a probe.
    """
    H = Hessian(problem, problem.positions, batch_size=1000)
    p = problem.space.size
    if p <= DENSE:
        matrix = torch.stack([H @ unit for unit in torch.eye(p).to(problem.theta)])
        inverse = float(torch.linalg.inv(matrix).trace())
        return (p - problem.weight_decay * inverse) / problem.n, True
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (p, PROBES), generator=generator).to(problem.theta) * 2 - 1
    found = CG(1000, 1e-3, reorthogonalise=0).solve_many(H, signs)
    inverse = sum(float(signs[:, i] @ one.value) for i, one in enumerate(found)) / PROBES
    return (p - problem.weight_decay * inverse) / problem.n, False

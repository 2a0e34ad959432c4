"""A model that was trained again: what every recipe gives."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gifcore.problem import Problem


@dataclass(frozen=True, eq=False)
class Retrained:
    """Parameters of a model trained on changed data, and how far its training got.

    Args:
        theta: (p,).
        gradient_norm: of the objective it minimises, at theta.
        converged: is it at most the tolerance? None: SGD, which has no tolerance.
        steps: evaluations of the objective, or SGD steps.
        seconds: that its training took, whenever that was.
        cached: was it read from the cache?
        key: its content hash, the name of its file in a cache; "" without a cache.
        note: what went wrong on the way, such as a lost process; "" if nothing did.
        buffers: statistics that SGD learnt beside theta, as batch norm's; empty: the problem's own.
    """

    theta: Tensor
    gradient_norm: float
    converged: bool | None
    steps: int
    seconds: float
    cached: bool = False
    key: str = ""
    note: str = ""
    buffers: dict[str, Tensor] = field(default_factory=dict)

    def problem(self, problem: Problem) -> Problem:
        """Return the problem at these parameters and statistics; the caller's model stays.

        Its data are those of `problem`: the changed ones, or those as they are.
        """
        model = copy.deepcopy(problem.model)
        named = problem.space.unflatten(self.theta.to(problem.theta))
        held = dict(model.named_buffers())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(named[name])
            for name, value in self.buffers.items():
                held[name].copy_(value)
        return replace(problem, model=model)

"""Checkpoints of a training, for methods that sum over them: one, its file, reading it."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gifcore.errors import GifError
from gifcore.models.bundle import checkpoints_beside
from gifcore.parameters import ParameterSpace
from gifcore.problem import Problem


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The parameters at a moment of the training, and how far the steps before it went.

    Args:
        theta: (p,) parameters.
        rate: learning rate of a step; with momentum mu, the learning rate / (1 - mu) that a
            gradient adds up to.
        steps: optimiser steps that this checkpoint stands for.
    """

    theta: Tensor
    rate: float
    steps: int

    def problem(self, problem: Problem) -> Problem:
        """Return the problem at these parameters; the caller's model is not touched.

        Raises:
            GifError: parameters of another model.
        """
        if self.theta.shape != problem.theta.shape:
            raise GifError(
                f"A checkpoint holds {len(self.theta)} parameters, the model "
                f"{len(problem.theta)}; give those of this model's training."
            )
        model = copy.deepcopy(problem.model)
        named = problem.space.unflatten(self.theta.to(problem.theta))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(named[name])
        return replace(problem, model=model)


def as_bytes(checkpoints: Sequence[Checkpoint]) -> bytes:
    """Return the content of a checkpoints file: safetensors, rates and steps in its header."""
    header = {
        "rates": json.dumps([point.rate for point in checkpoints]),
        "steps": json.dumps([point.steps for point in checkpoints]),
    }
    return save({"theta": torch.stack([point.theta.cpu() for point in checkpoints])}, header)


def read_checkpoints(weights: Path, space: ParameterSpace) -> tuple[Checkpoint, ...]:
    """Return the checkpoints that were saved beside these weights.

    Raises:
        GifError: there are none, they are damaged, or they are of another model.
    """
    path = checkpoints_beside(weights)
    if not path.is_file():
        raise GifError(
            f"tracin needs checkpoints of the training and there is no {path.name} beside "
            f"{weights}: train with `python -m gifcore train --checkpoints N`, or leave tracin out."
        )
    try:
        with safe_open(path, framework="pt") as file:
            thetas, header = file.get_tensor("theta"), file.metadata()
        rates, steps = json.loads(header["rates"]), json.loads(header["steps"])
        points = zip(thetas, rates, steps, strict=True)
        found = tuple(Checkpoint(theta, float(rate), int(n)) for theta, rate, n in points)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise GifError(f"{path} is no checkpoints file ({error}); train again.") from None
    if thetas.dim() != 2 or thetas.shape[1] != space.size:
        raise GifError(
            f"{path} holds parameters of shape {tuple(thetas.shape)}, the model has {space.size}; "
            "train again."
        )
    return found

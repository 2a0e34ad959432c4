"""Unit scores: how strongly each output unit of each layer responds to the target data.

A unit is an output channel of a convolution or an output neuron of a linear layer.
Reference: Lyu et al. 2023 (arXiv 2312.05586), code of the parameter selection.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gifcore.errors import GifError
from gifcore.problem import Problem, engine_mode

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers whose parameters can be selected, by name; never normalisation layers."""
    found: dict[str, nn.Module] = {
        name: m for name, m in model.named_modules() if isinstance(m, LAYERS)
    }
    if not found:
        raise GifError("The model has no convolution or linear layer; selectors need one.")
    return found


def mean_outputs(problem: Problem, samples: Tensor, *, batch_size: int = 256) -> dict[str, Tensor]:
    """Return |mean over samples and positions of each unit's output|, by layer, (units,).

    The output is taken before normalisation and activation. Cost: one forward pass.
    """
    return _accumulate(problem, samples, batch_size, of_gradient=False)


def mean_output_gradients(
    problem: Problem, samples: Tensor, *, batch_size: int = 256
) -> dict[str, Tensor]:
    """Return |mean over samples and positions of d l_i / d output| of each unit, (units,).

    l_i is the sample's own loss; the published code differentiates the mean loss, which divides
    every score by the same number. Cost: one forward and backward pass.
    """
    return _accumulate(problem, samples, batch_size, of_gradient=True)


def _accumulate(
    problem: Problem, samples: Tensor, batch_size: int, *, of_gradient: bool
) -> dict[str, Tensor]:
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    with engine_mode(problem.model):
        for batch in problem.batches(samples, batch_size):
            with _captured(problem.model) as outputs:
                losses = problem.losses(problem.leaves(), batch)
            values = _gradients(losses, outputs) if of_gradient else outputs
            for name, value in values.items():
                unit_dim = 1 if not isinstance(layers(problem.model)[name], nn.Linear) else -1
                flat = value.detach().movedim(unit_dim, 0).flatten(1)  # (units, b * positions)
                sums[name] = sums.get(name, 0) + flat.sum(1)
                counts[name] = counts.get(name, 0) + flat.shape[1]
    return {name: (sums[name] / counts[name]).abs() for name in sums}


def _gradients(losses: Tensor, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    gradients = torch.autograd.grad(losses.sum(), list(outputs.values()), allow_unused=True)
    return {
        name: torch.zeros_like(output) if gradient is None else gradient
        for (name, output), gradient in zip(outputs.items(), gradients, strict=True)
    }


@contextmanager
def _captured(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the output of every selectable layer; hooks are gone afterwards."""
    outputs: dict[str, Tensor] = {}
    handles = [
        layer.register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs.__setitem__(name, output)
        )
        for name, layer in layers(model).items()
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()

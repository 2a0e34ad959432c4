"""Scores: how much each unit, or block of units, of each layer matters to the target data.

Units are described in layers.py. Outputs are taken before normalisation and activation. All
samples count alike, whatever their weights in the objective.
Reference: Lyu et al. 2023 (arXiv 2312.05586), code of the parameter selection; CAPS: the same
authors' benchmark of 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from gifcore.checks import not_finite
from gifcore.errors import GifError
from gifcore.parameters import ParameterSpace
from gifcore.problem import Problem, Progress, engine_mode, silent
from gifcore.selection.layers import Layer, filtered, layers_of

CAPS_BATCH = 128  # of the published batch form of the Fisher
CAPS_FLOOR = 1e-6
CAPS_DEAD = 1e-12


class Score(Protocol):
    """A score of units, or of CAPS blocks, by layer; a layer that it cannot score is left out."""

    def __call__(
        self,
        problem: Problem,
        samples: Tensor,
        layers: Sequence[Layer] | None = None,
        *,
        progress: Progress = silent,
    ) -> dict[str, Tensor]: ...


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that are selected unless asked otherwise, by name: PUBLISHED kinds."""
    chosen = filtered(layers_of(model, ParameterSpace.of(model)), None, None, norms=False)
    return {layer.name: layer.module for layer in chosen if layer.module}


# --- responses: outputs and their gradients -------------------------------------------------------


def mean_outputs(
    problem: Problem,
    samples: Tensor,
    layers: Sequence[Layer] | None = None,
    *,
    batch_size: int = 256,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """Return |mean over samples and positions of each unit's output|, by layer, (units,).

    Cost: one forward pass.
    """
    return _responses(problem, samples, layers, batch_size, progress)


def mean_output_gradients(
    problem: Problem,
    samples: Tensor,
    layers: Sequence[Layer] | None = None,
    *,
    batch_size: int = 256,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """Return |mean over samples and positions of d l_i / d output| of each unit, (units,).

    l_i is the sample's own loss; the published code differentiates the mean loss, which divides
    every score by the same number. Cost: one forward and backward pass.
    """
    return _responses(problem, samples, layers, batch_size, progress, of_gradient=True)


def mean_absolute_outputs(
    problem: Problem,
    samples: Tensor,
    layers: Sequence[Layer] | None = None,
    *,
    batch_size: int = 256,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """Return the mean over samples and positions of |output| of each unit, (units,).

    Opposite signs do not cancel, as they do in `mean_outputs`. Cost: one forward pass.
    """
    return _responses(problem, samples, layers, batch_size, progress, absolute=True)


def mean_absolute_output_gradients(
    problem: Problem,
    samples: Tensor,
    layers: Sequence[Layer] | None = None,
    *,
    batch_size: int = 256,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """Return the mean over samples and positions of |d l_i / d output| of each unit, (units,).

    Cost: one forward and backward pass.
    """
    return _responses(
        problem, samples, layers, batch_size, progress, of_gradient=True, absolute=True
    )


def _responses(
    problem: Problem,
    samples: Tensor,
    layers: Sequence[Layer] | None,
    batch_size: int,
    progress: Progress,
    *,
    of_gradient: bool = False,
    absolute: bool = False,
) -> dict[str, Tensor]:
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    chosen = {layer.name: layer for layer in _layers(problem, layers)}
    done = 0
    with engine_mode(problem.model):
        for batch in problem.batches(_there(samples), batch_size):
            with _captured(list(chosen.values())) as outputs:
                losses = problem.losses(problem.leaves(), batch)
            values = _gradients(losses, outputs) if of_gradient else outputs
            for name, value in values:
                units = value.detach().movedim(chosen[name].unit_dim, 0)
                flat = units.reshape(chosen[name].units, -1)  # (units, b * positions)
                flat = flat.abs() if absolute else flat
                sums[name] = sums.get(name, 0) + flat.sum(1)
                counts[name] = counts.get(name, 0) + flat.shape[1]
            done += len(losses)
            progress(done, len(samples), "unit scores")
    for name, value in sums.items():
        if not bool(torch.isfinite(value).all()):
            raise not_finite(problem, _there(samples)) or GifError(
                f"The outputs of layer '{name}' or their gradients hold NaN or infinity; check "
                "the inputs and the weights."
            )
    return {name: (sums[name] / counts[name]).abs() for name in sums}


def _gradients(losses: Tensor, outputs: list[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
    live = [output for _, output in outputs if output.requires_grad]
    gradients = iter(torch.autograd.grad(losses.sum(), live, allow_unused=True) if live else ())
    found = []
    for name, output in outputs:
        gradient = next(gradients) if output.requires_grad else None
        found.append((name, torch.zeros_like(output) if gradient is None else gradient))
    return found


@contextmanager
def _captured(layers: Sequence[Layer]) -> Iterator[list[tuple[str, Tensor]]]:
    """Collect the outputs of every call of these layers; hooks are gone afterwards.

    The model goes on with a copy: an activation may overwrite what it is given.
    """
    outputs: list[tuple[str, Tensor]] = []

    def collector(name: str) -> Callable[..., Tensor]:
        def collect(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            outputs.append((name, output))
            return output.clone()

        return collect

    handles = [
        layer.module.register_forward_hook(collector(layer.name))
        for layer in layers
        if layer.module is not None
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


# --- parameters and their Fisher ------------------------------------------------------------------


def magnitudes(
    problem: Problem,
    samples: Tensor,  # noqa: ARG001 - a score needs no data to be one
    layers: Sequence[Layer] | None = None,
    *,
    progress: Progress = silent,  # noqa: ARG001
) -> dict[str, Tensor]:
    """Return the mean |w| over the weights of each unit, (units,); the bias does not count."""
    theta = problem.theta.abs()
    return {
        layer.name: theta[layer.weight.slice].view(layer.units, -1).mean(1)
        for layer in _layers(problem, layers)
        if layer.weight
    }


def fisher(
    problem: Problem,
    samples: Tensor,
    layers: Sequence[Layer] | None = None,
    *,
    batch_size: int = 1,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """Return the mean of the diagonal Fisher over the parameters of each unit, (units,).

    A layer whose Fisher is zero everywhere is not reached by the loss and left out.
    Cost: that of `diagonal_fisher`.
    """
    diagonal = diagonal_fisher(problem, samples, batch_size=batch_size, progress=progress)
    means = {
        layer.name: diagonal[layer.members.to(diagonal.device)].mean(1)
        for layer in _layers(problem, layers)
    }
    return {name: mean for name, mean in means.items() if bool(mean.any())}


def diagonal_fisher(
    problem: Problem, samples: Tensor, *, batch_size: int = 1, progress: Progress = silent
) -> Tensor:
    """Return the mean over batches of (mean gradient of the batch)^2, entry by entry, (p,).

    With `batch_size` 1 this is diag((1/m) sum g_i g_i^T), the uncentred diagonal Fisher at the true
    labels. A larger one is the published shortcut: close to the Fisher / batch_size plus the
    squared mean gradient; a shorter last batch counts as much as any other, as published.

    Memory: one gradient at a time. Cost: m / batch_size backward passes.
    """
    total = torch.zeros_like(problem.theta)
    parameters = problem.leaves()
    done, batches = 0, 0
    with engine_mode(problem.model):
        for batch in problem.batches(_there(samples), batch_size):
            losses = problem.losses(parameters, batch)
            total += problem.flat_gradient(losses.mean(), parameters).square()
            done, batches = done + len(losses), batches + 1
            progress(done, len(samples), "diagonal Fisher")
    if not bool(torch.isfinite(total).all()):
        raise GifError("The Fisher holds NaN or infinity; check the inputs and the weights.")
    return total / batches


def caps_blocks(
    problem: Problem,
    samples: Tensor,
    layers: Sequence[Layer] | None = None,
    *,
    batch_size: int = CAPS_BATCH,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """Return sum g_target^2 / (F_retain + 1e-6) over each block, by layer, (blocks,).

    g_target is the mean gradient on the target data, F_retain the diagonal Fisher of the other
    training samples: in batches of 128 as published, or exactly with `batch_size` 1. A block is an
    output channel, an output row or an attention head of the queries, keys or values, its biases
    included. A block whose mean Fisher is below 1e-12 gets NaN: it must be skipped.

    Cost: two passes of gradients, one over the target and one over the retained data.
    """
    retained = problem.positions[~torch.isin(problem.positions, _there(samples))]
    if len(retained) == 0:
        raise GifError(
            "The change touches every training sample, so CAPS has no retained data for its "
            "Fisher; choose another selector."
        )
    gradient = problem.weighted_gradient(
        samples,
        problem.theta.new_full((len(samples),), 1 / len(samples)),
        batch_size=batch_size,
        progress=progress,
    )
    F = diagonal_fisher(problem, retained, batch_size=batch_size, progress=progress)  # noqa: N806
    gains = gradient.square() / (F + CAPS_FLOOR)
    found = {}
    for layer in _layers(problem, layers):
        blocks = [block.to(F.device) for block in layer.blocks()]
        score = torch.stack([gains[block].sum() for block in blocks])
        information = torch.stack([F[block].mean() for block in blocks])
        found[layer.name] = score.masked_fill(information < CAPS_DEAD, torch.nan)
    return found


def _layers(problem: Problem, layers: Sequence[Layer] | None) -> Sequence[Layer]:
    if layers is not None:
        return layers
    return filtered(layers_of(problem.model, problem.space), None, None, norms=False)


def _there(samples: Tensor) -> Tensor:
    if len(samples) == 0:
        raise GifError(
            "The change names no training sample to score units on; choose a selector without "
            "data, such as highest-k-magnitude or random."
        )
    return samples

"""Which training samples excite each unit most: what a unit of the network looks for.

A unit is an output channel of a convolution or an output of a linear layer (`selection.layers`).
Its activation on a sample is its mean output over all places of the sample, before whatever
follows it, in the unedited model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gifcore.features import PASS_SIZE
from gifcore.problem import Problem, Progress, engine_mode, fetch, silent
from gifcore.selection.layers import PUBLISHED, Layer, layers_of

TOP = 12  # samples kept a unit
COLUMNS = ("layer", "unit", "place", "train_index", "activation")


def most_exciting(
    problem: Problem,
    *,
    top: int = TOP,
    batch_size: int = PASS_SIZE,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Return the training samples of the largest mean output of every unit.

    activation = mean over places of the unit's output; a larger one first, ties by position.

    Layers are convolutions and linear layers that are called once in a forward pass and give one
    row a sample; others are left out.

    Returns:
        layer, unit, place (0 = most), train_index, activation (units of the layer's output).

    Cost: one forward pass over the training samples that count. Memory: one batch and `top`
    samples a unit.
    """
    found = layers_of(problem.model, problem.space)
    watched = [one for one in found.values() if one.kind in PUBLISHED and one.module is not None]
    best: dict[str, tuple[Tensor, Tensor]] = {}  # layer -> activation, position (kept, units)
    parameters, done = problem.space.unflatten(problem.theta), 0
    for part in problem.positions.split(batch_size):
        seen = _means(problem, parameters, fetch(problem.train, part, problem.device), watched)
        for name, means in seen.items():
            known = best.get(name, (means[:0], part.new_zeros(means[:0].shape)))
            activation = torch.cat([known[0], means])
            where = torch.cat([known[1], part[:, None].expand(means.shape)])
            order = activation.cpu().argsort(dim=0, descending=True, stable=True)[:top]
            best[name] = (activation.gather(0, order.to(means.device)), where.gather(0, order))
        done += len(part)
        progress(done, problem.n, "what excites each unit")
    frames = [_frame(one.name, *best[one.name]) for one in watched if one.name in best]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))


def _means(
    problem: Problem, parameters: dict[str, Tensor], batch: object, watched: list[Layer]
) -> dict[str, Tensor]:
    """Return the mean outputs of every layer, (b, units) each."""
    seen: dict[str, list[Tensor]] = {one.name: [] for one in watched}

    def noting(one: Layer) -> Callable[..., None]:
        def note(_module: nn.Module, _given: object, output: Tensor) -> None:
            units = output.detach().movedim(one.unit_dim, -1)
            seen[one.name].append(units.reshape(len(units), -1, units.shape[-1]).mean(dim=1))

        return note

    handles = [one.module.register_forward_hook(noting(one)) for one in watched if one.module]
    try:
        with engine_mode(problem.model), torch.no_grad():
            count = len(problem.outputs(parameters, batch))
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: means[0] for name, means in seen.items() if len(means) == 1 and len(means[0]) == count
    }


def _frame(layer: str, activation: Tensor, where: Tensor) -> pd.DataFrame:
    places, units = activation.shape
    return pd.DataFrame(
        {
            "layer": layer,
            "unit": np.repeat(np.arange(units, dtype=np.int32), places),
            "place": np.tile(np.arange(places, dtype=np.int32), units),
            "train_index": where.T.reshape(-1).cpu().numpy().astype(np.int32),
            "activation": activation.T.reshape(-1).float().cpu().numpy(),
        }
    )

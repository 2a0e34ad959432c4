"""Rules: which weights of a layer are taken, given its unit scores and its quota.

The quota of a layer is the ratio of its own parameters (weights and bias), rounded down.
Reference: Lyu et al. 2023 (arXiv 2312.05586), code of the parameter selection.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gifcore.parameters import Block, ParameterSpace


def quota(ratio: float, count: int) -> int:
    """Return int(ratio * count), safe from binary fractions (0.29 * 100 is 29, not 28)."""
    return int(round(ratio * count, 9))


def block_of(space: ParameterSpace, layer: str, kind: str) -> Block | None:
    """Return where a layer's weight or bias lies; None if it has none, or not its own (tied)."""
    return space.by_name.get(f"{layer}.{kind}" if layer else kind)


def ranked_units(
    layer: str,
    space: ParameterSpace,
    scores: Tensor,  # (units,)
    ratio: float,
    *,
    highest: bool,
    generator: torch.Generator,
) -> Tensor:
    """Return flat indices: whole units by score, the rest random weights of the next unit."""
    weight, bias = block_of(space, layer, "weight"), block_of(space, layer, "bias")
    if weight is None:
        return torch.empty(0, dtype=torch.long)
    units = weight.shape[0]
    fan_in = weight.size // units
    k = quota(ratio, weight.size + (bias.size if bias else 0))
    whole, rest = divmod(k, fan_in + (1 if bias else 0))
    order = torch.argsort(scores.cpu(), descending=highest, stable=True)
    taken = [weight.offset + int(u) * fan_in + torch.arange(fan_in) for u in order[:whole]]
    if bias:
        taken.append(bias.offset + order[:whole])
    if rest and whole < units:  # at most fan_in weights remain, never the bias
        some = torch.randperm(fan_in, generator=generator)[:rest]
        taken.append(weight.offset + int(order[whole]) * fan_in + some)
    return torch.cat(taken) if taken else torch.empty(0, dtype=torch.long)


def random_weights(
    layer: str,
    space: ParameterSpace,
    ratio: float,
    *,
    generator: torch.Generator,
) -> Tensor:
    """Return flat indices: int(ratio |W|) random weights and int(ratio |b|) random biases."""
    taken = [torch.empty(0, dtype=torch.long)]
    for kind in ("weight", "bias"):
        block = block_of(space, layer, kind)
        if block is not None:
            order = torch.randperm(block.size, generator=generator)
            taken.append(block.offset + order[: quota(ratio, block.size)])
    return torch.cat(taken)

"""Rules: which parameters of the layers are taken, given scores and a share.

With the budget "layer" every layer gets the same share of its own parameters, rounded down, as
published; with "global" one budget is shared and all units compete.
Reference: Lyu et al. 2023 (arXiv 2312.05586), code of the parameter selection; greedy: CAPS, the
same authors' benchmark of 2026.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.parameters import Block
from gifcore.quota import quota
from gifcore.selection.layers import Layer


@dataclass(frozen=True, eq=False)
class Terms:
    """What a rule is asked for: a share, how it is counted, and the seeded generator."""

    ratio: float
    budget: str  # "layer" or "global"
    generator: torch.Generator


Rule = Callable[[Sequence[Layer], dict[str, Tensor], Terms], list[Tensor]]


# --- units that compete for one quota -------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Group:
    """The units of one or more layers, which share a quota of k parameters."""

    layers: Sequence[Layer]
    scores: Tensor  # (units,) layer after layer
    k: int

    @property
    def units(self) -> list[tuple[Layer, int]]:
        return [(layer, u) for layer in self.layers for u in range(layer.units)]

    @property
    def sizes(self) -> Tensor:
        """Parameters of every unit, (units,)."""
        return torch.cat(
            [torch.full((layer.units,), layer.size // layer.units) for layer in self.layers]
        )

    def ranked(self, *, highest: bool) -> Tensor:
        """Return the units by score, (units,); among equals the first comes first."""
        return torch.argsort(self.scores, descending=highest, stable=True)


def groups(layers: Sequence[Layer], scores: dict[str, Tensor], terms: Terms) -> Iterator[Group]:
    """Yield what competes: every scored layer for itself, or all of them together.

    A layer whose weight is tied to an earlier layer's has no units of its own.
    """
    scored = [layer for layer in layers if layer.weight and layer.name in scores]
    parts = [[layer] for layer in scored] if terms.budget == "layer" else [scored] if scored else []
    for part in parts:
        k = quota(terms.ratio, sum(layer.size for layer in part))
        yield Group(part, torch.cat([scores[layer.name].cpu() for layer in part]), k)


def fill(group: Group, order: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Return k flat indices: whole units in this order, the rest random weights of the next."""
    taken, left, units = [], group.k, group.units
    for place in order.tolist():
        layer, u = units[place]
        members = layer.members[u]
        if len(members) > left:
            if left:  # at most fan_in weights remain, never the bias
                some = torch.randperm(layer.fan_in, generator=generator)[:left]
                taken.append(members[some])
            break
        taken.append(members)
        left -= len(members)
    return taken


# --- rules on units -------------------------------------------------------------------------------


def highest_k(layers: Sequence[Layer], scores: dict[str, Tensor], terms: Terms) -> list[Tensor]:
    """Whole units by score, the highest first; the rest random weights of the next unit."""
    return [
        part
        for group in groups(layers, scores, terms)
        for part in fill(group, group.ranked(highest=True), terms.generator)
    ]


def lowest_k(layers: Sequence[Layer], scores: dict[str, Tensor], terms: Terms) -> list[Tensor]:
    """Whole units by score, the lowest first; the rest random weights of the next unit."""
    return [
        part
        for group in groups(layers, scores, terms)
        for part in fill(group, group.ranked(highest=False), terms.generator)
    ]


def exclusive_k(layers: Sequence[Layer], scores: dict[str, Tensor], terms: Terms) -> list[Tensor]:
    """Random units outside those that `highest_k` takes, the rest random weights of another.

    The unit that `highest_k` takes in part is outside too, unless the others are too few.

    Raises:
        GifError: a ratio above 0.5, where not enough units are outside.
    """
    if terms.ratio > 0.5:
        raise GifError(
            f"The ratio is {terms.ratio}; an exclusive selector takes units outside the top, which "
            "works up to 0.5."
        )
    taken = []
    for group in groups(layers, scores, terms):
        order = group.ranked(highest=True)
        ends = group.sizes[order].cumsum(0)
        whole = int((ends <= group.k).sum())
        touched = int((ends - group.sizes[order] < group.k).sum())
        enough = int(ends[-1] - ends[touched - 1]) >= group.k if touched else True
        outside = order[touched if enough else whole :]
        shuffled = outside[torch.randperm(len(outside), generator=terms.generator)]
        taken += fill(group, shuffled, terms.generator)
    return taken


def threshold(layers: Sequence[Layer], scores: dict[str, Tensor], terms: Terms) -> list[Tensor]:
    """Random weights and biases of the units whose score is above a falling threshold.

    It starts at 1.00 and falls by 0.01 until the units above it hold the quota. As published it is
    shared: for the next layer it goes on from there and never rises, so a layer's choice depends on
    the layers before it.
    """
    taken, hundredths = [], 100
    for group in groups(layers, scores, terms):
        sizes = group.sizes
        while int(sizes[group.scores > hundredths / 100].sum()) < group.k:
            hundredths -= 1  # ends below 0 at the latest: scores are not negative
        above = (group.scores > hundredths / 100).nonzero().flatten().tolist()
        units = group.units
        pool = [units[place][0].members[units[place][1]] for place in above]
        if group.k:
            taken.append(_draw(torch.cat(pool), group.k, terms.generator))
    return taken


# --- rules on single parameters -------------------------------------------------------------------


def random_k(layers: Sequence[Layer], scores: dict[str, Tensor], terms: Terms) -> list[Tensor]:  # noqa: ARG001
    """int(ratio |W|) random weights and int(ratio |b|) random biases of every layer.

    With a global budget: int(ratio p) random parameters of all the layers.
    """
    tensors = [_range(block) for layer in layers for block in (layer.weight, layer.bias) if block]
    pools = tensors if terms.budget == "layer" else [torch.cat(tensors)]
    return [_draw(pool, quota(terms.ratio, len(pool)), terms.generator) for pool in pools]


def everything(layers: Sequence[Layer], scores: dict[str, Tensor], terms: Terms) -> list[Tensor]:  # noqa: ARG001
    """Every parameter of the layers; the ratio does not count."""
    return [_range(block) for layer in layers for block in (layer.weight, layer.bias) if block]


def _range(block: Block) -> Tensor:
    return block.offset + torch.arange(block.size)


def _draw(pool: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return pool[torch.randperm(len(pool), generator=generator)[:count]]


# --- rules on blocks ------------------------------------------------------------------------------


def greedy_highest(
    layers: Sequence[Layer], scores: dict[str, Tensor], terms: Terms
) -> list[Tensor]:
    """Whole blocks by score per parameter, the highest first, in a budget split over layers."""
    return _greedy(layers, scores, terms, highest=True)


def greedy_lowest(layers: Sequence[Layer], scores: dict[str, Tensor], terms: Terms) -> list[Tensor]:
    """Whole blocks by score per parameter, the lowest first, in a budget split over layers."""
    return _greedy(layers, scores, terms, highest=False)


def _greedy(
    layers: Sequence[Layer], scores: dict[str, Tensor], terms: Terms, *, highest: bool
) -> list[Tensor]:
    """The budget is the share of all the layers' parameters, at most those of blocks with a score.

    Budget "layer" (published): split in proportion to the layers' parameters in scored blocks, by
    largest remainder; each layer takes the blocks that fit; what is left over is pooled and filled
    by the best blocks of any layer that still fit. Budget "global": all blocks compete at once.
    What remains is smaller than every block that was not taken.
    """
    by_layer = [
        [
            (score / len(block), block)
            for block, score in zip(layer.blocks(), scores[layer.name].tolist(), strict=True)
            if not math.isnan(score)
        ]
        for layer in layers
    ]
    selectable = [sum(len(block) for _, block in blocks) for blocks in by_layer]
    if not any(selectable):
        raise GifError(
            "CAPS skips every block of these layers: the loss does not reach them; choose others."
        )
    budget = min(quota(terms.ratio, sum(layer.size for layer in layers)), sum(selectable))
    shares = (
        largest_remainder(budget, selectable) if terms.budget == "layer" else [0] * len(selectable)
    )
    taken: list[Tensor] = []
    rest: list[tuple[float, Tensor]] = []
    for blocks, share in zip(by_layer, shares, strict=True):
        fits, others = _pack(blocks, share, highest=highest)
        taken += fits
        rest += others
    left = budget - sum(len(block) for block in taken)
    return taken + _pack(rest, left, highest=highest)[0]


def _pack(
    blocks: list[tuple[float, Tensor]], budget: int, *, highest: bool
) -> tuple[list[Tensor], list[tuple[float, Tensor]]]:
    """Return the blocks that fit, in the order of their density, and the others."""
    taken, others = [], []
    for density, block in sorted(blocks, key=lambda b: -b[0] if highest else b[0]):
        if len(block) <= budget:
            taken.append(block)
            budget -= len(block)
        else:
            others.append((density, block))
    return taken, others


def largest_remainder(total: int, weights: Sequence[int]) -> list[int]:
    """Split a whole number in proportion to weights, in whole numbers that add up to it.

    Everyone gets the floor of the exact share; the rest goes, one each, to the largest remainders,
    among equals to the first.

    >>> largest_remainder(10, [5, 5, 1])
    [5, 4, 1]
    """
    if not any(weights):
        return [0] * len(weights)
    shares = [divmod(total * weight, sum(weights)) for weight in weights]
    order = sorted(range(len(weights)), key=lambda i: -shares[i][1])
    more = set(order[: total - sum(share for share, _ in shares)])
    return [share + (i in more) for i, (share, _) in enumerate(shares)]

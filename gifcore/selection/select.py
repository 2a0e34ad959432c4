"""Selection: the sorted flat indices J of the parameters that may move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gifcore.change import Change
from gifcore.errors import GifError
from gifcore.operators import Embedding
from gifcore.parameters import ParameterSpace
from gifcore.problem import Problem
from gifcore.selection import rules, scores

UnitScores = Callable[[Problem, Tensor], dict[str, Tensor]]

# name -> (unit score or None for no score, take the highest?)
SELECTORS: dict[str, tuple[UnitScores | None, bool]] = {
    "highest-k-gradients": (scores.mean_output_gradients, True),
    "highest-k-outputs": (scores.mean_outputs, True),
    "lowest-k-gradients": (scores.mean_output_gradients, False),
    "lowest-k-outputs": (scores.mean_outputs, False),
    "random": (None, False),
}


@dataclass(frozen=True, eq=False)
class Selection:
    """J, sorted, with the settings that reproduce it.

    Args:
        indices: (k,) sorted distinct flat indices, in the order of `named_parameters()`.
    """

    indices: Tensor
    space: ParameterSpace
    selector: str
    ratio: float
    seed: int

    @property
    def k(self) -> int:
        return len(self.indices)

    @property
    def embedding(self) -> Embedding:
        """E, (p, k)."""
        return Embedding(self.indices, self.space.size)

    def by_layer(self) -> dict[str, int]:
        """Return how many numbers of each named tensor are selected."""
        edges = torch.tensor([b.offset for b in self.space.blocks] + [self.space.size])
        counts = torch.searchsorted(self.indices.cpu(), edges).diff()
        return {b.name: int(c) for b, c in zip(self.space.blocks, counts, strict=True)}


def select(
    problem: Problem,
    change: Change,
    *,
    selector: str = "highest-k-gradients",
    ratio: float = 0.05,
    seed: int = 0,
) -> Selection:
    """Select a share of every convolution and linear layer by its response to the changed data.

    Args:
        change: its samples are the target data that the units are scored on.
        selector: a name of SELECTORS.
        ratio: share of each layer's parameters, in (0, 1]; 1 takes these layers whole.
        seed: for the random rule and for the rest of a unit that is taken in part.

    Raises:
        GifError: an unknown selector, a ratio outside (0, 1], or nothing selected.

    Reference: Lyu et al. 2023 (arXiv 2312.05586). Cost: at most one forward and backward pass
    over the changed samples.
    """
    if selector not in SELECTORS:
        raise GifError(f"Unknown selector '{selector}'; choose one of: {', '.join(SELECTORS)}.")
    if not 0 < ratio <= 1:
        raise GifError(f"The ratio is {ratio}; choose one above 0 and at most 1, such as 0.05.")
    score, highest = SELECTORS[selector]
    generator = torch.Generator().manual_seed(seed)
    by_layer = score(problem, change.samples(problem)) if score else {}
    parts = []
    for name in scores.layers(problem.model):
        if score is None:
            part = rules.random_weights(name, problem.space, ratio, generator=generator)
        elif name in by_layer:
            part = rules.ranked_units(
                name,
                problem.space,
                by_layer[name],
                ratio,
                highest=highest,
                generator=generator,
            )
        else:
            continue  # the loss does not reach this layer
        parts.append(part)
    indices = torch.cat(parts).sort().values
    if len(indices) == 0:
        raise GifError(f"The ratio {ratio} selects no parameter in any layer; raise it.")
    return Selection(indices.to(problem.device), problem.space, selector, ratio, seed)

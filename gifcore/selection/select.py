"""select: the table of selectors, each a score and a rule, and the one call that runs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gifcore.change import Change
from gifcore.errors import GifError
from gifcore.problem import Problem, Progress, silent
from gifcore.selection import rules, scores
from gifcore.selection.layers import filtered, layers_of
from gifcore.selection.selection import Selection

BUDGETS = ("layer", "global")


@dataclass(frozen=True)
class Selector:
    """One row of SELECTORS: which score, if any, which rule, and a line for people."""

    score: scores.Score | None
    rule: rules.Rule
    text: str


SELECTORS: dict[str, Selector] = {
    "highest-k-gradients": Selector(
        scores.mean_output_gradients,
        rules.highest_k,
        "Units whose mean output gradient on the target data is largest",
    ),
    "highest-k-outputs": Selector(
        scores.mean_outputs,
        rules.highest_k,
        "Units whose mean output on the target data is largest",
    ),
    "lowest-k-gradients": Selector(
        scores.mean_output_gradients,
        rules.lowest_k,
        "Units whose mean output gradient on the target data is smallest",
    ),
    "lowest-k-outputs": Selector(
        scores.mean_outputs,
        rules.lowest_k,
        "Units whose mean output on the target data is smallest",
    ),
    "random": Selector(None, rules.random_k, "Random single weights and biases of every layer"),
    "exclusive-k-gradients": Selector(
        scores.mean_output_gradients,
        rules.exclusive_k,
        "Random units outside those with the largest mean output gradient",
    ),
    "exclusive-k-outputs": Selector(
        scores.mean_outputs,
        rules.exclusive_k,
        "Random units outside those with the largest mean output",
    ),
    "threshold": Selector(
        scores.mean_outputs,
        rules.threshold,
        "Random weights of units whose mean output is above a falling threshold",
    ),
    "caps": Selector(
        scores.caps_blocks,
        rules.greedy_highest,
        "Whole blocks with the most target gradient for their Fisher on the retained data",
    ),
    "reverse-caps": Selector(
        scores.caps_blocks,
        rules.greedy_lowest,
        "Whole blocks with the least target gradient for their Fisher on the retained data",
    ),
    "highest-k-absolute-gradients": Selector(
        scores.mean_absolute_output_gradients,
        rules.highest_k,
        "Units whose mean absolute output gradient on the target data is largest",
    ),
    "highest-k-absolute-outputs": Selector(
        scores.mean_absolute_outputs,
        rules.highest_k,
        "Units whose mean absolute output on the target data is largest",
    ),
    "lowest-k-absolute-gradients": Selector(
        scores.mean_absolute_output_gradients,
        rules.lowest_k,
        "Units whose mean absolute output gradient on the target data is smallest",
    ),
    "lowest-k-absolute-outputs": Selector(
        scores.mean_absolute_outputs,
        rules.lowest_k,
        "Units whose mean absolute output on the target data is smallest",
    ),
    "highest-k-magnitude": Selector(
        scores.magnitudes, rules.highest_k, "Units with the largest weights; uses no data"
    ),
    "lowest-k-magnitude": Selector(
        scores.magnitudes, rules.lowest_k, "Units with the smallest weights; uses no data"
    ),
    "highest-k-fisher": Selector(
        scores.fisher,
        rules.highest_k,
        "Units with the largest diagonal Fisher information of the target data",
    ),
    "lowest-k-fisher": Selector(
        scores.fisher,
        rules.lowest_k,
        "Units with the smallest diagonal Fisher information of the target data",
    ),
    "all": Selector(None, rules.everything, "Every parameter of the chosen layers"),
}


def select(
    problem: Problem,
    change: Change,
    *,
    selector: str = "highest-k-gradients",
    ratio: float = 0.05,
    seed: int = 0,
    layers: Sequence[str] | None = None,
    kinds: Sequence[str] | None = None,
    norms: bool = False,
    budget: str = "layer",
    progress: Progress = silent,
) -> Selection:
    """Select a share of the parameters by how their units respond to the changed data.

    Args:
        change: its samples are the target data that the units are scored on.
        selector: a name of SELECTORS.
        ratio: share of the parameters of the layers, in (0, 1]; `all` takes 1 whatever is given.
        seed: for the random rules and for the rest of a unit that is taken in part.
        layers: names of layers, of any kind; None: every layer of the kinds.
        kinds: of "conv", "linear", "norm", "embedding"; None: conv and linear.
        norms: normalisation layers too, each channel's weight and bias as one unit.
        budget: "layer": the share is counted in every layer (CAPS: split over them, what is left is
            pooled); "global": it is counted over all the layers, whose units compete.

    Scores of outputs do not know embeddings, attention projections and layers that are not called:
    such layers are left out, and refused where they were asked for by name.

    Raises:
        GifError: an unknown selector, layer, kind or budget, a ratio outside (0, 1], a layer asked
            for by name that the selector cannot score, or nothing selected.

    Reference: Lyu et al. 2023 (arXiv 2312.05586). Cost: that of the score; for the published ones
    at most one forward and backward pass over the changed samples.
    """
    if selector not in SELECTORS:
        raise GifError(f"Unknown selector '{selector}'; choose one of: {', '.join(SELECTORS)}.")
    if not 0 < ratio <= 1:
        raise GifError(f"The ratio is {ratio}; choose one above 0 and at most 1, such as 0.05.")
    if budget not in BUDGETS:
        raise GifError(f"Unknown budget '{budget}'; choose one of: {', '.join(BUDGETS)}.")
    row = SELECTORS[selector]
    chosen = filtered(layers_of(problem.model, problem.space), layers, kinds, norms=norms)
    found = {}
    if row.score:
        target = change.extended(problem), change.samples(problem)
        found = row.score(*target, chosen, progress=progress)
        unscored = [layer.name for layer in chosen if layer.name not in found]
        if unscored and (layers is not None or not found):
            raise GifError(
                f"The selector {selector} cannot score layer '{unscored[0]}' (the loss does not "
                "reach it, or no output of its units can be seen); leave it out or choose random."
            )
    ratio = 1.0 if row.rule is rules.everything else ratio
    terms = rules.Terms(ratio, budget, torch.Generator().manual_seed(seed))
    parts = row.rule(chosen, found, terms)
    if sum(len(part) for part in parts) == 0:
        raise GifError(f"The ratio {ratio} selects no parameter in any layer; raise it.")
    return Selection(
        torch.cat(parts).sort().values.to(problem.device),
        problem.space,
        selector,
        ratio,
        seed,
        None if layers is None else tuple(layers),
        None if kinds is None else tuple(kinds),
        norms,
        budget,
    )

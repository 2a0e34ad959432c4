"""Which samples a curvature is measured on: seeded draws, and how much they matter.

Every draw is without replacement, from the samples of the problem's objective. The strata of the
samplers beyond `uniform` are drawn from in proportion to their size, by largest remainder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.features import PASS_SIZE, features_of
from gifcore.problem import Problem, engine_mode, targets

CLUSTERS = 16  # of penultimate features
QUANTILES = 10  # of the entropy of the outputs

Stop = Callable[[], None]  # called once a batch; raises Cancelled
Strata = Callable[[Problem, int, int, Stop], Tensor]  # with count and seed -> strata, (n,)


def draw_samples(
    problem: Problem,
    count: int | None,
    seed: int,
    sampler: str = "uniform",
    stop: Stop | None = None,
) -> Tensor:
    """Return the positions of the curvature samples, sorted: one draw without replacement.

    None, or a count of at least n, means all training samples of the problem's objective.

    Args:
        sampler: `uniform`; `stratified` by class; `features`: clusters (k-means) of the inputs of
            the last linear layer; `entropy`: quantiles of the entropy of the softmax outputs.
        stop: called once a batch of a forward pass; raises Cancelled.

    Raises:
        GifError: a count below 1, an unknown sampler, or a model or data set that it cannot read.

    Cost: a forward pass over all n samples for `features` and `entropy`.
    """
    positions = problem.positions
    if sampler not in SAMPLERS:
        raise GifError(f"Unknown sampler '{sampler}'; choose one of: {', '.join(SAMPLERS)}.")
    if count is not None and not (isinstance(count, int | np.integer) and count >= 1):
        raise GifError(f"samples is {count}; a curvature needs a whole number of one or more.")
    if count is None or count >= problem.n:
        return positions
    generator = torch.Generator().manual_seed(seed)
    strata = SAMPLERS[sampler](problem, count, seed, stop or _go_on)
    sizes = torch.bincount(strata)
    chosen = []
    for stratum, quota in enumerate(_largest_remainder(sizes.tolist(), count)):
        members = (strata == stratum).nonzero().squeeze(1)
        order = torch.randperm(len(members), generator=generator)
        chosen.append(members[order[:quota]])
    return positions[torch.cat(chosen).sort().values]


def spread(updates: Sequence[Tensor]) -> dict[str, float]:
    """Return how far updates differ from one another, for example over seeds of the draw.

    cosine       mean cosine of the angle of all pairs; 1 where all agree
    norm         standard deviation of the norms, relative to their mean
    coordinate   median over coordinates of standard deviation / |mean|

    Standard deviations have the denominator len(updates) - 1; a coordinate that is always 0 has
    spread 0.

    Raises:
        GifError: fewer than two updates, updates of different lengths, or one that is zero.
    """
    lengths = sorted({len(update) for update in updates})
    if len(updates) < 2 or len(lengths) != 1:
        raise GifError(
            f"A spread needs two or more updates of one length, not {len(updates)} of lengths "
            f"{lengths}; give the updates of several seeds on one selection."
        )
    stack = torch.stack([update.double() for update in updates])
    norms = stack.norm(dim=1)
    if not bool((norms > 0).all()):
        raise GifError("One of the updates is zero and has no direction; leave it out.")
    cosines = (stack / norms[:, None]) @ (stack / norms[:, None]).T
    above = torch.triu_indices(len(stack), len(stack), offset=1)
    deviation = stack.std(dim=0)
    relative = torch.where(deviation > 0, deviation / stack.mean(dim=0).abs(), 0.0)
    return {
        "cosine": float(cosines[above[0], above[1]].mean()),
        "norm": float(norms.std() / norms.mean()),
        "coordinate": float(relative.median()),
    }


def _largest_remainder(sizes: Sequence[int], count: int) -> list[int]:
    """Return whole numbers that sum to count, in proportion to sizes, none above its size.

    >>> _largest_remainder([5, 3, 2], 4)
    [2, 1, 1]
    """
    total = sum(sizes)
    quotas = [count * size // total for size in sizes]
    remainders = [count * size % total for size in sizes]
    order = sorted(range(len(sizes)), key=lambda i: (-remainders[i], i))
    for i in order[: count - sum(quotas)]:
        quotas[i] += 1
    return quotas


# --- strata ---------------------------------------------------------------------------------------


def _go_on() -> None:
    """Stop nothing."""


def _one_stratum(problem: Problem, count: int, seed: int, stop: Stop) -> Tensor:  # noqa: ARG001
    return torch.zeros(problem.n, dtype=torch.long)


def _classes(problem: Problem, count: int, seed: int, stop: Stop) -> Tensor:  # noqa: ARG001
    labels = targets(problem.train, problem.positions)
    if labels.dim() != 1 or labels.is_floating_point():
        raise GifError(
            f"The sampler 'stratified' needs one class per sample, not labels of shape "
            f"{tuple(labels.shape)} and type {labels.dtype}; choose another."
        )
    return torch.unique(labels, return_inverse=True)[1].cpu()


def _clusters(problem: Problem, count: int, seed: int, stop: Stop) -> Tensor:
    """Return the k-means cluster of every sample's penultimate features."""
    from sklearn.cluster import KMeans

    features = torch.cat(list(_penultimate(problem, stop))).double().cpu().numpy()
    k = min(CLUSTERS, count, len(np.unique(features, axis=0)))
    found = KMeans(k, random_state=seed % 2**32, n_init=1).fit(features)
    return torch.from_numpy(found.labels_).long()


def _entropy_quantiles(problem: Problem, count: int, seed: int, stop: Stop) -> Tensor:  # noqa: ARG001
    """Return the quantile of every sample's entropy -sum p log p, p = softmax(outputs)."""
    entropies = []
    with engine_mode(problem.model), torch.no_grad():
        parameters = problem.space.unflatten(problem.theta)
        for batch in problem.batches(problem.positions, PASS_SIZE):
            stop()
            outputs = problem.outputs(parameters, batch)
            if outputs.dim() != 2 or outputs.shape[1] < 2:
                raise GifError(
                    "The sampler 'entropy' needs one row of two or more logits per sample, not "
                    f"outputs of shape {tuple(outputs.shape)}; choose another."
                )
            logs = outputs.double().log_softmax(dim=1)
            entropies.append(-(logs.exp() * logs).sum(dim=1))
    order = torch.cat(entropies).cpu().argsort(stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    return rank * min(QUANTILES, count) // len(order)


def _penultimate(problem: Problem, stop: Stop) -> Iterator[Tensor]:
    """Yield the inputs of the last linear layer that is called, (b, features) a batch."""
    for batch in problem.batches(problem.positions, PASS_SIZE):
        stop()
        found = features_of(problem, batch)
        if found is None:
            raise GifError(
                "The sampler 'features' reads the inputs of the last linear layer, one per "
                "sample, and the model has none; choose another sampler."
            )
        yield found


SAMPLERS: dict[str, Strata] = {
    "uniform": _one_stratum,
    "stratified": _classes,
    "features": _clusters,
    "entropy": _entropy_quantiles,
}

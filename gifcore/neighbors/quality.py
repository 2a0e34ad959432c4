"""What a cheaper ranking misses: recall of the exact one, and how near a solve is to converged.

Pure functions of scores. Equal scores are taken in the order of their columns, in both rankings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.evaluate.agreement import spearman
from gifcore.problem import Problem
from gifcore.scoring import influence_scores

# name -> what is smallest for the samples that come first
CRITERIA: dict[str, Callable[[Tensor], Tensor]] = {
    "helpful": lambda scores: -scores,
    "harmful": lambda scores: scores,
    "largest": lambda scores: -scores.abs(),
    "smallest": lambda scores: scores.abs(),
}
DEPTHS = (10, 100, 1000)  # m of the paper's figure


def recall(approximate: Tensor, exact: Tensor, m: int) -> dict[str, float]:
    """Return |top m of approximate ∩ top m of exact| / m under each of CRITERIA.

    helpful    largest influence        largest    largest |influence|
    harmful    smallest influence       smallest   smallest |influence|

    Args:
        approximate: (n,) scores; NaN where a sample is no candidate. If m or fewer are, all count.
        exact: (n,) scores.

    Raises:
        GifError: m below 1 or above n, scores of different shapes, or an exact one that is NaN.

    >>> one, other = torch.tensor([3.0, torch.nan, -1.0, 0.5]), torch.tensor([4.0, 3.0, -2.0, 0.0])
    >>> recall(one, other, 2)
    {'helpful': 0.5, 'harmful': 1.0, 'largest': 0.5, 'smallest': 1.0}
    """
    _refuse(approximate, exact)
    _refuse_depths([m], len(exact))
    candidates = ~torch.isnan(approximate)
    found = {}
    for name, key in CRITERIA.items():
        best = key(exact).argsort(stable=True)
        guess = key(approximate).argsort(stable=True)
        found[name] = _shared(guess[candidates[guess]][:m], best[:m])
    return found


@dataclass(frozen=True)
class Recall:
    """One row of the table: means over the queries of recall@m with k candidates.

    Args:
        predictions: "all", or of queries with "correct" or "wrong" predictions only.
        kept: of the exact scores among the candidates: what the filter alone lets through.
        found: of the approximate scores among the candidates.
        control: of the gradient method's scores among the candidates.
    """

    predictions: str
    criterion: str
    m: int
    k: int
    queries: int
    kept: float
    found: float
    control: float


def recall_table(
    exact: Tensor,
    approximate: Tensor,
    control: Tensor,
    nearest: Tensor,
    *,
    correct: Sequence[bool] | None = None,
    depths: Sequence[int] | None = None,
    counts: Sequence[int] | None = None,
) -> list[Recall]:
    """Return recall@m of the k nearest candidates for all m and k, under each of CRITERIA.

    Args:
        exact: (q, n) the converged scores of q queries.
        approximate: (q, n) those of the cheaper solve.
        control: (q, n) those of the gradient method.
        nearest: (q, K) columns of the candidates, nearest first; K at least the largest k.
        correct: of every query, is the model's prediction right? Gives rows of its own for both.
        depths: m; None: 10, 100 and 1000 as far as there are so many samples.
        counts: k; None: 10, 100, 1000, ... and K.

    Raises:
        GifError: shapes that do not go together, an m or k that is not there, or scores that are
            not finite.

    Reference: Guo et al. 2021 (arXiv 2012.15781), section 4.2; `kept` is its recall.
    Cost: 12 sorts a query.
    """
    q, n = exact.shape
    _refuse(approximate, exact)
    _refuse(control, exact)
    if nearest.shape[0] != q or not 1 <= nearest.shape[1] <= n:
        raise GifError(f"nearest has shape {tuple(nearest.shape)}; give one row for each of {q}.")
    if correct is not None and len(correct) != q:
        raise GifError(f"correct holds {len(correct)} values; give one for each of {q} queries.")
    width = nearest.shape[1]
    depths = [m for m in DEPTHS if m <= n] or [n] if depths is None else depths
    counts = _tens(width) if counts is None else counts
    _refuse_depths(depths, n)
    if not counts or not all(1 <= k <= width for k in counts):
        raise GifError(f"k of {list(counts)} is not possible; choose 1 … {width}.")
    if not bool(torch.isfinite(torch.stack([approximate, control])).all()):
        raise GifError("The scores hold NaN or infinity; give those of all samples.")
    shares = {
        (criterion, m, k): torch.zeros(q, 3, dtype=torch.float64)
        for criterion in CRITERIA
        for m in depths
        for k in counts
    }
    for row in range(q):
        rank = torch.full((n,), n).scatter(0, nearest[row], torch.arange(width))
        for criterion, key in CRITERIA.items():
            orders = [key(s[row]).argsort(stable=True) for s in (exact, approximate, control)]
            for k in counts:
                among = [order[rank[order] < k] for order in orders]
                for m in depths:
                    shared = [_shared(order[:m], orders[0][:m]) for order in among]
                    shares[criterion, m, k][row] = torch.tensor(shared, dtype=torch.float64)
    groups = {"all": torch.ones(q, dtype=torch.bool)}
    if correct is not None:
        right = torch.as_tensor(list(correct), dtype=torch.bool)
        groups |= {"correct": right, "wrong": ~right}
    return [
        Recall(name, criterion, m, k, int(group.sum()), *values[group].mean(dim=0).tolist())
        for name, group in groups.items()
        if bool(group.any())
        for (criterion, m, k), values in shares.items()
    ]


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Return Spearman's correlation, equal values at their mean rank; NaN where one is constant.

    >>> round(rank_correlation(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0.3, 0.2, 0.1])), 9)
    -1.0
    """
    _refuse(one, other)
    if len(one) < 2:
        return float("nan")
    first, second = (x.detach().cpu().numpy() for x in (one, other))
    return spearman(first, second)


@dataclass(frozen=True)
class Agreement:
    """How near a solve is to the converged one, and how near the gradient is without any solve.

    Args:
        spearman: rank correlation of the training samples' scores.
        cosine: of the angle between the vectors.
        error: ||s - s*|| / ||s*||.
        control_spearman: the first for the gradient in place of the solve.
        control_cosine: the second for it.
    """

    spearman: float
    cosine: float
    error: float
    control_spearman: float
    control_cosine: float


def solve_agreement(
    problem: Problem,
    solve: Tensor,
    converged: Tensor,
    gradient: Tensor,
    *,
    samples: Tensor | None = None,
    batch_size: int = 256,
) -> Agreement:
    """Return how well one query's solve agrees with its converged solve.

    Args:
        solve: (p,) s of the cheaper solve, for example LiSSA's.
        converged: (p,) s*.
        gradient: (p,) s of the gradient method, E E^T g_q: the control.
        samples: (m,) positions of the training samples to compare on; None: all.

    Raises:
        GifError: a vector of another length, or one that is zero.

    Cost: one sweep of three directions over the samples.
    """
    stack = torch.stack([solve, converged, gradient])
    norms = stack.double().norm(dim=1)
    if not bool(torch.isfinite(norms).all() and (norms > 0).all()):
        raise GifError("A solve is zero or not finite and has no direction; compare another.")
    few = problem if samples is None else problem.narrowed(samples)
    scores = influence_scores(few, stack, batch_size=batch_size)
    cosines = (stack.double() @ stack[1].double()) / (norms * norms[1])
    return Agreement(
        spearman=rank_correlation(scores[0], scores[1]),
        cosine=float(cosines[0]),
        error=float((solve - converged).double().norm() / norms[1]),
        control_spearman=rank_correlation(scores[2], scores[1]),
        control_cosine=float(cosines[2]),
    )


def _shared(guess: Tensor, best: Tensor) -> float:
    """Return the share of `best` that is in `guess`."""
    return float(torch.isin(best, guess).double().mean())


def _tens(width: int) -> list[int]:
    """Return 10, 100, 1000, ... below width, and width.

    >>> _tens(6000)
    [10, 100, 1000, 6000]
    """
    return [10**i for i in range(1, 12) if 10**i < width] + [width]


def _refuse(one: Tensor, exact: Tensor) -> None:
    if one.shape != exact.shape:
        raise GifError(
            f"Scores of shape {tuple(one.shape)} cannot be compared with {tuple(exact.shape)}."
        )
    if bool(torch.isnan(exact).any()):
        raise GifError("The exact scores hold NaN; give one for every training sample.")


def _refuse_depths(depths: Sequence[int], n: int) -> None:
    if not depths or not all(1 <= m <= n for m in depths):
        raise GifError(f"m of {list(depths)} is not possible; choose 1 … {n}.")

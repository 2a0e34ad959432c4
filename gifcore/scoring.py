"""Per-sample influence of every training sample on queries, streamed over batches.

    I(i, q) = s_q . (grad l_i - gbar) / (n - 1)        [nats]

the predicted change of the query's loss if training sample i is removed and the model refitted.
Positive = helpful (removing it raises the query's loss), negative = harmful.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.data import Dataset

from gifcore.contraction import batch_products, contractible
from gifcore.errors import GifError
from gifcore.influence import Curved, _curved, _method, adjoint, preconditioned
from gifcore.problem import Problem, Progress, engine_mode, fetch, silent
from gifcore.selection import Selection
from gifcore.solvers import LSMR, MINRES, Solution

STACKED = 16  # solves whose scores one sweep over the training set gives


@dataclass(frozen=True, eq=False)
class Scores:
    """Influence of n training samples on m queries, in nats; positive = helpful.

    Args:
        values: (m, n), column i is training sample `train_indices[i]`.
        solutions: one certificate a query.
    """

    values: Tensor
    train_indices: Tensor
    queries: tuple[Any, ...]
    solutions: tuple[Solution, ...]
    method: str

    def helpful(self, query: int, count: int = 10) -> list[tuple[int, float]]:
        """Return the most helpful training samples of row `query`: (position, influence)."""
        return self._extreme(query, count, largest=True)

    def harmful(self, query: int, count: int = 10) -> list[tuple[int, float]]:
        """Return the most harmful training samples of row `query`: (position, influence)."""
        return self._extreme(query, count, largest=False)

    def top(self, query: int, count: int = 10) -> list[tuple[int, float]]:
        """Return the training samples of largest |influence| on row `query`."""
        row = self.values[query]
        order = row.abs().argsort(descending=True, stable=True)[:count]
        return [(int(self.train_indices[i]), float(row[i])) for i in order]

    def _extreme(self, query: int, count: int, *, largest: bool) -> list[tuple[int, float]]:
        row = self.values[query]
        order = row.argsort(descending=largest, stable=True)[:count]
        return [(int(self.train_indices[i]), float(row[i])) for i in order]


@dataclass(frozen=True, eq=False)
class Queries:
    """Test samples to explain: each entry of `groups` is one query, the mean loss of its samples.

    Args:
        data: map-style data set of the samples.
        groups: positions in `data`, one or more a query.
    """

    data: Dataset[Any]
    groups: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        """Check the positions.

        Raises:
            GifError: no query, a query without samples, or a position that is not there.
        """
        size = len(self.data)  # type: ignore[arg-type]
        if not self.groups or not all(len(group) for group in self.groups):
            raise GifError("Name one or more queries, each of one or more samples.")
        for index in (int(i) for group in self.groups for i in group):
            if not 0 <= index < size:
                raise GifError(f"There is no query sample {index}; positions are 0 … {size - 1}.")


def rank(
    problem: Problem,
    queries: Queries,
    *,
    method: str = "gif",
    selected: Selection | None = None,
    curvature: str | Curved = "hessian",
    samples: int | None = None,
    solver: LSMR | MINRES | None = None,
    damping: float = 0.0,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress = silent,
) -> Scores:
    """Return the influence of every training sample on every query.

    Args:
        curvature: "hessian" (of the full objective), or a `Curved` to share between calls.

    Raises:
        GifError: an unknown name, or scores that are not finite.

    Cost: per query one adjoint solve; about 2 + m forward passes over the training samples for m
    queries. Memory: flat in n, apart from the (m, n) result.
    """
    _method(method)
    solver = solver or LSMR()
    curved = _curved(curvature, problem, samples, damping, "full", seed)
    if _method(method)[3] and curved.preconditioner is None:
        curved = preconditioned(curved, selected, solver, seed=seed)
    adjoints, solutions = [], []
    for number, group in enumerate(queries.groups):
        positions = torch.as_tensor(list(group), dtype=torch.long)
        g_q = problem.data_gradient(positions, data=queries.data)
        solution = adjoint(
            problem,
            g_q,
            method=method,
            selected=selected,
            curved=curved,
            solver=solver,
            seed=seed,
            progress=progress,
        )
        adjoints.append(solution.value)
        solutions.append(solution)
        progress(number + 1, len(queries.groups), "queries")
    values = [
        influence_scores(problem, torch.stack(stack), batch_size=batch_size, progress=progress)
        for stack in _stacks(adjoints)
    ]
    return Scores(
        torch.cat(values), problem.positions, tuple(queries.groups), tuple(solutions), method
    )


def influence_scores(
    problem: Problem, s: Tensor, *, batch_size: int = 256, progress: Progress = silent
) -> Tensor:
    """Return s . (grad l_i - gbar) / (n - 1) for all n training samples, in nats.

    Args:
        s: one solve (p,) or a stack of them (m, p).

    Returns:
        (n,) or (m, n).
    """
    if problem.n < 2:
        raise GifError("Influence of one sample among one is not defined; give two or more.")
    products = gradient_products(problem, s, batch_size=batch_size, progress=progress)
    if not bool(torch.isfinite(products).all()):
        raise GifError("The scores hold NaN or infinity; raise `damping` or check the model.")
    return (products - products.mean(dim=-1, keepdim=True)) / (problem.n - 1)


def gradient_products(
    problem: Problem, s: Tensor, *, batch_size: int = 256, progress: Progress = silent
) -> Tensor:
    """Return s . grad l_i for all n training samples: no per-sample gradient is formed.

    Args:
        s: one vector (p,) or a stack of them (m, p).

    Returns:
        (n,) or (m, n).

    One vector goes by forward mode, about three forward passes. A stack goes layer by layer
    (`contraction`), about 2 + m passes, if every layer allows it and both ways agree on the first
    batch; else by forward mode, 3 m passes. Memory: one batch.
    """
    stack = s if s.dim() == 2 else s[None]
    if stack.shape[1] != problem.space.size:
        raise GifError(f"s has shape {tuple(s.shape)}; give ({problem.space.size},) or a stack.")
    directions = [problem.space.unflatten(vector) for vector in stack]
    parts = problem.positions.split(batch_size)
    by_layer = len(stack) > 1 and _layers_agree(problem, directions, parts[0])
    products, done = [], 0
    for part in parts:
        if by_layer:
            products.append(batch_products(problem, directions, part))
        else:
            products.append(torch.stack([_forward_mode(problem, d, part) for d in directions]))
        done += len(part)
        progress(done, problem.n, "scores")
    found = torch.cat(products, dim=1)
    return found if s.dim() == 2 else found[0]


def _layers_agree(problem: Problem, directions: list[dict[str, Tensor]], part: Tensor) -> bool:
    """Can the products be taken layer by layer? Checked against forward mode, on one batch.

    What a model does to a layer's weight outside that layer shows as a difference.
    """
    if not contractible(problem.model):
        return False
    expected = _forward_mode(problem, directions[0], part)
    found = batch_products(problem, directions[:1], part)[0]
    limit = 1e-3 if expected.dtype == torch.float32 else 1e-8
    return bool((found - expected).norm() <= limit * expected.norm())


def _forward_mode(problem: Problem, direction: dict[str, Tensor], part: Tensor) -> Tensor:
    """Return the derivative of every loss of a batch along one direction, (b,)."""
    primals = problem.space.unflatten(problem.theta)
    _load_forward_mode()
    with engine_mode(problem.model), torch.no_grad(), forward_ad.dual_level():
        duals = {
            name: forward_ad.make_dual(primal, direction[name]) for name, primal in primals.items()
        }
        batch = fetch(problem.train, part, problem.device)
        losses = forward_ad.unpack_dual(problem.losses(duals, batch))
    return torch.zeros_like(losses.primal) if losses.tangent is None else losses.tangent


def _stacks(vectors: list[Tensor]) -> list[list[Tensor]]:
    return [vectors[i : i + STACKED] for i in range(0, len(vectors), STACKED)]


@cache
def _load_forward_mode() -> None:
    """Let torch load its forward-mode rules; as it does, it warns of its own deprecated calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(1), torch.zeros(1))

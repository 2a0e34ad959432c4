"""LiSSA: FastIF's stochastic recursion, a mini-batch product a step.

Reference: Agarwal, Bullins and Hazan 2017, "Second-order stochastic optimization for machine
learning in linear time"; Guo et al. 2021 (arXiv 2012.15781), FastIF, whose code takes J + 2 steps
where this takes J.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import Identity, LinearOperator
from gifcore.problem import Progress, silent
from gifcore.solvers.chains import Batches, Chain, Draws, Recursion, walk_apart, walk_here
from gifcore.solvers.solution import Solution, Status, certified, unsolvable, untouched


@dataclass(frozen=True)
class Lissa:
    """Settings of LiSSA: J = `iterations`, B = `batch_size`, T = `chains`.

    e_0 = b, e_{j+1} = b + (1 - damp) e_j - H_j e_j / scale, x = mean over chains of e_J / scale

    with H_j the curvature of one mini-batch. The fixed point with full batches is
    (A + damp scale I)^-1 b, reached to (1 - damp)^J where A is small against damp scale; it
    converges where -damp scale < lambda < (2 - damp) scale. damp scale is the damping it really
    has: `solver_damping` of the certificate, whose residuals are those of A + damp scale I.

    With `processes` the chains of mini-batches are walked side by side, each process with one
    thread and its own copy of the model and the data. A chain is known by its number and the seed
    and the mean is taken in order, so the answer is the same up to the rounding of one thread.

    Cost: J T mini-batch products, three full products to certify; a few seconds a process to start.
    """

    iterations: int = 1000
    batch_size: int = 1
    chains: int = 1
    damp: float = 5e-3
    scale: float = 1e4
    tolerance: float = 1e-6  # on the relative residual, judged at the end
    seed: int = 0
    keep_halfway: bool = False  # keep the mean after half the steps
    processes: int = 1  # that walk the chains of mini-batches

    def __post_init__(self) -> None:
        if min(self.iterations, self.batch_size, self.chains, self.processes) < 1:
            raise GifError("Lissa needs iterations, batch_size, chains and processes of 1 or more.")
        if not (0 <= self.damp < 1 and 0 < self.scale < math.inf and self.tolerance >= 0):
            raise GifError("Lissa needs 0 <= damp < 1, a positive scale and tolerance >= 0.")

    def batches(self, curvature: Callable[[Tensor], LinearOperator], samples: Tensor) -> Batches:
        """Return seeded mini-batches for `solve`: each chain walks through its own permutations.

        Args:
            curvature: the operator of some samples, with the same weight decay and damping as A.
            samples: (m,) the curvature samples; a permutation gives m // B batches, and what is
                left over waits for the next permutation.
        """
        return Draws(curvature, samples, min(self.batch_size, len(samples)), self.seed)

    def solve(
        self,
        A: LinearOperator,
        b: Tensor,
        *,
        batches: Batches | None = None,
        progress: Progress = silent,
    ) -> Solution:
        """Return x with (A + damp scale I) x = b, approximately, for a symmetric A (p, p).

        Args:
            batches: (chain, step) -> the curvature of one mini-batch, an unbiased draw of A; None:
                A itself in every step.
        """
        started = time.perf_counter()
        status = unsolvable(b)
        chains: list[Chain] = []
        lost: tuple[str, ...] = ()
        if status is None:
            chains, lost = self._walk(A, b, batches, progress)
            status = chains[-1].failed
        total = self.iterations * self.chains
        progress(total, total, "LiSSA")
        status = status or Status.ITERATION_LIMIT
        damping = self.damp * self.scale
        kind = "full batches" if batches is None else "mini-batches"
        solution = Solution(
            value=torch.zeros_like(b),
            status=status,
            solver="LiSSA",
            iterations=max((len(chain.history) for chain in chains), default=0),
            hvps=sum(chain.products for chain in chains),
            residual=untouched(status),
            normal_residual=untouched(status),
            solver_damping=damping,
            notes=(
                f"effective damping damp * scale = {damping:g}, beyond that of the operator",
                f"J = {self.iterations}, T = {self.chains}, {kind}",
                *lost,
            ),
        )
        if chains:
            solution = self._certified(solution, A, b, chains)
        return replace(solution, seconds=time.perf_counter() - started)

    def _walk(
        self, A: LinearOperator, b: Tensor, batches: Batches | None, progress: Progress
    ) -> tuple[list[Chain], tuple[str, ...]]:
        """Return the chains up to the first that fails, and what to note of lost ones."""
        recursion = Recursion(self.iterations, self.damp, self.scale)
        if batches is None:
            return walk_here(recursion, self.chains, b, lambda _chain, _step: A, progress), ()
        if min(self.processes, self.chains) == 1:
            return walk_here(recursion, self.chains, b, batches, progress), ()
        chains, lost = walk_apart(recursion, self.chains, self.processes, b, batches, progress)
        notes = tuple(
            f"chain {number + 1} of {self.chains} was lost ({why}): the value is the mean of the "
            f"{len(chains)} others, as noisy as with T = {len(chains)}"
            for number, why in lost.items()
        )
        return chains, notes

    def _certified(
        self, solution: Solution, A: LinearOperator, b: Tensor, chains: list[Chain]
    ) -> Solution:
        """Return the mean over chains, judged by the residual of A + damp scale I."""
        value = torch.stack([chain.e for chain in chains]).mean(dim=0) / self.scale
        halfway = torch.stack([chain.halfway for chain in chains]).mean(dim=0) / self.scale
        damped = A + self.damp * self.scale * Identity(len(b))
        solution = replace(solution, value=value, halfway=halfway if self.keep_halfway else None)
        solution = certified(solution, damped, b, symmetric=True, scale=None)
        status = solution.status
        if status is Status.ITERATION_LIMIT:
            if not solution.residual <= 1:  # worse than zero
                status = Status.DIVERGED
            elif solution.residual <= self.tolerance:
                status = Status.CONVERGED
        steps = min(len(chain.history) for chain in chains)
        history = [sum(chain.history[i] for chain in chains) / len(chains) for i in range(steps)]
        return replace(solution, status=status, residual_history=(1.0, *history, solution.residual))

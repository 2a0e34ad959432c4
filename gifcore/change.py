"""Changes of the training set: each turns a problem into another and has a gradient change g.

g = grad L(theta) - grad L'(theta)
removing U, r of n:  g = r/(n-r) (mean_U grad l - mean_all grad l)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.problem import Problem, Progress, silent, targets


class Change(ABC):
    """What is done to the training set. Interface only."""

    @abstractmethod
    def samples(self, problem: Problem) -> Tensor:
        """Return the positions of the changed training samples, (r,)."""

    @abstractmethod
    def apply(self, problem: Problem) -> Problem:
        """Return the problem with the changed objective L'."""

    @abstractmethod
    def gradient(
        self, problem: Problem, *, batch_size: int = 256, progress: Progress = silent
    ) -> Tensor:
        """Return g, (p,), in nats per unit of the parameters."""


class Removal(Change):
    """Removing some samples; a subclass only says which. Abstract."""

    def apply(self, problem: Problem) -> Problem:
        return _without(problem, self.samples(problem))

    def gradient(
        self, problem: Problem, *, batch_size: int = 256, progress: Progress = silent
    ) -> Tensor:
        return _removal_gradient(problem, self.samples(problem), batch_size, progress)


@dataclass(frozen=True)
class RemoveSamples(Removal):
    """Remove these training samples.

    Args:
        indices: distinct positions in the training set.
    """

    indices: Sequence[int]

    def samples(self, problem: Problem) -> Tensor:
        chosen = torch.as_tensor(list(self.indices), dtype=torch.long)
        if len(chosen) == 0 or len(chosen.unique()) != len(chosen):
            raise GifError("Name one or more training samples to remove, each once.")
        known = torch.isin(chosen, problem.positions)
        if not bool(known.all()):
            bad = int(chosen[~known][0])
            raise GifError(
                f"Training sample {bad} is not there; positions are 0 … {problem.n - 1}."
            )
        return chosen


@dataclass(frozen=True)
class RemoveClass(Removal):
    """Remove every training sample with this label."""

    label: int

    def samples(self, problem: Problem) -> Tensor:
        positions = problem.positions
        labels = targets(problem.train)[positions]
        chosen = positions[labels == self.label]
        if len(chosen) == 0:
            present = ", ".join(str(int(v)) for v in labels.unique())
            raise GifError(f"No training sample has class {self.label}; there are: {present}.")
        return chosen


def _without(problem: Problem, removed: Tensor) -> Problem:
    keep = ~torch.isin(problem.positions, removed)
    if not bool(keep.any()):
        raise GifError("This change removes every training sample; leave at least one.")
    return problem.narrowed(problem.positions[keep])


def _removal_gradient(
    problem: Problem, removed: Tensor, batch_size: int, progress: Progress
) -> Tensor:
    """g = mean_all grad l - mean_rest grad l, from one pass over all samples."""
    rest = _without(problem, removed).positions
    n, r = problem.n, len(removed)

    def shifted(done: int, _total: int, note: str) -> None:
        progress(r + done, n, note)

    of_removed = problem.data_gradient(
        removed, batch_size=batch_size, progress=lambda d, _t, note: progress(d, n, note)
    )
    of_rest = problem.data_gradient(rest, batch_size=batch_size, progress=shifted)
    return (r / n) * (of_removed - of_rest)

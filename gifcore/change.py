"""Changes of the training set: each turns a problem into another and has a gradient change g.

    g = grad L(theta) - grad L'(theta)          [nats per unit of the parameters]

A change says what becomes of which samples: gone, another label, another weight, new. With w and W
the weights and their sum before, w' and W' after (w = 0 where a sample is not in the set),

    g = sum_i (w_i / W) grad l_i - sum_i (w'_i / W') grad l'_i

Weight decay cancels; stationarity is not assumed. At weight 1, r of n samples U changed:

    remove    r/(n-r) (mean_U grad l - mean_all grad l)
    relabel   (1/n) sum_U (grad l_old - grad l_new)
    add       r/(n+r) (mean_all grad l - mean_new grad l)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gifcore.errors import GifError
from gifcore.problem import Problem, Progress, collated, refuse_data, silent, targets
from gifcore.views import Joined, Relabelled, form_of, labels_like, numbers, refuse_labels


def _nothing() -> Tensor:
    return torch.zeros(0, dtype=torch.long)


@dataclass(frozen=True, eq=False)
class Effect:
    """What becomes of which samples. Positions are those of the training set before the change.

    Args:
        removed: (a,) positions.
        relabelled: (b,) positions, and in `labels` (b, ...) their new labels.
        reweighted: (c,) positions, and in `weights` (c,) their new w.
        added: data sets whose samples come after the training set, in this order.
    """

    removed: Tensor = field(default_factory=_nothing)
    relabelled: Tensor = field(default_factory=_nothing)
    labels: Tensor = field(default_factory=_nothing)
    reweighted: Tensor = field(default_factory=_nothing)
    weights: Tensor = field(default_factory=_nothing)
    added: tuple[Dataset[Any], ...] = ()

    def extended(self, problem: Problem) -> Problem:
        """Return the problem before the change, with room for the added samples in `train`."""
        if not self.added:
            return problem
        train = reduce(Joined, self.added, problem.train)
        weights = problem.weights
        if weights is not None:
            new = len(train) - len(weights)  # type: ignore[arg-type]
            weights = torch.cat([weights, weights.new_ones(new)])
        return replace(problem, train=train, samples=problem.positions, weights=weights)

    def samples(self, problem: Problem) -> Tensor:
        """Return the positions of all changed samples, (r,), sorted."""
        parts = self.removed, self.relabelled, self.reweighted, self._new(problem)
        return torch.cat(parts).unique()

    def _new(self, problem: Problem) -> Tensor:
        start: int = len(problem.train)  # type: ignore[arg-type]
        count: int = sum(len(data) for data in self.added)  # type: ignore[arg-type, misc]
        return torch.arange(start, start + count)

    def apply(self, problem: Problem) -> Problem:
        """Return the problem of L'."""
        before = self.extended(problem)
        train, weights = before.train, before.weights
        if len(self.relabelled):
            train = Relabelled(train, self.relabelled, self.labels)
        if len(self.reweighted):
            size = len(train)  # type: ignore[arg-type]
            weights = torch.ones(size, dtype=torch.float64) if weights is None else weights.double()
            weights = weights.clone().index_copy(0, self.reweighted, self.weights)
        kept = problem.positions[~torch.isin(problem.positions, self.removed)]
        positions = torch.cat([kept, self._new(problem)])
        if len(positions) == 0:
            raise GifError("This change removes every training sample; leave at least one.")
        return replace(problem, train=train, samples=positions, weights=weights)


class Change(ABC):
    """What is done to the training set; `|` unites changes. A subclass only says its effect."""

    @abstractmethod
    def effect(self, problem: Problem) -> Effect:
        """Return what becomes of which samples.

        Raises:
            GifError: the change cannot be made on this problem.
        """

    def samples(self, problem: Problem) -> Tensor:
        """Return the positions of the changed samples, (r,), sorted.

        Added samples follow the training set: they are positions of `extended(problem).train`.
        """
        return self.effect(problem).samples(problem)

    def extended(self, problem: Problem) -> Problem:
        """Return the unchanged objective over a training set that also holds what is added.

        Every position of `samples(problem)` exists there, with its label before the change.
        """
        return self.effect(problem).extended(problem)

    def apply(self, problem: Problem) -> Problem:
        """Return the problem with the changed objective L'.

        Positions stay as they are: of samples that are left, and for a change that follows.
        """
        return self.effect(problem).apply(problem)

    def gradient(
        self,
        problem: Problem,
        *,
        change_samples: int | None = None,
        seed: int = 0,
        batch_size: int = 256,
        progress: Progress = silent,
    ) -> Tensor:
        """Return g = grad L - grad L' at theta, (p,), in nats per unit of the parameters.

        Args:
            change_samples: estimate the part of the changed samples from so many of them, one
                seeded draw without replacement, scaled up by r / change_samples; None: all r.
            seed: of that draw.

        Raises:
            GifError: an impossible change or number, or a gradient that is not finite.

        Cost: one forward and backward pass over the changed samples, two over the relabelled, and
        one over all others if the sum of the weights changes.
        """
        effect = self.effect(problem)
        before, after = effect.extended(problem), effect.apply(problem)
        old, new = before.shares(), after.shares()
        other = torch.zeros(len(old), dtype=torch.bool)
        other[effect.relabelled] = True  # their loss is another one in L'
        scale = _scale(effect.samples(problem), len(old), change_samples, seed)
        parts = (
            (before, scale * torch.where(other, old, old - new)),
            (after, scale * torch.where(other, -new, 0.0)),
        )
        total = sum(int(c.count_nonzero()) for _, c in parts)
        g, done = torch.zeros_like(problem.theta), 0
        for objective, coefficients in parts:
            chosen = coefficients.nonzero().flatten()
            if len(chosen) == 0:
                continue
            g += objective.weighted_gradient(
                chosen,
                coefficients[chosen],
                batch_size=batch_size,
                progress=_after(done, total, progress),
            )
            done += len(chosen)
        return g

    def __or__(self, other: Change) -> Union:
        return Union((self, other))


@dataclass(frozen=True)
class RemoveSamples(Change):
    """Remove these training samples.

    Args:
        indices: distinct positions in the training set.
    """

    indices: Sequence[int]

    def effect(self, problem: Problem) -> Effect:
        return Effect(removed=_chosen(problem, self.indices, "remove"))


@dataclass(frozen=True)
class RemoveClass(Change):
    """Remove every training sample with this label."""

    label: int

    def effect(self, problem: Problem) -> Effect:
        labels = targets(problem.train, problem.positions).cpu()
        if labels.dim() != 1:
            raise GifError(
                f"Labels have shape {tuple(labels.shape)}; a class can be removed where every "
                "sample has one."
            )
        chosen = problem.positions[labels == self.label]
        if len(chosen) == 0:
            present = ", ".join(str(v) for v in labels.unique().tolist())
            raise GifError(f"No training sample has class {self.label}; there are: {present}.")
        return Effect(removed=chosen)


@dataclass(frozen=True)
class Relabel(Change):
    """Give these training samples other labels; the data set is wrapped, not changed.

    Args:
        indices: distinct positions in the training set.
        labels: the new label of each, unlike the old: a class number, or a target of the shape
            and type of the old one.
    """

    indices: Sequence[int]
    labels: Sequence[Any]

    def effect(self, problem: Problem) -> Effect:
        chosen = _chosen(problem, self.indices, "relabel")
        old = targets(problem.train, chosen).cpu()
        new = labels_like(old, self.labels)
        refuse_labels(problem, new, chosen, "Training sample")
        same = (new == old).reshape(len(new), -1).all(dim=1)
        if bool(same.any()):
            raise GifError(
                f"Training sample {int(chosen[same][0])} has the label {new[same][0].tolist()} "
                "already; leave it out."
            )
        return Effect(relabelled=chosen, labels=new)


@dataclass(frozen=True)
class Reweight(Change):
    """Give these training samples other weights in the objective.

    Args:
        indices: distinct positions in the training set.
        weights: the new w of each, above 0, at least one unlike the old; 1 is that of a sample
            nobody reweighted.
    """

    indices: Sequence[int]
    weights: Sequence[float]

    def effect(self, problem: Problem) -> Effect:
        chosen = _chosen(problem, self.indices, "reweight")
        new = numbers(self.weights, "Weights").double()
        if new.shape != chosen.shape:
            raise GifError(
                f"{len(chosen)} samples need {len(chosen)} weights; got shape {tuple(new.shape)}."
            )
        bad = ~((new > 0) & torch.isfinite(new))
        if bool(bad.any()):
            raise GifError(
                f"Training sample {int(chosen[bad][0])} cannot have the weight "
                f"{float(new[bad][0]):g}; give a finite one above 0, or remove the sample."
            )
        old = torch.ones_like(new) if problem.weights is None else problem.weights.cpu()[chosen]
        if bool((new == old).all()):
            raise GifError("All these samples have these weights already; change at least one.")
        return Effect(reweighted=chosen, weights=new)


@dataclass(frozen=True)
class AddSamples(Change):
    """Add every sample of a data set to the training set, with weight 1.

    Args:
        dataset: map-style, its samples of the same form as the training samples.
    """

    dataset: Dataset[Any]

    def effect(self, problem: Problem) -> Effect:
        refuse_data(self.dataset, "dataset")
        size = len(self.dataset)  # type: ignore[arg-type]
        if size == 0:
            raise GifError("The data set to add is empty; give one or more samples.")
        example = collated(problem.train, problem.positions[:1])
        old, new = form_of(example), form_of(collated(self.dataset, torch.tensor([0])))
        if new != old:
            raise GifError(
                f"The samples to add are {new}, the training samples {old}; give the same form, "
                "shapes and types."
            )
        if not isinstance(example, dict) or "labels" in example:
            labels = targets(self.dataset)
            refuse_labels(problem, labels, torch.arange(size), "Added sample")
        return Effect(added=(self.dataset,))


@dataclass(frozen=True)
class Union(Change):
    """All of these changes at once, each said of the problem before any of them.

    A sample may be removed by several and be both relabelled and reweighted; other overlaps are
    refused, because their result would depend on the order.
    """

    changes: Sequence[Change]

    def effect(self, problem: Problem) -> Effect:
        if not self.changes:
            raise GifError("A union needs one or more changes.")
        effects = [change.effect(problem) for change in self.changes]
        for one, other in combinations(effects, 2):
            _refuse_both(one.relabelled, other.relabelled, "relabelled twice")
            _refuse_both(one.reweighted, other.reweighted, "reweighted twice")
            for a, b in ((one, other), (other, one)):
                _refuse_both(a.removed, b.relabelled, "both removed and relabelled")
                _refuse_both(a.removed, b.reweighted, "both removed and reweighted")
        return Effect(
            removed=torch.cat([e.removed for e in effects]).unique(),
            relabelled=torch.cat([e.relabelled for e in effects]),
            labels=torch.cat([e.labels for e in effects if len(e.labels)] or [_nothing()]),
            reweighted=torch.cat([e.reweighted for e in effects]),
            weights=torch.cat([e.weights for e in effects]),
            added=sum((e.added for e in effects), ()),
        )


# --- checks --------------------------------------------------------------------------------------


def _chosen(problem: Problem, indices: Any, verb: str) -> Tensor:
    """Return distinct positions that count, (r,), in the order they were given."""
    try:
        given = np.asarray(indices.cpu() if isinstance(indices, Tensor) else indices)
    except ValueError:  # rows of different lengths
        given = np.asarray(None)
    if given.ndim != 1 or len(given) == 0 or len(np.unique(given)) != len(given):
        raise GifError(f"Name one or more training samples to {verb}, each once.")
    if given.dtype.kind not in "iu":
        raise GifError(f"Samples are named by whole numbers; got {given[0]} ({given.dtype}).")
    chosen = torch.from_numpy(given.astype(np.int64))
    known = torch.isin(chosen, problem.positions)
    if not bool(known.all()):
        first, last = int(problem.positions.min()), int(problem.positions.max())
        raise GifError(
            f"Training sample {int(chosen[~known][0])} is not there; the {problem.n} that count "
            f"have positions {first} … {last}."
        )
    return chosen


def _refuse_both(one: Tensor, other: Tensor, what: str) -> None:
    both = one[torch.isin(one, other)]
    if len(both):
        raise GifError(f"Training sample {int(both[0])} is {what}; name it in one change only.")


def _after(start: int, total: int, progress: Progress) -> Progress:
    return lambda done, _total, note: progress(start + done, total, note)


def _scale(changed: Tensor, size: int, count: int | None, seed: int) -> Tensor:
    """Return (size,): 1, but for the changed samples r / count if drawn and 0 if not."""
    if count is not None and count < 1:
        raise GifError(f"change_samples is {count}; use one or more of the changed samples.")
    scale = torch.ones(size, dtype=torch.float64)
    if count is None or count >= len(changed):
        return scale
    order = torch.randperm(len(changed), generator=torch.Generator().manual_seed(seed))
    scale[changed] = 0.0
    scale[changed[order[:count]]] = len(changed) / count
    return scale

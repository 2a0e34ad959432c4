"""Data sets seen differently: with other labels, or one after the other; nothing is copied.

And whether new labels and samples fit the training set.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gifcore.errors import GifError
from gifcore.problem import (
    Batched,
    Problem,
    collated,
    cross_entropy,
    engine_mode,
    fetch,
    label_of,
    targets,
)


class Relabelled(Batched):
    """A data set with other labels at some positions; everything else is read from it.

    Args:
        base: map-style data set.
        positions: (r,) distinct.
        labels: (r, ...) the new labels.
    """

    def __init__(self, base: Dataset[Any], positions: Tensor, labels: Tensor) -> None:
        order = positions.argsort()
        self.base, self.positions, self.new = base, positions[order], labels[order]

    def __len__(self) -> int:
        return len(self.base)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        index = range(len(self))[index]
        sample = self.base[index]
        place = int(torch.searchsorted(self.positions, index))
        if place == len(self.positions) or int(self.positions[place]) != index:
            return sample
        return _with_label(sample, _like(label_of(sample), self.new[place]))

    def batch(self, indices: Tensor) -> Any:
        batch = collated(self.base, indices)
        return _with_label(batch, self._replaced(label_of(batch), indices))

    def labels(self, indices: Tensor) -> Tensor:
        return self._replaced(targets(self.base, indices), indices)

    def _replaced(self, labels: Tensor, indices: Tensor) -> Tensor:
        place = torch.searchsorted(self.positions, indices).clamp(max=len(self.positions) - 1)
        hit = self.positions[place] == indices
        labels = labels.clone()
        labels[hit] = self.new[place[hit]].to(labels)
        return labels


class Joined(Batched):
    """One data set after the other, their samples of the same form."""

    def __init__(self, first: Dataset[Any], second: Dataset[Any]) -> None:
        self.first, self.second = first, second
        self.sizes = len(first), len(second)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return sum(self.sizes)

    def __getitem__(self, index: int) -> Any:
        index = range(len(self))[index]
        start = self.sizes[0]
        return self.first[index] if index < start else self.second[index - start]

    def batch(self, indices: Tensor) -> Any:
        return reduce(_concatenated, [collated(*run) for run in self._runs(indices)])

    def labels(self, indices: Tensor) -> Tensor:
        return torch.cat([targets(*run) for run in self._runs(indices)])

    def _runs(self, indices: Tensor) -> list[tuple[Dataset[Any], Tensor]]:
        """Split positions where they go over from one data set to the other."""
        inside = indices < self.sizes[0]
        edges = (inside[1:] != inside[:-1]).nonzero().flatten() + 1
        return [
            (self.first, run) if int(run[0]) < self.sizes[0] else (self.second, run - self.sizes[0])
            for run in indices.tensor_split(edges)
        ]


def _with_label(sample: Any, label: Any) -> Any:
    if isinstance(sample, dict):
        return {**sample, "labels": label}
    return (sample[0], label, *sample[2:])


def _like(old: Any, new: Tensor) -> Any:
    """Return a new label as the kind of object the old one is."""
    if isinstance(old, Tensor):
        return new.to(old)
    return new.numpy() if isinstance(old, np.ndarray) else type(old)(new.item())


def _concatenated(one: Any, other: Any) -> Any:
    if isinstance(one, Tensor):
        return torch.cat([one, other])
    if isinstance(one, dict):
        return {key: _concatenated(value, other[key]) for key, value in one.items()}
    if one and isinstance(one[0], str):  # a field of texts
        return [*one, *other]
    return tuple(_concatenated(a, b) for a, b in zip(one, other, strict=True))


# --- do labels and samples fit? -------------------------------------------------------------------


def numbers(values: Sequence[Any], what: str) -> Tensor:
    """Return numbers, or tensors of one shape, as one tensor; refuse anything else."""
    try:
        found = np.asarray([v.tolist() if hasattr(v, "tolist") else v for v in values])
    except (TypeError, ValueError):  # no sequence, or rows of different lengths
        found = np.asarray(None)
    if found.dtype.kind not in "biuf" or found.size == 0:
        raise GifError(
            f"{what} are a sequence of numbers, one for each sample; got {values!r:.80}."
        )
    return torch.from_numpy(found)


def labels_like(old: Tensor, labels: Sequence[Any]) -> Tensor:
    """Return new labels in the shape and type of the old ones."""
    given = numbers(labels, "Labels")
    if given.shape != old.shape:
        raise GifError(
            f"The labels of these {len(old)} samples have shape {tuple(old.shape)}; the new ones "
            f"have {tuple(given.shape)}."
        )
    new = given.to(old.dtype)
    lost = new != given
    if not old.dtype.is_floating_point and bool(lost.any()):
        raise GifError(
            f"The label {given[lost][0].item():g} is none of the kind of the old ones "
            f"({str(old.dtype).removeprefix('torch.')})."
        )
    return new


def refuse_labels(problem: Problem, labels: Tensor, positions: Tensor, what: str) -> None:
    """Refuse class numbers that do not exist and targets that are not finite."""
    if labels.dtype.is_floating_point:
        bad, allowed = ~torch.isfinite(labels), "targets are finite"
    else:
        classes = _classes(problem, int(labels.max()))
        bad, allowed = (labels < 0) | (labels >= classes), f"classes are 0 … {classes - 1}"
    rows = bad.reshape(len(labels), -1).any(dim=1).nonzero().flatten()
    if len(rows):
        row = int(rows[0])
        raise GifError(
            f"{what} {int(positions[row])} cannot have the label {labels[row].tolist()}; {allowed}."
        )


def _classes(problem: Problem, highest: int) -> int:
    """Return how many classes there are: outputs of the model or, beyond them, training labels."""
    with engine_mode(problem.model), torch.no_grad():
        batch = fetch(problem.train, problem.positions[:1], problem.device)
        outputs = problem.outputs(problem.space.unflatten(problem.theta), batch)
    width = outputs.shape[1] if isinstance(outputs, Tensor) and outputs.dim() > 1 else 1
    if highest < width or problem.loss is cross_entropy:
        return width
    return max(width, int(targets(problem.train, problem.positions).max()) + 1)


def form_of(batch: Any) -> str:
    """Describe a batch of one: what it is made of, shapes and types."""
    if isinstance(batch, Tensor):
        return f"{str(batch.dtype).removeprefix('torch.')} {tuple(batch.shape[1:])}"
    if isinstance(batch, dict):
        return "a dict of " + ", ".join(f"{key}: {form_of(batch[key])}" for key in sorted(batch))
    if isinstance(batch, list | tuple):
        return "(" + ", ".join(form_of(part) for part in batch) + ")"
    return type(batch).__name__

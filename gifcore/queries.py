"""Test samples to explain, alone or in groups: a class, a slice, a cell of the confusion matrix."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gifcore.checks import ANYTHING, first_line
from gifcore.errors import GifError
from gifcore.problem import Loss, Problem, Progress, engine_mode, fetch, silent, targets
from gifcore.targets import LOSS, Target, independent, target_of

BATCH_SIZE = 256

Slice = Callable[[Tensor, Tensor], Tensor]  # (labels, predictions) (N,) -> mask (N,)


@dataclass(frozen=True, eq=False)
class Queries:
    """Test samples to explain: each entry of `groups` is one query, the mean target of its samples.

    Args:
        data: map-style data set of the samples.
        groups: positions in `data`, one or more a query.
        target: what is explained: a name of TARGETS, a function (outputs, batch) -> (b,), or a
            `Target`; the default is the problem's loss.
    """

    data: Dataset[Any]
    groups: Sequence[Sequence[int]]
    target: str | Target | Loss = LOSS

    def __post_init__(self) -> None:
        """Check the positions.

        Raises:
            GifError: no query, a query without samples, a position that is not there, or an
                unknown target.
        """
        target_of(self.target)
        size = len(self.data)  # type: ignore[arg-type]
        named = all(isinstance(group, Sized) and len(group) for group in self.groups)
        if not len(self.groups) or not named:
            raise GifError("Name one or more queries, each a list of one or more samples.")
        for given in (i for group in self.groups for i in group):
            try:
                index = operator.index(given)
            except TypeError:
                raise GifError(f"Samples are named by whole numbers; got {given!r:.40}.") from None
            if not 0 <= index < size:
                raise GifError(f"There is no query sample {index}; positions are 0 … {size - 1}.")

    @classmethod
    def of_class(
        cls, data: Dataset[Any], *labels: int, target: str | Target | Loss = LOSS
    ) -> Queries:
        """Return one query for each of these classes: the mean over its samples.

        Raises:
            GifError: a class that no sample has.
        """
        known = targets(data)
        found = [_some(known == label, f"the class {label}") for label in labels]
        return cls(data, found, target)

    @classmethod
    def of_slice(
        cls,
        data: Dataset[Any],
        which: Tensor | Slice,
        *,
        problem: Problem | None = None,
        target: str | Target | Loss = LOSS,
    ) -> Queries:
        """Return one query: the mean over the samples that a mask or a rule names.

        Args:
            which: (N,) of bool, or a rule (labels, predictions) -> mask, which needs a problem.

        Raises:
            GifError: a mask of another size or type, or one that names no sample.
        """
        size = len(data)  # type: ignore[arg-type]
        if not isinstance(which, Tensor):
            if problem is None:
                raise GifError("A rule reads predictions; give the problem, or a mask.")
            which = which(targets(data), predictions(problem, data))
        if not isinstance(which, Tensor) or which.shape != (size,) or which.dtype != torch.bool:
            got = f"{which.dtype} {tuple(which.shape)}" if isinstance(which, Tensor) else which
            raise GifError(f"A slice is a mask of bool, ({size},); got {got!s:.60}.")
        return cls(data, [_some(which, "the slice")], target)

    @classmethod
    def of_cell(
        cls,
        problem: Problem,
        data: Dataset[Any],
        label: int,
        predicted: int,
        *,
        target: str | Target | Loss = LOSS,
    ) -> Queries:
        """Return one query: the samples of `label` that the model takes for `predicted`.

        Raises:
            GifError: an empty cell.

        Cost: one forward pass over the data.
        """
        mask = (targets(data) == label) & (predictions(problem, data) == predicted)
        return cls(data, [_some(mask, f"the cell ({label}, {predicted})")], target)

    def gradients(
        self, problem: Problem, progress: Progress = silent, *, zero: bool = False
    ) -> Iterator[Tensor]:
        """Yield g_q, (p,): the mean gradient of the target over each query's samples.

        Args:
            zero: may the gradient of a target be zero on every query?

        Raises:
            GifError: samples that the model or the loss cannot take, a target that returns
                anything but one number a sample, or one that does not depend on the parameters.
        """
        target = target_of(self.target)
        asked = problem
        if target.function is not None:
            asked = replace(problem, loss=target.of(problem.loss))
        flat = 0
        for group in self.groups:
            positions = torch.as_tensor(list(group), dtype=torch.long)
            try:
                g_q = asked.data_gradient(positions, data=self.data, progress=progress)
            except ANYTHING as error:
                raise GifError(
                    f"The query samples {list(group)[:3]} failed in the model or the "
                    f"{'loss' if target.function is None else 'target'} ({first_line(error)}); "
                    "give samples of the form of the training samples."
                ) from error
            flat += int(target.function is not None and not bool(g_q.any()))
            if flat == len(self.groups) and not zero:
                raise independent(target.name)
            yield g_q


def predictions(problem: Problem, data: Dataset[Any]) -> Tensor:
    """Return the class that the model gives each sample, (N,), on the CPU.

    Raises:
        GifError: outputs that are not (batch, classes).
    """
    size = len(data)  # type: ignore[arg-type]
    parameters, found = problem.space.unflatten(problem.theta), []
    with engine_mode(problem.model), torch.no_grad():
        for part in torch.arange(size).split(BATCH_SIZE):
            outputs = problem.outputs(parameters, fetch(data, part, problem.device))
            if not isinstance(outputs, Tensor) or outputs.dim() != 2:
                raise GifError("Predicted classes need outputs of (batch, classes); give a mask.")
            found.append(outputs.argmax(dim=1).cpu())
    return torch.cat(found)


def _some(mask: Tensor, name: str) -> list[int]:
    found = mask.nonzero().flatten().tolist()
    if not found:
        raise GifError(f"No sample of the data is in {name}: the query would be empty.")
    return list(found)

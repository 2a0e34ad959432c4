"""Tables of rows for the generic tests: problems, selectors, methods.

A new model kind, selector or method is one row here; its slow reference is in oracles.py.
All problems are tiny, in float64 and ragged: no batch size used in a test divides their n.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from gifcore.problem import Loss, Problem, cross_entropy

BATCH_SIZES = (1, 4, 5, 1000)  # n is 11 or 13
CLASSES = 3


class Unused(nn.Module):
    """A perceptron with parameters that no loss reaches, one of them between those that count."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.spare = nn.Parameter(torch.ones(2, 2))
        self.never_called = nn.Linear(2, 2)
        self.last = nn.Linear(4, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)))


class OfDict(nn.Module):
    """A model that is called with a whole dict batch."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(2, CLASSES), nn.Linear(2, CLASSES)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.left(batch["a"]) * torch.sigmoid(self.right(batch["b"]))


class Rows(Dataset[Any]):
    """A map-style data set that is not a TensorDataset."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, CLASSES))


def convolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(8, CLASSES)
    )


def with_norm() -> nn.Module:
    """Batch-norm between the layers that can be selected, with buffers that matter."""
    model = nn.Sequential(
        nn.Conv2d(1, 3, 2, bias=False),
        nn.BatchNorm2d(3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(27, CLASSES),
    )
    model[1].running_mean += torch.tensor([0.3, -0.2, 0.1])
    model[1].running_var *= torch.tensor([2.0, 0.5, 1.5])
    return model


def half_square(outputs: Tensor, batch: Any) -> Tensor:
    """Squared error against the label as a number, per sample: smooth, with a constant H_out."""
    target = nn.functional.one_hot(batch[1], outputs.shape[1]).to(outputs)
    return 0.5 * (outputs - target).square().sum(1)


def of_dict(outputs: Tensor, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(outputs, batch["labels"], reduction="none")


@dataclass(frozen=True)
class Row:
    """One problem: how to build it and what it is an example of."""

    model: Callable[[], nn.Module]
    shape: tuple[int, ...]
    n: int = 11
    weight_decay: float = 0.0
    loss: Loss = cross_entropy
    data: str = "tensors"  # or "rows", "dicts"


PROBLEMS: dict[str, Row] = {
    "perceptron": Row(perceptron, (3,)),
    "perceptron with decay": Row(perceptron, (3,), weight_decay=0.3),
    "convolution": Row(convolution, (1, 5, 5), n=13, weight_decay=0.01),
    "unused parameters": Row(Unused, (3,), data="rows"),
    "batch norm": Row(with_norm, (1, 4, 4), n=13, weight_decay=0.02),
    "dict batches": Row(OfDict, (2,), weight_decay=0.05, loss=of_dict, data="dicts"),
    "squared loss": Row(perceptron, (3,), loss=half_square, weight_decay=0.1),
}


def features(shape: tuple[int, ...], n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    y = torch.randint(0, CLASSES, (n,), generator=generator)
    y[:CLASSES] = torch.arange(CLASSES)  # every class is there
    return x, y


def samples(row: Row, n: int, seed: int) -> Dataset[Any]:
    x, y = features(row.shape, n, seed)
    if row.data == "rows":
        return Rows([(x[i], y[i]) for i in range(n)])
    if row.data == "dicts":
        return Rows([{"a": x[i], "b": x[i].flip(0), "labels": y[i]} for i in range(n)])
    return TensorDataset(x, y)


def problem(name: str, *, seed: int = 0) -> Problem:
    """A problem of the table, at parameters that are not stationary."""
    row = PROBLEMS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = row.model().double()
    return Problem(model, samples(row, row.n, seed), loss=row.loss, weight_decay=row.weight_decay)


def queries(name: str, *, n: int = 5) -> Dataset[Any]:
    """Samples of the same kind that are not in training."""
    return samples(PROBLEMS[name], n, seed=99)


# name -> (score of oracles.py or none, rule)
SELECTORS: dict[str, tuple[str | None, str]] = {
    "highest-k-gradients": ("gradient", "highest-k"),
    "highest-k-outputs": ("output", "highest-k"),
    "lowest-k-gradients": ("gradient", "lowest-k"),
    "lowest-k-outputs": ("output", "lowest-k"),
    "random": (None, "random"),
    "exclusive-k-gradients": ("gradient", "exclusive-k"),
    "exclusive-k-outputs": ("output", "exclusive-k"),
    "threshold": ("output", "threshold"),
    "caps": ("caps", "greedy-highest"),
    "reverse-caps": ("caps", "greedy-lowest"),
    "highest-k-absolute-gradients": ("absolute gradient", "highest-k"),
    "highest-k-absolute-outputs": ("absolute output", "highest-k"),
    "lowest-k-absolute-gradients": ("absolute gradient", "lowest-k"),
    "lowest-k-absolute-outputs": ("absolute output", "lowest-k"),
    "highest-k-magnitude": ("magnitude", "highest-k"),
    "lowest-k-magnitude": ("magnitude", "lowest-k"),
    "highest-k-fisher": ("fisher", "highest-k"),
    "lowest-k-fisher": ("fisher", "lowest-k"),
    "all": (None, "all"),
}

METHODS = ("gradient", "if", "gif")


def random_vector(size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64)

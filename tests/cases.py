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
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.utils.data import Dataset, TensorDataset

from gifcore.problem import Loss, Problem, cross_entropy

BATCH_SIZES = (1, 4, 5, 1000)  # n is 11 or 13
CLASSES = 3
TOKENS = 5  # size of the vocabulary


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


class Shuffled(nn.Module):
    """Depthwise convolution, channel shuffle, group norm, an activation that overwrites."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 2)
        self.overwrite = nn.ReLU(inplace=True)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.norm = nn.GroupNorm(2, 4)
        self.last = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.overwrite(self.first(x))
        x = x + self.depthwise(x)
        x = x.unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2)
        return self.last(self.overwrite(self.norm(x)).mean((2, 3)))


class Attention(nn.Module):
    """Embedded tokens, layer norm, multi-head attention with its weights, mean over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 4)
        self.norm = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.last = nn.Linear(4, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.embedding(tokens))
        return self.last((x + self.attention(x, x, x)[0]).mean(1))


class Encoder(nn.Module):
    """A transformer layer: fused attention, dropout and a mask of padding (token 0)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 4, padding_idx=0)
        self.layer = nn.TransformerEncoderLayer(4, 2, 3, activation="gelu", batch_first=True)
        self.last = nn.Linear(4, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        padding = (tokens == 0) & (torch.arange(tokens.shape[1]) > 0)
        return self.last(self.layer(self.embedding(tokens), src_key_padding_mask=padding)[:, 0])


class Causal(nn.Module):
    """Fused causal attention called as a function; the word table is also the last layer (tied)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 4)
        self.qkv = nn.Linear(4, 12)
        self.last = nn.Linear(4, TOKENS, bias=False)
        self.last.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(self.embedding(tokens)).unflatten(-1, (6, 2)).transpose(1, 2).chunk(3, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.last(mixed.transpose(1, 2).flatten(2))[:, -1]


class OfPair(nn.Module):
    """A model that is called with two inputs of different kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(TOKENS, 3)
        self.numbers, self.last = nn.Linear(2, 3), nn.Linear(3, CLASSES)

    def forward(self, numbers: Tensor, tokens: Tensor) -> Tensor:
        return self.last(torch.tanh(self.numbers(numbers)) * self.words(tokens).mean(1))


class Exponential(nn.Module):
    """A parametrization: the weight is the exponential of what is trained."""

    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


class Recurrent(nn.Module):
    """An LSTM over a few steps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps, self.last = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.steps(x)[0][:, -1])


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


def tied() -> nn.Module:
    """Two layers that share a weight, one of which has a bias of its own."""
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    return model


def parametrized() -> nn.Module:
    """A layer whose weight is computed from its parameter."""
    first = nn.Linear(3, 4)
    nn.utils.parametrize.register_parametrization(first, "weight", Exponential())
    return nn.Sequential(first, nn.Tanh(), nn.Linear(4, CLASSES))


def half_square(outputs: Tensor, batch: Any) -> Tensor:
    """Squared error against the label as a number, per sample: smooth, with a constant H_out."""
    target = nn.functional.one_hot(batch[1], outputs.shape[1]).to(outputs)
    return 0.5 * (outputs - target).square().sum(1)


def mean_square(outputs: Tensor, batch: Any) -> Tensor:
    """Regression on three numbers with an ordinary loss of torch, one number per sample."""
    target = torch.stack([batch[1], batch[1] ** 2, -batch[1]], dim=1).to(outputs)
    return F.mse_loss(outputs, target, reduction="none").mean(1)


def binary(outputs: Tensor, batch: Any) -> Tensor:
    """Binary cross-entropy with logits, a yes or no for every class."""
    target = F.one_hot(batch[1], outputs.shape[1]).to(outputs)
    return F.binary_cross_entropy_with_logits(outputs, target, reduction="none").sum(1)


def focal(outputs: Tensor, batch: Any) -> Tensor:
    """A loss of the user's own: cross-entropy weighted by (1 - p)^2."""
    log_p = outputs.log_softmax(1).gather(1, batch[1][:, None])[:, 0]
    return -((1 - log_p.exp()) ** 2) * log_p


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
    data: str = "tensors"  # or "rows", "dicts", "tokens", "pairs"


PROBLEMS: dict[str, Row] = {
    "perceptron": Row(perceptron, (3,)),
    "perceptron with decay": Row(perceptron, (3,), weight_decay=0.3),
    "convolution": Row(convolution, (1, 5, 5), n=13, weight_decay=0.01),
    "unused parameters": Row(Unused, (3,), data="rows"),
    "batch norm": Row(with_norm, (1, 4, 4), n=13, weight_decay=0.02),
    "dict batches": Row(OfDict, (2,), weight_decay=0.05, loss=of_dict, data="dicts"),
    "squared loss": Row(perceptron, (3,), loss=half_square, weight_decay=0.1),
    "binary loss": Row(perceptron, (3,), loss=binary, weight_decay=0.02),
    "regression": Row(perceptron, (3,), loss=mean_square, weight_decay=0.05),
    "loss of one's own": Row(perceptron, (3,), loss=focal),
    "depthwise and group norm": Row(Shuffled, (1, 4, 4), n=13, weight_decay=0.03),
}

# Models whose layers have no units as the published selectors read them, or whose inputs the
# oracles do not unpack: tests/test_any_model.py runs its generic tests on these and on PROBLEMS.
ANY_MODEL: dict[str, Row] = {
    "attention": Row(Attention, (3,), n=6, data="tokens", weight_decay=0.01),
    "transformer layer": Row(Encoder, (3,), n=6, data="tokens", weight_decay=0.02),
    "fused attention, tied words": Row(Causal, (4,), n=13, data="tokens"),
    "tuple of inputs": Row(OfPair, (2,), data="pairs", weight_decay=0.03),
    "recurrent": Row(Recurrent, (3, 2), weight_decay=0.1),
    "tied layers": Row(tied, (3,), weight_decay=0.2),
    "parametrized weight": Row(parametrized, (3,), weight_decay=0.1),
}


def features(shape: tuple[int, ...], n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    y = torch.randint(0, CLASSES, (n,), generator=generator)
    y[:CLASSES] = torch.arange(CLASSES)  # every class is there
    return x, y


def tokens(x: Tensor) -> Tensor:
    """Whole numbers from 0 to TOKENS - 1, as irregular as x."""
    return (x.abs() * 1000).long() % TOKENS


def samples(row: Row, n: int, seed: int) -> Dataset[Any]:
    x, y = features(row.shape, n, seed)
    if row.data == "rows":
        return Rows([(x[i], y[i]) for i in range(n)])
    if row.data == "dicts":
        return Rows([{"a": x[i], "b": x[i].flip(0), "labels": y[i]} for i in range(n)])
    if row.data == "pairs":
        return Rows([((x[i], tokens(x[i])), int(y[i])) for i in range(n)])
    if row.data == "tokens":
        return TensorDataset(tokens(x), y)
    return TensorDataset(x, y)


def problem(name: str, *, seed: int = 0) -> Problem:
    """A problem of the table, at parameters that are not stationary."""
    row = (PROBLEMS | ANY_MODEL)[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = row.model().double()
    return Problem(model, samples(row, row.n, seed), loss=row.loss, weight_decay=row.weight_decay)


def queries(name: str, *, n: int = 5) -> Dataset[Any]:
    """Samples of the same kind that are not in training."""
    return samples((PROBLEMS | ANY_MODEL)[name], n, seed=99)


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

# methods that solve with the curvature itself, to any accuracy, or not at all
METHODS = ("gradient", "if", "projected", "freeze", "gif")


def random_vector(size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64)

"""What the selector tests share: changes, ratios, and small networks with attention."""

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from gifcore.change import RemoveSamples
from gifcore.problem import Problem
from gifcore.selection import Selection, scores
from gifcore.selection.scores import mean_output_gradients, mean_outputs
from tests import cases, oracles

CHANGE = RemoveSamples([0, 2, 3, 7, 9])  # not one whole batch of anything
NAMES = [n for n in cases.PROBLEMS if n != "dict batches"]
RATIOS = (0.07, 0.29, 0.5, 1.0)
BUDGETS = ("layer", "global")
FIRST_FIVE = (
    "highest-k-gradients", "highest-k-outputs", "lowest-k-gradients", "lowest-k-outputs", "random",
)  # fmt: skip
SCORES = {
    "output": mean_outputs,
    "gradient": mean_output_gradients,
    "absolute output": scores.mean_absolute_outputs,
    "absolute gradient": scores.mean_absolute_output_gradients,
    "fisher": lambda *args, **_: scores.fisher(*args),  # samples one by one, whatever is asked
    "magnitude": lambda *args, **_: scores.magnitudes(*args),
}
BATCHED = [of for of in SCORES if of not in ("fisher", "magnitude")]


def by_rule(*rules: str) -> list[str]:
    return [name for name, (_, rule) in cases.SELECTORS.items() if rule in rules]


def target(problem: Problem) -> list[int]:
    return CHANGE.samples(problem).tolist()


class Attention(nn.Module):
    """Self-attention between layers of other kinds; heads of two rows."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Linear(2, 4)
        self.norm = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **options)
        self.last = nn.Linear(4, cases.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.embed(x))
        wide = torch.cat([h, x], dim=2)
        key = wide if self.attention.kdim == 6 else h
        return self.last((h + self.attention(h, key, h, need_weights=False)[0]).mean(1))


class Named(nn.Module):
    """Attention whose projections are linear layers; only their names and a number say so."""

    def __init__(self) -> None:
        super().__init__()
        self.num_attention_heads = 2
        self.query, self.key, self.value = (nn.Linear(3, 4) for _ in range(3))
        self.dense = nn.Linear(4, cases.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.query(x) @ self.key(x).mT, dim=-1)
        return self.dense((weights @ self.value(x)).mean(1))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, cases.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embedding(x).mean(1)))


def made(model: nn.Module, shape: tuple[int, ...], n: int = 11) -> Problem:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.5)
    x, y = cases.features(shape, n, seed=0)
    if isinstance(model, Tokens):
        x = (x * 10).long() % 4  # the fifth token never occurs
    return Problem(model.double(), TensorDataset(x, y))


def blocks_of(selected: Selection) -> dict[str, int]:
    return {name: count for name, count in selected.by_layer().items() if count}


def scored_blocks(
    problem: Problem, layers: list[list[list[int]]]
) -> list[list[tuple[float | None, list[int]]]]:
    """The blocks of every layer with the score that the row `caps` gives them."""
    blocks = list(itertools.chain(*layers))
    found = iter(oracles.caps_scores(problem, target(problem), blocks, scores.CAPS_BATCH))
    return [[(next(found), block) for block in layer] for layer in layers]

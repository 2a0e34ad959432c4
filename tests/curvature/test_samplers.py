"""Draws of curvature samples: seeds, counts, strata in proportion, and the spread of updates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from gifcore.curvature import SAMPLERS, draw_samples, spread
from gifcore.errors import Cancelled, GifError
from gifcore.problem import Problem
from tests import cases


class Identity(nn.Module):
    """Passes its inputs through a feature layer and a last linear layer of known weights."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.last.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x)


def problem_of(x: Tensor, y: Tensor | None = None, samples: Tensor | None = None) -> Problem:
    labels = torch.zeros(len(x), dtype=torch.long) if y is None else y
    return Problem(Identity().double(), TensorDataset(x.double(), labels), samples=samples)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_draw_is_seeded_without_replacement_and_sorted(sampler: str) -> None:
    problem = cases.problem("convolution").narrowed(torch.tensor([1, 2, 4, 5, 6, 8, 9, 10, 12]))
    drawn = draw_samples(problem, 5, 3, sampler)
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert len(drawn) == 5
    assert set(drawn.tolist()) <= set(problem.positions.tolist())
    assert torch.equal(drawn, draw_samples(problem, 5, 3, sampler))
    assert len({tuple(draw_samples(problem, 5, seed, sampler).tolist()) for seed in range(8)}) > 3
    for count in (None, 9, 10):
        assert torch.equal(draw_samples(problem, count, 0, sampler), problem.positions)


def test_uniform_draws_are_those_of_earlier_records() -> None:
    problem = cases.problem("convolution").narrowed(torch.arange(2, 13))
    order = torch.randperm(11, generator=torch.Generator().manual_seed(7))
    expected = problem.positions[order[:4].sort().values]
    assert torch.equal(draw_samples(problem, 4, 7), expected)
    assert torch.equal(draw_samples(problem, 4, 7, "uniform"), expected)


@pytest.mark.parametrize(
    ("sizes", "count", "quotas"),
    [
        ((60, 30, 10), 10, (6, 3, 1)),
        ((50, 30, 20), 7, (4, 2, 1)),  # 3.5, 2.1, 1.4
        ((3, 3, 3), 4, (2, 1, 1)),  # equal remainders: the first class
        ((97, 2, 1), 50, (49, 1, 0)),  # 48.5, 1, 0.5: the same
    ],
)
def test_classes_in_proportion(sizes: tuple[int, ...], count: int, quotas: tuple[int, ...]) -> None:
    y = torch.cat([torch.full((size,), c) for c, size in enumerate(sizes)])
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    problem = problem_of(torch.zeros(len(y), 2), y)
    for seed in range(3):
        drawn = draw_samples(problem, count, seed, "stratified")
        assert tuple(torch.bincount(y[drawn], minlength=len(sizes)).tolist()) == quotas


def test_clusters_of_the_penultimate_features_are_all_there() -> None:
    """Eight far clouds: a draw of eight has one of each, which uniform draws hardly ever have."""
    corner = torch.arange(8).repeat(6)
    noise = 0.01 * cases.random_vector(96).view(48, 2)
    centres = 10 * torch.stack([torch.arange(8) % 3, torch.arange(8) // 3], dim=1)
    problem = problem_of(centres[corner] + noise)
    for seed in range(5):
        drawn = draw_samples(problem, 8, seed, "features")
        assert sorted(corner[drawn].tolist()) == list(range(8))
    uniform = [draw_samples(problem, 8, seed) for seed in range(5)]
    assert any(len(corner[drawn].unique()) < 8 for drawn in uniform)


def test_equal_features_make_one_cluster() -> None:
    problem = problem_of(torch.ones(9, 2))
    assert len(draw_samples(problem, 4, 0, "features")) == 4


def test_entropy_in_equal_parts() -> None:
    """Sample i has the logits (i, 0): the entropy falls with i, four quarters of 10."""
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    problem = problem_of(torch.stack([0.1 * order, torch.zeros(40)], dim=1))
    for seed in range(3):
        drawn = draw_samples(problem, 4, seed, "entropy")
        assert sorted((order[drawn] // 10).tolist()) == [0, 1, 2, 3]
    drawn = draw_samples(problem, 20, 0, "entropy")  # ten quantiles of 4, two of each
    assert torch.bincount(order[drawn] // 4).tolist() == [2] * 10


class OfTexts(Dataset[Any]):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(2).double(), "word"


@pytest.mark.parametrize(
    ("problem", "sampler", "sentence"),
    [
        (problem_of(torch.zeros(5, 2)), "best", "Unknown sampler 'best'; choose one of: uniform"),
        (problem_of(torch.zeros(5, 2), torch.rand(5)), "stratified", "one class per sample"),
        (problem_of(torch.zeros(5, 2), torch.zeros(5, 2)), "stratified", "one class per sample"),
        (Problem(Identity().double(), OfTexts()), "stratified", "labels must be numbers"),
        (
            Problem(nn.Conv1d(1, 1, 1).double(), TensorDataset(torch.zeros(5, 1, 2).double())),
            "features",
            "last linear layer",
        ),
        (
            Problem(nn.Linear(2, 1).double(), TensorDataset(torch.zeros(5, 2).double())),
            "entropy",
            "two or more logits",
        ),
    ],
)
def test_what_a_sampler_cannot_read(problem: Problem, sampler: str, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        draw_samples(problem, 2, 0, sampler)


# --- spread ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["features", "entropy"])
def test_a_pass_over_all_samples_can_be_cancelled_at_its_first_batch(sampler: str) -> None:
    problem = cases.problem("perceptron")
    asked = []

    def stop() -> None:
        asked.append(1)
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        draw_samples(problem, 2, 0, sampler, stop)
    assert asked == [1]


def test_spread_against_numpy() -> None:
    updates = [cases.random_vector(6, seed) + 2 for seed in range(4)]
    stack = np.stack([u.numpy() for u in updates])
    cosines = [
        stack[i] @ stack[j] / np.linalg.norm(stack[i]) / np.linalg.norm(stack[j])
        for i in range(4)
        for j in range(i)
    ]
    norms = np.linalg.norm(stack, axis=1)
    relative = np.sort(stack.std(axis=0, ddof=1) / np.abs(stack.mean(axis=0)))
    expected = {
        "cosine": np.mean(cosines),
        "norm": norms.std(ddof=1) / norms.mean(),
        "coordinate": relative[2],  # the lower of the two in the middle
    }
    found = spread(updates)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-12)


def test_equal_updates_do_not_spread() -> None:
    found = spread([torch.tensor([0.0, 3.0, 4.0])] * 3)
    assert found == pytest.approx({"cosine": 1.0, "norm": 0.0, "coordinate": 0.0})


@pytest.mark.parametrize(
    "updates",
    [[], [torch.ones(3)], [torch.ones(3), torch.ones(2)], [torch.ones(3), torch.zeros(3)]],
    ids=["none", "one", "lengths", "zero"],
)
def test_updates_that_cannot_be_compared(updates: list[Tensor]) -> None:
    with pytest.raises(GifError, match="update"):
        spread(updates)

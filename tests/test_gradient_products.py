"""Products of per-sample gradients: every way against single gradients, and which one is taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from gifcore import contraction
from gifcore.gradient_products import WAYS, Directions, choose, gradient_products
from gifcore.models import build
from gifcore.problem import Problem
from gifcore.ways import KERNELS, Shape, Sizes, cheapest, in_chunks, kernel_of, operations
from tests import cases


class Pictures(nn.Module):
    """Every layer with factors and every norm, also with groups and with several rows a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = nn.Conv2d(2, 6, 3, padding=1)  # sees two images a sample
        self.grouped = nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2, bias=False)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.batch, self.group = nn.BatchNorm2d(4), nn.GroupNorm(2, 4)
        self.wide = nn.Conv2d(4, 20, 3, stride=2, padding=1)
        self.tokens, self.layer = nn.Linear(20, 5), nn.LayerNorm(5)
        self.last = nn.Linear(40, cases.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        b = len(x)
        x = torch.tanh(self.frames(x.flatten(0, 1)))
        x = torch.tanh(self.group(self.batch(self.depthwise(self.grouped(x)))))
        x = torch.tanh(self.wide(x)).flatten(2).transpose(1, 2)  # (2 b, T, 20)
        x = torch.tanh(self.layer(self.tokens(x)))
        return self.last(x.reshape(b, -1))


def pictures() -> Problem:
    torch.manual_seed(0)
    model = Pictures().double()
    model.batch.running_mean.normal_()
    model.batch.running_var.uniform_(0.5, 2.0)
    for norm in (model.batch, model.group, model.layer):
        nn.init.normal_(norm.weight)
    x, _ = cases.features((2, 2, 8, 8), 5, seed=0)
    return Problem(model, TensorDataset(x, torch.arange(5) % cases.CLASSES))


def expected_of(problem: Problem, stack: Tensor) -> Tensor:
    return gradient_products(problem, stack, way="single gradients")


@pytest.mark.parametrize("way", sorted(set(WAYS) - {"single gradients"}))
def test_every_way_gives_the_products_of_single_gradients(way: str) -> None:
    problem = pictures()
    stack = cases.random_vector(3 * problem.space.size).reshape(3, -1)
    found = gradient_products(problem, stack, batch_size=2, way=way)
    np.testing.assert_allclose(found, expected_of(problem, stack), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_gives_the_same_products(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = pictures()
    stack = cases.random_vector(3 * problem.space.size).reshape(3, -1)
    monkeypatch.setattr(contraction, "kernel_of", lambda _shape, _m: kernel)
    monkeypatch.setattr(contraction, "SAMPLES", 2)  # several blocks of samples and of rows
    monkeypatch.setattr(contraction, "CACHE", 64)
    monkeypatch.setattr(contraction, "ROWS", 3)
    found = gradient_products(problem, stack, way="layer by layer")
    np.testing.assert_allclose(found, expected_of(problem, stack), rtol=1e-9, atol=1e-11)


def test_forward_mode_of_convolutions_with_few_positions() -> None:
    torch.manual_seed(0)
    model = build("tinynet", (1, 16, 16), 3).double()
    problem = Problem(model, TensorDataset(*cases.features((1, 16, 16), 3, seed=0)))
    s = cases.random_vector(problem.space.size)
    found = gradient_products(problem, s, way="forward mode")
    np.testing.assert_allclose(found, expected_of(problem, s), rtol=1e-8)


# --- which way is taken ---------------------------------------------------------------------------

TINYNET = (
    Shape(196, 32, 9, gathered=True),
    Shape(49, 64, 288, gathered=True),
    Shape(16, 128, 576, gathered=True),
    Shape(4, 256, 1152, gathered=True),
    Shape(1, 10, 1024),
)


# shape of a call, m, the kernel that takes far fewer operations than the others
KERNEL_CASES = (
    (Shape(4, 256, 1152, gathered=True), 64, "formed"),
    (Shape(196, 32, 9, gathered=True), 2, "formed"),
    (Shape(1, 4096, 4096), 2, "factored"),
    (Shape(1, 10, 1024), 8, "factored"),
    (Shape(128, 768, 768), 64, "formed"),
    (Shape(16, 512, 4608, gathered=True), 1, "called"),
    (Shape(20, 64, 1, factors=False), 64, "called"),
)


@pytest.mark.parametrize(("shape", "m", "kernel"), KERNEL_CASES)
def test_the_kernel_of_fewest_operations(shape: Shape, m: int, kernel: str) -> None:
    assert kernel_of(shape, m) == kernel
    multiplied = {  # multiply-adds alone: rows are formed once, directions meet them once each
        "called": m * shape.positions * shape.rows * shape.columns,
        "formed": (shape.positions + m) * shape.rows * shape.columns,
        "factored": m * shape.positions * shape.rows * shape.columns,
    }
    for name, cost in KERNELS.items():
        assert cost(shape, m) >= multiplied[name]
        assert cost(shape, m + 1) > cost(shape, m)


def test_operations_of_tinynet_grow_by_the_parameters_a_direction_not_by_a_pass() -> None:
    forward = sum(shape.forward for shape in TINYNET)
    costs = {m: operations(TINYNET, m) for m in (1, 2, 16, 64)}
    assert costs[16]["forward mode"] == 48 * forward
    assert cheapest(costs[1]) == "forward mode"
    assert all(cheapest(costs[m]) == "layer by layer" for m in (2, 16, 64))
    p = 398_080  # weights and biases of the layers, counted as weights
    more = costs[64]["layer by layer"] - costs[16]["layer by layer"]
    assert more == pytest.approx(48 * p, rel=0.05)


@pytest.mark.parametrize(
    ("forward", "p", "m", "way"),
    [(1e6, 1e4, 64, "gradients in chunks"), (1e3, 1e6, 64, "forward mode"),
     (1e6, 1e5, 1, "forward mode")],
)  # fmt: skip
def test_chunks_where_positions_share_weights(forward: float, p: int, m: int, way: str) -> None:
    assert cheapest(in_chunks(forward, p, m)) == way
    one, more = in_chunks(forward, p, m), in_chunks(forward, p, m + 1)
    assert more["gradients in chunks"] - one["gradients in chunks"] == p
    assert more["forward mode"] - one["forward mode"] == 3 * forward


class Attention(nn.Module):
    """Its projections belong to no layer that is linear in them."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.MultiheadAttention(4, 2, batch_first=True)
        self.last = nn.Linear(4, cases.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.mix(x, x, x, need_weights=False)[0].mean(dim=1))


def test_a_choice_says_what_it_counted() -> None:
    torch.manual_seed(0)
    x, y = cases.features((60, 4), 4, seed=0)
    attention = Problem(Attention().double(), TensorDataset(x, y))
    for problem, way in ((pictures(), "layer by layer"), (attention, "gradients in chunks")):
        stack = cases.random_vector(2 * problem.space.size).reshape(2, -1)
        directions = Directions(problem, stack)
        choice = choose(problem, directions, problem.positions, 64)
        assert (choice.way, choice.directions) == (way, 64)
        assert set(choice.operations) == {"forward mode", way} == set(choice.seconds)
        assert choice.operations[way] < choice.operations["forward mode"]
        counted = choice.card()["operations_per_sample"]
        assert counted == {name: round(cost) for name, cost in choice.operations.items()}
        assert choose(problem, directions.first, problem.positions).way == "forward mode"
        found = gradient_products(problem, stack, way=choice.way)
        np.testing.assert_allclose(found, expected_of(problem, stack), rtol=1e-9, atol=1e-11)


def test_the_fastest_batch_size_stays_and_changes_no_product() -> None:
    sizes = Sizes((2, 4, 8))
    taken = []
    for _ in range(9):
        taken.append(sizes.next)
        sizes.took(sizes.next, {2: 1.0, 4: 1.0, 8: 3.0}[sizes.next])  # 4: least a sample
    assert taken == [2, 4, 8, 2, 4, 8, 4, 4, 4]
    row = cases.PROBLEMS["perceptron"]
    problem = Problem(cases.problem("perceptron").model, cases.samples(row, 2400, 0))
    s = cases.random_vector(problem.space.size)
    seen: list[int] = []
    found = gradient_products(problem, s, progress=lambda done, *_: seen.append(done))
    assert seen[:8] == [64, 192, 448, 960, 1024, 1152, 1408, 1920]  # forward mode: 512 too
    assert seen[-1] == 2400
    np.testing.assert_allclose(found, gradient_products(problem, s, batch_size=7), rtol=1e-10)

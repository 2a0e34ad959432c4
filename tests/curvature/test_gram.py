"""Gauss-Newton and Fisher products: what is kept, in how much memory, and the ways to J v."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from gifcore.curvature import EmpiricalFisher, GaussNewton
from gifcore.curvature.gram import JacobianGram
from gifcore.problem import Problem
from tests import cases, curvature_oracles

CLOSE = {"rtol": 1e-10, "atol": 1e-11}
KINDS = [GaussNewton, EmpiricalFisher]


def expected(problem: Problem, kind: type[JacobianGram], v: Tensor) -> Tensor:
    dense = curvature_oracles.gauss_newton if kind is GaussNewton else curvature_oracles.fisher
    return torch.from_numpy(dense(problem, problem.positions.tolist())) @ v


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_a_large_budget_and_nothing_of_none(kind: type[JacobianGram]) -> None:
    problem = cases.problem("convolution")
    v = cases.random_vector(problem.space.size)
    for memory_mb, kept in ((512, 4), (0, 0)):
        A = kind(problem, problem.positions, 4, memory_mb)
        for _ in range(3):  # the first product makes the graphs, the others use them
            torch.testing.assert_close(A @ v, expected(problem, kind, v), **CLOSE)
        assert len(A._kept.graphs) == kept
        assert (A.kept_megabytes > 0) == (kept > 0)
        assert A._kept.forward_mode
        A.release()
        assert A.kept_megabytes == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_budget_keeps_the_first_batches(kind: type[JacobianGram]) -> None:
    problem = cases.problem("convolution")
    v = cases.random_vector(problem.space.size)
    full = kind(problem, problem.positions, 2)
    full @ v
    budget = 0.5 * full.kept_megabytes
    A = kind(problem, problem.positions, 2, budget)
    for _ in range(2):
        torch.testing.assert_close(A @ v, expected(problem, kind, v), **CLOSE)
        assert 0 < A.kept_megabytes <= budget
        assert 0 < len(A._kept.graphs) < 7


def test_a_batch_that_turns_out_too_large_when_it_is_traced_is_not_kept() -> None:
    problem = cases.problem("convolution")
    v = cases.random_vector(problem.space.size)
    full = GaussNewton(problem, problem.positions, 13)
    product = full @ v
    A = GaussNewton(problem, problem.positions, 13, 0.98 * full.kept_megabytes)
    for _ in range(2):
        torch.testing.assert_close(A @ v, product, **CLOSE)
    assert A.kept_megabytes == 0


def test_what_is_kept_counts_the_graph_and_its_linearisation() -> None:
    problem = cases.problem("perceptron")
    A = GaussNewton(problem, problem.positions, 11)
    A @ problem.theta
    inputs_and_hidden = 11 * (3 + 4) * 8 / 2**20  # float64, once for each of the two
    assert A.kept_megabytes >= 2 * inputs_and_hidden


class OnlyBackward(torch.autograd.Function):
    """tanh without a forward mode; its derivative can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return slope * (1 - x.tanh() ** 2)


class Reversed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, cases.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(OnlyBackward.apply(self.first(x)))


@pytest.mark.parametrize("memory_mb", [0, 512], ids=["rebuilt", "kept"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_without_forward_mode(kind: type[JacobianGram], memory_mb: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Reversed().double()
    problem = Problem(model, TensorDataset(*cases.features((3,), 11, 0)), weight_decay=0.1)
    v = cases.random_vector(problem.space.size)
    A = kind(problem, problem.positions, 4, memory_mb)
    for _ in range(3):
        torch.testing.assert_close(A @ v, expected(problem, kind, v), **CLOSE)
    assert not A._kept.forward_mode
    assert len(A._kept.graphs) == (3 if memory_mb else 0)


class Padded(nn.Module):
    """The padding's embedding has no gradient, but torch's forward mode gives it a derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 4, padding_idx=0)
        self.last = nn.Linear(4, cases.CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.last(self.words(tokens).tanh().mean(1))


@pytest.mark.parametrize("memory_mb", [0, 512], ids=["rebuilt", "kept"])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_mode_that_contradicts_the_gradient(
    kind: type[JacobianGram], memory_mb: int
) -> None:
    tokens = torch.arange(33).view(11, 3) % 5
    _, y = cases.features((3,), 11, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        problem = Problem(Padded().double(), TensorDataset(tokens, y), weight_decay=0.1)
    with torch.no_grad():
        problem.theta[:4] = 0.5  # the padding's row
        problem.model.words.weight[0] = 0.5
    v = cases.random_vector(problem.space.size)
    A = kind(problem, problem.positions, 4, memory_mb)
    for _ in range(2):
        torch.testing.assert_close(A @ v, expected(problem, kind, v), **CLOSE)
    assert not A._kept.forward_mode


def test_kept_batches_side_by_side_change_nothing() -> None:
    problem = cases.problem("convolution")
    v = cases.random_vector(problem.space.size)
    A = GaussNewton(problem, problem.positions, 3)
    alone = [A @ v, A @ v]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        together = A @ v
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(together, alone[1], rtol=1e-12, atol=1e-14)


def test_at_a_linear_model_gauss_newton_is_the_hessian() -> None:
    """H = GGN where the outputs are linear in the parameters, whatever the loss."""
    from gifcore.curvature import Hessian

    x, y = cases.features((3,), 11, 0)
    problem = Problem(nn.Linear(3, cases.CLASSES).double(), TensorDataset(x, y))
    v = cases.random_vector(problem.space.size)
    found = GaussNewton(problem, problem.positions, 4) @ v
    torch.testing.assert_close(found, Hessian(problem, problem.positions, 4) @ v, **CLOSE)

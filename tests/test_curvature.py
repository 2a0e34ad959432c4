"""Hessian products over mini-batches against the dense Hessian; graphs, memory, draws."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from gifcore.curvature import Hessian, check_deterministic, draw_samples
from gifcore.errors import Cancelled, GifError
from gifcore.problem import Problem
from tests import cases, oracles

_DENSE: dict[str, np.ndarray] = {}


def dense(name: str) -> np.ndarray:
    if name not in _DENSE:
        _DENSE[name] = oracles.hessian(cases.problem(name))
    return _DENSE[name]


@pytest.mark.parametrize("memory_mb", [0, 512], ids=["rebuilt", "kept"])
@pytest.mark.parametrize("batch_size", cases.BATCH_SIZES)
@pytest.mark.parametrize("name", cases.PROBLEMS)
def test_product_is_the_dense_hessian_times_v(name: str, batch_size: int, memory_mb: int) -> None:
    problem = cases.problem(name)
    H = Hessian(problem, problem.positions, batch_size, memory_mb)
    for seed in range(2):  # the second product comes from the kept graphs
        v = cases.random_vector(problem.space.size, seed)
        expected = torch.from_numpy(dense(name)) @ v
        torch.testing.assert_close(H @ v, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", cases.PROBLEMS)
def test_symmetric_and_linear(name: str) -> None:
    problem = cases.problem(name)
    H = Hessian(problem, problem.positions, 4)
    u, v = (cases.random_vector(problem.space.size, seed) for seed in (1, 2))
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(u @ (H @ v), v @ (H @ u), **close)
    torch.testing.assert_close(H.T @ v, H @ v, **close)
    torch.testing.assert_close(H @ (2 * u - 3 * v), 2 * (H @ u) - 3 * (H @ v), **close)


def test_it_is_the_derivative_of_the_gradient() -> None:
    """A second opinion without second derivatives: central differences on a smooth model."""
    problem = cases.problem("convolution")
    theta, v = oracles.theta_of(problem), cases.random_vector(problem.space.size)

    def gradient(at: Tensor) -> Tensor:
        at = at.clone().requires_grad_()
        return torch.autograd.grad(oracles.objective(problem, at), at)[0]

    difference = (gradient(theta + 1e-5 * v) - gradient(theta - 1e-5 * v)) / 2e-5
    product = Hessian(problem, problem.positions, 5) @ v
    torch.testing.assert_close(product, difference, rtol=1e-6, atol=1e-8)


def test_only_its_samples_count_with_weights_by_batch() -> None:
    problem = cases.problem("perceptron with decay")
    some = torch.tensor([1, 2, 5, 8, 9])
    expected = oracles.hessian(problem.narrowed(some))
    for batch_size in (1, 2, 5):
        found = Hessian(problem, some, batch_size).dense()
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-11)


def test_single_precision_agrees_to_its_own_precision() -> None:
    problem = cases.problem("convolution")
    x, y = problem.train.tensors
    single = Problem(problem.model.float(), TensorDataset(x.float(), y), weight_decay=0.01)
    v = cases.random_vector(single.space.size).float()
    product = Hessian(single, single.positions, 4) @ v
    assert product.dtype == torch.float32
    expected = torch.from_numpy(dense("convolution")) @ v.double()
    torch.testing.assert_close(product.double(), expected, rtol=1e-4, atol=1e-5)


# --- graphs and memory ---------------------------------------------------------------------------


class Watched(nn.Module):
    """A perceptron that notes its hidden activations, to see when they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 3)
        self.hidden: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        self.hidden.append(weakref.ref(hidden))
        return self.last(hidden)

    @property
    def alive(self) -> int:
        gc.collect()
        return sum(reference() is not None for reference in self.hidden)


def watched() -> tuple[Problem, Watched]:
    model = Watched().double()
    x, y = cases.features((3,), 11, seed=0)
    return Problem(model, TensorDataset(x, y)), model


def test_no_budget_keeps_nothing() -> None:
    problem, model = watched()
    H = Hessian(problem, problem.positions, batch_size=4, memory_mb=0)
    for _ in range(2):
        H @ problem.theta
    assert H.kept_megabytes == 0
    assert len(model.hidden) == 6  # three forward passes a product
    assert model.alive == 0


def test_a_budget_keeps_every_graph_once_and_release_frees_it() -> None:
    problem, model = watched()
    H = Hessian(problem, problem.positions, batch_size=4)
    for _ in range(3):
        H @ problem.theta
    assert len(model.hidden) == 3  # the forward passes of the first product alone
    kept = [weakref.ref(graph.gradient) for graph in H._kept]
    assert H.kept_megabytes > 0
    H.release()
    gc.collect()
    assert model.alive == 0
    assert all(reference() is None for reference in kept)
    assert H.kept_megabytes == 0
    torch.testing.assert_close(H @ problem.theta, H @ problem.theta, rtol=1e-14, atol=0)


def test_graphs_are_freed_with_their_operator() -> None:
    problem, model = watched()
    H = Hessian(problem, problem.positions, batch_size=4)
    H @ problem.theta
    del H
    assert model.alive == 0


def test_a_small_budget_keeps_what_fits_and_the_numbers_stay() -> None:
    problem, model = watched()
    v = cases.random_vector(problem.space.size)
    full = Hessian(problem, problem.positions, batch_size=2)
    expected = full @ v
    budget = 0.5 * full.kept_megabytes
    model.hidden.clear()
    H = Hessian(problem, problem.positions, batch_size=2, memory_mb=budget)
    assert torch.equal(H @ v, expected)
    assert torch.equal(H @ v, expected)
    assert 0 < H.kept_megabytes <= budget
    assert 6 < len(model.hidden) < 12  # some of the six batches were built again


def test_a_kept_graph_takes_at_least_its_activations() -> None:
    problem, _ = watched()
    H = Hessian(problem, problem.positions, batch_size=11)
    H @ problem.theta
    activations = 11 * (3 + 4 + 3) * 8 / 2**20  # inputs, hidden, outputs in float64
    assert H.kept_megabytes >= activations


# --- draws, cancel, refusals ---------------------------------------------------------------------


def test_a_draw_is_seeded_without_replacement_and_sorted() -> None:
    problem = cases.problem("convolution")
    drawn = draw_samples(problem, 6, seed=3)
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert len(drawn) == 6
    assert torch.equal(drawn, draw_samples(problem, 6, seed=3))
    draws = {tuple(draw_samples(problem, 6, seed=s).tolist()) for s in range(20)}
    assert len(draws) > 15
    assert {i for draw in draws for i in draw} == set(range(13))


@pytest.mark.parametrize("count", [None, 13, 14, 10**30])
def test_all_samples(count: int | None) -> None:
    problem = cases.problem("convolution")
    assert draw_samples(problem, count, seed=1).tolist() == list(range(13))


def test_draws_come_from_the_samples_of_the_objective() -> None:
    problem = cases.problem("convolution").narrowed(torch.tensor([2, 3, 5, 7, 11]))
    for seed in range(10):
        assert set(draw_samples(problem, 3, seed=seed).tolist()) <= {2, 3, 5, 7, 11}


@pytest.mark.parametrize("count", [0, -3])
def test_no_curvature_samples(count: int) -> None:
    with pytest.raises(GifError, match="samples"):
        draw_samples(cases.problem("perceptron"), count, seed=0)


def test_the_stop_signal_is_asked_once_a_batch() -> None:
    problem = cases.problem("perceptron")
    calls = []

    def stop() -> None:
        calls.append(None)
        if len(calls) == 5:
            raise Cancelled

    H = Hessian(problem, problem.positions, batch_size=4, stop=stop)
    H @ problem.theta
    assert len(calls) == 3
    with pytest.raises(Cancelled):
        H @ problem.theta


class Noisy(nn.Module):
    """Random even in eval mode."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.linear, self.noise = nn.Linear(3, 3), noise

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x + self.noise * torch.randn_like(x))


@pytest.mark.parametrize("noise", [1.0, 1e-6])
def test_a_random_model_is_refused(noise: float) -> None:
    x, y = cases.features((3,), 11, seed=0)
    problem = Problem(Noisy(noise).double(), TensorDataset(x, y))
    H = Hessian(problem, problem.positions, batch_size=4, memory_mb=0)
    with pytest.raises(GifError, match="not deterministic"):
        check_deterministic(H, problem.theta)


@pytest.mark.parametrize("memory_mb", [0, 512], ids=["rebuilt", "kept"])
def test_a_random_model_is_refused_even_if_its_graphs_are_kept(memory_mb: int) -> None:
    """A kept graph repeats its noise, so equal products alone would prove nothing."""
    x, y = cases.features((3,), 11, seed=0)
    problem = Problem(Noisy(1.0).double(), TensorDataset(x, y))
    H = Hessian(problem, problem.positions, batch_size=4, memory_mb=memory_mb)
    with pytest.raises(GifError, match="not deterministic"):
        check_deterministic(H, problem.theta)


def test_dropout_in_eval_mode_is_deterministic() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Tanh(), nn.Linear(4, 3)).double()
    x, y = cases.features((3,), 11, seed=0)
    problem = Problem(model.train(), TensorDataset(x, y))
    check_deterministic(Hessian(problem, problem.positions, 4, 0), problem.theta)


def test_a_loss_that_is_linear_in_the_parameters() -> None:
    problem = Problem(
        nn.Linear(3, 2).double(), cases.queries("perceptron"), loss=lambda outputs, _: outputs[:, 0]
    )
    with pytest.raises(GifError, match="Hessian is zero"):
        Hessian(problem, problem.positions) @ problem.theta


def test_batches_side_by_side_change_nothing() -> None:
    """Each kept batch has a thread of its own; the sum and the caller's thread count stay."""
    problem = cases.problem(next(iter(cases.PROBLEMS)))
    vector = cases.random_vector(problem.space.size, 3)
    H = Hessian(problem, problem.positions, batch_size=3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = [H @ vector, H @ vector]
        torch.set_num_threads(3)
        together = H @ vector
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(together, alone[1], rtol=1e-12, atol=1e-14)

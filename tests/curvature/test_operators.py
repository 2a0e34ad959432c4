"""Every curvature against its dense matrix, over all problems, on ragged batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from gifcore.curvature import (
    EKFAC,
    BlockDiagonal,
    DataInf,
    EmpiricalFisher,
    GaussNewton,
    Hessian,
    layer_blocks,
)
from gifcore.errors import Cancelled, GifError
from gifcore.operators import LinearOperator
from gifcore.problem import Problem
from tests import cases, curvature_oracles, oracles


def some(problem: Problem) -> list[int]:
    """Some of a problem's samples, of different weights where it has them."""
    return [i for i in (0, 2, 3, 5, 7, 8, 10) if i < len(problem.train)]


def weighted(name: str) -> Problem:
    """A problem of the table whose samples count differently."""
    problem = cases.problem(name)
    size = len(problem.train)
    return replace(problem, weights=0.5 + torch.arange(size, dtype=torch.float64) / size)


def at_true_labels(problem: Problem, samples: torch.Tensor, batch_size: int) -> EKFAC:
    return EKFAC.fit(problem, samples, labels="true", batch_size=batch_size)


def by_layer(problem: Problem, samples: torch.Tensor, batch_size: int) -> BlockDiagonal:
    return BlockDiagonal(GaussNewton(problem, samples, batch_size), layer_blocks(problem.space))


def dense_hessian(problem: Problem, samples: list[int]) -> np.ndarray:
    decay = problem.weight_decay * np.eye(problem.space.size)
    total = decay
    for i, share in zip(samples, curvature_oracles.shares(problem, samples), strict=True):
        one = Problem(problem.model, Subset(problem.train, [i]), loss=problem.loss)
        total = total + share * oracles.hessian(one)
    return total


def dense_ekfac(problem: Problem, samples: list[int]) -> np.ndarray:
    decay = problem.weight_decay * np.eye(problem.space.size)
    return curvature_oracles.ekfac(problem, samples) + decay


def cut(dense: Callable[[Problem, list[int]], np.ndarray], problem: Problem) -> np.ndarray:
    blocks = list(curvature_oracles.modules(problem).values())
    return curvature_oracles.block_diagonal(dense(problem, some(problem)), blocks)


# name -> (operator from problem, samples and batch size; its dense matrix)
CURVATURES: dict[str, tuple[Callable[..., LinearOperator], Callable[[Problem], np.ndarray]]] = {
    "hessian": (Hessian, lambda problem: dense_hessian(problem, some(problem))),
    "ggn": (GaussNewton, lambda problem: curvature_oracles.gauss_newton(problem, some(problem))),
    "fisher": (EmpiricalFisher, lambda problem: curvature_oracles.fisher(problem, some(problem))),
    "block": (by_layer, lambda problem: cut(curvature_oracles.gauss_newton, problem)),
    "ekfac": (at_true_labels, lambda problem: dense_ekfac(problem, some(problem))),
    "datainf": (DataInf, lambda problem: cut(curvature_oracles.fisher, problem)),
}


@cache
def dense(name: str, problem: str) -> np.ndarray:
    return CURVATURES[name][1](weighted(problem))


def made(name: str, problem: Problem, batch_size: int = 3) -> LinearOperator:
    return CURVATURES[name][0](problem, torch.tensor(some(problem)), batch_size)


ROWS = [(name, problem) for name in CURVATURES for problem in cases.PROBLEMS] + [
    (name, problem) for name in ("ggn", "fisher", "datainf") for problem in cases.ANY_MODEL
]


@pytest.mark.parametrize(("name", "problem"), ROWS)
def test_it_is_its_dense_matrix_whatever_the_batch_size(name: str, problem: str) -> None:
    expected = dense(name, problem)
    for batch_size, count in ((3, 6), (1000, 1)):
        operator = made(name, weighted(problem), batch_size)
        for seed in range(count):  # random vectors: a wrong entry cannot hide from them
            v = cases.random_vector(len(expected), seed)
            np.testing.assert_allclose(operator @ v, expected @ v.numpy(), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("problem", ["perceptron with decay", "batch norm"])
@pytest.mark.parametrize("name", CURVATURES)
def test_symmetric_linear_and_positive(name: str, problem: str) -> None:
    A = made(name, weighted(problem))
    u, v = (cases.random_vector(A.shape[0], seed) for seed in (1, 2))
    close = {"rtol": 1e-10, "atol": 1e-11}
    torch.testing.assert_close(u @ (A @ v), v @ (A @ u), **close)
    torch.testing.assert_close(A.T @ v, A @ v, **close)
    torch.testing.assert_close(A @ (2 * u - 3 * v), 2 * (A @ u) - 3 * (A @ v), **close)
    if name != "hessian":
        decay = weighted(problem).weight_decay
        assert np.linalg.eigvalsh(dense(name, problem)).min() >= decay - 1e-12
        assert float(v @ (A @ v)) >= decay * float(v @ v)


@pytest.mark.parametrize("name", CURVATURES)
def test_single_precision_agrees_to_its_own_precision(name: str) -> None:
    double = cases.problem("convolution")
    x, y = double.train.tensors
    data = torch.utils.data.TensorDataset(x.float(), y)
    expected = made(name, double)
    single = Problem(double.model.float(), data, weight_decay=0.01)
    v = cases.random_vector(single.space.size).float()
    found = made(name, single) @ v
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected @ v.double(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["hessian", "ggn", "fisher", "datainf"])
def test_the_stop_signal_is_asked_once_a_batch(name: str) -> None:
    calls = []

    def stop() -> None:
        calls.append(None)
        if len(calls) == 5:
            raise Cancelled

    problem = cases.problem("perceptron")
    H = replace(made(name, problem), stop=stop)
    H @ problem.theta
    assert len(calls) == 3
    with pytest.raises(Cancelled):
        H @ problem.theta


def test_fitting_can_be_stopped() -> None:
    problem = cases.problem("perceptron")

    def stop() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        EKFAC.fit(problem, problem.positions, stop=stop)


@pytest.mark.parametrize("name", CURVATURES)
def test_the_model_is_left_as_it_was(name: str) -> None:
    problem = cases.problem("batch norm")
    problem.model.train()
    before = {key: value.clone() for key, value in problem.model.state_dict().items()}
    made(name, problem) @ problem.theta
    assert all(torch.equal(value, before[key]) for key, value in problem.model.state_dict().items())
    assert problem.model.training
    assert not any(module._forward_hooks for module in problem.model.modules())
    assert all(parameter.grad is None for parameter in problem.model.parameters())


def test_a_loss_that_is_linear_in_the_outputs_has_no_gauss_newton_matrix() -> None:
    problem = replace(cases.problem("perceptron"), loss=lambda outputs, _: outputs[:, 0])
    with pytest.raises(GifError, match="linear in the model's outputs"):
        made("ggn", problem) @ problem.theta


def test_a_loss_that_is_not_one_number_a_sample() -> None:
    problem = replace(cases.problem("perceptron"), loss=lambda outputs, _: outputs.square().mean())
    for name in ("ggn", "fisher", "datainf"):
        with pytest.raises(GifError, match="one number per sample"):
            made(name, problem) @ problem.theta

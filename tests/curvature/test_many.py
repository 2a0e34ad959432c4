"""Products of curvatures with many vectors at once: column by column those with each alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gifcore.curvature import EmpiricalFisher, GaussNewton, Hessian
from gifcore.solvers.many import parts_of, products_of
from tests import cases

KINDS = {"hessian": Hessian, "ggn": GaussNewton, "fisher": EmpiricalFisher}
CASES = [
    ("perceptron with decay", "hessian", 64),
    ("perceptron with decay", "hessian", 0),
    ("convolution", "hessian", 64),
    ("unused parameters", "hessian", 0),
    ("fused attention, tied words", "hessian", 64),
    ("perceptron with decay", "ggn", 64),
    ("perceptron with decay", "ggn", 0),
    ("perceptron with decay", "fisher", 64),
]


def vectors(size: int, count: int) -> Tensor:
    return torch.stack([cases.random_vector(size, seed) for seed in range(count)], dim=1)


@pytest.mark.parametrize(("name", "kind", "memory_mb"), CASES)
def test_many_products_are_single_ones(name: str, kind: str, memory_mb: int) -> None:
    problem = cases.problem(name)
    H = KINDS[kind](problem, problem.positions, 4, memory_mb)
    V = vectors(problem.space.size, 10)  # more than go through a graph together
    expected = torch.stack([H @ v for v in V.T], dim=1)
    for _ in range(2):  # the second time with what was kept
        torch.testing.assert_close(products_of(H, V), expected, rtol=1e-9, atol=1e-11)
    J = torch.arange(0, problem.space.size, 3)
    torch.testing.assert_close(parts_of(H, V, J), expected[J], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("name", "vectorises"), [("perceptron", True), ("convolution", False)])
def test_what_cannot_be_vectorised_is_done_one_by_one(name: str, vectorises: bool) -> None:
    problem = cases.problem(name)
    H = Hessian(problem, problem.positions)
    loop = Hessian(problem, problem.positions, vectorised=False)
    V = vectors(problem.space.size, 3)
    found, expected = products_of(H, V), products_of(loop, V)
    assert bool(H._refused) is not vectorises
    assert not loop._refused
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


def test_a_graph_that_is_not_kept_is_made_once_for_the_columns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = cases.problem("perceptron")
    made: list[int] = []
    inner = Hessian._gradient_graph

    def counted(self: Hessian, number: int, part: Tensor) -> object:
        made.append(number)
        return inner(self, number, part)

    monkeypatch.setattr(Hessian, "_gradient_graph", counted)
    H = Hessian(problem, problem.positions, 4, 0)
    products_of(H, vectors(problem.space.size, 5))
    assert made == [0, 1, 2]  # 11 samples, 4 a batch
    for v in vectors(problem.space.size, 5).T:
        _ = H @ v
    assert made == [0, 1, 2] * 6

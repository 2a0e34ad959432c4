"""Curvatures cut to layers: which blocks there are, and their inverses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gifcore.curvature import BlockDiagonal, GaussNewton, Hessian, block, layer_blocks
from gifcore.errors import GifError
from gifcore.operators import Matrix
from gifcore.problem import Problem
from tests import cases, curvature_oracles, oracles

CLOSE = {"rtol": 1e-10, "atol": 1e-11}


def cut(problem: Problem, blocks: list[list[int]]) -> np.ndarray:
    return curvature_oracles.block_diagonal(oracles.hessian(problem), blocks)


def test_named_layers_and_the_rest_as_one_more() -> None:
    problem = cases.problem("batch norm")  # 0: 12, 1: 6, 4: 84 parameters
    H = Hessian(problem, problem.positions, 4)
    found = BlockDiagonal(H, layer_blocks(problem.space, ["1"]))
    others = [*range(12), *range(18, 102)]
    np.testing.assert_allclose(
        found.dense().numpy(), cut(problem, [list(range(12, 18)), others]), **CLOSE
    )


def test_a_name_stands_for_everything_below_it() -> None:
    problem = cases.problem("transformer layer")
    (found,) = layer_blocks(problem.space, ["layer"])
    names = [problem.space.locate(int(i))[0] for i in found]
    assert all(name.startswith("layer.") for name in names)
    assert len(found) == sum(b.size for b in problem.space.blocks if b.name.startswith("layer."))


def test_inverses_are_those_of_the_blocks() -> None:
    problem = cases.problem("perceptron with decay")
    H = BlockDiagonal(GaussNewton(problem, problem.positions, 4), layer_blocks(problem.space))
    d = 0.3
    dense = H.dense().numpy() + d * np.eye(H.shape[0])
    v = cases.random_vector(H.shape[0])
    np.testing.assert_allclose(H.inverse(v, d).numpy(), np.linalg.inv(dense) @ v.numpy(), **CLOSE)
    J = torch.tensor([1, 4, 17, 20, 22])
    found, exact = H.restricted_inverse(v[J], J, d)
    assert exact
    expected = np.linalg.inv(dense[np.ix_(J, J)]) @ v[J].numpy()
    np.testing.assert_allclose(found.numpy(), expected, **CLOSE)


def test_overlapping_blocks_are_refused() -> None:
    problem = cases.problem("batch norm")
    H = Hessian(problem, problem.positions)
    with pytest.raises(GifError, match="overlap"):
        BlockDiagonal(H, layer_blocks(problem.space, ["1", "1"]))


def test_a_layer_that_is_not_there() -> None:
    with pytest.raises(GifError, match="no layer 'conv'; the layers are: 0, 2"):
        layer_blocks(cases.problem("perceptron").space, ["conv"])


def test_a_large_block_is_not_inverted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "DENSE_SIZE", 2)
    H = BlockDiagonal(Matrix(torch.eye(3).double()), (torch.arange(3),))
    with pytest.raises(GifError, match="select fewer"):
        H.inverse(torch.ones(3).double(), 0.1)


def test_a_singular_block() -> None:
    H = BlockDiagonal(Matrix(torch.zeros(3, 3).double()), (torch.arange(3),))
    with pytest.raises(GifError, match="singular"):
        H.inverse(torch.ones(3).double(), 0.0)

"""The algebra of operators against dense matrices."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import Diagonal, Embedding, Identity, LinearOperator, Matrix
from tests.cases import random_vector

A = random_vector(12, 1).reshape(4, 3)
S = random_vector(16, 2).reshape(4, 4)
J = torch.tensor([0, 2, 3])
E = torch.eye(4, dtype=torch.float64)[:, J]

ALGEBRA: dict[str, tuple[Callable[[], LinearOperator], Tensor]] = {
    "matrix": (lambda: Matrix(A), A),
    "identity": (lambda: Identity(3), torch.eye(3, dtype=torch.float64)),
    "diagonal": (lambda: Diagonal(A[0]), A[0].diag()),
    "embedding": (lambda: Embedding(J, 4), E),
    "transposed": (lambda: Matrix(A).T, A.T),
    "transposed twice": (lambda: Matrix(A).T.T, A),
    "product": (lambda: Matrix(S) @ Embedding(J, 4), S @ E),
    "product transposed": (lambda: (Matrix(S) @ Embedding(J, 4)).T, (S @ E).T),
    "sum": (lambda: Matrix(S) + Identity(4), S + torch.eye(4)),
    "sum transposed": (lambda: (Matrix(S) + Identity(4)).T, S.T + torch.eye(4)),
    "scaled": (lambda: 0.5 * Matrix(A), 0.5 * A),
    "damped and cut": (
        lambda: (Matrix(S) + 0.1 * Identity(4)) @ Embedding(J, 4),
        (S + 0.1 * torch.eye(4)) @ E,
    ),
    "three factors": (
        lambda: Embedding(J, 4).T @ Matrix(S) @ Embedding(J, 4) @ Diagonal(A[0]),
        E.T @ S @ E @ A[0].diag(),
    ),
}


@pytest.mark.parametrize("name", ALGEBRA)
def test_against_the_dense_matrix(name: str) -> None:
    make, dense = ALGEBRA[name]
    operator = make()
    assert operator.shape == tuple(dense.shape)
    v, u = random_vector(dense.shape[1], 3), random_vector(dense.shape[0], 4)
    torch.testing.assert_close(operator @ v, dense @ v)
    torch.testing.assert_close(operator.T @ u, dense.T @ u)
    torch.testing.assert_close(u @ (operator @ v), (operator.T @ u) @ v)  # the adjoint
    torch.testing.assert_close(operator.dense(), dense)
    assert operator.T.shape == operator.shape[::-1]


@pytest.mark.parametrize("name", ALGEBRA)
def test_a_vector_of_the_wrong_size_is_a_sentence(name: str) -> None:
    operator = ALGEBRA[name][0]()
    for wrong in (torch.zeros(operator.shape[1] + 1), torch.zeros(operator.shape[1], 1)):
        with pytest.raises(GifError, match="cannot take a vector"):
            operator @ wrong


def test_operators_that_do_not_fit() -> None:
    with pytest.raises(GifError, match="do not compose"):
        Matrix(A) @ Matrix(S)
    with pytest.raises(GifError, match="cannot be added"):
        Matrix(A) + Matrix(S)


def test_operands_are_not_written_to() -> None:
    v = random_vector(3)
    before = v.clone()
    embedded = Embedding(J, 4) @ v
    embedded += 1
    assert torch.equal(v, before)

"""Many right-hand sides: column by column what single solves give, with shared products."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gifcore.errors import Cancelled, GifError
from gifcore.operators import Diagonal, Embedding, Identity, LinearOperator, Matrix
from gifcore.solvers import LSMR, Status
from gifcore.solvers.many import products_of
from gifcore.solvers.solution import Observed
from tests.cases import random_vector
from tests.solvers.test_lsmr import Counted, indefinite, random_matrix, weights


class Batched(LinearOperator):
    """A symmetric matrix that takes many vectors at once, and counts how often it is asked."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.calls, self.columns = matrix, 0, 0

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(self.matrix.shape)

    def apply(self, vector: Tensor) -> Tensor:
        return self.apply_many(vector[:, None])[:, 0]

    apply_transposed = apply

    def apply_many(self, vectors: Tensor) -> Tensor:
        self.calls += 1
        self.columns += vectors.shape[1]
        return self.matrix @ vectors

    apply_transposed_many = apply_many


H = indefinite(9)
J = torch.tensor([0, 2, 3, 7])
E = Embedding(J, 9)
DAMPED = 0.5 * Identity(9)

OPERATORS: dict[str, tuple[LinearOperator, Tensor]] = {
    "embedding": (Batched(H) @ E, H[:, J]),
    "transposed": ((Batched(H) @ E).T, H[:, J].T),
    "sum": (Batched(H) + DAMPED, H + 0.5 * torch.eye(9, dtype=torch.float64)),
    "scaled": (-2.0 * Batched(H), -2 * H),
    "one by one": (Counted(H[:, J]), H[:, J]),
    "observed": (Observed(Batched(H)), H),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_products_with_many_vectors(name: str) -> None:
    A, matrix = OPERATORS[name]
    V, W = random_matrix(matrix.shape[1], 3, 1), random_matrix(matrix.shape[0], 3, 2)
    torch.testing.assert_close(products_of(A, V), matrix @ V, rtol=1e-12, atol=1e-12)
    transposed = products_of(A, W, transposed=True)
    torch.testing.assert_close(transposed, matrix.T @ W, rtol=1e-12, atol=1e-12)


def test_products_reach_an_operator_that_takes_many_through_the_algebra() -> None:
    inner = Batched(H)
    products_of((inner + DAMPED) @ E, random_matrix(4, 6))
    assert (inner.calls, inner.columns) == (1, 6)
    observed = Observed(inner)
    columns = random_matrix(9, 3)
    products_of(observed @ Identity(9), columns)
    quotients = [float(v @ H @ v / (v @ v)) for v in columns.T]
    assert observed.products == 3
    assert (observed.lowest, observed.highest) == pytest.approx((min(quotients), max(quotients)))


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("how", ["least_squares", "minimum_norm"])
def test_each_column_is_its_own_solve(
    how: str, preconditioned: bool, ridge: float, batched: bool
) -> None:
    """Columns that end at different times: values, statuses, costs and histories are the same."""
    curvature: LinearOperator = Batched(H) if batched else Matrix(H)
    A = curvature @ E
    side, option = (9, "right") if how == "least_squares" else (4, "left")
    if how == "minimum_norm":
        A = A.T
    dense = A.dense()
    easy = torch.linalg.svd(dense)[0][:, 0]  # one singular vector: ends after one iteration
    b = torch.stack(
        [random_vector(side, 1), torch.zeros(side).double(), easy, 1e3 * random_vector(side, 2)], 1
    )
    bad = random_vector(side, 3)
    bad[0] = math.nan
    b = torch.cat([b, bad[:, None]], dim=1)
    options: dict[str, Any] = {option: weights(4)} if preconditioned else {}
    solver = LSMR(6, 1e-8, ridge, reorthogonalise=6, keep_halfway=True)
    many = getattr(solver, f"{how}_many")(A, b, **options)
    assert len(many) == 5
    for column, found in zip(b.T, many, strict=True):
        single = getattr(solver, how)(A, column, **options)
        torch.testing.assert_close(found.value, single.value, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found.halfway, single.halfway, rtol=1e-10, atol=1e-10)
        assert found.status is single.status
        assert (found.hvps, found.check_hvps) == (single.hvps, single.check_hvps)
        assert found.residual == pytest.approx(single.residual, rel=1e-6, abs=1e-12, nan_ok=True)
        assert found.residual_history == pytest.approx(single.residual_history, abs=1e-10)
        assert found.judged_by == single.judged_by
    assert many[1].status is Status.ZERO_RHS
    assert many[4].status is Status.NOT_FINITE
    if not preconditioned and ridge == 0:
        assert many[2].iterations == 1 < many[0].iterations


def test_finished_columns_cost_nothing_and_the_others_share_their_products() -> None:
    inner = Batched(H)
    easy = torch.linalg.svd(H[:, J])[0][:, 0]
    b = torch.stack([easy, random_vector(9, 1), random_vector(9, 2)], dim=1)
    found = LSMR(3, 0, preconditioner="none").least_squares_many(inner @ E, b)
    assert [s.iterations for s in found] == [1, 3, 3]
    assert inner.columns == sum(s.hvps + s.check_hvps for s in found)
    assert inner.calls < inner.columns / 2


def test_progress_and_cancel_reach_every_iteration_once() -> None:
    seen: list[int] = []

    def progress(done: int, _total: int, _note: str) -> None:
        seen.append(done)
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        LSMR(5, 0).least_squares_many(Matrix(H), random_matrix(9, 3), progress=progress)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("shape", [(9,), (9, 0), (9, 2, 2)])
def test_right_hand_sides_are_columns(shape: tuple[int, ...]) -> None:
    with pytest.raises(GifError, match="columns of a matrix, not of shape"):
        LSMR().least_squares_many(Matrix(H), torch.zeros(shape, dtype=torch.float64))


def test_a_general_preconditioner_costs_one_product_more_to_certify() -> None:
    A, b = random_matrix(9, 4), random_vector(9, 5)
    square = random_matrix(4, 4, 8)
    R = Matrix(square @ square.T + torch.eye(4, dtype=torch.float64))
    counted = Counted(A)
    solution = LSMR(3, 0).least_squares(counted, b, right=R)
    assert solution.check_hvps == 3
    assert counted.products == solution.hvps + solution.check_hvps
    r = b - A @ solution.value
    expected = float((A.T @ r).norm() / (A.T @ b).norm())
    assert solution.normal_residual == pytest.approx(expected, rel=1e-9)
    diagonal = LSMR(3, 0).least_squares(Counted(A), b, right=Diagonal(torch.ones(4).double()))
    assert diagonal.check_hvps == 2

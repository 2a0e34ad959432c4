"""Jacobi's R: what it measures, its scale, its seed, and what it does when there is nothing."""

import pytest
import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import Identity, Matrix
from gifcore.solvers import LSMR, jacobi, kronecker
from gifcore.solvers.preconditioners import default_probes
from tests.cases import random_vector
from tests.solvers.test_lsmr import Counted, indefinite

LIKE = torch.zeros((), dtype=torch.float64)


def test_it_measures_the_column_norms() -> None:
    H = indefinite(6) * torch.tensor([1.0, 1, 1, 1, 1, 20.0]).outer(torch.ones(6)).clamp(max=20)
    H = (H + H.T) / 2
    J = torch.tensor([0, 2, 5])
    R = jacobi(Matrix(H), J, probes=4000, seed=0, like=LIKE).R.diagonal
    q = H[:, J].norm(dim=0)
    expected = 1 / (q + 0.01 * q.mean())
    torch.testing.assert_close(R, expected / expected.mean(), rtol=0.1, atol=0)
    assert float(R.mean()) == pytest.approx(1)


def test_it_is_exact_on_a_diagonal_matrix_with_one_probe() -> None:
    d = torch.tensor([1.0, -2.0, 10.0, 0.0], dtype=torch.float64)
    R = jacobi(Matrix(d.diag()), torch.arange(4), probes=1, seed=0, like=LIKE).R.diagonal
    expected = 1 / (d.abs() + 0.01 * d.abs().mean())
    torch.testing.assert_close(R, expected / expected.mean())


def test_it_is_seeded_and_costs_one_product_a_probe() -> None:
    H = Counted(indefinite(5))
    one = jacobi(H, torch.arange(5), probes=4, seed=1, like=LIKE)
    assert H.products == 4
    again, other = (jacobi(H, torch.arange(5), probes=4, seed=s, like=LIKE) for s in (1, 2))
    assert torch.equal(one.R.diagonal, again.R.diagonal)
    assert not torch.equal(one.R.diagonal, other.R.diagonal)
    assert one.summary() == {
        "kind": "jacobi", "probes": 4, "seed": 1, "products": 4, "status": "used",
    }  # fmt: skip


@pytest.mark.parametrize(("scale", "probes", "why"), [(0.0, 4, "zero"), (1.0, 0, "no probes")])
def test_without_a_measure_it_is_the_identity_and_says_why(
    scale: float, probes: int, why: str
) -> None:
    found = jacobi(scale * Identity(3), torch.arange(3), probes=probes, seed=0, like=LIKE)
    assert found.R.diagonal.tolist() == [1, 1, 1]
    assert why in found.status


@pytest.mark.parametrize(
    ("products", "probes"), [(0, 0), (31, 0), (32, 4), (40, 5), (63, 7), (64, 8), (10_000, 8)]
)
def test_default_number_of_probes(products: int, probes: int) -> None:
    assert default_probes(products) == probes


def test_it_helps_where_columns_differ_in_scale() -> None:
    """What is left above the least-squares floor, over ten right-hand sides, is at most half."""
    scale = torch.logspace(-2, 0, 40, dtype=torch.float64)
    H = scale[:, None] * indefinite(40) * scale
    J = torch.arange(0, 40, 2)
    A = Matrix(H[:, J])
    R = jacobi(Matrix(H), J, probes=8, seed=0, like=LIKE).R
    left = {"plain": 0.0, "scaled": 0.0}
    for seed in range(10):
        b = random_vector(40, seed)
        floor = LSMR(100, 0).least_squares(A, b).residual
        left["plain"] += LSMR(12, 0).least_squares(A, b).residual - floor
        left["scaled"] += LSMR(12, 0).least_squares(A, b, right=R).residual - floor
    assert 0 < left["scaled"] < 0.5 * left["plain"]


# --- Kronecker's R: an approximation cut to the selection -----------------------------------------


class Approximation:
    """Hhat = a positive semi-definite matrix; cut to J first (exact), or inverted first."""

    def __init__(self, matrix: Tensor, *, exact: bool = True) -> None:
        self.matrix, self.exact = matrix, exact

    def restricted_inverse(
        self, vector: Tensor, indices: Tensor, damping: float
    ) -> tuple[Tensor, bool]:
        damped = self.matrix + damping * torch.eye(len(self.matrix)).to(self.matrix)
        if self.exact:
            return torch.linalg.solve(damped[indices][:, indices], vector), True
        return torch.linalg.inv(damped)[indices][:, indices] @ vector, False


FACTOR = indefinite(8)
PSD = FACTOR @ FACTOR
J = torch.tensor([1, 4, 5, 7])


@pytest.mark.parametrize("exact", [True, False])
def test_kronecker_is_the_inverse_on_the_selection_and_says_which(exact: bool) -> None:
    found = kronecker(Approximation(PSD, exact=exact), J, 0.5, 0, LIKE)
    damped = PSD + 0.5 * torch.eye(8, dtype=torch.float64)
    expected = torch.linalg.inv(damped[J][:, J]) if exact else torch.linalg.inv(damped)[J][:, J]
    torch.testing.assert_close(found.R.dense(), expected)
    torch.testing.assert_close(found.R.T.dense(), expected)
    assert found.summary()["kind"] == "kronecker"
    assert found.summary()["products"] == 0
    assert ("inverse of the cut" in found.status) is exact
    assert "damping 0.5" in found.status


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_kronecker_changes_the_way_not_the_solution(ridge: float, exact: bool) -> None:
    R = kronecker(Approximation(PSD, exact=exact), J, 0.1, 0, LIKE).R
    A, b = PSD[:, J], random_vector(8, 5)
    eye = torch.eye(4, dtype=torch.float64)
    expected = torch.linalg.solve(A.T @ A + ridge * eye, A.T @ b)
    solver = LSMR(60, 1e-13, ridge, reorthogonalise=60)
    update = solver.least_squares(Matrix(A), b, right=R)
    torch.testing.assert_close(update.value, expected, rtol=1e-7, atol=1e-9)
    adjoint = LSMR(60, 1e-13, reorthogonalise=60).minimum_norm(Matrix(A.T), b[:4], left=R)
    torch.testing.assert_close(adjoint.value, torch.linalg.pinv(A.T) @ b[:4], rtol=1e-6, atol=1e-8)


def test_kronecker_of_the_matrix_itself_ends_at_once() -> None:
    """Everything selected, Hhat = H: H R is nearly I."""
    A, b = PSD + torch.eye(8, dtype=torch.float64), random_vector(8, 5)
    R = kronecker(Approximation(A), torch.arange(8), 1e-9, 0, LIKE).R
    assert LSMR(50, 1e-8).least_squares(Matrix(A), b, right=R).iterations <= 2
    assert LSMR(50, 1e-8).least_squares(Matrix(A), b).iterations > 4


@pytest.mark.parametrize(
    ("matrix", "why"),
    [
        (-PSD - torch.eye(8, dtype=torch.float64), "not positive"),
        (PSD + 5 * torch.ones(8, 8, dtype=torch.float64).triu(1), "not symmetric"),
        (PSD * float("nan"), "not finite"),
    ],
)
def test_an_approximation_that_is_no_preconditioner_is_left_out_and_says_why(
    matrix: Tensor, why: str
) -> None:
    found = kronecker(Approximation(matrix), J, 0.5, 0, LIKE)
    assert why in found.status
    assert torch.equal(found.R.dense(), torch.eye(4, dtype=torch.float64))


def test_kronecker_refuses_bad_selections_and_dampings() -> None:
    with pytest.raises(GifError, match="positive damping, not 0"):
        kronecker(Approximation(PSD), J, 0.0, 0, LIKE)
    for indices in (torch.tensor([], dtype=torch.long), torch.tensor([1, 1])):
        with pytest.raises(GifError, match="one or more selected coordinates, each once"):
            kronecker(Approximation(PSD), indices, 0.5, 0, LIKE)

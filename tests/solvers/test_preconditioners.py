"""Jacobi's R: what it measures, its scale, its seed, and what it does when there is nothing."""

import pytest
import torch

from gifcore.operators import Identity, Matrix
from gifcore.solvers import LSMR, jacobi
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

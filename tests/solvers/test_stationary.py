"""P-LiSSA and Schulz: their polynomials, their steps, and what they do when these fail."""

import pytest
import torch
from torch import Tensor

from gifcore.operators import LinearOperator, Matrix
from gifcore.solvers import PLissa, Schulz, Status
from tests.cases import random_vector
from tests.solvers.test_lsmr import random_matrix
from tests.solvers.test_minres import with_eigenvalues

TALL = random_matrix(9, 5)
B = random_vector(9, 5)
N = TALL.T @ TALL
C = TALL.T @ B
LARGEST = float(torch.linalg.eigvalsh(N)[-1])


def noted(solution: object) -> float:
    return float(solution.notes[0].split()[1])


# --- P-LiSSA -------------------------------------------------------------------------------------


@pytest.mark.parametrize("K", [1, 2, 20])
def test_p_lissa_is_richardsons_iteration(K: int) -> None:
    solution = PLissa(K, 0).least_squares(Matrix(TALL), B)
    mu = 0.9 / power(N, 6, 0)
    x = torch.zeros(5, dtype=torch.float64)
    for _ in range(K):
        x = x + mu * (C - N @ x)
    torch.testing.assert_close(solution.value, x, rtol=1e-10, atol=1e-12)
    assert noted(solution) == pytest.approx(mu, rel=1e-5)


def power(matrix: Tensor, iterations: int, seed: int) -> float:
    v = random_vector(len(matrix), seed)
    for _ in range(iterations):
        v = matrix @ (v / v.norm())
    return float(v.norm())


def test_p_lissa_takes_no_step_beyond_the_one_allowed() -> None:
    assert noted(PLissa(3, 0, mu=1e-3).least_squares(Matrix(TALL), B)) == 1e-3
    assert 0.9 / LARGEST <= noted(PLissa(3, 0).least_squares(Matrix(TALL), B)) < 1.8 / LARGEST
    assert noted(PLissa(3, 0).least_squares(Matrix(1e-3 * TALL), B)) == 3.0


class Deceiving(LinearOperator):
    """A matrix that looks smaller by a factor to the first power iteration, after A^T b."""

    def __init__(self, matrix: Tensor, factor: float) -> None:
        self.matrix, self.factor, self.products = matrix, factor, 0

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(self.matrix.shape)

    def _scale(self) -> float:
        self.products += 1
        return 1 / self.factor if self.products in (2, 3) else 1.0

    def apply(self, vector: Tensor) -> Tensor:
        return self._scale() * (self.matrix @ vector)

    def apply_transposed(self, vector: Tensor) -> Tensor:
        return self._scale() * (self.matrix.T @ vector)


def test_p_lissa_halves_a_step_that_blows_up_and_keeps_the_best() -> None:
    solution = PLissa(5000, 1e-10, power_iterations=1).least_squares(Deceiving(TALL, 4.0), B)
    halvings = int(solution.notes[0].split()[3])
    assert 1 <= halvings <= 5
    assert noted(solution) < 2 / LARGEST
    assert solution.status is Status.CONVERGED
    expected = torch.linalg.lstsq(TALL, B[:, None]).solution[:, 0]
    torch.testing.assert_close(solution.value, expected, rtol=1e-7, atol=1e-8)
    early = PLissa(4, 1e-10, power_iterations=1).least_squares(Deceiving(TALL, 4.0), B)
    assert max(early.residual_history) > 3
    assert early.normal_residual <= 1.0  # the best so far, not the last


def test_p_lissa_gives_up_after_its_restarts() -> None:
    blown = PLissa(400, 1e-10, mu=1e9, power_iterations=1).least_squares(Deceiving(TALL, 1e3), B)
    assert blown.status is Status.DIVERGED
    assert "after 8 halvings" in blown.notes[0]
    assert not blown.value.any()  # no iterate was better than zero
    off = random_vector(9, 1)
    off -= TALL @ torch.linalg.lstsq(TALL, off[:, None]).solution[:, 0]  # out of reach
    stuck = PLissa(400, 1e-10).minimum_norm(Matrix(TALL), off + 1e-3 * B)
    assert stuck.status in (Status.STAGNATED, Status.CONVERGED)
    assert not (stuck.trusted and stuck.residual > 1e-3)


def test_p_lissa_solves_indefinite_symmetric_systems() -> None:
    A = with_eigenvalues(-2, -1, 1, 2)
    b = random_vector(4, 5)
    solution = PLissa(500, 1e-12).solve(Matrix(A), b)
    torch.testing.assert_close(solution.value, torch.linalg.solve(A, b))
    assert solution.trusted


# --- Schulz --------------------------------------------------------------------------------------


@pytest.mark.parametrize("K", [1, 2, 3, 5])
def test_schulz_is_the_doubling_with_matrices(K: int) -> None:
    """x <- x + R x, R <- R^2."""
    solution = Schulz(K, 0).least_squares(Matrix(TALL), B)
    beta = 0.9 / power(N, 6, 0)
    R = torch.eye(5, dtype=torch.float64) - beta * N
    x = beta * C
    for _ in range(K):
        x, R = x + R @ x, R @ R
    torch.testing.assert_close(solution.value, x, rtol=1e-10, atol=1e-12)
    assert solution.iterations == K
    assert solution.hvps == 1 + 2 * 6 + 2 * (2**K - 1)
    adjoint = Schulz(K, 0).minimum_norm(Matrix(TALL.T), C)
    assert adjoint.value.shape == (9,)


def test_schulz_on_a_positive_semidefinite_operator() -> None:
    A = with_eigenvalues(0.2, 1, 2, 3)
    b = random_vector(4, 5)
    solution = Schulz(4, 0).solve(Matrix(A), b)
    beta = noted(solution)
    terms = [torch.linalg.matrix_power(torch.eye(4) - beta * A, j) @ b for j in range(16)]
    torch.testing.assert_close(solution.value, beta * sum(terms), rtol=1e-5, atol=1e-6)
    assert solution.hvps == 6 + 15
    assert 0 < solution.lambda_min <= 3
    history = list(solution.residual_history)
    assert history == sorted(history, reverse=True)
    assert len(history) == 4 + 2


def test_schulz_proves_negative_curvature() -> None:
    A = with_eigenvalues(-0.3, 1, 2, 3)
    solution = Schulz(10, 0).solve(Matrix(A), random_vector(4, 5))
    assert solution.status is Status.INDEFINITE
    assert solution.hvps < 100
    assert -0.3 <= solution.lambda_min < 0
    assert solution.negative_curvature


def test_schulz_diverges_with_a_step_that_is_too_long() -> None:
    solution = Schulz(8, 0, power_iterations=1).least_squares(Deceiving(TALL, 4.0), B)
    assert solution.status is Status.DIVERGED
    assert not solution.trusted
    assert solution.iterations < 4

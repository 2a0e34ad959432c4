"""CG against its Krylov space, and the direction that proves a matrix indefinite."""

import math

import numpy as np
import pytest
import torch

from gifcore.operators import Matrix
from gifcore.solvers import CG, Status
from gifcore.solvers.solution import Observed
from tests.cases import random_vector
from tests.solvers.test_minres import with_eigenvalues

SPD = with_eigenvalues(0.1, 0.5, 1, 2, 3, 7)
B = random_vector(6, 5)


@pytest.mark.parametrize("window", [None, 0])
@pytest.mark.parametrize("iterations", [1, 2, 3, 4, 5])
def test_every_iterate_has_the_smallest_energy_error_of_its_krylov_space(
    iterations: int, window: int | None
) -> None:
    columns = [B]
    for _ in range(iterations - 1):
        columns.append(SPD @ columns[-1])
    K = torch.linalg.qr(torch.stack(columns, 1))[0]
    best = K @ torch.linalg.solve(K.T @ SPD @ K, K.T @ B)
    solution = CG(iterations, 0, window).solve(Matrix(SPD), B)
    torch.testing.assert_close(solution.value, best, rtol=1e-9, atol=1e-10)
    assert solution.status is Status.ITERATION_LIMIT
    assert solution.residual_history[-1] == pytest.approx(solution.residual, rel=1e-9)
    assert len(solution.residual_history) == solution.iterations + 1
    assert not solution.drift


def test_the_rayleigh_quotients_lie_in_the_spectrum() -> None:
    solution = CG(4, 0).solve(Matrix(SPD), B)
    assert 0.1 <= solution.lambda_min < solution.lambda_max <= 7
    assert not solution.negative_curvature


def test_negative_curvature_ends_it_with_its_proof_and_the_last_good_iterate() -> None:
    A = with_eigenvalues(-0.5, 1, 2, 3, 4, 6)
    H = Observed(Matrix(A))
    solution = CG(50, 1e-12).solve(H, B)
    assert solution.status is Status.INDEFINITE
    assert "MINRES" in solution.status.advice
    assert solution.negative_curvature
    assert -0.5 <= solution.lambda_min < 0
    assert H.lowest <= solution.lambda_min
    assert solution.iterations == solution.hvps - 1 > 0
    before = CG(solution.iterations, 0).solve(Matrix(A), B)
    torch.testing.assert_close(solution.value, before.value)


def test_negative_curvature_in_the_first_direction_leaves_zero() -> None:
    solution = CG().solve(Matrix(-SPD), B)
    assert (solution.status, solution.iterations) == (Status.INDEFINITE, 0)
    assert not solution.value.any()
    assert solution.residual == 1.0


def test_exact_termination_after_as_many_steps_as_eigenvalues() -> None:
    A = with_eigenvalues(1, 1, 1, 5, 5)
    b = random_vector(5, 1)
    solution = CG(50, 0).solve(Matrix(A), b)
    assert (solution.status, solution.iterations) == (Status.EXACT, 2)
    torch.testing.assert_close(solution.value, torch.linalg.solve(A, b))


def test_a_tiny_right_hand_side_does_not_underflow() -> None:
    b = (1e-16 * B).float()
    solution = CG(50, 1e-5).solve(Matrix(SPD.float()), b)
    assert solution.trusted
    expected = 1e-16 * torch.linalg.solve(SPD, B)
    np.testing.assert_allclose(solution.value.numpy() / 1e-16, expected.numpy() / 1e-16, rtol=1e-3)
    assert math.isfinite(solution.residual)


def test_rounding_below_zero_is_no_negative_curvature() -> None:
    """A semi-definite matrix in float32: tiny quotients of either sign are zero."""
    factor = random_vector(40, 2).reshape(20, 2)
    A = (factor @ factor.T).float()
    solution = CG(50, 0).solve(Matrix(A), random_vector(20, 3).float())
    assert not solution.negative_curvature
    assert solution.status is Status.INCONSISTENT

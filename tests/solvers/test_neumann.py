"""The published series: mode by mode, its restarts, its stop, its adjoint and its cost."""

import math

import pytest
import torch
from torch import Tensor

from gifcore.operators import Matrix
from gifcore.solvers import Neumann, Status
from tests.cases import random_vector
from tests.solvers.test_lsmr import Counted, indefinite, random_matrix
from tests.solvers.test_minres import with_eigenvalues

TALL = random_matrix(9, 5)
U, SIGMA, VT = torch.linalg.svd(TALL, full_matrices=False)
B = random_vector(9, 5)
C = 1.1 * float(SIGMA[0])


@pytest.mark.parametrize("K", [1, 2, 7, 30, 200])
def test_every_mode_is_solved_to_its_fraction(K: int) -> None:
    """1 - (1 - sigma^2 / c^2)^(K + 1)."""
    solution = Neumann(K, 0, normaliser=C).least_squares(Matrix(TALL), B)
    fraction = 1 - (1 - SIGMA**2 / C**2) ** (K + 1)
    torch.testing.assert_close(VT @ solution.value, fraction * (U.T @ B) / SIGMA)
    assert solution.iterations == K


@pytest.mark.parametrize("K", [1, 3, 40])
def test_every_mode_of_the_plain_series(K: int) -> None:
    A = with_eigenvalues(0.1, 1, 2, 3)
    values, Q = torch.linalg.eigh(A)
    b = random_vector(4, 5)
    solution = Neumann(K, 0, normaliser=2.5).solve(Matrix(A), b)
    fraction = 1 - (1 - values / 2.5) ** (K + 1)
    torch.testing.assert_close(Q.T @ solution.value, fraction * (Q.T @ b) / values)


def test_the_recursion_as_it_is_published() -> None:
    H, J = indefinite(7), torch.tensor([0, 3, 5])
    g, c = random_vector(7, 5), 8.0
    P = torch.zeros(7, dtype=torch.float64)
    P[J] = 1
    v = P * ((H / c) @ (g / c))
    x = v.clone()
    for _ in range(6):
        x = v + x - P * ((H / c) @ ((H / c) @ x))
    solution = Neumann(6, 0, normaliser=c).least_squares(Matrix(H[:, J]), g)
    torch.testing.assert_close(solution.value, x[J])


def test_the_normaliser_rises_until_it_no_longer_diverges() -> None:
    """Convergence needs c > sigma_max / sqrt(2)."""
    A = Counted(10 * TALL)
    solution = Neumann(4000, 1e-12, step=1.5).least_squares(A, B)
    note = solution.notes[0].split()
    c, restarts = float(note[1]), int(note[3])
    needed = 10 * float(SIGMA[0]) / math.sqrt(2)
    assert c == 1 + 1.5 * restarts
    assert needed < c <= needed + 1.5
    assert restarts > 5
    assert solution.status is Status.CONVERGED
    assert A.products == solution.hvps + solution.check_hvps
    assert solution.hvps >= 1 + 2 * solution.iterations + restarts * 2 * 4
    expected = torch.linalg.lstsq(10 * TALL, B[:, None]).solution[:, 0]
    torch.testing.assert_close(solution.value, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("settings", [{"restarts": 3}, {"normaliser": 2.0}])
def test_divergence_is_a_status_after_a_bounded_number_of_restarts(
    settings: dict[str, float],
) -> None:
    A = Counted(100 * TALL)
    solution = Neumann(1000, **settings).least_squares(A, B)
    assert solution.status is Status.DIVERGED
    assert not solution.trusted
    assert bool(torch.isfinite(solution.value).all())
    restarts = settings.get("restarts", 0)
    assert solution.notes == (
        f"normaliser {settings.get('normaliser', 4):g} after {restarts} restarts",
    )
    assert A.products == solution.hvps + solution.check_hvps == 1 + 8 * (restarts + 1) + 2


def test_a_negative_eigenvalue_is_proven_and_not_restarted() -> None:
    A = with_eigenvalues(-1, 2, 3)
    solution = Neumann(1000, 0).solve(Matrix(A), random_vector(3, 5))
    assert solution.status is Status.INDEFINITE
    assert -1 <= solution.lambda_min < 0


def test_its_published_stop_is_absolute_and_does_not_pass_for_convergence() -> None:
    """At a small gradient the steps are short long before the residual is small."""
    solver = Neumann(1000, 1e-9, normaliser=C)
    small = solver.least_squares(Matrix(TALL), 1e-8 * B)
    assert small.status is Status.STAGNATED
    assert small.normal_residual > 1e-3
    assert small.iterations < 100
    assert solver.least_squares(Matrix(TALL), B).status is Status.CONVERGED


@pytest.mark.parametrize("K", [1, 2, 5, 40])
def test_the_adjoint_is_linear_in_its_right_hand_side_at_any_iteration(K: int) -> None:
    """g_q . delta_i = s_q . g_i for a damped indefinite H, to rounding, for every pair."""
    H = indefinite(8) + 0.3 * torch.eye(8, dtype=torch.float64)
    J = torch.tensor([1, 2, 4, 7])
    A = Matrix(H[:, J])
    solver = Neumann(K, 0, normaliser=9.0)
    gradients, queries = random_matrix(3, 8, 1), random_matrix(2, 8, 2)
    deltas = [solver.least_squares(A, g).value for g in gradients]
    adjoints = [solver.minimum_norm(A.T, g_q[J]).value for g_q in queries]
    update = torch.stack([torch.stack([g_q[J] @ delta for delta in deltas]) for g_q in queries])
    scores = torch.stack([torch.stack([s @ g for g in gradients]) for s in adjoints])
    torch.testing.assert_close(update, scores, rtol=1e-12, atol=1e-14)
    other = Neumann(K + 1, 0, normaliser=9.0)
    off = torch.stack([other.minimum_norm(A.T, g_q[J]).value @ gradients[0] for g_q in queries])
    assert float((off - scores[:, 0]).abs().max()) > 1e-9


def test_the_history_is_the_true_residual_of_every_iterate() -> None:
    solution = Neumann(5, 0, normaliser=C).least_squares(Matrix(TALL), B)

    def residual(K: int) -> float:
        x: Tensor = Neumann(K, 0, normaliser=C).least_squares(Matrix(TALL), B).value
        return float((B - TALL @ x).norm() / B.norm())

    first = TALL.T @ B / C**2
    expected = [1.0, float((B - TALL @ first).norm() / B.norm()), *map(residual, range(1, 6))]
    assert list(solution.residual_history) == pytest.approx(expected, rel=1e-12)

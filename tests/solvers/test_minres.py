"""MINRES against dense solves and the smallest residual in each Krylov space."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gifcore.errors import Cancelled, GifError
from gifcore.operators import Identity, Matrix
from gifcore.solvers import MINRES, Status
from tests.cases import random_vector
from tests.solvers.test_lsmr import Counted, indefinite


def with_eigenvalues(*values: float) -> Tensor:
    size = len(values)
    rotation = torch.linalg.qr(random_vector(size * size, 4).reshape(size, size))[0]
    return rotation @ torch.tensor(values, dtype=torch.float64).diag() @ rotation.T


SYSTEMS: dict[str, Tensor] = {
    "positive definite": with_eigenvalues(0.5, 1, 2, 3, 7),
    "indefinite": indefinite(7),
    "negative definite": with_eigenvalues(-1, -2, -3, -0.1),
    "symmetric around zero": with_eigenvalues(-2, -1, 1, 2),
    "few eigenvalues": with_eigenvalues(1, 1, 1, 5, 5),
    "one number": with_eigenvalues(-3),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_against_the_dense_solution(name: str) -> None:
    A = SYSTEMS[name]
    b = random_vector(len(A), 5)
    solution = MINRES(100, 1e-12).solve(Matrix(A), b)
    torch.testing.assert_close(solution.value, torch.linalg.solve(A, b), rtol=1e-8, atol=1e-9)
    assert solution.trusted
    assert solution.residual < 1e-10
    assert solution.judged_by == "residual"
    assert not solution.drift


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_iterate_has_the_smallest_residual_of_its_krylov_space(name: str) -> None:
    A = SYSTEMS[name]
    b = random_vector(len(A), 5)
    columns = [b]
    for iterations in range(1, len(A)):
        solution = MINRES(iterations, 0).solve(Matrix(A), b)
        K = torch.linalg.qr(torch.stack(columns, 1))[0].numpy()
        y = np.linalg.lstsq(A.numpy() @ K, b.numpy(), rcond=None)[0]
        best = np.linalg.norm(b.numpy() - A.numpy() @ K @ y) / np.linalg.norm(b.numpy())
        assert solution.residual == pytest.approx(best, rel=1e-6, abs=1e-9)
        assert solution.residual_history[-1] == pytest.approx(solution.residual, rel=1e-6, abs=1e-9)
        assert len(solution.residual_history) == solution.iterations + 1
        columns.append(A @ columns[-1])


def test_certificates_are_recomputed_from_the_value() -> None:
    A, b = SYSTEMS["indefinite"], random_vector(7, 5)
    solution = MINRES(3, 0).solve(Matrix(A), b)
    r = b - A @ solution.value
    assert solution.residual == pytest.approx(float(r.norm() / b.norm()), rel=1e-12)
    normal = float((A @ r).norm() / (A @ b).norm())
    assert solution.normal_residual == pytest.approx(normal, rel=1e-12)
    assert solution.status is Status.ITERATION_LIMIT
    assert not solution.trusted


def test_products_are_counted_one_by_one() -> None:
    A = Counted(SYSTEMS["indefinite"])
    solution = MINRES(3, 0).solve(A, random_vector(7, 5))
    assert (solution.iterations, solution.hvps, solution.check_hvps) == (3, 3, 2)
    assert A.products == 5


def test_a_singular_system_with_a_solution() -> None:
    A = with_eigenvalues(0, 1, -2, 3, 0)
    b = A @ random_vector(5, 1)
    solution = MINRES(100, 1e-12).solve(Matrix(A), b)
    assert solution.residual < 1e-9
    torch.testing.assert_close(solution.value, torch.linalg.pinv(A) @ b, rtol=1e-7, atol=1e-8)


def test_a_singular_system_without_a_solution_ends_and_says_how_far_it_is() -> None:
    A = torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64).diag()
    b = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    solution = MINRES(50, 1e-12).solve(Matrix(A), b)
    assert bool(torch.isfinite(solution.value).all())
    assert solution.residual == pytest.approx(1 / math.sqrt(3), rel=1e-6)
    assert solution.normal_residual < 1e-6
    assert solution.iterations < 50
    assert solution.status is Status.INCONSISTENT
    assert not solution.trusted


def test_a_right_hand_side_in_the_null_space() -> None:
    A = torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64).diag()
    solution = MINRES().solve(Matrix(A), torch.tensor([0.0, 0, 4], dtype=torch.float64))
    assert not solution.value.any()
    assert solution.residual == 1.0
    assert solution.status is Status.INCONSISTENT
    assert not solution.trusted


def test_exact_termination() -> None:
    b = random_vector(6, 1)
    solution = MINRES(50, 0).solve(-2.0 * Identity(6), b)
    torch.testing.assert_close(solution.value, -b / 2)
    assert (solution.status, solution.iterations) == (Status.EXACT, 1)


def test_nothing_to_solve_for() -> None:
    solution = MINRES().solve(Matrix(indefinite(4)), torch.zeros(4, dtype=torch.float64))
    assert solution.status is Status.ZERO_RHS
    assert not solution.value.any()
    assert (solution.residual, solution.normal_residual, solution.hvps) == (0, 0, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_right_hand_side_that_is_not_finite(value: float) -> None:
    b = random_vector(4)
    b[0] = value
    solution = MINRES().solve(Matrix(indefinite(4)), b)
    assert solution.status is Status.NOT_FINITE
    assert bool(torch.isfinite(solution.value).all())
    assert not solution.trusted


@pytest.mark.parametrize("broken", range(1, 6))
def test_a_product_that_is_not_finite(broken: int) -> None:
    b = random_vector(7, 5)
    solution = MINRES(50, 1e-12).solve(Counted(indefinite(7), broken), b)
    assert solution.status is Status.NOT_FINITE
    assert not solution.trusted
    if broken > 1:
        before = MINRES(broken - 1, 0).solve(Matrix(indefinite(7)), b)
        torch.testing.assert_close(solution.value, before.value)
    else:
        assert not solution.value.any()
    assert not solution.residual < 1e-3


def test_progress_can_cancel() -> None:
    def progress(done: int, total: int, _note: str) -> None:
        assert total == 50
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        MINRES().solve(Matrix(indefinite(7)), random_vector(7, 5), progress=progress)


@pytest.mark.parametrize(
    "settings", [{"iterations": 0}, {"tolerance": -1}, {"tolerance": math.nan}]
)
def test_impossible_settings(settings: dict[str, float]) -> None:
    with pytest.raises(GifError, match="MINRES needs"):
        MINRES(**settings)

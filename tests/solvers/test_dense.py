"""The dense solver: ridge, ranks, spectra, and the sizes it refuses."""

import pytest
import torch

from gifcore.errors import GifError
from gifcore.operators import Identity, Matrix
from gifcore.solvers import Dense, Status
from gifcore.solvers.dense import SHARED
from tests.cases import random_vector
from tests.solvers.test_lsmr import Counted, of_rank, random_matrix
from tests.solvers.test_minres import with_eigenvalues


@pytest.mark.parametrize("ridge", [1e-6, 0.5, 100.0])
@pytest.mark.parametrize("A", [random_matrix(9, 5), random_matrix(4, 9), of_rank(9, 5, 3)])
def test_ridge_has_its_closed_form(A: torch.Tensor, ridge: float) -> None:
    b = random_vector(A.shape[0], 5)
    eye = torch.eye(A.shape[1], dtype=torch.float64)
    expected = torch.linalg.solve(A.T @ A + ridge * eye, A.T @ b)
    for how in ("least_squares", "minimum_norm"):
        solution = getattr(Dense(ridge=ridge), how)(Matrix(A), b)
        torch.testing.assert_close(solution.value, expected, rtol=1e-8, atol=1e-9)
        assert solution.status is Status.EXACT
        assert solution.normal_residual < 1e-8
        assert solution.judged_by == "normal_residual"
    with pytest.raises(GifError, match="not a ridge"):
        Dense(ridge=ridge).solve(Identity(3), random_vector(3))


def test_the_numerical_rank_is_noted_and_a_singular_matrix_is_said() -> None:
    A = of_rank(9, 5, 3)
    solution = Dense().least_squares(Matrix(A), random_vector(9, 5))
    assert solution.status is Status.SINGULAR
    assert solution.notes == ("numerical rank 3 of 5",)
    assert "least norm" in " ".join(solution.status.advice.split())
    full = Dense().least_squares(Matrix(random_matrix(9, 5)), random_vector(9, 5))
    assert (full.status, full.notes) == (Status.EXACT, ("numerical rank 5 of 5",))


def test_the_rank_is_that_of_the_precision_of_the_products() -> None:
    A = with_eigenvalues(1, 2, 3, 1e-9)
    b = A @ random_vector(4)
    assert Dense().solve(Matrix(A), b).status is Status.EXACT
    single = Dense().solve(Matrix(A.float()), b.float())
    assert single.status is Status.SINGULAR
    assert single.value.dtype == torch.float32


def test_a_symmetric_solve_knows_the_ends_of_the_spectrum() -> None:
    solution = Dense().solve(Matrix(with_eigenvalues(-2, 1, 5)), random_vector(3))
    assert solution.lambda_min == pytest.approx(-2)
    assert solution.lambda_max == pytest.approx(5)
    assert solution.negative_curvature


def test_products_are_made_from_the_shorter_side() -> None:
    wide = Counted(random_matrix(40, 90))
    solution = Dense().minimum_norm(wide, random_vector(40, 5))
    assert solution.hvps == 40
    assert wide.products == 40 + solution.check_hvps
    assert solution.residual < 1e-10


def test_what_is_too_large_is_refused_with_advice() -> None:
    with pytest.raises(GifError, match="up to 4 unknowns, this one has 5; select fewer"):
        Dense(limit=4).least_squares(Matrix(random_matrix(9, 5)), random_vector(9))
    with pytest.raises(GifError, match="0 are allowed; select fewer"):
        Dense(memory_mb=1e-6).least_squares(Matrix(random_matrix(9, 5)), random_vector(9))


@pytest.mark.parametrize(
    ("how", "A"),
    [
        ("solve", with_eigenvalues(-2, 1, 5, 0.1)),
        ("solve", with_eigenvalues(0, 1, 5, 0.1)),
        ("solve", random_matrix(4, 4)),  # not symmetric: refused, each of them
        ("minimum_norm", random_matrix(4, 9)),
    ],
)
def test_right_hand_sides_share_products_and_have_the_answers_of_each_alone(
    how: str, A: torch.Tensor
) -> None:
    counted, b = Counted(A), torch.stack([random_vector(4, s) for s in range(3)], dim=1)
    b[:, 1] = 0  # answered without a matrix
    many = getattr(Dense(), f"{how}_many")(counted, b)
    assert counted.products == 4 + sum(found.check_hvps for found in many)
    assert [found.hvps for found in many] == [4, 0, 0]
    for found, column in zip(many, b.T, strict=True):
        alone = getattr(Dense(), how)(Matrix(A), column.clone())
        assert torch.equal(found.value, alone.value)
        for name in ("status", "residual", "normal_residual", "lambda_min", "lambda_max"):
            assert getattr(found, name) == getattr(alone, name), name
        assert tuple(note for note in found.notes if note != SHARED) == alone.notes
    assert SHARED in many[2].notes
    assert SHARED not in many[0].notes


def test_many_right_hand_sides_are_the_columns_of_a_matrix() -> None:
    with pytest.raises(GifError, match="columns of a matrix"):
        Dense().solve_many(Identity(3), random_vector(3))
    with pytest.raises(GifError, match="not a ridge"):
        Dense(ridge=0.1).solve_many(Identity(3), random_vector(3)[:, None])

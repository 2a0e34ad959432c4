"""LSMR against numpy's dense least squares and scipy's iterates; statuses and certificates."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from torch import Tensor

from gifcore.errors import Cancelled, GifError
from gifcore.operators import Diagonal, Identity, LinearOperator, Matrix
from gifcore.solvers import LSMR, Status
from gifcore.solvers.solution import kept_vectors
from tests.cases import random_vector

EXACT = LSMR(iterations=60, tolerance=1e-14, preconditioner="none", reorthogonalise=60)


def random_matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    return random_vector(rows * columns, seed).reshape(rows, columns)


def of_rank(rows: int, columns: int, rank: int) -> Tensor:
    return random_matrix(rows, rank, 1) @ random_matrix(rank, columns, 2)


def indefinite(size: int) -> Tensor:
    square = random_matrix(size, size, 3)
    return square + square.T


SYSTEMS: dict[str, Tensor] = {
    "tall": random_matrix(9, 5),
    "square indefinite": indefinite(7),
    "columns of an indefinite matrix": indefinite(9)[:, [0, 3, 4, 8]],
    "wide": random_matrix(5, 9),
    "tall without full rank": of_rank(9, 5, 3),
    "wide without full rank": of_rank(5, 9, 3),
    "one column": random_matrix(6, 1),
    "badly scaled": random_matrix(9, 4) * torch.tensor([1e-3, 1.0, 30.0, 1e3]),
}
FULL_COLUMNS = [
    name for name, A in SYSTEMS.items() if int(torch.linalg.matrix_rank(A)) == A.shape[1]
]
FULL_ROWS = [name for name, A in SYSTEMS.items() if int(torch.linalg.matrix_rank(A)) == A.shape[0]]


class Counted(LinearOperator):
    """Counts products; from the number `broken` on they are NaN."""

    def __init__(self, matrix: Tensor, broken: float = math.inf) -> None:
        self.matrix, self.broken, self.products = matrix, broken, 0

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(self.matrix.shape)

    def _product(self, value: Tensor) -> Tensor:
        self.products += 1
        return value * math.nan if self.products >= self.broken else value

    def apply(self, vector: Tensor) -> Tensor:
        return self._product(self.matrix @ vector)

    def apply_transposed(self, vector: Tensor) -> Tensor:
        return self._product(self.matrix.T @ vector)


def lstsq(A: Tensor, b: Tensor) -> Tensor:
    return torch.from_numpy(np.linalg.lstsq(A.numpy(), b.numpy(), rcond=1e-12)[0])


def weights(size: int) -> Diagonal:
    return Diagonal(torch.linspace(0.3, 2.0, size, dtype=torch.float64))


@pytest.mark.parametrize("name", SYSTEMS)
def test_least_squares_is_the_dense_solution_of_least_norm(name: str) -> None:
    A = SYSTEMS[name]
    b = random_vector(A.shape[0], 5)
    solution = EXACT.least_squares(Matrix(A), b)
    torch.testing.assert_close(solution.value, lstsq(A, b), rtol=1e-7, atol=1e-9)
    assert solution.trusted
    assert solution.judged_by == "normal_residual"


@pytest.mark.parametrize("name", FULL_ROWS)
def test_minimum_norm_is_the_dense_solution(name: str) -> None:
    A = SYSTEMS[name]
    b = random_vector(A.shape[0], 5)
    solution = EXACT.minimum_norm(Matrix(A), b)
    torch.testing.assert_close(solution.value, torch.linalg.pinv(A) @ b, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(A @ solution.value, b)
    assert solution.judged_by == "residual"
    assert solution.residual < 1e-10


@pytest.mark.parametrize("ridge", [1e-3, 0.5, 100.0])
@pytest.mark.parametrize("name", SYSTEMS)
def test_ridge_has_its_closed_forms(name: str, ridge: float) -> None:
    A = SYSTEMS[name]
    b = random_vector(A.shape[0], 5)
    solver = replace(EXACT, ridge=ridge)
    eye = torch.eye(A.shape[1], dtype=torch.float64)
    expected = torch.linalg.solve(A.T @ A + ridge * eye, A.T @ b)
    for solution in (
        solver.least_squares(Matrix(A), b),
        solver.least_squares(Matrix(A), b, right=weights(A.shape[1])),
    ):
        torch.testing.assert_close(solution.value, expected, rtol=1e-7, atol=1e-9)
        assert solution.ridge == ridge
        assert solution.normal_residual < 1e-8
        true = float((b - A @ solution.value).norm() / b.norm())
        assert solution.residual == pytest.approx(true, rel=1e-9)
    # A A^T + ridge I stands for A A^T; for the same A and b this is the same vector
    for left in (None, weights(A.shape[0])):
        minimum = solver.minimum_norm(Matrix(A), b, left=left)
        outer = A @ A.T + ridge * torch.eye(A.shape[0], dtype=torch.float64)
        assert minimum.value.shape == (A.shape[1],)
        if left is None:
            expected = A.T @ torch.linalg.solve(outer, b)
            torch.testing.assert_close(minimum.value, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", FULL_COLUMNS)
def test_a_right_preconditioner_changes_the_way_not_the_solution(name: str) -> None:
    A = SYSTEMS[name]
    b = random_vector(A.shape[0], 5)
    R = weights(A.shape[1])
    solution = EXACT.least_squares(Matrix(A), b, right=R)
    torch.testing.assert_close(solution.value, lstsq(A, b), rtol=1e-7, atol=1e-9)
    if A.shape[1] > 2:
        plain, other = (
            LSMR(2, 0, preconditioner="none").least_squares(Matrix(A), b, right=right).value
            for right in (None, R)
        )
        assert float((plain - other).norm()) > 1e-6 * float(plain.norm())


@pytest.mark.parametrize("name", FULL_ROWS)
def test_a_left_preconditioner_leaves_the_minimum_norm_solution(name: str) -> None:
    A = SYSTEMS[name]
    b = random_vector(A.shape[0], 5)
    solution = EXACT.minimum_norm(Matrix(A), b, left=weights(A.shape[0]))
    torch.testing.assert_close(solution.value, torch.linalg.pinv(A) @ b, rtol=1e-7, atol=1e-9)
    assert solution.residual < 1e-10


@pytest.mark.parametrize("name", SYSTEMS)
def test_iterates_are_those_of_scipy(name: str) -> None:
    A = SYSTEMS[name]
    b = random_vector(A.shape[0], 5)
    for iterations in range(1, min(*A.shape, 4) + 1):
        theirs = scipy.sparse.linalg.lsmr(
            A.numpy(), b.numpy(), atol=0, btol=0, conlim=0, maxiter=iterations
        )[0]
        plain = LSMR(iterations, 0, preconditioner="none", reorthogonalise=0)  # as theirs does
        ours = plain.least_squares(Matrix(A), b).value
        scale = float(np.linalg.norm(theirs))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-7 * scale)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_history_is_the_true_residual_of_every_iteration(
    name: str, preconditioned: bool, ridge: float
) -> None:
    """Of the system that is iterated on: with a ridge that is [A; sqrt(ridge) I] x = [b; 0]."""
    A = SYSTEMS[name]
    b = random_vector(A.shape[0], 5)
    right = weights(A.shape[1]) if preconditioned else None
    eye = torch.eye(A.shape[1], dtype=torch.float64)
    A_all = torch.cat([A, math.sqrt(ridge) * eye])
    b_all = torch.cat([b, torch.zeros(A.shape[1], dtype=torch.float64)])
    for iterations in range(1, min(*A.shape, 4) + 1):
        solver = LSMR(iterations, 0, ridge, "none", reorthogonalise=9)
        solution = solver.least_squares(Matrix(A), b, right=right)
        history = solution.residual_history
        assert history[0] == 1.0
        assert len(history) == solution.iterations + 1
        assert list(history) == sorted(history, reverse=True)
        true = float((b_all - A_all @ solution.value).norm() / b.norm())
        assert history[-1] == pytest.approx(true, rel=1e-6, abs=1e-10)
        assert not solution.drift


@pytest.mark.parametrize("iterations", [1, 2, 3, 60])
def test_certificates_are_recomputed_from_the_value(iterations: int) -> None:
    A, b = SYSTEMS["tall"], random_vector(9, 5)
    solution = replace(EXACT, iterations=iterations).least_squares(Matrix(A), b, right=weights(5))
    r = b - A @ solution.value
    assert solution.residual == pytest.approx(float(r.norm() / b.norm()), rel=1e-10)
    normal = float((A.T @ r).norm() / (A.T @ b).norm())
    assert solution.normal_residual == pytest.approx(normal, rel=1e-8, abs=1e-13)

    wide, c = SYSTEMS["wide"], random_vector(5, 6)
    minimum = replace(EXACT, iterations=iterations).minimum_norm(Matrix(wide), c, left=weights(5))
    r = c - wide @ minimum.value
    assert minimum.residual == pytest.approx(float(r.norm() / c.norm()), rel=1e-8, abs=1e-13)
    weighted = (weights(5) @ r).norm() / (weights(5) @ c).norm()
    assert minimum.residual_history[-1] == pytest.approx(float(weighted), rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_products_are_counted_one_by_one(ridge: float) -> None:
    for solve, shape in (("least_squares", (9, 5)), ("minimum_norm", (5, 9))):
        A = Counted(random_matrix(*shape))
        b = random_vector(shape[0], 5)
        solution = getattr(LSMR(3, 0, ridge, "none"), solve)(A, b)
        assert (solution.iterations, solution.hvps, solution.check_hvps) == (3, 7, 2)
        assert A.products == solution.hvps + solution.check_hvps
        assert solution.status is Status.ITERATION_LIMIT
        assert "raise `iterations`" in solution.status.advice


def test_loose_tolerance_stops_early_and_keeps_its_promise() -> None:
    A, b = random_matrix(40, 20), random_vector(40, 5)
    solution = LSMR(60, 1e-2, preconditioner="none").least_squares(Matrix(A), b)
    assert solution.status is Status.CONVERGED
    assert 1e-6 < solution.normal_residual <= 1.01e-2
    assert solution.iterations < 20


# --- how it can end ------------------------------------------------------------------------------


@pytest.mark.parametrize("solve", ["least_squares", "minimum_norm"])
def test_nothing_to_solve_for(solve: str) -> None:
    solution = getattr(EXACT, solve)(Matrix(indefinite(4)), torch.zeros(4, dtype=torch.float64))
    assert solution.status is Status.ZERO_RHS
    assert not solution.value.any()
    assert solution.trusted
    assert (solution.residual, solution.normal_residual, solution.hvps) == (0, 0, 0)


def test_a_right_hand_side_that_the_columns_do_not_reach() -> None:
    """A^T b = 0: the least-squares solution is 0, and nothing of b is explained."""
    A = torch.tensor([[1.0, 2.0], [0, 0], [3, 4]], dtype=torch.float64)
    b = torch.tensor([0.0, 5.0, 0.0], dtype=torch.float64)
    update = EXACT.least_squares(Matrix(A), b)
    assert not update.value.any()
    assert update.status is Status.EXACT
    assert (update.residual, update.normal_residual) == (1.0, 0.0)
    adjoint = EXACT.minimum_norm(Matrix(A), b)  # a system without a solution
    assert adjoint.residual == 1.0
    assert adjoint.status is Status.INCONSISTENT
    assert not adjoint.trusted


def test_exact_termination() -> None:
    b = random_vector(6, 1)
    solution = EXACT.least_squares(2.0 * Identity(6), b)
    torch.testing.assert_close(solution.value, b / 2)
    assert solution.iterations == 1
    assert solution.status in (Status.EXACT, Status.CONVERGED)
    tight = replace(EXACT, tolerance=0.0).least_squares(
        Matrix(random_matrix(9, 1)), random_vector(9)
    )
    assert tight.status is Status.EXACT
    assert tight.iterations == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("solve", ["least_squares", "minimum_norm"])
def test_a_right_hand_side_that_is_not_finite(solve: str, value: float) -> None:
    b = random_vector(4)
    b[2] = value
    solution = getattr(EXACT, solve)(Matrix(indefinite(4)), b)
    assert solution.status is Status.NOT_FINITE
    assert not solution.trusted
    assert bool(torch.isfinite(solution.value).all())


@pytest.mark.parametrize("broken", range(1, 7))
@pytest.mark.parametrize("solve", ["least_squares", "minimum_norm"])
def test_a_product_that_is_not_finite(solve: str, broken: int) -> None:
    """The value is the last finite iterate, and says so; it is never taken for converged."""
    b = random_vector(7, 5)
    solution = getattr(EXACT, solve)(Counted(indefinite(7), broken), b)
    assert solution.status is Status.NOT_FINITE
    assert not solution.trusted
    done = (broken - 2) // 2  # iterations whose two products came before
    if done > 0:
        before = getattr(replace(EXACT, iterations=done), solve)(Matrix(indefinite(7)), b)
        torch.testing.assert_close(solution.value, before.value)
    else:
        assert not solution.value.any()
    assert not solution.residual < 1e-3  # NaN or large, never small


def test_progress_can_cancel() -> None:
    seen = []

    def progress(done: int, total: int, _note: str) -> None:
        seen.append((done, total))
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        EXACT.least_squares(Matrix(indefinite(7)), random_vector(7, 5), progress=progress)
    assert seen == [(0, 60), (1, 60), (2, 60), (3, 60)]


@pytest.mark.parametrize(
    "settings",
    [
        {"iterations": 0},
        {"iterations": -1},
        {"ridge": -1e-9},
        {"ridge": math.nan},
        {"tolerance": -1.0},
        {"tolerance": math.nan},
    ],
)
def test_impossible_settings(settings: dict[str, float]) -> None:
    with pytest.raises(GifError, match="LSMR needs"):
        LSMR(**settings)


def test_inputs_are_not_written_to() -> None:
    A, b = SYSTEMS["tall"].clone(), random_vector(9, 5)
    EXACT.least_squares(Matrix(A), b)
    assert torch.equal(A, SYSTEMS["tall"])
    assert torch.equal(b, random_vector(9, 5))


def test_restored_orthogonality_is_what_single_precision_needs() -> None:
    """By default float32 follows float64; without it, it lags behind."""
    generator = torch.Generator().manual_seed(0)
    U, _ = torch.linalg.qr(torch.randn(60, 40, generator=generator, dtype=torch.float64))
    V, _ = torch.linalg.qr(torch.randn(40, 40, generator=generator, dtype=torch.float64))
    A = U @ torch.diag(torch.logspace(0, -5, 40, dtype=torch.float64)) @ V.T
    b = random_vector(60, 5)
    exact = LSMR(12, 0, preconditioner="none").least_squares(Matrix(A), b).value
    single = Matrix(A.float())
    restored = LSMR(12, 0, preconditioner="none").least_squares(single, b.float())
    plain = LSMR(12, 0, preconditioner="none", reorthogonalise=0).least_squares(single, b.float())
    assert float((restored.value - exact).norm()) < 1e-2 * float(exact.norm())
    assert float((plain.value - exact).norm()) > 10 * float((restored.value - exact).norm())


def test_the_window_of_earlier_vectors_is_bounded_by_memory() -> None:
    like = torch.zeros(1)
    assert kept_vectors(None, 20, 1000, like) == 20
    assert kept_vectors(None, 20, 2**26, like) == 1
    assert kept_vectors(3, 20, 2**26, like) == 3

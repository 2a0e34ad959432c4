"""Lanczos against dense eigenvalues, and the automatic ridge and damping."""

import math

import pytest
import torch

from gifcore.errors import GifError
from gifcore.operators import Identity, Matrix
from gifcore.solvers import MINRES, auto_damping, auto_ridge, lanczos
from gifcore.solvers.spectrum import power_iteration
from tests.cases import random_vector
from tests.solvers.test_lsmr import Counted, indefinite, random_matrix
from tests.solvers.test_minres import with_eigenvalues

LIKE = torch.zeros(30, dtype=torch.float64)
WIDE = indefinite(30)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("steps", [1, 3, 10, 30, 99])
def test_ritz_values_lie_in_the_spectrum_with_an_eigenvalue_within_their_bound(
    steps: int, seed: int
) -> None:
    values = torch.linalg.eigvalsh(WIDE)
    A = Counted(WIDE)
    found = lanczos(A, LIKE, steps=steps, seed=seed)
    assert found.products == A.products == min(steps, 30)
    tiny = 1e-10
    assert values[0] - tiny <= found.lambda_min <= found.lambda_max <= values[-1] + tiny
    assert float((values - found.lambda_min).abs().min()) <= found.error_min + tiny
    assert float((values - found.lambda_max).abs().min()) <= found.error_max + tiny
    if steps >= 30:
        assert found.lambda_min == pytest.approx(float(values[0]))
        assert found.lambda_max == pytest.approx(float(values[-1]))
    assert found == lanczos(Matrix(WIDE), LIKE, steps=steps, seed=seed)


def test_the_bound_is_the_residual_of_the_ritz_pair() -> None:
    """One step: theta = v.Av and the bound is ||A v - theta v||."""
    found = lanczos(Matrix(WIDE), LIKE, steps=1, seed=3)
    v = random_vector(30, 3)
    v = v / v.norm()
    theta = float(v @ WIDE @ v)
    assert found.lambda_min == found.lambda_max == pytest.approx(theta)
    assert found.error_min == pytest.approx(float((WIDE @ v - theta * v).norm()))


def test_an_exhausted_space_is_exact() -> None:
    found = lanczos(Matrix(with_eigenvalues(1, 1, 1, 5, 5)), LIKE[:5], steps=5)
    assert found.exhausted
    assert found.products == 2
    assert (found.lambda_min, found.lambda_max) == pytest.approx((1, 5))
    assert lanczos(0.0 * Identity(4), LIKE[:4]).lambda_max == 0


def test_orthogonality_is_kept_in_single_precision() -> None:
    """No copies of a found eigenvalue: the ends stay right after many steps."""
    values = torch.logspace(-4, 0, 30, dtype=torch.float64)
    A = with_eigenvalues(*values.tolist())
    found = lanczos(Matrix(A.float()), LIKE.float(), steps=30)
    assert found.lambda_min == pytest.approx(1e-4, rel=0.1)
    assert found.lambda_max == pytest.approx(1, rel=1e-5)


def test_lanczos_refuses_what_it_cannot_use() -> None:
    with pytest.raises(GifError, match="1 step or more, not 0"):
        lanczos(Matrix(WIDE), LIKE, steps=0)
    with pytest.raises(GifError, match="NaN or infinite"):
        lanczos(Counted(WIDE, 2), LIKE)


def test_power_iterations() -> None:
    A = with_eigenvalues(0.1, 1, 8)
    found = power_iteration(lambda v: A @ v, LIKE[:3], 30, 0)
    assert found.norm == pytest.approx(8)
    assert 0 < found.lowest <= 8
    assert power_iteration(lambda v: -A @ v, LIKE[:3], 3, 0).lowest < 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_automatic_ridge_is_eps_sigma_max_squared(dtype: torch.dtype) -> None:
    A = random_matrix(12, 5)
    sigma = float(torch.linalg.svdvals(A)[0])
    counted = Counted(A.to(dtype))
    auto = auto_ridge(counted, LIKE[:5].to(dtype), steps=5)
    assert auto.value == pytest.approx(torch.finfo(dtype).eps * sigma**2, rel=1e-4)
    assert auto.products == counted.products == 10
    assert "sigma_max" in auto.reason
    assert auto_ridge(0.0 * Identity(3), LIKE[:3]).value == 0


def test_the_automatic_damping_of_a_semidefinite_curvature_is_small() -> None:
    A = with_eigenvalues(0, 0, 1, 4)
    auto = auto_damping(Matrix(A), LIKE[:4])
    level = math.sqrt(torch.finfo(torch.float64).eps) * 4
    assert auto.value == pytest.approx(level)
    assert "no negative eigenvalue" in auto.reason
    known = auto_damping(Matrix(A), LIKE[:4], semidefinite=True, steps=2)
    assert 0 < known.value <= level * (1 + 1e-12)
    assert "positive semi-definite" in known.reason


def test_what_is_said_to_be_semidefinite_and_is_not_is_found_out() -> None:
    A = with_eigenvalues(-1.0, 0.1, 1, 4)
    auto = auto_damping(Matrix(A), LIKE[:4], semidefinite=True)
    assert auto.value > 1
    assert "is indefinite" in auto.reason


@pytest.mark.parametrize("semidefinite", [False, True])
@pytest.mark.parametrize("nu", [0.02, 0.099, 0.5])
def test_negative_curvature_of_the_data_is_damped_though_weight_decay_hides_it(
    nu: float, semidefinite: bool
) -> None:
    """C has -nu, H = C + decay I need not have it: H + damping I is decay and a margin at least."""
    decay = 0.1
    A = with_eigenvalues(*torch.linspace(decay - nu, 5, 12).tolist())
    auto = auto_damping(Matrix(A), LIKE[:12], decay=decay, semidefinite=semidefinite)
    assert nu < auto.value <= 1.1 * nu + 1e-6
    assert ("H is indefinite" if nu > decay else "data's curvature is indefinite") in auto.reason
    assert "weight decay - lambda_min" in auto.reason
    # what is left of the curvature of the data is not negative
    assert auto.value + decay - nu > decay


def test_weight_decay_alone_is_no_noise() -> None:
    """A convex objective: H is decay and more, with and without the decay told."""
    A = with_eigenvalues(0.1, 0.1, 1, 4)
    told = auto_damping(Matrix(A), LIKE[:4], decay=0.1)
    assert told == auto_damping(Matrix(A), LIKE[:4])
    assert told.value == pytest.approx(math.sqrt(torch.finfo(torch.float64).eps) * 4)


@pytest.mark.parametrize("steps", [4, 8, 40])
def test_a_coarse_estimate_damps_more_not_less(steps: int) -> None:
    """The error bound makes up for what a Ritz value has not yet found."""
    values = [0.1 - 0.05, *torch.logspace(-1, 1, 39, dtype=torch.float64).tolist()]
    auto = auto_damping(Matrix(with_eigenvalues(*values)), torch.zeros(40).double(), decay=0.1,
                        steps=steps)  # fmt: skip
    assert auto.value > 0.05


@pytest.mark.parametrize("steps", [2, 6, 20, 30])
@pytest.mark.parametrize("lowest", [-1e-3, -1.0, -9.0])
def test_the_automatic_damping_of_an_indefinite_curvature_is_beyond_its_lowest_eigenvalue(
    lowest: float, steps: int
) -> None:
    A = with_eigenvalues(lowest, *torch.linspace(0.1, 5, 11).tolist())
    auto = auto_damping(Matrix(A), LIKE[:12], steps=steps)
    if auto.value > 1e-3:
        assert auto.value > -lowest
        assert "indefinite" in auto.reason
    if steps >= 12:
        assert -lowest < auto.value < -1.2 * lowest + 1e-6
        damped = A + auto.value * torch.eye(12, dtype=torch.float64)
        assert float(torch.linalg.eigvalsh(damped)[0]) > 0
        solution = MINRES(200, 1e-10).solve(Matrix(damped), random_vector(12))
        assert solution.trusted
    assert auto.products <= steps


def test_an_estimate_too_coarse_to_exclude_negative_eigenvalues_does_not_pass_for_it() -> None:
    """One step: the Ritz value is positive, its error bound reaches below zero."""
    A = with_eigenvalues(-3, -2, 1, 4, 5, 6)
    found = lanczos(Matrix(A), LIKE[:6], steps=1)
    assert 0 < found.lambda_min < found.error_min
    auto = auto_damping(Matrix(A), LIKE[:6], steps=1)
    assert auto.value > found.error_min
    assert "may be indefinite" in auto.reason

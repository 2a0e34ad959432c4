"""Every solver on every system it is made for, against numpy, and scipy as a second reference.

A new solver is one row of SYMMETRIC or RECTANGULAR.
"""

import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from torch import Tensor

from gifcore.errors import Cancelled, GifError
from gifcore.operators import Diagonal, LinearOperator, Matrix
from gifcore.solvers import CG, LSMR, MINRES, Dense, Lissa, Neumann, PLissa, Schulz, Status
from tests.cases import random_vector
from tests.solvers.test_lsmr import Counted, of_rank, random_matrix
from tests.solvers.test_minres import with_eigenvalues

# --- the systems ---------------------------------------------------------------------------------

SPD = with_eigenvalues(0.5, 1, 2, 3, 7)
INDEFINITE = with_eigenvalues(-2, -0.5, 1, 2, 3, 5)
SINGULAR = with_eigenvalues(0, 1, 2, 3, 0)  # positive semi-definite
MIXED = with_eigenvalues(0, 1, -2, 3, 0)
b5, b6 = random_vector(5, 5), random_vector(6, 5)

SYMMETRIC_SYSTEMS: dict[str, tuple[Tensor, Tensor]] = {
    "positive definite": (SPD, b5),
    "indefinite": (INDEFINITE, b6),
    "singular with a solution": (SINGULAR, SINGULAR @ b5),
    "singular without a solution": (SINGULAR, b5),
    "indefinite, singular, with a solution": (MIXED, MIXED @ b5),
    "indefinite, singular, without a solution": (MIXED, b5),
    "zero right-hand side": (SPD, torch.zeros(5, dtype=torch.float64)),
    "zero matrix": (torch.zeros(4, 4, dtype=torch.float64), random_vector(4)),
}
RECTANGULAR_SYSTEMS: dict[str, Tensor] = {
    "tall": random_matrix(9, 5),
    "columns of an indefinite matrix": INDEFINITE[:, [0, 2, 5]],
    "wide": random_matrix(4, 9),
    "tall without full rank": of_rank(9, 5, 3),
    "wide without full rank": of_rank(4, 9, 2),
    "one column": random_matrix(6, 1),
}

# --- the solvers, set to run until they end ------------------------------------------------------

LIMIT = 60_000
SYMMETRIC: dict[str, Any] = {
    "CG": CG(100, 1e-12),
    "MINRES": MINRES(100, 1e-12),
    "Dense": Dense(),
    "Neumann": Neumann(2000, 1e-13, normaliser=5.0),
    "PLissa": PLissa(LIMIT, 1e-12),
    "Schulz": Schulz(14, 1e-12),
}
RECTANGULAR: dict[str, Any] = {
    "LSMR": LSMR(100, 1e-13, preconditioner="none"),
    "Dense": Dense(),
    "Neumann": Neumann(LIMIT, 1e-14),
    "PLissa": PLissa(LIMIT, 1e-12),
    "Schulz": Schulz(15, 1e-12),
}
S = Status
ENDS = (S.CONVERGED, S.EXACT, S.SINGULAR)
FAILS: dict[str, dict[str, tuple[Status, ...]]] = {
    "indefinite": {"CG": (S.INDEFINITE,), "Neumann": (S.INDEFINITE,), "Schulz": (S.INDEFINITE,)},
    "singular without a solution": {
        "CG": (S.INCONSISTENT, S.ITERATION_LIMIT),
        "MINRES": (S.INCONSISTENT,),
        "Dense": (S.INCONSISTENT,),
        "Neumann": (S.ITERATION_LIMIT, S.STAGNATED),
        "PLissa": (S.STAGNATED,),
        "Schulz": (S.ITERATION_LIMIT, S.STAGNATED),
    },
    "indefinite, singular, with a solution": {
        "CG": (S.INDEFINITE,),
        "Neumann": (S.INDEFINITE,),
        "Schulz": (S.INDEFINITE,),
    },
    "indefinite, singular, without a solution": {
        "CG": (S.INDEFINITE,),
        "MINRES": (S.INCONSISTENT,),
        "Dense": (S.INCONSISTENT,),
        "Neumann": (S.INDEFINITE,),
        "PLissa": (S.STAGNATED,),
        "Schulz": (S.INDEFINITE,),
    },
    "zero matrix": dict.fromkeys(SYMMETRIC, (S.INCONSISTENT, S.STAGNATED, S.ITERATION_LIMIT)),
}


@pytest.mark.parametrize("system", SYMMETRIC_SYSTEMS)
@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_systems(name: str, system: str) -> None:
    A, b = SYMMETRIC_SYSTEMS[system]
    solution = SYMMETRIC[name].solve(Matrix(A), b)
    assert bool(torch.isfinite(solution.value).all())
    fails = FAILS.get(system, {}).get(name)
    if system.startswith("zero right"):
        assert solution.status is Status.ZERO_RHS
        assert not solution.value.any()
        assert (solution.hvps, solution.residual) == (0, 0.0)
    elif fails:
        assert solution.status in fails, solution
        assert not solution.trusted
        assert solution.residual > 1e-3
    else:
        assert solution.status in ENDS, solution
        assert solution.trusted
        dense = np.linalg.lstsq(A.numpy(), b.numpy(), rcond=1e-10)[0]
        np.testing.assert_allclose(solution.value.numpy(), dense, rtol=0, atol=1e-8)
        if name in ("CG", "MINRES"):
            theirs = getattr(scipy.sparse.linalg, name.lower())(A.numpy(), b.numpy(), rtol=1e-12)
            np.testing.assert_allclose(solution.value.numpy(), theirs[0], rtol=0, atol=1e-8)
    assert solution.judged_by == "residual"
    recomputed(solution, A, b)


@pytest.mark.parametrize("system", RECTANGULAR_SYSTEMS)
@pytest.mark.parametrize("name", RECTANGULAR)
def test_least_squares(name: str, system: str) -> None:
    A = RECTANGULAR_SYSTEMS[system]
    b = random_vector(A.shape[0], 5)
    solution = RECTANGULAR[name].least_squares(Matrix(A), b)
    dense = np.linalg.lstsq(A.numpy(), b.numpy(), rcond=1e-10)[0]
    np.testing.assert_allclose(solution.value.numpy(), dense, rtol=0, atol=1e-8)
    theirs = scipy.sparse.linalg.lsmr(A.numpy(), b.numpy(), atol=1e-14, btol=1e-14)[0]
    np.testing.assert_allclose(solution.value.numpy(), theirs, rtol=0, atol=1e-8)
    assert solution.trusted
    assert solution.judged_by == "normal_residual"
    recomputed(solution, A, b)


@pytest.mark.parametrize("system", RECTANGULAR_SYSTEMS)
@pytest.mark.parametrize("name", RECTANGULAR)
def test_minimum_norm(name: str, system: str) -> None:
    """A system of full row rank has a solution; the others have one for a b in their range."""
    A = RECTANGULAR_SYSTEMS[system]
    b = A @ random_vector(A.shape[1], 5)
    solution = RECTANGULAR[name].minimum_norm(Matrix(A), b)
    dense = (torch.linalg.pinv(A, rtol=1e-10) @ b).numpy()
    np.testing.assert_allclose(solution.value.numpy(), dense, rtol=0, atol=1e-8)
    assert solution.trusted
    assert solution.residual < 1e-8
    recomputed(solution, A, b)
    if int(torch.linalg.matrix_rank(A)) < A.shape[0]:
        off = RECTANGULAR[name].minimum_norm(Matrix(A), random_vector(A.shape[0], 5))
        assert off.residual > 1e-3
        assert not off.trusted


def recomputed(solution: Any, A: Tensor, b: Tensor) -> None:
    """The certificate is that of the value."""
    if solution.status is Status.ZERO_RHS:
        return
    r = b - A @ solution.value
    assert solution.residual == pytest.approx(float(r.norm() / b.norm()), rel=1e-9)
    scale = float((A.T @ b).norm())
    if scale > 0:
        normal = float((A.T @ r).norm()) / scale
        assert solution.normal_residual == pytest.approx(normal, rel=1e-6, abs=1e-12)


# --- what all of them share ----------------------------------------------------------------------

FEW: dict[str, tuple[Any, str]] = {
    "CG": (CG(3, 0), "solve"),
    "MINRES": (MINRES(3, 0), "solve"),
    "Neumann symmetric": (Neumann(3, 0, normaliser=5.0), "solve"),
    "Lissa": (Lissa(3, scale=10), "solve"),
    "LSMR": (LSMR(3, 0), "least_squares"),
    "LSMR minimum norm": (LSMR(3, 0), "minimum_norm"),
    "Dense symmetric": (Dense(), "solve"),
    "Dense": (Dense(), "least_squares"),
    "Neumann": (Neumann(3, 0), "least_squares"),
    "Neumann minimum norm": (Neumann(3, 0), "minimum_norm"),
    "PLissa": (PLissa(3, 0), "least_squares"),
    "PLissa symmetric": (PLissa(3, 0), "solve"),
    "Schulz": (Schulz(2, 0), "least_squares"),
    "Schulz symmetric": (Schulz(2, 0), "solve"),
}
COSTS = {  # products of the solve; those of the certificate
    "CG": (3, 2),
    "MINRES": (3, 2),
    "Neumann symmetric": (3, 3),
    "Lissa": (3, 3),
    "LSMR": (7, 2),
    "LSMR minimum norm": (7, 2),
    "Dense symmetric": (5, 3),
    "Dense": (5, 3),
    "PLissa": (1 + 12 + 6, 2),
    "PLissa symmetric": (1 + 12 + 6, 2),
    "Schulz": (1 + 12 + 6, 2),
    "Schulz symmetric": (6 + 3, 3),
}


@pytest.mark.parametrize("name", FEW)
def test_products_are_counted_one_by_one(name: str) -> None:
    solver, how = FEW[name]
    A = Counted(SPD)
    solution = getattr(solver, how)(A, b5)
    assert A.products == solution.hvps + solution.check_hvps
    if name in COSTS:
        assert (solution.hvps, solution.check_hvps) == COSTS[name]


@pytest.mark.parametrize("name", FEW)
def test_a_right_hand_side_of_zero_or_nan(name: str) -> None:
    solver, how = FEW[name]
    A = Counted(SPD)
    zero = getattr(solver, how)(A, torch.zeros(5, dtype=torch.float64))
    assert zero.status is Status.ZERO_RHS
    assert zero.trusted
    assert (zero.hvps, zero.check_hvps, zero.residual, zero.normal_residual) == (0, 0, 0, 0)
    bad = b5.clone()
    bad[1] = math.nan
    solution = getattr(solver, how)(A, bad)
    assert solution.status is Status.NOT_FINITE
    assert not solution.trusted
    assert not solution.residual < 1
    assert bool(torch.isfinite(solution.value).all())


@pytest.mark.parametrize("broken", [1, 2, 3, 4])
@pytest.mark.parametrize("name", FEW)
def test_a_product_that_is_not_finite(name: str, broken: int) -> None:
    """The value is the last finite iterate, and says so; it is never taken for converged."""
    solver, how = FEW[name]
    solution = getattr(solver, how)(Counted(SPD, broken), b5)
    assert not solution.trusted
    assert not solution.residual < 1e-3
    assert bool(torch.isfinite(solution.value).all())
    if broken <= 3:
        assert solution.status is Status.NOT_FINITE


@pytest.mark.parametrize("name", FEW)
def test_a_solve_can_be_cancelled(name: str) -> None:
    def progress(done: int, total: int, note: str) -> None:
        assert 0 <= done <= total
        assert note
        raise Cancelled

    solver, how = FEW[name]
    with pytest.raises(Cancelled):
        getattr(solver, how)(Matrix(SPD), b5, progress=progress)


@pytest.mark.parametrize("name", FEW)
def test_inputs_are_not_written_to_and_repeat(name: str) -> None:
    solver, how = FEW[name]
    A, b = SPD.clone(), b5.clone()
    one, two = (getattr(solver, how)(Matrix(A), b) for _ in range(2))
    assert torch.equal(A, SPD)
    assert torch.equal(b, b5)
    assert torch.equal(one.value, two.value)


HALVES: dict[str, tuple[Any, str, Any]] = {  # the solver and one with half its budget
    "CG": (CG(4, 0, keep_halfway=True), "solve", CG(2, 0)),
    "MINRES": (MINRES(4, 0, keep_halfway=True), "solve", MINRES(2, 0)),
    "Neumann": (
        Neumann(6, 0, normaliser=8.0, keep_halfway=True),
        "minimum_norm",
        Neumann(3, 0, normaliser=8.0),
    ),
    "Lissa": (Lissa(6, scale=10, keep_halfway=True), "solve", Lissa(3, scale=10)),
    "PLissa": (PLissa(6, 0, keep_halfway=True), "minimum_norm", PLissa(3, 0)),
    "Schulz": (Schulz(3, 0, keep_halfway=True), "least_squares", Schulz(2, 0)),
    "LSMR": (LSMR(4, 0, keep_halfway=True), "least_squares", LSMR(2, 0)),
    "LSMR minimum norm": (LSMR(4, 0, keep_halfway=True), "minimum_norm", LSMR(2, 0)),
    "LSMR ridge": (LSMR(4, 0, 0.3, keep_halfway=True), "minimum_norm", LSMR(2, 0, 0.3)),
}


@pytest.mark.parametrize("name", HALVES)
def test_the_iterate_at_half_the_budget(name: str) -> None:
    whole, how, part = HALVES[name]
    solution = getattr(whole, how)(Matrix(SPD), b5)
    torch.testing.assert_close(
        solution.halfway, getattr(part, how)(Matrix(SPD), b5).value, rtol=1e-12, atol=1e-14
    )
    assert float((solution.halfway - solution.value).norm()) > 1e-6
    assert getattr(part, how)(Matrix(SPD), b5).halfway is None


def test_a_solve_that_ends_early_is_its_own_half() -> None:
    solution = MINRES(50, 1e-12, keep_halfway=True).solve(Matrix(SPD), b5)
    assert torch.equal(solution.halfway, solution.value)


@pytest.mark.parametrize("solver", [CG(symmetry_seed=0), MINRES(symmetry_seed=0), Dense()])
def test_an_operator_that_is_not_symmetric(solver: Any) -> None:
    A = Counted(SPD + torch.ones(5, 5, dtype=torch.float64).triu())
    solution = solver.solve(A, b5)
    assert solution.status is Status.ASYMMETRIC
    assert not solution.trusted
    assert not solution.value.any()
    assert A.products == solution.hvps + solution.check_hvps
    assert solver.solve(Matrix(SPD), b5).trusted


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (CG, {"iterations": 0}),
        (CG, {"tolerance": math.nan}),
        (Neumann, {"iterations": 0}),
        (Neumann, {"step": 0.0}),
        (Neumann, {"normaliser": 0.0}),
        (Neumann, {"normaliser": math.inf}),
        (Neumann, {"restarts": -1}),
        (PLissa, {"mu": 0.0}),
        (PLissa, {"restarts": -1}),
        (PLissa, {"power_iterations": 0}),
        (Schulz, {"iterations": 0}),
        (Schulz, {"iterations": 31}),
        (Lissa, {"iterations": 0}),
        (Lissa, {"damp": 1.0}),
        (Lissa, {"scale": 0.0}),
        (Lissa, {"batch_size": 0}),
        (Lissa, {"processes": 0}),
        (Dense, {"limit": 0}),
        (Dense, {"ridge": -1.0}),
    ],
)
def test_impossible_settings(make: Any, settings: dict[str, float]) -> None:
    with pytest.raises(GifError, match=f"{make.__name__} needs"):
        make(**settings)


@pytest.mark.parametrize("name", FEW)
def test_a_vector_of_another_length_is_refused(name: str) -> None:
    solver, how = FEW[name]
    operator: LinearOperator = Matrix(random_matrix(5, 5))
    with pytest.raises((GifError, ValueError, RuntimeError)):
        getattr(solver, how)(operator, random_vector(6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("condition", [1e1, 1e5, 1e12])
def test_what_is_trusted_has_a_small_residual_by_its_own_judge(
    condition: float, dtype: torch.dtype
) -> None:
    """Also where the type cannot hold the solution, and where R hides a large residual."""
    rows, columns = (torch.linalg.qr(random_matrix(n, n)).Q for n in (20, 8))
    scale = torch.logspace(0, -math.log10(condition), 8, dtype=torch.float64)
    A = ((rows[:, :8] * scale) @ columns.T).to(dtype)
    R = Diagonal(torch.logspace(-3, 0, 8, dtype=dtype))
    tall, wide, b = Matrix(A), Matrix(A.T.contiguous()), random_vector(20).to(dtype)
    loose, tight = LSMR(100, 1e-3), LSMR(100, 1e-6)
    found = [(lsmr.tolerance, lsmr.least_squares(tall, b, right=R)) for lsmr in (loose, tight)]
    for solver in (
        loose,
        tight,
        Dense(),
        Dense(ridge=1e-9),
        Neumann(300, normaliser=1.0),
        PLissa(300),
        Schulz(8),
    ):
        tolerance = 1e-6 if isinstance(solver, Dense) else max(solver.tolerance, 1e-6)
        found.append((tolerance, solver.least_squares(tall, b)))
        found.append((tolerance, solver.minimum_norm(wide, b[:8])))
    for tolerance, solution in found:
        own = solution.residual
        own = own if solution.judged_by == "residual" else solution.normal_residual
        small = own <= max(10 * tolerance, torch.finfo(dtype).eps ** 0.5)
        assert small or not solution.trusted, solution
    trusted = sum(solution.trusted for _, solution in found)
    assert 0 < trusted < len(found) or condition == 10

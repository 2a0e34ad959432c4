"""The methods against their closed forms, their nesting, GIF's optimality, certificates."""

import math
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest
import torch

from gifcore.change import RemoveSamples
from gifcore.curved import Curved, curvature
from gifcore.errors import GifError
from gifcore.influence import adjoint, embedded, influence
from gifcore.methods import METHODS
from gifcore.operators import Matrix
from gifcore.parameters import ParameterSpace
from gifcore.problem import Problem
from gifcore.selection import Selection
from gifcore.solvers import LSMR, MINRES, Status
from tests import cases, oracles

CONVERGED = LSMR(200, 1e-13, probes=2, reorthogonalise=200)
CHANGE = RemoveSamples([0, 3, 4])
# decay makes these Hessians invertible; both are indefinite
NAMES = ("perceptron with decay", "convolution", "dict batches", "squared loss")


def chosen(problem: Problem, k: int = 7, seed: int = 5) -> Selection:
    order = torch.randperm(problem.space.size, generator=torch.Generator().manual_seed(seed))
    return selection(problem.space, order[:k].sort().values)


@cache
def hessians(name: str) -> dict[str, np.ndarray]:
    problem = cases.problem(name)
    return {"full": oracles.hessian(problem), "retained": oracles.hessian(CHANGE.apply(problem))}


def selection(space: ParameterSpace, indices: torch.Tensor) -> Selection:
    return Selection(indices, space, "by hand", 0.1, 0)


@pytest.mark.parametrize("damping", [0.0, 0.7])
@pytest.mark.parametrize("of", ["retained", "full"])
@pytest.mark.parametrize("method", cases.METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_update_is_its_closed_form(name: str, method: str, of: str, damping: float) -> None:
    problem = cases.problem(name)
    selected = chosen(problem)
    changed = CHANGE.apply(problem)
    H = hessians(name)[of] + damping * np.eye(problem.space.size)
    g = oracles.gradient(problem) - oracles.gradient(changed)
    expected = oracles.update(method, H, selected.indices.numpy(), g)
    result = influence(
        problem, CHANGE, method=method, selected=selected, curvature_of=of,
        solver=CONVERGED, damping=damping,
    )  # fmt: skip
    np.testing.assert_allclose(result.delta, expected, rtol=1e-6, atol=1e-8)
    assert result.solution.trusted
    assert result.method == method
    if method != "gradient":
        assert result.solution.curvature_of == of
        assert result.solution.damping == damping
        assert result.solution.samples == (changed if of == "retained" else problem).n


@pytest.mark.parametrize("damping", [0.0, 0.7])
@pytest.mark.parametrize("method", cases.METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_adjoint_is_its_closed_form(name: str, method: str, damping: float) -> None:
    problem = cases.problem(name)
    selected = chosen(problem)
    g_q = cases.random_vector(problem.space.size)
    H = hessians(name)["full"] + damping * np.eye(problem.space.size)
    expected = oracles.adjoint(method, H, selected.indices.numpy(), g_q.numpy())
    solution = adjoint(
        problem, g_q, method=method, selected=selected, solver=CONVERGED,
        curved=curvature(problem, damping=damping),
    )  # fmt: skip
    np.testing.assert_allclose(solution.value, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", cases.METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_update_and_adjoint_agree(name: str, method: str) -> None:
    """g_q . E delta = s_q . g, for any g and g_q, on an indefinite H."""
    problem = cases.problem(name)
    selected = chosen(problem)
    curved = curvature(problem)
    g_q = cases.random_vector(problem.space.size, 1)
    update = influence(
        problem, CHANGE, method=method, selected=selected, curvature=curved,
        solver=CONVERGED, gradient=cases.random_vector(problem.space.size, 2),
    )  # fmt: skip
    s = adjoint(
        problem, g_q, method=method, selected=selected, solver=CONVERGED, curved=curved
    ).value
    left = float(g_q @ embedded(update, problem.space.size))
    assert left == pytest.approx(float(s @ update.gradient), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_gif_leaves_the_smallest_residual_of_all_moves_of_the_selection(name: str) -> None:
    """||H E x - g|| at GIF's x is below that of its peers and of everything near it."""
    problem = cases.problem(name)
    selected = chosen(problem)
    result = influence(problem, CHANGE, selected=selected, solver=CONVERGED)
    assert result.solution.normal_residual < 1e-8
    H = hessians(name)["retained"]
    J, g = selected.indices.numpy(), result.gradient.numpy()

    def left(x: np.ndarray) -> float:
        return float(np.linalg.norm(H[:, J] @ x - g))

    peers = {
        "freeze": np.linalg.solve(H[np.ix_(J, J)], g[J]),
        "projected": np.linalg.solve(H, g)[J],
        "gradient": g[J],
        "nothing": np.zeros(len(J)),
    }
    best = left(result.delta.numpy())
    assert best == pytest.approx(result.solution.residual * np.linalg.norm(g), rel=1e-8)
    for peer in peers.values():
        assert best < left(peer)
    generator = np.random.default_rng(0)
    for size in (1e-4, 1e-2, 1.0):
        for _ in range(20):
            assert best <= left(result.delta.numpy() + size * generator.normal(size=len(J)))


@pytest.mark.parametrize("name", NAMES)
def test_nesting_with_everything_selected_gif_is_if(name: str) -> None:
    problem = cases.problem(name)
    everything = selection(problem.space, torch.arange(problem.space.size))
    classic = influence(problem, CHANGE, method="if", solver=CONVERGED).delta
    for selected in (None, everything):
        gif = influence(problem, CHANGE, method="gif", selected=selected, solver=CONVERGED).delta
        torch.testing.assert_close(gif, classic, rtol=1e-5, atol=1e-8)
    assert float(classic.norm()) > 1e-3  # there was something to find


def test_without_a_selection_gradient_moves_everything() -> None:
    problem = cases.problem("convolution")
    result = influence(problem, CHANGE, method="gradient")
    assert result.indices is None
    assert torch.equal(result.delta, result.gradient)
    assert result.solution.status is Status.DIRECT


def test_if_ignores_a_selection() -> None:
    problem = cases.problem("convolution")
    with_one = influence(problem, CHANGE, method="if", selected=chosen(problem))
    without = influence(problem, CHANGE, method="if")
    assert torch.equal(with_one.delta, without.delta)
    assert with_one.indices is None


def test_small_samples_are_a_seeded_draw_from_the_retained() -> None:
    problem = cases.problem("convolution")
    one, again, other = (
        influence(problem, CHANGE, method="if", samples=5, seed=seed, solver=CONVERGED)
        for seed in (1, 1, 2)
    )
    assert torch.equal(one.delta, again.delta)
    assert not torch.allclose(one.delta, other.delta)
    assert one.solution.samples == 5
    drawn = curvature(CHANGE.apply(problem), samples=5, seed=1).samples
    assert not set(drawn.tolist()) & {0, 3, 4}
    H = oracles.hessian(problem.narrowed(drawn))
    np.testing.assert_allclose(one.delta, np.linalg.solve(H, one.gradient), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", ["if", "gif"])
def test_negative_curvature_is_proven_by_a_rayleigh_quotient(method: str) -> None:
    problem = cases.problem("perceptron with decay")
    eigenvalues = np.linalg.eigvalsh(oracles.hessian(CHANGE.apply(problem)) - 0.3 * np.eye(31))
    undecayed = Problem(problem.model, problem.train)
    assert eigenvalues[0] < -1e-3
    solution = influence(
        undecayed, CHANGE, method=method, selected=chosen(undecayed), solver=LSMR(60, 0)
    ).solution
    assert solution.negative_curvature
    assert eigenvalues[0] - 1e-9 <= solution.lambda_min < 0
    assert 0 < solution.lambda_max <= eigenvalues[-1] + 1e-9
    damped = influence(
        undecayed, CHANGE, method=method, selected=chosen(undecayed),
        damping=-float(eigenvalues[0]) + 0.1,
    ).solution  # fmt: skip
    assert not damped.negative_curvature
    assert damped.lambda_min >= 0.1 - 1e-9


@pytest.mark.parametrize("method", cases.METHODS)
def test_products_of_the_certificate_are_those_that_were_spent(method: str) -> None:
    problem = cases.problem("convolution")
    counted = Counted(torch.from_numpy(hessians("convolution")["full"]))
    curved = Curved(counted, problem.positions, 0.0, "full")
    solver = LSMR(5, 0, preconditioner="none")
    solution = adjoint(
        problem, cases.random_vector(problem.space.size), method=method,
        selected=chosen(problem), curved=curved, solver=solver,
    )  # fmt: skip
    assert counted.products == solution.hvps + solution.check_hvps
    assert counted.products == {
        "gradient": 0, "if": 7, "projected": 7, "freeze": 7, "gif": 13,
    }[method]  # fmt: skip


class Counted(Matrix):
    products = 0

    def apply(self, vector: torch.Tensor) -> torch.Tensor:
        object.__setattr__(self, "products", self.products + 1)
        return super().apply(vector)

    apply_transposed = apply


def test_default_preconditioner_is_counted_named_and_seeded() -> None:
    problem = cases.problem("convolution")
    solver = LSMR(20, 0)
    one, again, other = (
        influence(problem, CHANGE, selected=chosen(problem), solver=solver, seed=s, samples=9)
        for s in (0, 0, 1)
    )
    assert one.solution.hvps <= 2 * 20 + 1 + 5
    assert one.solution.preconditioner["probes"] == 5
    assert one.solution.preconditioner["kind"] == "jacobi"
    assert torch.equal(one.delta, again.delta)
    assert not torch.equal(one.delta, other.delta)
    few = influence(problem, CHANGE, selected=chosen(problem), solver=LSMR(15)).solution
    assert few.preconditioner["probes"] == 0


@pytest.mark.parametrize("solver", [LSMR(300, 1e-13), MINRES(300, 1e-13)])
@pytest.mark.parametrize("method", ["if", "gif"])
def test_either_solver_serves_either_method(method: str, solver: Any) -> None:
    problem = cases.problem("perceptron with decay")
    found = influence(problem, CHANGE, method=method, selected=chosen(problem), solver=solver)
    expected = oracles.update(
        method,
        oracles.hessian(CHANGE.apply(problem)),
        chosen(problem).indices.numpy(),
        found.gradient.numpy(),
    )
    np.testing.assert_allclose(found.delta, expected, rtol=1e-5, atol=1e-7)
    assert found.solution.solver == {"if": "MINRES", "gif": "LSMR"}[method]


def test_the_first_order_prediction_of_removing_one_sample_from_ridge_regression() -> None:
    """Half squared loss of a linear model: H is known, and one Newton step is the refit."""
    x, y = cases.features((4,), 12, seed=3)
    problem = refitted(
        Problem(
            torch.nn.Linear(4, 3).double(),
            torch.utils.data.TensorDataset(x, y),
            loss=cases.half_square,
            weight_decay=0.2,
        )  # fmt: skip
    )
    change = RemoveSamples([5])
    result = influence(problem, change, method="if", curvature_of="retained", solver=CONVERGED)
    moved = oracles.refit(change.apply(problem)) - oracles.theta_of(problem).numpy()
    np.testing.assert_allclose(result.delta, moved, rtol=1e-7, atol=1e-10)


def refitted(problem: Problem) -> Problem:
    model = oracles.at(problem, oracles.refit(problem))
    return Problem(model, problem.train, problem.loss, problem.weight_decay)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"method": "hydra"},
            "Unknown method 'hydra'; choose one of: gradient, if, projected",
        ),
        ({"curvature": "ggnn"}, "Unknown curvature 'ggnn'; choose one of: hessian"),
        ({"curvature_of": "rest"}, "curvature_of is 'rest'; choose retained or full"),
        ({"damping": -0.1}, "damping is -0.1"),
        ({"damping": math.nan}, "damping is nan"),
        ({"samples": 0}, "samples is 0"),
        ({"solver": LSMR(preconditioner="ilu")}, "Unknown preconditioner 'ilu'; choose jacobi"),
    ],
)
def test_unknown_names_and_impossible_numbers(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        influence(cases.problem("perceptron"), CHANGE, **arguments)


def test_the_registry_of_methods_is_the_one_studies_know() -> None:
    from gifcore import study

    assert set(METHODS) == set(study.METHODS) == set(study.METHOD_LABELS)
    assert set(METHODS) == set(get_args(study.Method))
    assert {name: row.selects for name, row in METHODS.items()} == study.USES_SELECTION
    assert {name: row.adjoint is not None for name, row in METHODS.items()} == study.RANKS


def test_nan_in_the_curvature_is_a_status_not_a_result() -> None:
    problem = cases.problem("perceptron with decay")
    nothing = torch.full((31, 31), math.nan, dtype=torch.float64)
    broken = Curved(Matrix(nothing), problem.positions, 0.0, "full")
    for method in ("if", "gif"):
        solution = influence(
            problem, CHANGE, method=method, curvature=broken, solver=LSMR(preconditioner="none")
        ).solution
        assert solution.status is Status.NOT_FINITE
        assert not solution.trusted

"""Methods by every solver and curvature, and what their certificates say."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from gifcore.change import RemoveSamples
from gifcore.curved import CURVATURES, curvature
from gifcore.errors import Cancelled
from gifcore.influence import influence
from gifcore.problem import Problem
from gifcore.scoring import Queries, overlap, rank, score
from gifcore.solvers import CG, LSMR, MINRES, Dense, Lissa, Neumann, PLissa, Solution, Status
from tests import cases, oracles
from tests.test_influence import CHANGE, CONVERGED, chosen, hessians, selection

SOLVERS = (LSMR(400, 1e-12), MINRES(400, 1e-12), CG(400, 1e-12), Dense(), PLissa(20_000, 1e-9))


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("method", ["if", "gif", "freeze"])
def test_every_solver_serves_every_method(method: str, solver: Any) -> None:
    problem = cases.problem("perceptron with decay")
    found = influence(
        problem, CHANGE, method=method, selected=chosen(problem), solver=solver, damping=1.0
    )
    H = hessians("perceptron with decay")["retained"] + np.eye(problem.space.size)
    expected = oracles.update(method, H, chosen(problem).indices.numpy(), found.gradient.numpy())
    np.testing.assert_allclose(found.delta, expected, rtol=1e-4, atol=1e-6)


def test_lissa_walks_through_mini_batches_of_the_same_curvature() -> None:
    problem = cases.problem("perceptron with decay")
    solver = Lissa(4000, batch_size=11, chains=1, damp=0.01, scale=20.0)
    found = influence(problem, RemoveSamples([0]), method="if", solver=solver, curvature_of="full")
    H = hessians("perceptron with decay")["full"] + 0.2 * np.eye(problem.space.size)
    np.testing.assert_allclose(found.delta, np.linalg.solve(H, found.gradient), rtol=1e-5)
    assert found.solution.solver_damping == pytest.approx(0.2)


@pytest.mark.parametrize("kind", CURVATURES)
def test_every_curvature_serves_gif(kind: str) -> None:
    problem = cases.problem("perceptron with decay")
    curved = curvature(CHANGE.apply(problem), kind=kind, of="retained")
    found = influence(problem, CHANGE, selected=chosen(problem), curvature=curved, solver=CONVERGED)
    H = curved.H.dense().numpy()
    expected = oracles.update("gif", H, chosen(problem).indices.numpy(), found.gradient.numpy())
    np.testing.assert_allclose(found.delta, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("method", ["if", "gif"])
def test_auto_sets_a_ridge_for_gif_and_damping_for_the_others(method: str) -> None:
    problem = cases.problem("perceptron")
    solution = influence(
        problem, CHANGE, method=method, selected=chosen(problem), damping="auto", solver=LSMR(100)
    ).solution
    lowest = float(np.linalg.eigvalsh(oracles.hessian(CHANGE.apply(problem)))[0])
    if method == "gif":
        assert solution.damping == 0
        assert solution.ridge > 0
        assert "ridge" in solution.auto[0]
    else:
        assert solution.damping > -lowest
        assert "damping" in solution.auto[0]


def test_an_automatic_damping_leaves_the_data_no_negative_curvature() -> None:
    """Weight decay is not counted against it: H - wd I + damping I has none, by a tenth."""
    problem, wd = cases.problem("perceptron with decay"), 0.3
    assert problem.weight_decay == wd
    nu = wd - float(np.linalg.eigvalsh(oracles.hessian(problem))[0])
    assert nu > 1e-3
    for solver in (LSMR(100), Dense()):
        solution = influence(
            problem, CHANGE, method="if", curvature_of="full", damping="auto", solver=solver
        ).solution
        assert 1.05 * nu < solution.damping < 1.2 * nu + 1e-6


def test_an_automatic_ridge_reaches_every_solver_that_takes_one_and_the_others_say_so() -> None:
    problem = cases.problem("perceptron")
    for solver in (Dense(), Neumann(5), PLissa(5), MINRES(5), LSMR(5)):
        solution = influence(
            problem, CHANGE, selected=chosen(problem), damping="auto", solver=solver
        ).solution
        able = not isinstance(solver, Neumann | PLissa)
        assert (solution.ridge > 0) == able
        assert solution.auto[0].startswith("ridge = eps" if able else "no ridge: ")


@pytest.mark.parametrize("solver", [LSMR(15, ridge=0.1), Dense(ridge=0.1)])
@pytest.mark.parametrize("method", ["if", "hyperinf"])
def test_a_ridge_that_a_method_does_not_take_is_said(method: str, solver: Any) -> None:
    problem = cases.problem("perceptron with decay")
    solution = influence(
        problem, CHANGE, method=method, selected=chosen(problem), solver=solver
    ).solution
    assert solution.ridge == 0
    assert "the ridge 0.1 is for gif" in solution.notes[-1]


def test_dense_knows_both_ends_of_the_spectrum() -> None:
    problem = cases.problem("perceptron")
    found = influence(problem, CHANGE, method="if", solver=Dense(), damping=0.1).solution
    eigenvalues = np.linalg.eigvalsh(oracles.hessian(CHANGE.apply(problem))) + 0.1
    assert found.lambda_max == pytest.approx(eigenvalues[-1], rel=1e-8)
    assert found.lambda_min == pytest.approx(eigenvalues[0], rel=1e-8)


def test_gauss_newton_of_a_loss_that_is_not_convex_is_not_said_to_be_semidefinite() -> None:
    """The share of the other classes, 1 - p: beyond -lambda_min, as for any indefinite matrix."""

    def missed(outputs: torch.Tensor, batch: Any) -> torch.Tensor:
        return 1 - outputs.softmax(1).gather(1, batch[1][:, None])[:, 0]

    plain = cases.problem("perceptron")
    problem = Problem(plain.model, plain.train, loss=missed)
    found = influence(problem, CHANGE, method="if", curvature="ggn", damping="auto").solution
    G = curvature(CHANGE.apply(problem), kind="ggn").H.dense().numpy()
    lowest = float(np.linalg.eigvalsh(G)[0])
    assert lowest < -1e-3
    assert found.damping > -lowest
    assert "indefinite" in found.auto[0]


def test_everything_selected_is_said_where_it_matters() -> None:
    problem = cases.problem("perceptron with decay")
    everything = selection(problem.space, torch.arange(problem.space.size))
    for method, said in (("gif", True), ("freeze", True), ("if", False), ("gradient", False)):
        found = influence(problem, CHANGE, method=method, selected=everything, solver=LSMR(5))
        assert any("Every parameter is selected" in n for n in found.solution.notes) == said


@pytest.mark.parametrize("method", ["if", "gif", "gradient", "ekfac"])
def test_a_cancel_is_asked_for_once_a_batch(method: str) -> None:
    """Between two reports lies one batch at most: 300 samples are 3 batches of a product."""
    problem = Problem(torch.nn.Linear(3, 3).double(), TensorDataset(*cases.features((3,), 300, 0)))
    reports = []
    found = influence(
        problem, RemoveSamples([0]), method=method, solver=LSMR(20),
        progress=lambda *report: reports.append(report),
    ).solution  # fmt: skip
    assert len(reports) >= 3 * (found.hvps + found.check_hvps)
    queries = Queries(problem.train, [range(300)])
    stop = len(reports) // 2

    def cancel(*_: Any) -> None:
        reports.append(None)
        if len(reports) > stop:
            raise Cancelled("stop")

    reports.clear()
    with pytest.raises(Cancelled):
        influence(problem, RemoveSamples([0]), method=method, solver=LSMR(20), progress=cancel)
    reports.clear()
    with pytest.raises(Cancelled):
        rank(problem, queries, method=method, solver=LSMR(20), progress=cancel)


def test_a_kronecker_preconditioner_leads_to_the_same_solution() -> None:
    problem = cases.problem("perceptron with decay")
    found = influence(
        problem, CHANGE, selected=chosen(problem), solver=LSMR(300, 1e-13, 0, "kronecker")
    )
    H = hessians("perceptron with decay")["retained"]
    expected = oracles.update("gif", H, chosen(problem).indices.numpy(), found.gradient.numpy())
    np.testing.assert_allclose(found.delta, expected, rtol=1e-5, atol=1e-8)
    assert found.solution.preconditioner["kind"] == "kronecker"


def test_rank_stability_is_the_overlap_with_half_the_budget() -> None:
    problem = cases.problem("convolution")
    queries = Queries(cases.queries("convolution"), [[0], [3]])
    found = rank(problem, queries, selected=chosen(problem), solver=LSMR(6, 0, probes=4))
    assert all(0 < s.rank_stability <= 1 for s in found.solutions)
    assert all(s.halfway is None for s in found.solutions)
    one = torch.tensor([5.0, -4.0, 3.0, 0.1, 0.2])
    assert overlap(one, -one, 3) == 1
    assert overlap(one, torch.tensor([5.0, 0.0, 3.0, 4.0, 0.0]), 3) == pytest.approx(2 / 3)
    vectors = [cases.random_vector(problem.space.size, seed) for seed in (0, 1)]
    half = Solution(vectors[0], Status.DIRECT, "by hand", halfway=vectors[1])
    values, stable, _ = score(problem, [half, Solution(vectors[1], Status.DIRECT, "by hand")])
    assert stable[0].rank_stability == overlap(values[0], values[1])
    assert stable[1].rank_stability is None

"""Queries solved in blocks: each as if it had been alone."""

from typing import Any

import numpy as np
import pytest
import torch

from gifcore.block_adjoints import MOST, block_size
from gifcore.curvature import Hessian
from gifcore.curved import curvature
from gifcore.methods import Solver
from gifcore.queries import Queries
from gifcore.scoring import rank
from gifcore.solvers import CG, LSMR, MINRES, Dense
from gifcore.solvers.solution import VECTORS_MB, kept_vectors
from tests import cases
from tests.test_influence import chosen

ROWS: list[tuple[str, Solver, float | str]] = [
    ("if", LSMR(7, 0), 0.0),
    ("if", CG(7, 1e-9), 5.0),
    ("if", MINRES(7, 1e-9, reorthogonalise=3), "auto"),
    ("projected", LSMR(7, 0), 0.3),
    ("freeze", CG(30, 1e-9), 5.0),
    ("freeze", LSMR(7, 1e-9), 0.0),
    ("gif", LSMR(7, 1e-9, probes=4), 0.0),
    ("gif", LSMR(7, 0, ridge=0.2, preconditioner="none"), 0.1),
    ("gif", CG(7, 0), "auto"),
]


@pytest.mark.parametrize(("method", "solver", "damping"), ROWS)
def test_a_block_is_each_query_alone(method: str, solver: Solver, damping: float | str) -> None:
    problem, data = cases.problem("perceptron with decay"), cases.queries("perceptron with decay")
    groups = [[0], [3], [1, 2, 4]]
    given: dict[str, Any] = {
        "method": method, "selected": chosen(problem), "damping": damping, "solver": solver,
    }  # fmt: skip
    assert block_size(method, solver, chosen(problem), problem.theta) == MOST
    block = rank(problem, Queries(data, groups), **given)
    for row, group in enumerate(groups):
        one = rank(problem, Queries(data, [group]), **given)
        torch.testing.assert_close(block.values[row], one.values[0], rtol=1e-8, atol=1e-11)
        found, alone = block.solutions[row], one.solutions[0]
        for name in ("status", "solver", "iterations", "hvps", "check_hvps", "damping", "ridge",
                     "notes", "auto", "judged_by", "preconditioner", "samples",
                     "curvature_of", "rank_stability"):  # fmt: skip
            assert getattr(found, name) == getattr(alone, name), name
        assert found.residual == pytest.approx(alone.residual, rel=1e-5, abs=1e-10)
        assert found.residual_history == pytest.approx(alone.residual_history, abs=1e-8)
        # the extremes are of the products of all queries
        if alone.lambda_max is not None:
            assert found.lambda_max >= alone.lambda_max - 1e-12
            assert found.lambda_min <= alone.lambda_min + 1e-12


def test_blocks_share_the_graphs_that_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, data = cases.problem("perceptron"), cases.queries("perceptron")
    made: list[int] = []
    inner = Hessian._gradient_graph

    def counted(self: Hessian, number: int, part: torch.Tensor) -> object:
        made.append(number)
        return inner(self, number, part)

    monkeypatch.setattr(Hessian, "_gradient_graph", counted)
    counts = []
    for groups in ([[0]], [[0], [1], [2], [3]]):
        made.clear()
        curved = curvature(problem, memory_mb=0)
        rank(problem, Queries(data, groups), method="if", curvature=curved, solver=LSMR(9, 0))
        counts.append(len(made))
    assert counts[1] == counts[0]


def test_a_block_keeps_as_many_krylov_vectors_as_a_query_alone() -> None:
    theta = torch.zeros(400_000)
    for solver in (LSMR(20), LSMR(300), MINRES(20), CG(20, reorthogonalise=5)):
        block = block_size("if", solver, None, theta)
        window = kept_vectors(solver.reorthogonalise, solver.iterations, len(theta), theta)
        numbers = block * len(theta)
        together = kept_vectors(solver.reorthogonalise, solver.iterations, numbers, theta)
        assert together == window
        assert block * window * len(theta) * 4 <= VECTORS_MB * 2**20
    assert block_size("if", LSMR(20), None, theta) == 8
    assert block_size("if", LSMR(300), None, theta) == 1
    assert block_size("if", Dense(), None, torch.zeros(1000)) == VECTORS_MB * 2**20 // 8000
    for method, given in (("hyperinf", Dense()), ("gradient", LSMR()), ("ekfac", LSMR())):
        assert block_size(method, given, None, theta[:10]) == 1


@pytest.mark.parametrize("damping", [0.0, 0.3, "auto"])
@pytest.mark.parametrize("method", ["if", "projected", "freeze", "gif"])
def test_dense_queries_share_one_decomposition(
    method: str, damping: float | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, data = cases.problem("perceptron with decay"), cases.queries("perceptron with decay")
    groups = [[0], [3], [1, 2, 4]]
    decomposed: list[int] = []
    inner = np.linalg.svd

    def counted(*args: Any, **options: Any) -> object:
        decomposed.append(1)
        return inner(*args, **options)

    monkeypatch.setattr(np.linalg, "svd", counted)
    given: dict[str, Any] = {
        "method": method, "selected": chosen(problem), "damping": damping, "solver": Dense(),
    }  # fmt: skip
    block = rank(problem, Queries(data, groups), **given)
    assert len(decomposed) == 1
    for row, group in enumerate(groups):
        one = rank(problem, Queries(data, [group]), **given)
        torch.testing.assert_close(block.values[row], one.values[0], rtol=1e-9, atol=1e-12)
        found, alone = block.solutions[row], one.solutions[0]
        for name in ("status", "damping", "ridge", "auto", "check_hvps"):
            assert getattr(found, name) == getattr(alone, name), name

"""Queries solved in blocks: each as if it had been alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gifcore import query_solves, run_state
from gifcore.block_adjoints import MOST, block_size
from gifcore.curvature import Hessian
from gifcore.curved import curvature
from gifcore.errors import Cancelled
from gifcore.methods import Solver
from gifcore.queries import Queries
from gifcore.scoring import rank
from gifcore.solvers import CG, LSMR, MINRES, Dense
from gifcore.solvers.solution import VECTORS_MB, kept_vectors
from gifcore.study import Study, parse
from tests import cases
from tests.test_influence import chosen
from tests.test_runner import TINY, run

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
        "method": method, "selected": chosen(problem), "solver": solver,
        "curvature": curvature(problem, damping=damping, memory_mb=0),
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
        # the extremes are of the products of all queries of a block; the last products of a solve
        # that came to its end are of rounding
        if alone.lambda_max is not None and alone.residual > 1e-9:
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
    assert counts[1] == 2 * counts[0]  # the first alone, the other three as one


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
    decomposed: list[str] = []

    def counted(name: str) -> Any:
        inner = getattr(np.linalg, name)

        def call(*args: Any, **options: Any) -> object:
            decomposed.append(name)
            return inner(*args, **options)

        return call

    for name in ("svd", "eigh"):
        monkeypatch.setattr(np.linalg, name, counted(name))
    given: dict[str, Any] = {
        "method": method, "selected": chosen(problem), "damping": damping, "solver": Dense(),
    }  # fmt: skip
    block = rank(problem, Queries(data, groups), **given)
    before = ["eigh"] * (damping == "auto")  # of Lanczos' small matrix
    assert decomposed == [*before, "svd" if method == "gif" else "eigh"]
    for row, group in enumerate(groups):
        one = rank(problem, Queries(data, [group]), **given)
        torch.testing.assert_close(block.values[row], one.values[0], rtol=1e-9, atol=1e-12)
        found, alone = block.solutions[row], one.solutions[0]
        for name in ("status", "damping", "ridge", "auto", "check_hvps"):
            assert getattr(found, name) == getattr(alone, name), name


# --- in a study ----------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_mb", [512, 0])
def test_a_study_solves_in_blocks_where_graphs_are_made_anew(
    memory_mb: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first query goes alone, the rest together; where all graphs are kept, each alone."""
    sizes: list[int] = []
    together = query_solves.adjoints_together

    def counted(problem: Any, gradients: list[torch.Tensor], **options: Any) -> object:
        sizes.append(len(gradients))
        return together(problem, gradients, **options)

    monkeypatch.setattr(query_solves, "adjoints_together", counted)
    record = run(ranked(memory_mb=memory_mb), tmp_path, "x")
    assert sizes == ([] if memory_mb else [3, 4])  # if: one alone first; gif: of the same matrix
    kept = run(ranked(memory_mb=512), tmp_path, "y")
    for method in ("if", "gif"):
        certificates, expected = (
            one.info["methods"][method]["query_certificates"] for one in (record, kept)
        )
        assert certificates.keys() == expected.keys()
        for query, certificate in certificates.items():
            for name in ("status", "iterations", "hvps", "solver", "samples", "rank_stability"):
                assert certificate[name] == expected[query][name], name
            assert certificate["residual"] == pytest.approx(expected[query]["residual"], rel=1e-3)
            one, other = (r.scores(method, int(query)).sort_values("train_index") for r in
                          (record, kept))  # fmt: skip
            far = np.linalg.norm(one["influence"].to_numpy() - other["influence"].to_numpy())
            assert far < 1e-4 * np.linalg.norm(other["influence"])


def test_a_cancelled_block_leaves_the_blocks_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_state, "WRITE_EVERY", 0)
    study, seen = ranked(memory_mb=0), []

    def stop(state: dict[str, Any]) -> None:
        note = next(s["note"] for s in state["stages"] if s["name"] == "solve")
        seen.append(note)
        if note.startswith("GIF for") and "more" in note:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        run(study, tmp_path, "x", listen=stop)
    assert any(note == "IF for image 7 and 2 more" for note in seen)
    parts = {path.stem for path in (tmp_path / "x").glob(".stages/*/solve-*.npz")}
    assert parts == {f"solve-if-{q}" for q in (3, 7, 11, 12)}
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "x").glob(".stages/*/solve-*")}
    again: list[dict[str, int]] = []

    def watch(_: dict[str, Any]) -> None:
        parts = (tmp_path / "x").glob(".stages/*/solve-*.npz")
        again.append({p.name: p.stat().st_mtime_ns for p in parts})

    resumed = run(study, tmp_path, "x", listen=watch)
    assert any(before.items() <= parts.items() and len(parts) == 8 for parts in again)
    fresh = run(study, tmp_path / "elsewhere", "y")
    for query in (3, 12):
        one, other = (r.scores("gif", query)["influence"] for r in (resumed, fresh))
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-9)


def ranked(memory_mb: int) -> Study:
    """Four queries by two methods, of a matrix of two batches."""
    return parse(
        TINY
        | {
            "curvature": {"samples": 100, "batch_size": 64, "memory_mb": memory_mb},
            "ranking": {"queries": [3, 7, 11, 12]},
            "edit": {"enabled": False},
        }
    )

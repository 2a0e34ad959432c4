"""Recall and agreement: against counting by hand, ties, candidates, and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from gifcore.curved import curvature
from gifcore.errors import GifError
from gifcore.neighbors import CRITERIA, rank_correlation, recall, recall_table, solve_agreement
from gifcore.scoring import Queries, rank
from gifcore.solvers import MINRES
from tests import cases, oracles


def scores(n: int, seed: int, rows: int | None = None) -> Tensor:
    """Rounded, so that many are equal."""
    shape = (n,) if rows is None else (rows, n)
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * 4).round() / 4


def top(values: list[float], criterion: str, m: int, among: list[int]) -> set[int]:
    """The best m columns by hand: by what the criterion asks for, then by column."""
    sign = {"helpful": -1, "harmful": 1, "largest": -1, "smallest": 1}[criterion]
    key = abs if criterion in ("largest", "smallest") else float
    return set(sorted(among, key=lambda i: (sign * key(values[i]), i))[:m])


@pytest.mark.parametrize("m", [1, 4, 10, 30])
@pytest.mark.parametrize("k", [3, 12, 30])
def test_recall_is_the_overlap_counted_by_hand(m: int, k: int) -> None:
    exact, approximate = scores(30, 1), scores(30, 2) + 2 * scores(30, 1)
    candidates = torch.randperm(30, generator=torch.Generator().manual_seed(3))[:k].tolist()
    masked = torch.full((30,), torch.nan, dtype=torch.float64)
    masked[candidates] = approximate[candidates]
    found = recall(masked, exact, m)
    assert list(found) == list(CRITERIA)
    for criterion, share in found.items():
        best = top(exact.tolist(), criterion, m, list(range(30)))
        guess = top(approximate.tolist(), criterion, m, candidates)
        assert share == pytest.approx(len(best & guess) / m)


def test_with_exact_scores_it_is_the_papers_recall() -> None:
    """|top m ∩ candidates| / m, whatever m and k."""
    exact = scores(40, 4)
    for k in (2, 15, 40):
        candidates = list(range(0, 40, 40 // k))[:k]
        masked = torch.full((40,), torch.nan, dtype=torch.float64)
        masked[candidates] = exact[candidates]
        for m in (1, 5, 20):
            for criterion, share in recall(masked, exact, m).items():
                best = top(exact.tolist(), criterion, m, list(range(40)))
                assert share == pytest.approx(len(best & set(candidates)) / m)


def test_the_four_criteria_are_told_apart() -> None:
    exact = torch.tensor([-9.0, -0.1, 0.2, 5.0])
    for criterion, column in {"helpful": 3, "harmful": 0, "largest": 0, "smallest": 1}.items():
        only = torch.full((4,), torch.nan)
        only[column] = 1.0
        found = recall(only, exact, 1)
        assert found[criterion] == 1.0
    assert recall(-exact, exact, 1) == {
        "helpful": 0.0, "harmful": 0.0, "largest": 1.0, "smallest": 1.0,
    }  # fmt: skip
    assert set(recall(torch.full((4,), torch.nan), exact, 2).values()) == {0.0}


@pytest.mark.parametrize(
    ("approximate", "exact", "m", "sentence"),
    [
        (torch.zeros(3), torch.zeros(4), 1, r"shape \(3,\) cannot be compared with \(4,\)"),
        (torch.zeros(4), torch.zeros(4), 5, "choose 1 … 4"),
        (torch.zeros(4), torch.zeros(4), 0, "choose 1 … 4"),
        (torch.zeros(2), torch.tensor([0.0, torch.nan]), 1, "exact scores hold NaN"),
    ],
)
def test_what_has_no_recall(approximate: Tensor, exact: Tensor, m: int, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        recall(approximate, exact, m)


# --- the table -----------------------------------------------------------------------------------


def test_the_table_is_the_mean_of_recalls_over_queries() -> None:
    exact, approximate, control = (scores(25, seed, rows=3) for seed in (1, 2, 3))
    approximate = approximate + exact
    generator = torch.Generator().manual_seed(5)
    nearest = torch.stack([torch.randperm(25, generator=generator) for _ in range(3)])
    correct = [True, False, True]
    table = recall_table(
        exact, approximate, control, nearest, correct=correct, depths=(2, 7), counts=(4, 25)
    )
    assert len(table) == 3 * 4 * 2 * 2
    members = {"all": [0, 1, 2], "correct": [0, 2], "wrong": [1]}
    for row in table:
        queries = members[row.predictions]
        assert row.queries == len(queries)
        for name, values in (("kept", exact), ("found", approximate), ("control", control)):
            shares = []
            for q in queries:
                masked = torch.full((25,), torch.nan, dtype=torch.float64)
                candidates = nearest[q, : row.k]
                masked[candidates] = values[q, candidates]
                shares.append(recall(masked, exact[q], row.m)[row.criterion])
            assert getattr(row, name) == pytest.approx(np.mean(shares)), (row, name)
        if row.k == 25:
            assert row.kept == 1.0


def test_m_and_k_follow_the_paper_as_far_as_there_are_samples() -> None:
    exact = scores(120, 1, rows=1)
    nearest = torch.arange(120)[None]
    table = recall_table(exact, exact, exact, nearest, correct=[True])
    assert {(row.m, row.k) for row in table} == {(m, k) for m in (10, 100) for k in (10, 100, 120)}
    assert {row.predictions for row in table} == {"all", "correct"}  # no query is wrong
    assert {row.k for row in recall_table(exact, exact, exact, nearest[:, :50])} == {10, 50}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"nearest": torch.arange(9)[None]}, "one row for each of 2"),
        ({"correct": [True]}, "one for each of 2 queries"),
        ({"counts": [10]}, "choose 1 … 9"),
        ({"counts": []}, "choose 1 … 9"),
        ({"depths": [10]}, "choose 1 … 9"),
        ({"control": scores(8, 0, rows=2)}, "cannot be compared"),
        ({"approximate": torch.full((2, 9), torch.nan)}, "hold NaN or infinity"),
    ],
)
def test_tables_of_what_does_not_go_together(change: dict[str, object], sentence: str) -> None:
    given = {name: scores(9, 0, rows=2) for name in ("exact", "approximate", "control")}
    with pytest.raises(GifError, match=sentence):
        recall_table(**(given | {"nearest": torch.arange(9).repeat(2, 1)} | change))


# --- agreement -----------------------------------------------------------------------------------


def test_rank_correlation_is_spearmans() -> None:
    one, other = scores(50, 1), scores(50, 1) + scores(50, 2)
    expected = stats.spearmanr(one, other).statistic
    assert rank_correlation(one, other) == pytest.approx(expected)
    assert rank_correlation(one, -one.exp()) == pytest.approx(-1)
    assert math.isnan(rank_correlation(one, torch.zeros(50)))


def test_a_solve_agrees_with_the_converged_one_as_it_goes_on() -> None:
    problem = cases.problem("perceptron with decay")
    queries = Queries(cases.queries("perceptron with decay"), [[0]])
    curved = curvature(problem, damping=0.3)

    def solve(method: str, solver: object = None) -> Tensor:
        found = rank(problem, queries, method=method, curvature=curved, solver=solver)
        return found.solutions[0].value

    converged, gradient = solve("if", MINRES(200, 1e-12)), solve("gradient")
    cheap = [solve("if", MINRES(iterations, 0)) for iterations in (2, 6)]
    far, near = (solve_agreement(problem, s, converged, gradient) for s in cheap)
    assert near.error < far.error
    assert near.cosine > far.cosine > far.control_cosine
    gradients = oracles.train_gradients(problem)
    for s, found in zip(cheap, (far, near), strict=True):
        rows = [gradients @ v.numpy() for v in (s, converged, gradient)]
        assert found.spearman == pytest.approx(stats.spearmanr(rows[0], rows[1]).statistic)
        assert found.control_spearman == pytest.approx(stats.spearmanr(rows[2], rows[1]).statistic)
        cosine = s @ converged / (s.norm() * converged.norm())
        assert found.cosine == pytest.approx(float(cosine))
        assert found.error == pytest.approx(float((s - converged).norm() / converged.norm()))
    some = torch.tensor([0, 3, 4, 9])
    few = solve_agreement(problem, cheap[0], converged, gradient, samples=some)
    rows = [gradients[some] @ v.numpy() for v in (cheap[0], converged)]
    assert few.spearman == pytest.approx(stats.spearmanr(*rows).statistic)
    with pytest.raises(GifError, match="zero or not finite"):
        solve_agreement(problem, 0 * gradient, converged, gradient)

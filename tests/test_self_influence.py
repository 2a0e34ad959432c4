"""Self-influence of every way against dense formulas, one sample at a time, and real refits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from gifcore import closed_self
from gifcore.change import RemoveSamples
from gifcore.checkpoints import Checkpoint
from gifcore.errors import Cancelled, GifError
from gifcore.problem import Problem
from gifcore.queries import Queries
from gifcore.scoring import rank
from gifcore.selection import Selection
from gifcore.self_influence import self_influence
from gifcore.solvers import Dense
from tests import cases, curvature_oracles, oracles
from tests.test_influence import CONVERGED, chosen, refitted

NAMES = ("convolution", "depthwise and group norm", "unused parameters", "dict batches")
DAMPING = 0.2


def expected(problem: Problem, B: np.ndarray) -> np.ndarray:
    """(B g_i) . (g_i - mean) w_i / (W - w_i) of every sample, in a loop; B (p, p)."""
    G = oracles.train_gradients(problem)
    w = np.ones(len(G)) if problem.weights is None else problem.weights.numpy()
    mean = w @ G / w.sum()
    return np.array([(B @ g) @ (g - mean) * v / (w.sum() - v) for g, v in zip(G, w, strict=True)])


def adjoints(method: str, problem: Problem, J: np.ndarray) -> np.ndarray:
    """The matrix g_q -> s_q, column by column."""
    H, p = oracles.hessian(problem), problem.space.size
    return np.stack([oracles.adjoint(method, H, J, e) for e in np.eye(p)], axis=1)


def everything(problem: Problem) -> np.ndarray:
    return np.arange(problem.space.size)


@pytest.mark.parametrize("on_selection", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_gradient(name: str, on_selection: bool) -> None:
    problem = cases.problem(name)
    selected = chosen(problem) if on_selection else None
    found = self_influence(problem, method="gradient", selected=selected, batch_size=4)
    J = chosen(problem).indices.numpy() if on_selection else everything(problem)
    E = oracles.embedding(J, problem.space.size)
    np.testing.assert_allclose(found.values, expected(problem, E @ E.T), rtol=1e-9, atol=1e-12)
    assert found.way == "closed form"
    assert found.info["exact"]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("on_selection", [True, False])
def test_datainf(on_selection: bool, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = cases.problem("convolution")
    if weighted:
        problem = replace(problem, weights=1.0 + torch.arange(13).double() % 4)
    samples, p = problem.positions.tolist(), problem.space.size
    J = chosen(problem).indices.numpy() if on_selection else everything(problem)
    G = curvature_oracles.gradients(problem, samples)
    cut = np.zeros_like(G)
    cut[:, J] = G[:, J]
    inverse = curvature_oracles.datainf_inverse(
        cut, curvature_oracles.shares(problem, samples),
        list(curvature_oracles.modules(problem).values()), DAMPING + problem.weight_decay,
    )  # fmt: skip
    E = oracles.embedding(J, p)
    for megabytes in (256, 5 * len(J) * 8 / 2**20):  # in one chunk; 5 curvature samples at a time
        monkeypatch.setattr(closed_self, "CHUNK_MB", megabytes)
        found = self_influence(
            problem, method="datainf", selected=chosen(problem) if on_selection else None,
            damping=DAMPING, batch_size=4,
        )  # fmt: skip
        np.testing.assert_allclose(
            found.values, expected(problem, E @ E.T @ inverse @ E @ E.T), rtol=1e-8, atol=1e-12
        )


@pytest.mark.parametrize("which", ["all", "some", "rows", "costly"])
def test_ekfac(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A squared loss: its factors are at the true labels, as the oracle's are."""
    problem = cases.problem("squared loss")
    p = problem.space.size
    rows = np.array([0, 1, 2, 3, 4, 5, 12, 13])  # two units' weights and biases, and two more
    J = {"all": everything(problem), "rows": rows}.get(which, chosen(problem).indices.numpy())
    F = curvature_oracles.ekfac(problem, problem.positions.tolist())
    F = F + (DAMPING + problem.weight_decay) * np.eye(p)
    E = oracles.embedding(J, p)
    B = E @ np.linalg.solve(E.T @ F @ E, E.T)
    if which == "costly":  # no cut of the curvature: the inverse is cut
        monkeypatch.setattr("gifcore.curvature.kronecker.LEFTOVER", 0)
        B = np.linalg.solve(F, E @ E.T)
    selected = Selection(torch.from_numpy(J), problem.space, "by hand", 0.1, 0)
    found = self_influence(
        problem, method="ekfac", selected=None if which == "all" else selected, damping=DAMPING,
        batch_size=4,
    )  # fmt: skip
    np.testing.assert_allclose(found.values, expected(problem, B), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("on_selection", [True, False])
@pytest.mark.parametrize("method", ["if", "projected", "freeze", "gif"])
def test_dense(method: str, on_selection: bool) -> None:
    problem = cases.problem("convolution")
    J = chosen(problem).indices.numpy() if on_selection else everything(problem)
    found = self_influence(
        problem, method=method, selected=chosen(problem) if on_selection else None, solver=Dense()
    )
    truth = expected(problem, adjoints(method, problem, J))
    np.testing.assert_allclose(found.values, truth, rtol=1e-6, atol=1e-10)
    assert (found.way, len(found.solutions)) == ("dense", 0)


def test_dense_with_a_ridge_and_with_what_the_spectrum_calls_for() -> None:
    """As `rank` has it on its diagonal."""
    problem = cases.problem("convolution")
    queries, few = Queries(problem.train, [[11], [4]]), torch.tensor([11, 4])
    for method, damping, ridge in (("gif", 0.1, 0.3), ("gif", "auto", 0.0), ("if", "auto", 0.0)):
        given = {"method": method, "selected": chosen(problem), "damping": damping}
        solver = Dense(ridge=ridge)
        found = self_influence(problem, solver=solver, positions=few, **given)
        ranked = rank(problem, queries, solver=solver, **given).values
        diagonal = torch.stack([ranked[0, 11], ranked[1, 4]])
        torch.testing.assert_close(found.values, diagonal, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("method", ["if", "gif"])
def test_listed_samples_are_solved_one_by_one(method: str) -> None:
    problem = cases.problem("convolution")
    few = torch.tensor([7, 2, 12])
    found = self_influence(
        problem, method=method, selected=chosen(problem), solver=CONVERGED, positions=few
    )
    truth = expected(problem, adjoints(method, problem, chosen(problem).indices.numpy()))
    np.testing.assert_allclose(found.values, truth[few], rtol=1e-5, atol=1e-8)
    assert found.train_indices.tolist() == [7, 2, 12]
    assert (found.way, len(found.solutions)) == ("solves", 3)


@pytest.mark.parametrize("method", ["if", "gif", "freeze"])
def test_a_sketch_with_as_many_numbers_as_parameters_is_exact(method: str) -> None:
    x, y = cases.features((2,), 40, seed=0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, cases.CLASSES)).double()
    problem = Problem(model, TensorDataset(x, y), weight_decay=0.3)
    p, given = problem.space.size, {"method": method, "selected": chosen(problem)}
    found = self_influence(problem, solver=CONVERGED, rank=p, damping=0.5, **given)
    exact = self_influence(problem, solver=Dense(), damping=0.5, **given)
    torch.testing.assert_close(found.values, exact.values, rtol=1e-5, atol=1e-9)
    assert found.info["median_relative_error"] < 1e-5
    assert (found.way, found.info["rank"], found.info["exact"]) == ("sketch", p, False)
    small = self_influence(problem, solver=CONVERGED, rank=3, damping=0.5, **given)
    assert small.info["median_relative_error"] > 1e-3
    assert f"rank 3 of {p}" in small.info["words"]


def test_over_checkpoints_it_is_their_sum() -> None:
    problem = cases.problem("convolution")
    points = [Checkpoint(problem.theta, 0.1, 3), Checkpoint(0.5 * problem.theta, 0.2, 4)]
    given = {"selected": chosen(problem)}
    found = self_influence(problem, method="tracin", checkpoints=points, **given).values
    parts = [
        point.rate * point.steps
        * self_influence(point.problem(problem), method="gradient", **given).values
        for point in points
    ]  # fmt: skip
    torch.testing.assert_close(found, parts[0] + parts[1])


def test_it_predicts_what_a_refit_without_the_sample_does_to_it() -> None:
    x, _ = cases.features((4,), 150, seed=1)
    y = x[:, :3].argmax(dim=1)
    y[8:14] = (y[8:14] + 1) % 3  # wrong labels
    problem = refitted(Problem(nn.Linear(4, 3).double(), TensorDataset(x, y), weight_decay=0.1))
    values = self_influence(problem, method="if", solver=Dense()).values
    base = oracles.theta_of(problem)
    for i in (8, 11, int(values.median(dim=0).indices)):
        theta = torch.from_numpy(oracles.refit(RemoveSamples([i]).apply(problem)))
        before, after = (oracles.sample_loss(problem, t, problem.train[i]) for t in (base, theta))
        assert float(values[i]) == pytest.approx(float(after - before), rel=0.2)
    assert float(values[8:14].median()) > 2 * float(values.median())


def test_what_cannot_be_had() -> None:
    problem = cases.problem("convolution")
    x, y = cases.features((3,), 203, seed=3)
    many = Problem(cases.perceptron().double(), TensorDataset(x, y))
    for given, words in (
        ({"method": "gif"}, "203 samples by gif would be 203 solves; list up to 200 positions"),
        ({"method": "second-order"}, "ranks no samples"),
        ({"method": "if", "rank": 0}, "rank is 0"),
        ({"method": "if", "solver": Dense(limit=3)}, "dense solve takes a system of up to 3"),
        ({"method": "tracin"}, "needs checkpoints"),
        ({"positions": torch.tensor([203])}, "no training sample 203"),
        ({"positions": torch.tensor([0.5])}, "whole numbers"),
        ({"positions": torch.tensor([], dtype=torch.int64)}, "one or more"),
    ):
        with pytest.raises(GifError, match=words):
            self_influence(many, **given)
    with pytest.raises(GifError, match="two or more"):
        self_influence(problem.narrowed(torch.tensor([1])))

    def cancel(_done: int, _total: int, note: str) -> None:
        if note == "self-influence":
            raise Cancelled

    with pytest.raises(Cancelled):
        self_influence(problem, progress=cancel)

"""Exact truth: what the engine predicts against models that were really fitted again.

Ridge regression is quadratic: one Newton step on L' from the minimiser of L is the minimiser of L',
so `if` with the curvature of L' must give the closed-form refit of any change. Logistic regression
is not: there a ranking is right to first order, and how right depends on n / p.
"""

from collections.abc import Callable
from functools import cache, reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from gifcore.change import AddSamples, Change, Relabel, RemoveClass, RemoveSamples, Reweight
from gifcore.curvature import Hessian
from gifcore.curved import Curved
from gifcore.influence import influence
from gifcore.problem import Problem
from gifcore.scoring import Queries, rank
from gifcore.solvers import MINRES
from tests import oracles

EXACT = MINRES(200, 1e-15)

# --- ridge regression ----------------------------------------------------------------------------

N, D, OUTPUTS = 40, 4, 2


class Rows(NamedTuple):
    """Samples written out: inputs with a 1 for the bias, targets, weights."""

    X: np.ndarray  # (n, D + 1)
    Y: np.ndarray  # (n, OUTPUTS)
    w: np.ndarray  # (n,)


def half_square_error(outputs: Tensor, batch: Any) -> Tensor:
    return 0.5 * (outputs - batch[1]).square().sum(1)


def ridge_fit(rows: Rows, wd: float) -> np.ndarray:
    """argmin sum w_i |Theta x_i - y_i|^2 / (2 sum w) + wd/2 |Theta|^2, flat as in the model."""
    s = rows.w / rows.w.sum()
    G = rows.X.T @ (s[:, None] * rows.X) + wd * np.eye(D + 1)
    theta = np.linalg.solve(G, rows.X.T @ (s[:, None] * rows.Y)).T  # (OUTPUTS, D + 1)
    return np.concatenate([theta[:, :D].ravel(), theta[:, D]])


def regression(n: int, seed: int) -> Rows:
    generator = np.random.default_rng(seed)
    X = np.c_[generator.normal(size=(n, D)), np.ones(n)]
    X[: n // 8, :D] *= 3  # a few of high leverage
    Y = X @ generator.normal(size=(D + 1, OUTPUTS)) + generator.normal(size=(n, OUTPUTS))
    return Rows(X, Y, np.ones(n))


def dataset(rows: Rows) -> TensorDataset:
    return TensorDataset(torch.from_numpy(rows.X[:, :D]), torch.from_numpy(rows.Y))


def with_parameters(model: nn.Module, theta: np.ndarray) -> nn.Module:
    nn.utils.vector_to_parameters(torch.from_numpy(theta), model.parameters())
    return model


@cache
def ridge(wd: float) -> tuple[Problem, Rows]:
    """A ridge regression at its minimum."""
    rows = regression(N, seed=0)
    model = with_parameters(nn.Linear(D, OUTPUTS).double(), ridge_fit(rows, wd))
    return Problem(model, dataset(rows), half_square_error, wd), rows


def leverage(rows: Rows) -> np.ndarray:
    X = rows.X
    return np.einsum("nd,de,ne->n", X, np.linalg.inv(X.T @ X), X)


HIGH = np.argsort(leverage(regression(N, seed=0)))[-4:].tolist()
NEW = regression(7, seed=1)
MOVED, TARGETS = [3, 11, 30], np.array([[2.0, -1.0], [0.0, 5.0], [-3.0, 0.5]])
WEIGHED, WEIGHTS = [2, 11, 25, 39], np.array([0.1, 4.0, 2.5, 0.7])


def without(rows: Rows, gone: list[int]) -> Rows:
    return Rows(*(np.delete(a, gone, axis=0) for a in rows))


def moved(rows: Rows) -> Rows:
    Y = rows.Y.copy()
    Y[MOVED] = TARGETS
    return rows._replace(Y=Y)


def weighed(rows: Rows) -> Rows:
    w = rows.w.copy()
    w[WEIGHED] = WEIGHTS
    return rows._replace(w=w)


def more(rows: Rows) -> Rows:
    return Rows(*(np.concatenate([a, b]) for a, b in zip(rows, NEW, strict=True)))


RELABEL, REWEIGHT = Relabel(MOVED, TARGETS.tolist()), Reweight(WEIGHED, WEIGHTS.tolist())
ADD = AddSamples(dataset(NEW))

# name -> (change, the rows of L' by hand)
CHANGES: dict[str, tuple[Change, Callable[[Rows], Rows]]] = {
    "remove one": (RemoveSamples([17]), lambda r: without(r, [17])),
    "remove 10 %": (RemoveSamples([0, 9, 21, 38]), lambda r: without(r, [0, 9, 21, 38])),
    "remove high leverage": (RemoveSamples(HIGH), lambda r: without(r, HIGH)),
    "remove all but 8": (RemoveSamples(range(32)), lambda r: without(r, list(range(32)))),
    "relabel": (RELABEL, moved),
    "reweight": (REWEIGHT, weighed),
    "add": (ADD, more),
    "union": (
        RemoveSamples([0, 9, 21]) | RELABEL | REWEIGHT | ADD,
        lambda r: without(more(weighed(moved(r))), [0, 9, 21]),
    ),
}


def curved(objective: Problem) -> Curved:
    """The curvature of L as the weighted sum of one operator a sample."""
    shares = objective.shares()
    parts = [float(shares[i]) * Hessian(objective, i[None]) for i in objective.positions]
    return Curved(reduce(add, parts), objective.positions, 0.0, "retained")


@pytest.mark.parametrize("wd", [0.0, 0.3])
@pytest.mark.parametrize("name", CHANGES)
def test_ridge_if_with_the_curvature_of_the_new_objective_is_the_refit(
    name: str, wd: float
) -> None:
    problem, rows = ridge(wd)
    change, by_hand = CHANGES[name]
    expected = ridge_fit(by_hand(rows), wd)
    before = problem.theta.numpy()
    assert np.linalg.norm(expected - before) > 1e-3  # there is something to predict
    changed = change.apply(problem)
    for curvature in ("hessian", curved(changed)):
        result = influence(
            problem, change, method="if", curvature_of="retained", curvature=curvature,
            solver=EXACT,
        )  # fmt: skip
        np.testing.assert_allclose(before + result.delta.numpy(), expected, rtol=0, atol=1e-8)


def test_ridge_a_class_is_removed_exactly() -> None:
    """RemoveClass where a target is a class number: the same half squared error."""
    problem, rows = ridge(0.3)
    y = torch.arange(N) % 3

    def to_class(outputs: Tensor, batch: Any) -> Tensor:
        return 0.5 * (outputs - batch[1][:, None]).square().sum(1)

    numbers = np.repeat(y.numpy()[:, None], OUTPUTS, axis=1).astype(float)
    fitted = ridge_fit(rows._replace(Y=numbers), 0.3)
    model = with_parameters(nn.Linear(D, OUTPUTS).double(), fitted)
    data = TensorDataset(problem.train.tensors[0], y)
    result = influence(
        Problem(model, data, to_class, 0.3), RemoveClass(2), method="if", solver=EXACT
    )
    gone = (y == 2).nonzero().flatten().tolist()
    expected = ridge_fit(without(rows._replace(Y=numbers), gone), 0.3)
    np.testing.assert_allclose(fitted + result.delta.numpy(), expected, rtol=0, atol=1e-8)


def test_ridge_with_the_curvature_of_the_old_objective_is_only_near() -> None:
    """What `curvature_of` is for: H of L leaves the second-order part of the move out."""
    problem, rows = ridge(0.3)
    for name in ("remove 10 %", "remove high leverage", "add"):
        change, by_hand = CHANGES[name]
        expected = ridge_fit(by_hand(rows), 0.3) - problem.theta.numpy()
        result = influence(problem, change, method="if", curvature_of="full", solver=EXACT)
        error = np.linalg.norm(result.delta.numpy() - expected) / np.linalg.norm(expected)
        assert 1e-3 < error < 0.7


# --- logistic regression -------------------------------------------------------------------------

DECAY, QUERIES, POINTS = 0.1, 5, 100


def logistic(outputs: Tensor, batch: Any) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(
        outputs.flatten(), batch[1], reduction="none"
    )


def logistic_fits(X: np.ndarray, y: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, float]:
    """The minimiser for each row of weights w (r, n), by Newton's method side by side: (r, p).

    And the largest distance to the true one: the gradient's norm over DECAY, as H >= DECAY I.
    """
    s = w / w.sum(axis=1, keepdims=True)
    theta = np.zeros((len(w), X.shape[1]))
    for _ in range(40):
        P = 1 / (1 + np.exp(-theta @ X.T))
        g = (s * (P - y)) @ X + DECAY * theta
        if np.linalg.norm(g, axis=1).max() < 1e-12:
            break
        H = np.einsum("rn,nd,ne->rde", s * P * (1 - P), X, X, optimize=True)
        step = np.linalg.solve(H + DECAY * np.eye(X.shape[1]), g[..., None])
        theta -= step[..., 0]
    left = np.linalg.norm(g, axis=1).max()
    assert left < 1e-8, "the oracle itself did not converge"
    return theta, float(left) / DECAY


class Truth(NamedTuple):
    """Scores of up to 100 samples and what their removal really does, each (QUERIES, r)."""

    scores: np.ndarray
    changes: np.ndarray
    floor: float  # of the changes' own precision, in nats

    @property
    def slope(self) -> float:
        """Of the change against the score: median over queries."""
        pairs = zip(self.scores, self.changes, strict=True)
        return float(np.median([np.polyfit(a, b, 1)[0] for a, b in pairs]))

    @property
    def pearson(self) -> float:
        """Median over queries."""
        pairs = zip(self.scores, self.changes, strict=True)
        return float(np.median([np.corrcoef(a, b)[0, 1] for a, b in pairs]))


@cache
def truth(p: int, n: int, seed: int, spread: float = 1.0) -> Truth:
    generator = np.random.default_rng(seed)
    X = np.c_[generator.normal(scale=spread, size=(n + QUERIES, p - 1)), np.ones(n + QUERIES)]
    noise = generator.normal(size=n + QUERIES)
    y = (X @ generator.normal(size=p) + noise > 0).astype(float)
    wrong = generator.random(n + QUERIES) < 0.1  # some wrong labels: harmful samples
    y[wrong] = 1 - y[wrong]
    points = generator.choice(n, min(POINTS, n), replace=False)
    left_out = np.ones((1 + len(points), n))
    left_out[np.arange(len(points)) + 1, points] = 0
    fits, off = logistic_fits(X[:n], y[:n], left_out)
    z = (2 * y[n:] - 1) * (fits @ X[n:].T)
    losses = np.logaddexp(0, -z).T  # (QUERIES, 1 + r)
    data = [TensorDataset(torch.from_numpy(X[part, :-1]), torch.from_numpy(y[part]))
            for part in (slice(n), slice(n, None))]  # fmt: skip
    model = with_parameters(nn.Linear(p - 1, 1).double(), fits[0])
    problem = Problem(model, data[0], logistic, DECAY)
    assert np.linalg.norm(oracles.gradient(problem)) < 1e-8
    queries = Queries(data[1], [[q] for q in range(QUERIES)])
    scores = rank(problem, queries, method="if", solver=EXACT).values.numpy()
    floor = 2 * off * np.linalg.norm(X[n:], axis=1).max()  # a loss moves |x| nats a unit at most
    return Truth(scores[:, points], losses[:, 1:] - losses[:, :1], float(floor))


@pytest.mark.parametrize(("p", "seed"), [(8, 0), (8, 1), (16, 0), (16, 2)])
def test_logistic_ranking_is_what_removing_each_sample_does(p: int, seed: int) -> None:
    """n = 40 p: the size, the sign and the unit, the change of the query's loss in nats.

    The median query has every sign right. Of all 500 scores one may have the wrong sign, where a
    removal changes the loss by less than 2e-4 of what the largest does: there the second order
    decides. The refits are precise enough for every sign.
    """
    found = truth(p, 40 * p, seed)
    assert found.scores.shape == (QUERIES, POINTS)
    assert found.pearson > 0.999
    assert found.slope == pytest.approx(1, abs=0.04)
    wrong = np.sign(found.scores) != np.sign(found.changes)
    size = np.abs(found.changes)
    assert size.min() > 100 * found.floor
    assert np.median(wrong.sum(axis=1)) == 0
    assert wrong.sum() <= 1
    assert (size < 2e-4 * size.max(axis=1, keepdims=True))[wrong].all()
    assert 0.2 < (found.scores > 0).mean() < 0.8  # helpful and harmful ones


@pytest.mark.parametrize(("p", "seed"), [(8, 0), (8, 1), (16, 0), (16, 2)])
def test_at_high_leverage_a_removal_does_more_than_its_score_says(p: int, seed: int) -> None:
    """n = 6.5 p: one sample bends H itself, so the slope rises; the ranking stays."""
    found = truth(p, int(6.5 * p), seed, spread=2.0)
    assert 1.1 < found.slope < 1.4
    assert found.pearson > 0.98
    assert (np.sign(found.scores) == np.sign(found.changes)).mean() > 0.95

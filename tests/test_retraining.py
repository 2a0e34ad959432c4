"""Retrained models against closed forms: ridge regression, and what each recipe promises."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from gifcore.change import RemoveSamples, Reweight
from gifcore.errors import GifError
from gifcore.problem import Problem
from gifcore.retraining import (
    Minimise,
    Proximal,
    Recipe,
    Sgd,
    newton_scaling,
    objective_of,
    retrain,
    start_of,
)
from gifcore.training import Settings
from tests import cases
from tests.test_truth import CHANGES, ridge, ridge_fit

WD = 0.1
RECIPES: dict[str, Recipe] = {
    "warm": Minimise("warm", 1e-8),
    "cold": Minimise("cold", 1e-8),
    "proximal without damping": Proximal(damping=0.0, tolerance=1e-8),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_quadratic_objective_is_refitted_exactly(recipe: str, change: str) -> None:
    problem, rows = ridge(WD)
    made, by_hand = CHANGES[change]
    found = retrain(problem, made, RECIPES[recipe], seed=3)
    assert found.converged
    np.testing.assert_allclose(found.theta, ridge_fit(by_hand(rows), WD), rtol=1e-6, atol=3e-7)


def network() -> Problem:
    x, y = cases.features((5,), 60, seed=1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, cases.CLASSES)).double()
    return Problem(model, TensorDataset(x, y), weight_decay=0.01)


def trained(problem: Problem) -> Problem:
    model = copy.deepcopy(problem.model)
    theta = retrain(problem, None, Minimise("warm", 1e-7)).theta
    nn.utils.vector_to_parameters(theta, model.parameters())
    return Problem(model, problem.train, weight_decay=problem.weight_decay)


def test_newton_coordinates_lead_to_the_same_minimum_sooner() -> None:
    problem = trained(network())
    change = RemoveSamples([7])
    plain = retrain(problem, change, Minimise("warm", 3e-8))
    scaled = retrain(problem, change, Minimise("warm", 3e-8, scaling=newton_scaling(problem)))
    assert plain.converged
    assert scaled.converged
    torch.testing.assert_close(scaled.theta, plain.theta, rtol=1e-4, atol=1e-5)
    assert scaled.steps * 4 < plain.steps


def test_the_gradient_of_the_proximal_objective_is_that_of_the_change_at_the_start() -> None:
    problem = network()  # not at a minimum: nothing of the objective itself may be in it
    change = Reweight([0, 5], [3.0, 0.5])
    recipe = Proximal(damping=0.2)
    value, gradient = recipe.objective(problem, change.apply(problem))(problem.theta)
    torch.testing.assert_close(gradient, -change.gradient(problem), rtol=1e-9, atol=1e-12)
    moved = problem.theta + 1e-3 * cases.random_vector(problem.space.size)
    objective = recipe.objective(problem, change.apply(problem))
    step = 1e-6 * cases.random_vector(problem.space.size, seed=5)
    difference = (objective(moved + step)[0] - objective(moved - step)[0]) / 2
    assert difference == pytest.approx(float(objective(moved)[1] @ step), rel=1e-5)
    assert value == pytest.approx(
        objective_of(change.apply(problem))(problem.theta)[0]
        - objective_of(problem)(problem.theta)[0]
    )


def test_more_damping_keeps_the_proximal_answer_nearer() -> None:
    problem = trained(network())
    lengths = [
        float((retrain(problem, RemoveSamples([1, 2]), Proximal(d)).theta - problem.theta).norm())
        for d in (0.0, 0.1, 10.0)
    ]
    assert lengths[0] > lengths[1] > lengths[2] > 0


def test_sgd_comes_near_the_minimum_and_repeats_for_a_seed() -> None:
    problem, rows = ridge(WD)
    change, by_hand = CHANGES["remove one"]
    recipe = Sgd(Settings(epochs=60, batch_size=8, lr=0.02))
    first, again, other = (retrain(problem, change, recipe, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.theta, again.theta)
    assert not torch.equal(first.theta, other.theta)
    np.testing.assert_allclose(first.theta, ridge_fit(by_hand(rows), WD), atol=0.05)
    assert first.converged is None
    assert first.gradient_norm < 0.05


def test_weights_count_in_sgd() -> None:
    problem, rows = ridge(WD)
    change, by_hand = CHANGES["reweight"]
    found = retrain(problem, change, Sgd(Settings(epochs=300, batch_size=40, lr=0.1)), seed=0)
    np.testing.assert_allclose(found.theta, ridge_fit(by_hand(rows), WD), atol=2e-3)


def test_batch_norm_learns_its_statistics_anew_and_the_callers_model_stays() -> None:
    x, y = cases.features((5,), 40, seed=1)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, cases.CLASSES)).double()
    problem = Problem(model.eval(), TensorDataset(x, y))
    before = copy.deepcopy(model.state_dict())
    retrain(problem, RemoveSamples([0]), Sgd(Settings(epochs=2, batch_size=8)), seed=0)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(5, dtype=torch.float64))
        self.head = nn.Linear(5, cases.CLASSES).double()

    def forward(self, x: Any) -> Any:
        return self.head(self.scale * x)


@pytest.mark.parametrize(
    ("start", "words"), [("tepid", "choose one of: warm, cold"), ("cold", "scale cannot be drawn")]
)
def test_a_start_that_is_not_there_is_named(start: str, words: str) -> None:
    x, y = cases.features((5,), 20, seed=1)
    problem = Problem(Bare(), TensorDataset(x, y))
    with pytest.raises(GifError, match=words):
        start_of(problem, start, seed=0)


def test_a_fresh_start_is_drawn_from_its_seed_alone() -> None:
    problem = network()
    state = torch.random.get_rng_state()
    first, again, other = (start_of(problem, "cold", s) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())


def test_what_did_not_converge_says_so() -> None:
    found = retrain(trained(network()), RemoveSamples([0]), Minimise("cold", 1e-12, evaluations=3))
    assert found.converged is False
    assert found.steps >= 3

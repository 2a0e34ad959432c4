"""Scores of units and blocks against a naive reading of the published descriptions."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gifcore.problem import Problem
from gifcore.selection import scores
from gifcore.selection.layers import layers_of
from gifcore.selection.scores import mean_outputs
from tests import cases, oracles
from tests.selection.shared import BATCHED, CHANGE, NAMES, SCORES, Attention, made, target


@pytest.mark.parametrize(
    ("of", "batch_size"),
    [(of, b) for of in SCORES for b in (cases.BATCH_SIZES if of in BATCHED else (1000,))],
)
@pytest.mark.parametrize("name", NAMES)
def test_unit_scores(name: str, of: str, batch_size: int) -> None:
    problem = cases.problem(name)
    found = SCORES[of](problem, CHANGE.samples(problem), batch_size=batch_size)
    expected = oracles.unit_scores(problem, target(problem), of)
    assert list(found) == list(expected)
    for layer, values in expected.items():
        np.testing.assert_allclose(found[layer], values, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("of", SCORES)
@pytest.mark.parametrize("name", ["batch norm", "attention"])
def test_unit_scores_of_normalisation_layers(name: str, of: str) -> None:
    problem = made(Attention(), (3, 2)) if name == "attention" else cases.problem(name)
    norms = [
        layer for layer in layers_of(problem.model, problem.space).values() if layer.kind == "norm"
    ]
    found = SCORES[of](problem, CHANGE.samples(problem), norms)
    expected = oracles.unit_scores(problem, target(problem), of, oracles.NORMS)
    assert len(found) == 1
    assert list(found) == list(expected)
    for layer, values in expected.items():
        np.testing.assert_allclose(found[layer], values, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("batch_size", cases.BATCH_SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_diagonal_fisher_in_the_stated_batches(name: str, batch_size: int) -> None:
    problem = cases.problem(name)
    found = scores.diagonal_fisher(problem, CHANGE.samples(problem), batch_size=batch_size)
    expected = oracles.diagonal_fisher(problem, target(problem), batch_size)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("batch_size", cases.BATCH_SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_caps_scores(name: str, batch_size: int) -> None:
    problem = cases.problem(name)
    found = scores.caps_blocks(problem, CHANGE.samples(problem), batch_size=batch_size)
    dead = []
    for layer, values in found.items():
        units = oracles.layer_units(problem, layer)
        wanted = oracles.caps_scores(problem, target(problem), units, batch_size)
        for value, expected in zip(values.tolist(), wanted, strict=True):
            np.testing.assert_allclose(value, np.nan if expected is None else expected, rtol=1e-9)
            dead += [layer] if expected is None else []
    assert set(dead) == ({"never_called"} if name == "unused parameters" else set())


@pytest.mark.parametrize("of", ["outputs", "output_gradients"])
def test_an_activation_that_overwrites_its_input_does_not_change_the_scores(of: str) -> None:
    """Outputs are those before the activation, as a convolution followed by ReLU returned them."""
    problem = cases.problem("depthwise and group norm")
    model = copy.deepcopy(problem.model)
    assert model.overwrite.inplace
    model.overwrite = nn.ReLU()
    plain = Problem(model, problem.train, weight_decay=0.03)
    for name in (f"mean_{of}", f"mean_absolute_{of}"):
        found, expected = (getattr(scores, name)(p, p.positions) for p in (problem, plain))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_layer_that_is_called_twice_is_scored_on_all_its_outputs() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.tanh(self.layer(x)))

    problem = made(Twice(), (3,))
    x = problem.train.tensors[0][target(problem)]
    first = problem.model.layer(x)
    second = problem.model.layer(torch.tanh(first))
    expected = torch.cat([first, second]).mean(0).abs().detach()
    found = mean_outputs(problem, CHANGE.samples(problem), batch_size=2)["layer"]
    np.testing.assert_allclose(found, expected, rtol=1e-10)

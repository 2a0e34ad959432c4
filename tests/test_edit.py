"""Applying an update: a new state dict, the caller's model untouched; the step search."""

import copy
import math
from collections.abc import Callable

import pytest
import torch

from gifcore.change import RemoveSamples
from gifcore.edit import edit, edited_parameters, search_step
from gifcore.errors import GifError
from gifcore.influence import Update, influence
from tests import cases, oracles
from tests.test_influence import chosen

CHANGE = RemoveSamples([0, 3])


@pytest.mark.parametrize("scale", [0.0, 1.0, -2.5, 100.0])
@pytest.mark.parametrize("method", cases.METHODS)
@pytest.mark.parametrize("name", ["batch norm", "unused parameters"])
def test_an_edit_adds_scale_times_delta_on_the_selection_alone(
    name: str, method: str, scale: float
) -> None:
    problem = cases.problem(name)
    result = influence(problem, CHANGE, method=method, selected=chosen(problem))
    theta = oracles.theta_of(problem)
    where = chosen(problem).indices if result.indices is not None else slice(None)
    expected = theta.clone()
    expected[where] += scale * result.delta
    state = edit(problem, result, scale)
    model = copy.deepcopy(problem.model)
    model.load_state_dict(state)  # strict: every key, buffers too
    found = torch.nn.utils.parameters_to_vector(model.parameters())
    torch.testing.assert_close(found, expected, rtol=1e-15, atol=0)


def test_the_model_is_bitwise_as_it_was_and_shares_nothing_with_the_edit() -> None:
    problem = cases.problem("batch norm")
    before = copy.deepcopy(problem.model.state_dict())
    theta = problem.theta.clone()
    state = edit(problem, influence(problem, CHANGE, selected=chosen(problem)), 3.0)
    for value in state.values():
        value.zero_()
    after = problem.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert torch.equal(problem.theta, theta)


def test_the_natural_step_is_the_default() -> None:
    problem = cases.problem("convolution")
    result = influence(problem, CHANGE, method="if")
    one, default = edit(problem, result, 1.0), edit(problem, result)
    assert all(torch.equal(one[key], default[key]) for key in one)


@pytest.mark.parametrize("scale", [math.inf, math.nan, 1e308])
def test_a_step_that_overflows(scale: float) -> None:
    problem = cases.problem("convolution")
    update = Update(torch.full((2,), 1e3, dtype=torch.float64), torch.tensor([0, 5]), "gif")
    with pytest.raises(GifError, match="choose a smaller scale"):
        edited_parameters(problem, update, scale)


# --- the step search -----------------------------------------------------------------------------


def counted(score: Callable[[float], float]) -> tuple[Callable[[float], dict[str, float]], list]:
    tried: list[float] = []

    def measure(scale: float) -> dict[str, float]:
        tried.append(scale)
        return {"score": score(scale), "other": scale}

    return measure, tried


@pytest.mark.parametrize("optimum", [0.1, 0.5, 1.0, 7.3, 60.0, 400.0, 1000.0])
def test_it_finds_the_top_of_a_hill(optimum: float) -> None:
    measure, tried = counted(lambda s: math.exp(-(math.log(s / optimum) ** 2)))
    search = search_step(measure)
    assert abs(math.log(search.scale / optimum)) < 0.12
    assert len(tried) == len(set(tried)) <= 13 + 8
    assert list(search.scales) == sorted(tried)
    assert [value["other"] for value in search.values] == list(search.scales)
    assert search.values[search.best]["score"] == max(v["score"] for v in search.values)


def test_ties_go_to_the_smaller_scale() -> None:
    measure, _ = counted(lambda s: 0.8 if s >= 2 else 0.1)
    search = search_step(measure)
    assert 2 <= search.scale < 2.6
    flat = search_step(counted(lambda _: 0.3)[0])
    assert flat.scale == 0.1


def test_it_stops_once_all_is_broken() -> None:
    measure, tried = counted(lambda s: 0.9 if s < 1 else 0.0)
    search = search_step(measure)
    assert search.scale < 1
    assert max(tried) < 100


def test_it_does_not_stop_before_anything_good_was_seen() -> None:
    """A score that dips first and is best at the far end."""
    measure, tried = counted(lambda s: 0.3 if s < 0.2 else 0.1 if s < 300 else 0.95)
    assert search_step(measure).scale > 300
    assert max(tried) == 1000


def test_it_stays_within_its_bounds() -> None:
    measure, tried = counted(lambda s: s)
    assert search_step(measure, max_scale=10).scale == 10
    assert (min(tried), max(tried)) == (0.1, 10)
    measure, tried = counted(lambda s: s)
    assert search_step(measure, min_scale=0.5, max_scale=20).scale == 20
    assert (min(tried), max(tried)) == (0.5, 20)


@pytest.mark.parametrize("evaluations", [6, 12, 21, 40])
def test_it_measures_at_most_as_often_as_it_may(evaluations: int) -> None:
    measure, tried = counted(lambda s: 1 / (1 + (s - 3) ** 2))
    found = search_step(measure, min_scale=1, max_scale=100, evaluations=evaluations)
    assert evaluations / 2 < len(tried) <= evaluations  # it stops early where all is worse
    assert found.scale == pytest.approx(3, rel=4 / evaluations)

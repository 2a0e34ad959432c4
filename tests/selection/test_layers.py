"""Which layers are selected from, and what filters leave."""

from typing import Any

import pytest
from torch import nn
from torch.utils.data import TensorDataset

from gifcore.errors import GifError
from gifcore.problem import Problem
from gifcore.selection import SELECTORS, scores, select
from tests import cases, oracles
from tests.selection.shared import CHANGE, FIRST_FIVE, blocks_of, by_rule, target


def test_layer_filters() -> None:
    problem = cases.problem("batch norm")

    def chosen(**options: Any) -> dict[str, int]:
        return blocks_of(select(problem, CHANGE, selector="all", **options))

    assert chosen() == {"0.weight": 12, "4.weight": 81, "4.bias": 3}
    assert chosen(norms=True) == chosen() | {"1.weight": 3, "1.bias": 3}
    assert chosen(kinds=["conv"]) == {"0.weight": 12}
    assert chosen(kinds=["conv"], norms=True) == {"0.weight": 12, "1.weight": 3, "1.bias": 3}
    assert chosen(kinds=("norm",)) == {"1.weight": 3, "1.bias": 3}
    assert chosen(layers=["4"]) == {"4.weight": 81, "4.bias": 3}
    assert chosen(layers=["4", "0"], kinds=["conv", "linear"]) == chosen()
    assert chosen(layers=["1"]) == {"1.weight": 3, "1.bias": 3}  # asked for by name


def test_the_layers_that_are_selected_unless_asked_otherwise() -> None:
    model = cases.problem("batch norm").model
    assert scores.layers(model) == {"0": model[0], "4": model[4]}


def test_a_channel_of_a_normalisation_layer_is_one_unit() -> None:
    problem = cases.problem("batch norm")
    for of, selector in (("output", "highest-k-outputs"), ("fisher", "highest-k-fisher")):
        best = oracles.unit_scores(problem, target(problem), of, oracles.NORMS)["1"]
        u = best.index(max(best))
        found = select(problem, CHANGE, selector=selector, ratio=0.34, layers=["1"])
        assert found.indices.tolist() == [12 + u, 15 + u]
        assert found.by_unit("1").tolist() == [float(v == u) for v in range(3)]


@pytest.mark.parametrize("selector", FIRST_FIVE)
def test_asking_for_norms_leaves_the_choice_in_other_layers_as_it_was(selector: str) -> None:
    problem = cases.problem("batch norm")
    plain = select(problem, CHANGE, selector=selector, ratio=0.4).by_layer()
    without = set(select(problem, CHANGE, selector=selector, ratio=0.4).indices.tolist())
    norms = set(select(problem, CHANGE, selector=selector, ratio=0.4, norms=True).indices.tolist())
    assert without < norms
    assert norms - without <= set(range(12, 18))
    assert plain["1.weight"] == plain["1.bias"] == 0


@pytest.mark.parametrize("name", ["highest-k-gradients", "caps", "highest-k-fisher", "threshold"])
def test_layers_that_the_loss_does_not_reach(name: str) -> None:
    problem = cases.problem("unused parameters")
    found = select(problem, CHANGE, selector=name, ratio=0.5).by_layer()
    assert found["never_called.weight"] == found["never_called.bias"] == found["spare"] == 0
    assert found["first.weight"]
    assert found["last.weight"]
    if name == "caps":
        with pytest.raises(GifError, match="CAPS skips every block"):
            select(problem, CHANGE, selector=name, layers=["never_called"])
    else:
        with pytest.raises(GifError, match="cannot score layer 'never_called'"):
            select(problem, CHANGE, selector=name, ratio=0.5, layers=["first", "never_called"])
    for dataless in ("random", "highest-k-magnitude", "all"):
        more = select(problem, CHANGE, selector=dataless, ratio=0.5).by_layer()
        assert more["never_called.weight"]
        assert not more["spare"]  # in no layer


def test_caps_with_dead_blocks_splits_its_budget_over_the_others() -> None:
    """first 16, never_called 6 (dead), last 12 parameters: int(0.5 * 34) = 17 over 16 and 12."""
    problem = cases.problem("unused parameters")
    found = select(problem, CHANGE, selector="caps", ratio=0.5)
    assert found.coverage() == {"first": 0.5, "spare": 0.0, "never_called": 0.0, "last": 8 / 12}
    whole = select(problem, CHANGE, selector="caps", ratio=1.0)
    assert whole.k == 28


def test_a_tied_layer_is_selected_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    x, y = cases.features((3,), 11, seed=0)
    problem = Problem(model.double(), TensorDataset(x, y))
    for selector in SELECTORS:
        if selector in by_rule("exclusive-k"):
            continue
        chosen = select(problem, CHANGE, selector=selector, ratio=1.0).indices.tolist()
        assert chosen[:9] == list(range(9))
        assert len(set(chosen)) == len(chosen)
        # the second layer has only its bias, which is no unit but can be taken
        assert (len(chosen) == 12) == (selector in ("random", "all", "caps", "reverse-caps"))

"""Selectors against a naive reading of the published description (papers.md, A3)."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from gifcore.change import RemoveClass, RemoveSamples
from gifcore.errors import GifError
from gifcore.problem import Problem
from gifcore.selection import SELECTORS, select
from gifcore.selection.rules import quota
from gifcore.selection.scores import mean_output_gradients, mean_outputs
from tests import cases, oracles

CHANGE = RemoveSamples([0, 2, 3, 7, 9])  # not one whole batch of anything
NAMES = [n for n in cases.PROBLEMS if n != "dict batches"]
RATIOS = (0.07, 0.29, 0.5, 1.0)
BY_SCORE = [name for name, (of, _) in cases.SELECTORS.items() if of]


def test_every_selector_of_the_registries_is_tested_here() -> None:
    from gifcore import study

    assert set(SELECTORS) == set(cases.SELECTORS) == set(study.SELECTORS)


@pytest.mark.parametrize("batch_size", cases.BATCH_SIZES)
@pytest.mark.parametrize("of", ["output", "gradient"])
@pytest.mark.parametrize("name", NAMES)
def test_unit_scores(name: str, of: str, batch_size: int) -> None:
    problem = cases.problem(name)
    score = {"output": mean_outputs, "gradient": mean_output_gradients}[of]
    found = score(problem, CHANGE.samples(problem), batch_size=batch_size)
    expected = oracles.unit_scores(problem, CHANGE.samples(problem).tolist(), of)
    assert list(found) == list(expected)
    for layer, values in expected.items():
        np.testing.assert_allclose(found[layer], values, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("selector", BY_SCORE)
@pytest.mark.parametrize("name", NAMES)
def test_units_by_score_layer_by_layer(name: str, selector: str, ratio: float) -> None:
    problem = cases.problem(name)
    of, highest = cases.SELECTORS[selector]
    found = select(problem, CHANGE, selector=selector, ratio=ratio).indices.tolist()
    assert found == sorted(set(found))
    left = set(found)
    scores = oracles.unit_scores(problem, CHANGE.samples(problem).tolist(), of)
    for layer, values in scores.items():
        taken, pool, rest = oracles.unit_rule(problem, layer, values, ratio, highest=highest)
        assert taken <= left
        left -= taken
        assert len(left & pool) == rest
        left -= pool
    assert not left  # nothing else: no normalisation, no parameters that are not reached


@pytest.mark.parametrize("ratio", RATIOS[1:])
@pytest.mark.parametrize("name", NAMES)
def test_random_takes_its_share_of_every_tensor(name: str, ratio: float) -> None:
    problem = cases.problem(name)
    selected = select(problem, CHANGE, selector="random", ratio=ratio)
    indices = selected.indices.tolist()
    assert indices == sorted(set(indices))
    layers = {
        key for key, m in problem.model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)
    }
    for block in problem.space.blocks:
        share = sum(block.offset <= i < block.offset + block.size for i in indices)
        layer = block.name.rpartition(".")[0]
        assert share == (oracles.layer_quota(ratio, block.size) if layer in layers else 0)
        assert selected.by_layer()[block.name] == share
    assert selected.k == len(indices) == sum(selected.by_layer().values())


def test_the_ratio_changes_how_many_and_more_contain_fewer_units() -> None:
    problem = cases.problem("batch norm")
    sizes = [select(problem, CHANGE, ratio=r).k for r in (0.1, 0.3, 0.6, 1.0)]
    assert sizes == sorted(set(sizes))
    everything = select(problem, CHANGE, ratio=1.0)
    assert everything.by_layer() == {
        "0.weight": 12, "1.weight": 0, "1.bias": 0, "4.weight": 81, "4.bias": 3,
    }  # fmt: skip


def test_selectors_differ() -> None:
    problem = cases.problem("convolution")
    chosen = {
        tuple(select(problem, CHANGE, selector=s, ratio=0.4).indices.tolist()) for s in SELECTORS
    }
    assert len(chosen) == len(SELECTORS)


@pytest.mark.parametrize("selector", SELECTORS)
def test_seeds(selector: str) -> None:
    problem = cases.problem("convolution")
    state = torch.get_rng_state()
    one, again, *others = (
        select(problem, CHANGE, selector=selector, ratio=0.3, seed=seed).indices.tolist()
        for seed in (0, 0, 1, 2, 3, 4)
    )
    assert one == again
    assert any(other != one for other in others)
    assert torch.equal(state, torch.get_rng_state())
    if selector != "random":  # the seed decides only on the rest of one unit a layer
        assert all(len(set(one) ^ set(other)) <= 2 * (9 + 9) for other in others)


def test_random_reaches_every_parameter() -> None:
    problem = cases.problem("convolution")
    seen = {
        int(i)
        for seed in range(40)
        for i in select(problem, CHANGE, selector="random", ratio=0.5, seed=seed).indices
    }
    assert seen == set(range(problem.space.size))


def test_ties_go_to_the_first_unit() -> None:
    model = nn.Linear(2, 4, bias=False).double()
    nn.init.ones_(model.weight)
    x, y = cases.features((2,), 11, seed=0)
    problem = Problem(model, TensorDataset(x, y))
    for selector in ("highest-k-outputs", "lowest-k-outputs"):
        chosen = select(problem, CHANGE, selector=selector, ratio=0.5).indices
        assert chosen.tolist() == [0, 1, 2, 3]


def test_signs_cancel_before_the_absolute_value() -> None:
    """|mean|, not mean of |.|: a unit that answers +1 and -1 has the score 0."""
    model = nn.Linear(2, 3, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[9.0, 0], [0, 1], [0, -0.5]]))
    x = torch.tensor([[1.0, 1], [-1, 1]], dtype=torch.float64)
    problem = Problem(model, TensorDataset(x, torch.tensor([0, 1])))
    scores = mean_outputs(problem, torch.tensor([0, 1]))
    assert scores[""].tolist() == [0.0, 1.0, 0.5]


def test_only_the_changed_samples_are_target_data() -> None:
    problem = cases.problem("convolution")
    labels = problem.train.tensors[1]
    expected = select(problem, RemoveSamples((labels == 1).nonzero().flatten().tolist()), ratio=0.4)
    found = select(problem, RemoveClass(1), ratio=0.4)
    assert torch.equal(found.indices, expected.indices)


def test_a_quota_rounds_down_the_decimal_number_that_was_written() -> None:
    for hundredths in range(1, 101):
        for count in (1, 7, 100, 1000, 398_090):
            ratio = float(f"{hundredths / 100:.2f}")
            assert quota(ratio, count) == hundredths * count // 100


def test_hooks_are_gone_even_after_an_error() -> None:
    problem = cases.problem("batch norm")
    problem.train.tensors[0][2] = float("nan")

    def failing(*_: object) -> torch.Tensor:
        raise RuntimeError("in the loss")

    broken = Problem(problem.model, problem.train, loss=failing)
    with pytest.raises(RuntimeError, match="in the loss"):
        select(broken, CHANGE)
    assert not any(module._forward_hooks for module in problem.model.modules())


def test_a_tied_layer_is_selected_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    x, y = cases.features((3,), 11, seed=0)
    problem = Problem(model.double(), TensorDataset(x, y))
    for selector in SELECTORS:
        chosen = select(problem, CHANGE, selector=selector, ratio=1.0).indices.tolist()
        assert chosen[:9] == list(range(9))
        assert len(set(chosen)) == len(chosen)


@pytest.mark.parametrize("ratio", [0, -0.1, 1.0001, 5, float("nan"), float("inf")])
def test_an_impossible_ratio(ratio: float) -> None:
    with pytest.raises(GifError, match=r"choose one above 0 and at most 1"):
        select(cases.problem("convolution"), CHANGE, ratio=ratio)


def test_other_refusals() -> None:
    problem = cases.problem("convolution")
    with pytest.raises(GifError, match="Unknown selector 'top'; choose one of: highest-k-grad"):
        select(problem, CHANGE, selector="top")
    with pytest.raises(GifError, match="selects no parameter"):
        select(problem, CHANGE, ratio=1e-6)
    norm = Problem(nn.BatchNorm1d(3).double(), cases.queries("perceptron"))
    with pytest.raises(GifError, match="no convolution or linear layer"):
        select(norm, RemoveSamples([0]))

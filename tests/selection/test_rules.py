"""Which units and blocks each rule takes, against a naive reading (papers.md, A3 and d)."""

import itertools

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from gifcore.change import AddSamples, RemoveClass, RemoveSamples
from gifcore.problem import Problem
from gifcore.selection import SELECTORS, scores, select
from gifcore.selection.rules import largest_remainder, quota
from gifcore.selection.scores import mean_outputs
from tests import cases, oracles
from tests.selection.shared import (
    BUDGETS,
    CHANGE,
    FIRST_FIVE,
    NAMES,
    RATIOS,
    by_rule,
    made,
    scored_blocks,
    target,
)


def test_every_selector_of_the_registries_is_tested_here() -> None:
    from gifcore import study

    assert list(SELECTORS) == list(cases.SELECTORS)
    assert study.SELECTORS.items() <= {n: row.text for n, row in SELECTORS.items()}.items()
    assert all(row.text and "\n" not in row.text for row in SELECTORS.values())


def unit_table(
    problem: Problem, selector: str, budget: str
) -> list[tuple[list[list[int]], list[int], list[float]]]:
    """What competes: (units, how many weights each has, scores), for each layer or all at once."""
    found = []
    of, _ = cases.SELECTORS[selector]
    for layer, values in oracles.unit_scores(problem, target(problem), of).items():
        units = oracles.layer_units(problem, layer)
        weight = problem.model.get_submodule(layer).weight
        found.append((units, [weight.numel() // len(weight)] * len(weight), values))
    if budget == "layer":
        return found
    return [tuple(list(itertools.chain(*column)) for column in zip(*found, strict=True))]


@pytest.mark.parametrize(
    ("ratio", "budget"), [*((r, "layer") for r in RATIOS), (0.07, "global"), (0.5, "global")]
)
@pytest.mark.parametrize(
    ("name", "selector"),
    [
        (name, selector)
        for selector in by_rule("highest-k", "lowest-k")
        for name in (NAMES if selector in FIRST_FIVE else ("batch norm", "unused parameters"))
    ],
)
def test_units_by_score(name: str, selector: str, ratio: float, budget: str) -> None:
    problem = cases.problem(name)
    found = select(problem, CHANGE, selector=selector, ratio=ratio, budget=budget).indices.tolist()
    assert found == sorted(set(found))
    left = set(found)
    for table in unit_table(problem, selector, budget):
        rule = cases.SELECTORS[selector][1]
        taken, pool, rest = oracles.unit_rule(*table, ratio, rule=rule)
        assert taken <= left
        left -= taken
        assert len(left & pool) == rest
        left -= pool
    assert not left  # nothing else: no normalisation, no parameters that are not reached


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("ratio", [0.07, 0.2, 0.29, 0.5])
@pytest.mark.parametrize("selector", by_rule("exclusive-k"))
@pytest.mark.parametrize("name", NAMES)
def test_exclusive_units_are_outside_the_top(
    name: str, selector: str, ratio: float, budget: str
) -> None:
    problem = cases.problem(name)
    found = set(
        select(problem, CHANGE, selector=selector, ratio=ratio, budget=budget).indices.tolist()
    )
    k = 0
    for units, weights, values in unit_table(problem, selector, budget):
        taken, partly, _ = oracles.unit_rule(units, weights, values, ratio, rule="highest-k")
        mine = [found & set(unit) for unit in units]
        in_part = [u for u, part in enumerate(mine) if part and len(part) < len(units[u])]
        assert len(in_part) <= 1
        assert all(mine[u] <= set(units[u][: weights[u]]) for u in in_part)  # never the bias
        assert not found & taken
        total = sum(map(len, units))
        touched = sum(len(unit) for unit in units if set(unit) & (taken | partly))
        if total - touched >= oracles.layer_quota(ratio, total):
            assert not found & partly
        assert sum(map(len, mine)) == oracles.layer_quota(ratio, total)
        k += sum(map(len, mine))
    assert k == len(found)


def test_every_unit_outside_the_top_is_drawn_by_some_seed() -> None:
    model = nn.Linear(1, 5, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0], [5], [2], [4], [3]]))
    problem = Problem(model, TensorDataset(torch.ones(6, 1).double(), torch.arange(6) % 3))
    seen = [
        select(
            problem, RemoveSamples([0]), selector="exclusive-k-outputs", ratio=0.4, seed=seed
        ).indices.tolist()
        for seed in range(30)
    ]
    assert {i for one in seen for i in one} == {0, 2, 4}
    assert all(len(one) == 2 for one in seen)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("name", NAMES)
def test_threshold_draws_among_the_units_above_it(name: str, ratio: float, budget: str) -> None:
    problem = cases.problem(name)
    tables = [(units, values) for units, _, values in unit_table(problem, "threshold", budget)]
    seen: set[int] = set()
    for seed in range(6):
        chosen = select(
            problem, CHANGE, selector="threshold", ratio=ratio, budget=budget, seed=seed
        ).indices.tolist()
        seen |= set(chosen)
        left = set(chosen)
        for pool, k in oracles.threshold_rule(tables, ratio):
            assert len(left & pool) == k
            left -= pool
        assert not left
    if ratio == 0.5:
        pools = oracles.threshold_rule(tables, ratio)
        assert len(seen) > sum(k for _, k in pools) or all(len(p) == k for p, k in pools)


def test_the_threshold_starts_at_one_and_never_rises_again() -> None:
    """Layer by layer: 0.5 lets two units of the first in, so both of the second are above it."""
    model = nn.Sequential(nn.Linear(1, 4, bias=False), nn.Linear(4, 2, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.505], [0.6], [0.1], [0.2]]))
        model[1].weight.copy_(torch.tensor([[0.0, 1, 0, 0], [0, 1.5, 0, 0]]))
    problem = Problem(model, TensorDataset(torch.ones(6, 1).double(), torch.arange(6) % 2))
    seen = set()
    for seed in range(40):
        indices = select(
            problem, RemoveSamples([0]), selector="threshold", ratio=0.5, seed=seed
        ).indices
        assert indices[:2].tolist() == [0, 1]
        seen |= set(indices[2:].tolist())
    assert seen == set(range(4, 12))  # alone the second layer would take its unit of 0.9
    alone = select(
        problem, RemoveSamples([0]), selector="threshold", ratio=0.5, layers=["1"]
    ).indices
    assert alone.tolist() == [8, 9, 10, 11]


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


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("name", NAMES)
def test_random_with_a_global_budget_and_all(name: str, ratio: float) -> None:
    problem = cases.problem(name)
    layers = [
        key for key, m in problem.model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)
    ]
    there = {i for key in layers for unit in oracles.layer_units(problem, key) for i in unit}
    some = select(problem, CHANGE, selector="random", ratio=ratio, budget="global")
    assert some.k == oracles.layer_quota(ratio, len(there))
    assert set(some.indices.tolist()) <= there
    whole = select(problem, CHANGE, selector="all", ratio=ratio)
    assert whole.indices.tolist() == sorted(there)
    assert whole.ratio == 1.0


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("ratio", [0.2, *RATIOS[1:]])
@pytest.mark.parametrize("selector", by_rule("greedy-highest", "greedy-lowest"))
@pytest.mark.parametrize("name", NAMES)
def test_caps_takes_whole_blocks_greedily(
    name: str, selector: str, ratio: float, budget: str
) -> None:
    problem = cases.problem(name)
    layers = scored_blocks(
        problem,
        [
            oracles.layer_units(problem, key)
            for key, m in problem.model.named_modules()
            if isinstance(m, nn.Linear | nn.Conv2d)
        ],
    )
    expected = oracles.greedy_rule(
        layers, ratio, highest=selector == "caps", split=budget == "layer"
    )
    assert expected
    found = select(problem, CHANGE, selector=selector, ratio=ratio, budget=budget)
    assert found.indices.tolist() == sorted(expected)
    total = sum(len(unit) for blocks in layers for _, unit in blocks)
    assert found.k <= oracles.layer_quota(ratio, total)
    left = oracles.layer_quota(ratio, total) - found.k
    others = [u for blocks in layers for s, u in blocks if s is not None and not expected & set(u)]
    assert all(len(unit) > left for unit in others)  # nothing that still fits is left out


def test_a_budget_is_split_by_largest_remainder() -> None:
    assert largest_remainder(10, [6, 3, 1]) == [6, 3, 1]
    assert largest_remainder(7, [1, 1, 1]) == [3, 2, 2]
    assert largest_remainder(5, [0, 2, 1]) == [0, 3, 2]
    assert largest_remainder(0, [0, 0]) == [0, 0]
    for total, weights in itertools.product((0, 1, 17, 100), ([7, 11, 5], [1, 398_090], [3])):
        shares = largest_remainder(total, weights)
        assert sum(shares) == total
        assert all(
            abs(s - total * w / sum(weights)) < 1 for s, w in zip(shares, weights, strict=True)
        )


def test_what_a_layer_leaves_over_goes_to_the_best_block_of_any_layer() -> None:
    """Two layers with blocks of 4 and 6 entries, 24 and 18 in all; a third of 42 is 14 = 8 + 6."""
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.Linear(6, 3, bias=False))
    problem = made(model, (4,))
    for selector in ("caps", "reverse-caps"):
        third = select(problem, CHANGE, selector=selector, ratio=1 / 3)
        assert third.by_layer() == {"0.weight": 8, "1.weight": 6}
        # 0.31 * 42 = 13 = 7 + 6: the first takes 4, the pooled 3 fit no block
        less = select(problem, CHANGE, selector=selector, ratio=0.31)
        assert less.by_layer() == {"0.weight": 4, "1.weight": 6}
        # 0.41 * 42 = 17 = 10 + 7: 8 and 6 are taken, the pooled 3 fit no block
        more = select(problem, CHANGE, selector=selector, ratio=0.41)
        assert more.by_layer() == {"0.weight": 8, "1.weight": 6}


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
        tuple(select(problem, CHANGE, selector=s, ratio=0.4).indices.tolist()) for s in FIRST_FIVE
    }
    assert len(chosen) == len(FIRST_FIVE)


@pytest.mark.parametrize("selector", SELECTORS)
def test_seeds(selector: str) -> None:
    problem = cases.problem("convolution")
    state = torch.get_rng_state()
    one, again, *others = (
        select(problem, CHANGE, selector=selector, ratio=0.3, seed=seed).indices.tolist()
        for seed in (0, 0, 1, 2, 3, 4)
    )
    assert one == again
    drawn = selector not in ("all", "caps", "reverse-caps")
    assert any(other != one for other in others) == drawn
    assert torch.equal(state, torch.get_rng_state())
    if selector in by_rule("highest-k", "lowest-k"):
        # the seed decides only on the rest of one unit a layer
        assert all(len(set(one) ^ set(other)) <= 2 * (9 + 9) for other in others)


# The first five selectors as engine 0.1.1 drew them; a demo that was shipped depends on it.
OF_ENGINE_0_1_1 = {
    ("convolution", "highest-k-gradients"): [10, 13, 14, 15, 28, 29, 32, 33, 34],
    ("convolution", "highest-k-outputs"): [1, 4, 5, 6, 20, 21, 24, 25, 26],
    ("convolution", "lowest-k-gradients"): [1, 4, 5, 6, 36, 37, 40, 41, 42],
    ("convolution", "lowest-k-outputs"): [10, 13, 14, 15, 36, 37, 40, 41, 42],
    ("convolution", "random"): [4, 11, 17, 24, 28, 34, 43],
    ("batch norm", "highest-k-gradients"): [
        2, 3, 72, 73, 74, 75, 76, 78, 79, 80, 83, 85, 88, 92, 93, 95, 96, 98,
    ],
    ("batch norm", "highest-k-outputs"): [
        6, 7, 72, 73, 74, 75, 76, 78, 79, 80, 83, 85, 88, 92, 93, 95, 96, 98,
    ],
    ("batch norm", "lowest-k-gradients"): [
        6, 7, 45, 46, 47, 48, 49, 51, 52, 53, 56, 58, 61, 65, 66, 68, 69, 71,
    ],
    ("batch norm", "lowest-k-outputs"): [
        10, 11, 45, 46, 47, 48, 49, 51, 52, 53, 56, 58, 61, 65, 66, 68, 69, 71,
    ],
    ("batch norm", "random"): [
        9, 10, 18, 19, 22, 24, 27, 39, 44, 46, 61, 63, 68, 75, 90, 92, 94, 98,
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "selector"), OF_ENGINE_0_1_1)
def test_the_same_seed_gives_the_same_indices_in_every_version(name: str, selector: str) -> None:
    found = select(cases.problem(name), CHANGE, selector=selector, ratio=0.2, seed=3)
    assert found.indices.tolist() == OF_ENGINE_0_1_1[name, selector]


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
    for selector in ("highest-k-outputs", "lowest-k-outputs", "highest-k-magnitude"):
        chosen = select(problem, CHANGE, selector=selector, ratio=0.5).indices
        assert chosen.tolist() == [0, 1, 2, 3]


def test_signs_cancel_before_the_absolute_value() -> None:
    """|mean|, not mean of |.|: a unit that answers +1 and -1 has the score 0."""
    model = nn.Linear(2, 3, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[9.0, 0], [0, 1], [0, -0.5]]))
    x = torch.tensor([[1.0, 1], [-1, 1]], dtype=torch.float64)
    problem = Problem(model, TensorDataset(x, torch.tensor([0, 1])))
    both = torch.tensor([0, 1])
    assert mean_outputs(problem, both)[""].tolist() == [0.0, 1.0, 0.5]
    assert scores.mean_absolute_outputs(problem, both)[""].tolist() == [9.0, 1.0, 0.5]


def test_only_the_changed_samples_are_target_data() -> None:
    problem = cases.problem("convolution")
    labels = problem.train.tensors[1]
    expected = select(problem, RemoveSamples((labels == 1).nonzero().flatten().tolist()), ratio=0.4)
    found = select(problem, RemoveClass(1), ratio=0.4)
    assert torch.equal(found.indices, expected.indices)


@pytest.mark.parametrize("selector", by_rule("highest-k", "greedy-highest"))
def test_samples_that_are_added_are_target_data(selector: str) -> None:
    """As if they had been there and were removed, for scores of the target data."""
    problem = cases.problem("convolution")
    (x, y), (more, labels) = problem.train.tensors, cases.features((1, 5, 5), 4, seed=7)
    joined = Problem(problem.model, TensorDataset(torch.cat([x, more]), torch.cat([y, labels])))
    added = AddSamples(TensorDataset(more, labels))
    found = select(problem, added, selector=selector, ratio=0.4)
    expected = select(joined, RemoveSamples([13, 14, 15, 16]), selector=selector, ratio=0.4)
    assert torch.equal(found.indices, expected.indices)


def test_a_quota_rounds_down_the_decimal_number_that_was_written() -> None:
    for hundredths in range(1, 101):
        for count in (1, 7, 100, 1000, 398_090):
            ratio = float(f"{hundredths / 100:.2f}")
            assert quota(ratio, count) == hundredths * count // 100

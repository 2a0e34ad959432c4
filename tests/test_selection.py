"""Selectors against a naive reading of the published descriptions (papers.md, A3 and d)."""

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from gifcore.change import AddSamples, RemoveClass, RemoveSamples
from gifcore.errors import Cancelled, GifError
from gifcore.parameters import ParameterSpace
from gifcore.problem import Problem
from gifcore.selection import SELECTORS, Selection, scores, select
from gifcore.selection.layers import Layer, layers_of
from gifcore.selection.rules import largest_remainder, quota
from gifcore.selection.scores import mean_output_gradients, mean_outputs
from tests import cases, oracles

CHANGE = RemoveSamples([0, 2, 3, 7, 9])  # not one whole batch of anything
NAMES = [n for n in cases.PROBLEMS if n != "dict batches"]
RATIOS = (0.07, 0.29, 0.5, 1.0)
BUDGETS = ("layer", "global")
FIRST_FIVE = (
    "highest-k-gradients", "highest-k-outputs", "lowest-k-gradients", "lowest-k-outputs", "random",
)  # fmt: skip
SCORES = {
    "output": mean_outputs,
    "gradient": mean_output_gradients,
    "absolute output": scores.mean_absolute_outputs,
    "absolute gradient": scores.mean_absolute_output_gradients,
    "fisher": lambda *args, **_: scores.fisher(*args),  # samples one by one, whatever is asked
    "magnitude": lambda *args, **_: scores.magnitudes(*args),
}
BATCHED = [of for of in SCORES if of not in ("fisher", "magnitude")]


def by_rule(*rules: str) -> list[str]:
    return [name for name, (_, rule) in cases.SELECTORS.items() if rule in rules]


def target(problem: Problem) -> list[int]:
    return CHANGE.samples(problem).tolist()


class Attention(nn.Module):
    """Self-attention between layers of other kinds; heads of two rows."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Linear(2, 4)
        self.norm = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **options)
        self.last = nn.Linear(4, cases.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.embed(x))
        wide = torch.cat([h, x], dim=2)
        key = wide if self.attention.kdim == 6 else h
        return self.last((h + self.attention(h, key, h, need_weights=False)[0]).mean(1))


class Named(nn.Module):
    """Attention whose projections are linear layers; only their names and a number say so."""

    def __init__(self) -> None:
        super().__init__()
        self.num_attention_heads = 2
        self.query, self.key, self.value = (nn.Linear(3, 4) for _ in range(3))
        self.dense = nn.Linear(4, cases.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.query(x) @ self.key(x).mT, dim=-1)
        return self.dense((weights @ self.value(x)).mean(1))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, cases.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embedding(x).mean(1)))


def made(model: nn.Module, shape: tuple[int, ...], n: int = 11) -> Problem:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.5)
    x, y = cases.features(shape, n, seed=0)
    if isinstance(model, Tokens):
        x = (x * 10).long() % 4  # the fifth token never occurs
    return Problem(model.double(), TensorDataset(x, y))


def test_every_selector_of_the_registries_is_tested_here() -> None:
    from gifcore import study

    assert list(SELECTORS) == list(cases.SELECTORS)
    assert study.SELECTORS.items() <= {n: row.text for n, row in SELECTORS.items()}.items()
    assert all(row.text and "\n" not in row.text for row in SELECTORS.values())


# --- scores ---------------------------------------------------------------------------------------


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


# --- rules ----------------------------------------------------------------------------------------


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


def scored_blocks(
    problem: Problem, layers: list[list[list[int]]]
) -> list[list[tuple[float | None, list[int]]]]:
    """The blocks of every layer with the score that the row `caps` gives them."""
    blocks = list(itertools.chain(*layers))
    found = iter(oracles.caps_scores(problem, target(problem), blocks, scores.CAPS_BATCH))
    return [[(next(found), block) for block in layer] for layer in layers]


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


# --- which layers ---------------------------------------------------------------------------------


def blocks_of(selected: Selection) -> dict[str, int]:
    return {name: count for name, count in selected.by_layer().items() if count}


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


# --- attention and embeddings ---------------------------------------------------------------------


def heads(layer: Layer) -> list[list[int]]:
    return [block.tolist() for block in layer.blocks()]


def test_a_packed_attention_has_heads_of_queries_keys_and_values() -> None:
    problem = made(Attention(), (3, 2))
    layer = layers_of(problem.model, problem.space)["attention.in_proj"]
    weight = problem.space.by_name["attention.in_proj_weight"].offset
    bias = problem.space.by_name["attention.in_proj_bias"].offset
    assert (layer.kind, layer.units, layer.size) == ("linear", 12, 60)
    expected = [
        sorted([weight + 4 * r + c for r in rows for c in range(4)] + [bias + r for r in rows])
        for rows in ([0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11])
    ]
    assert [sorted(block) for block in heads(layer)] == expected
    found = scores.caps_blocks(problem, CHANGE.samples(problem), [layer], batch_size=4)
    expected_scores = oracles.caps_scores(problem, target(problem), expected, 4)
    assert None not in expected_scores
    np.testing.assert_allclose(found["attention.in_proj"], expected_scores, rtol=1e-9)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("selector", ["caps", "reverse-caps"])
def test_caps_takes_whole_heads(selector: str, budget: str) -> None:
    problem = made(Attention(), (3, 2))
    found = select(problem, CHANGE, selector=selector, ratio=0.5, budget=budget)
    layers = layers_of(problem.model, problem.space)
    names = [name for name in layers if layers[name].kind in ("conv", "linear")]
    expected = oracles.greedy_rule(
        scored_blocks(problem, [heads(layers[name]) for name in names]),
        0.5,
        highest=selector == "caps",
        split=budget == "layer",
    )
    assert set(found.indices.tolist()) == expected
    share = found.by_unit("attention.in_proj").view(6, 2)
    assert set(share.flatten().tolist()) == {0.0, 1.0}
    assert torch.equal(share[:, 0], share[:, 1])


def test_an_attention_with_separate_projections() -> None:
    problem = made(Attention(kdim=6), (3, 2))
    layers = layers_of(problem.model, problem.space)
    sizes = {n: (layer.units, layer.fan_in) for n, layer in layers.items() if "_proj" in n}
    assert sizes == {
        "attention.out_proj": (4, 4),
        "attention.in_proj": (12, 0),  # the bias alone
        "attention.q_proj": (4, 4),
        "attention.k_proj": (4, 6),
        "attention.v_proj": (4, 4),
    }
    assert [len(block) for block in heads(layers["attention.k_proj"])] == [12, 12]
    chosen = select(problem, CHANGE, selector="all").by_layer()
    assert all(chosen[b.name] == b.size for b in problem.space.blocks if "norm" not in b.name)
    half = select(problem, CHANGE, selector="highest-k-magnitude", layers=["attention.k_proj"],
                  ratio=0.25)  # fmt: skip
    rows = problem.model.attention.k_proj_weight.abs().mean(1)
    assert half.by_unit("attention.k_proj").tolist() == [float(r == rows.max()) for r in rows]


def test_heads_of_projections_that_are_linear_layers() -> None:
    problem = made(Named(), (3, 3))
    layers = layers_of(problem.model, problem.space)
    assert {name: len(heads(layer)) for name, layer in layers.items()} == {
        "query": 2, "key": 2, "value": 2, "dense": 3,
    }  # fmt: skip
    assert heads(layers["key"])[1] == [22, 23, 24, 30, 25, 26, 27, 31]


def test_scores_of_outputs_leave_attention_projections_out_but_not_silently() -> None:
    problem = made(Attention(), (3, 2))
    found = blocks_of(select(problem, CHANGE, selector="highest-k-outputs", ratio=0.5))
    assert set(found) == {"embed.weight", "embed.bias", "last.weight", "last.bias"}
    with pytest.raises(GifError, match="cannot score layer 'attention.in_proj'"):
        select(problem, CHANGE, selector="highest-k-outputs", layers=["attention.in_proj"])
    for selector in ("random", "highest-k-fisher", "highest-k-magnitude", "caps"):
        some = blocks_of(select(problem, CHANGE, selector=selector, ratio=0.5))
        assert {"attention.in_proj_weight", "attention.out_proj.weight"} <= set(some)


def test_entries_of_an_embedding_are_units() -> None:
    problem = made(Tokens(), (4,))
    assert set(blocks_of(select(problem, CHANGE, selector="all"))) == {"head.weight", "head.bias"}
    embedding = ["embedding"]
    fisher = select(problem, CHANGE, selector="lowest-k-fisher", kinds=embedding, ratio=0.2)
    assert fisher.indices.tolist() == [12, 13, 14]  # the token that never occurs
    caps = select(problem, CHANGE, selector="reverse-caps", kinds=embedding, ratio=1.0)
    assert caps.indices.tolist() == list(range(12))  # its block is dead
    with pytest.raises(GifError, match="cannot score layer 'embedding'"):
        select(problem, CHANGE, kinds=embedding)


# --- Selection ------------------------------------------------------------------------------------


def by_hand(indices: list[int], name: str = "batch norm") -> Selection:
    return Selection(torch.tensor(indices), cases.problem(name).space, "by hand", 0.1, 0)


def test_coverage_by_layer_and_by_unit() -> None:
    """Blocks of 12 (3 units of 4), 3 + 3 and 81 + 3 (3 units of 27 + 1)."""
    selected = by_hand([0, 4, 5, 6, 7, 12, 14, 17, 18, 100])
    assert selected.by_layer() == {
        "0.weight": 5, "1.weight": 2, "1.bias": 1, "4.weight": 1, "4.bias": 1,
    }  # fmt: skip
    assert selected.coverage() == {"0": 5 / 12, "1": 3 / 6, "4": 2 / 84}
    assert selected.by_unit("0").tolist() == [1 / 4, 1.0, 0.0]
    assert selected.by_unit("1").tolist() == [1 / 2, 0.0, 1.0]
    assert selected.by_unit("4").tolist() == [1 / 28, 1 / 28, 0.0]
    with pytest.raises(GifError, match="Unknown layer '2'; there are: '0', '1', '4'"):
        selected.by_unit("2")


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_selection_reproduces_itself(selector: str) -> None:
    problem = cases.problem("batch norm")
    options = {"seed": 4, "layers": ["0", "1"], "norms": True, "budget": "global"}
    for more in ({}, options, {"kinds": ("linear", "norm")}):
        first = select(problem, CHANGE, selector=selector, ratio=0.4, **more)
        again = select(problem, CHANGE, **first.reproduces)
        assert torch.equal(first.indices, again.indices)
        assert first.reproduces == again.reproduces
    with pytest.raises(GifError, match="Unknown selector 'by hand'"):
        select(problem, CHANGE, **by_hand([1]).reproduces)


def test_saved_and_loaded(tmp_path: Path) -> None:
    problem = cases.problem("batch norm")
    options = {"layers": ["0", "1"], "kinds": ["conv", "norm"], "budget": "global"}
    for number, selected in enumerate(
        [
            select(problem, CHANGE, ratio=0.4, seed=2, **options),
            select(problem, CHANGE, selector="all"),
            by_hand([3, 5]),
        ]
    ):
        path = tmp_path / f"{number}.safetensors"
        selected.save(path)
        loaded = Selection.load(path, problem.space)
        assert torch.equal(loaded.indices, selected.indices)
        assert loaded.reproduces == selected.reproduces
        assert loaded.space == selected.space
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{i}.safetensors" for i in range(3)]


def test_files_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    problem = cases.problem("batch norm")
    by_hand([3, 5]).save(path)
    other = r"another model: its tensor 1 is '0.weight' of shape \(3, 1, 2, 2\), this model has"
    with pytest.raises(GifError, match=other):
        Selection.load(path, cases.problem("perceptron").space)
    longer = ParameterSpace.of(nn.ModuleList([*problem.model, nn.Linear(1, 1)]).double())
    with pytest.raises(GifError, match="it has 5 tensors, this model 7"):
        Selection.load(path, longer)
    shorter = ParameterSpace.of(problem.model[:2])
    with pytest.raises(GifError, match=r"its tensor 4 is '4.weight' .* no more"):
        Selection.load(path, shorter)
    with pytest.raises(GifError, match="There is no selection"):
        Selection.load(tmp_path / "none", problem.space)
    with pytest.raises(GifError, match="There is no folder"):
        by_hand([3]).save(tmp_path / "none" / "one")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(GifError, match="is damaged"):
        Selection.load(damaged, problem.space)
    save_file({"indices": torch.tensor([1])}, damaged)
    with pytest.raises(GifError, match="is not a selection"):
        Selection.load(damaged, problem.space)
    save_file({"indices": torch.tensor([1])}, damaged, {"format": "gif-studio selection 1"})
    with pytest.raises(GifError, match="is damaged"):
        Selection.load(damaged, problem.space)


@pytest.mark.parametrize(
    ("indices", "sentence"),
    [
        (torch.tensor([], dtype=torch.long), "selection is empty"),
        (torch.tensor([3, 3]), "Index 3 is selected twice"),
        (torch.tensor([4, 3]), "not sorted"),
        (torch.tensor([-1, 3]), "Selected index -1 is out of range; indices are 0 … 101"),
        (torch.tensor([3, 102]), "Selected index 102 is out of range"),
        (torch.tensor([True, False]), "mask.nonzero"),
        (torch.tensor([[1, 2]]), r"shape \(1, 2\), expected torch.int64 of shape \(k,\)"),
        (torch.tensor([1.0]), "are torch.float32"),
    ],
)
def test_indices_that_are_refused(indices: Tensor, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        Selection(indices, cases.problem("batch norm").space, "by hand", 0.1, 0)


def test_a_selection_of_everything_says_so() -> None:
    assert by_hand(list(range(102))).advice.startswith("Every parameter is selected")
    assert by_hand(list(range(101))).advice == ""


# --- refusals -------------------------------------------------------------------------------------


def test_hooks_are_gone_even_after_an_error() -> None:
    problem = cases.problem("batch norm")
    problem.train.tensors[0][2] = float("nan")

    def failing(*_: object) -> torch.Tensor:
        raise RuntimeError("in the loss")

    broken = Problem(problem.model, problem.train, loss=failing)
    with pytest.raises(RuntimeError, match="in the loss"):
        select(broken, CHANGE)
    assert not any(module._forward_hooks for module in problem.model.modules())
    for selector, what in (
        ("threshold", "inputs"), ("highest-k-fisher", "Fisher"), ("caps", "gradient"),
    ):  # fmt: skip
        with pytest.raises(GifError, match=f"{what}.* NaN or infinity"):
            select(problem, CHANGE, selector=selector)
        assert not any(module._forward_hooks for module in problem.model.modules())


@pytest.mark.parametrize("selector", [n for n, (of, _) in cases.SELECTORS.items() if of])
def test_progress_is_told_and_can_cancel(selector: str) -> None:
    problem, told = cases.problem("convolution"), []
    select(problem, CHANGE, selector=selector, ratio=0.3, progress=lambda *t: told.append(t))
    assert (told[-1][0] == told[-1][1]) if told else selector.endswith("magnitude")

    def cancel(*_: object) -> None:
        raise Cancelled

    if told:
        with pytest.raises(Cancelled):
            select(problem, CHANGE, selector=selector, ratio=0.3, progress=cancel)
        assert not any(module._forward_hooks for module in problem.model.modules())


@pytest.mark.parametrize("ratio", [0, -0.1, 1.0001, 5, float("nan"), float("inf")])
def test_an_impossible_ratio(ratio: float) -> None:
    with pytest.raises(GifError, match=r"choose one above 0 and at most 1"):
        select(cases.problem("convolution"), CHANGE, ratio=ratio)


def test_other_refusals() -> None:
    problem = cases.problem("convolution")
    with pytest.raises(GifError, match="Unknown selector 'top'; choose one of: highest-k-grad"):
        select(problem, CHANGE, selector="top")
    for selector in SELECTORS:
        if selector != "all":
            with pytest.raises(GifError, match="selects no parameter"):
                select(problem, CHANGE, selector=selector, ratio=1e-6)
    norm = Problem(nn.BatchNorm1d(3).double(), cases.queries("perceptron"))
    with pytest.raises(GifError, match="no convolution or linear layer"):
        select(norm, RemoveSamples([0]))
    for selector in by_rule("exclusive-k"):
        with pytest.raises(GifError, match="works up to 0.5"):
            select(problem, CHANGE, selector=selector, ratio=0.51)
    with pytest.raises(GifError, match="touches every training sample"):
        select(problem, RemoveSamples(range(13)), selector="caps")
    with pytest.raises(GifError, match="names no training sample"):
        mean_outputs(problem, torch.tensor([], dtype=torch.long))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layers": ["fc"]}, "Unknown name 'fc' in `layers`; there are: '0', '4', '1'"),
        ({"kinds": ["dense"]}, "Unknown name 'dense' in `kinds`; there are: 'conv', 'linear'"),
        ({"kinds": ["embedding"]}, "no layer of kind 'embedding'; its kinds are: conv, linear, n"),
        ({"layers": []}, r"`layers` is \[\]; give a list of names"),
        ({"layers": "0"}, "`layers` is '0'; give a list of names"),
        ({"layers": ["1"], "kinds": ["conv"]}, "'1' is of kind 'norm', which `kinds` leaves out"),
        ({"budget": "both"}, "Unknown budget 'both'; choose one of: layer, global"),
    ],
)
def test_filters_that_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        select(cases.problem("batch norm"), CHANGE, **options)

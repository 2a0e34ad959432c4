"""Heads of attention and entries of embeddings as units."""

import numpy as np
import pytest
import torch

from gifcore.errors import GifError
from gifcore.selection import scores, select
from gifcore.selection.layers import Layer, layers_of
from tests import oracles
from tests.selection.shared import (
    BUDGETS,
    CHANGE,
    Attention,
    Named,
    Tokens,
    blocks_of,
    made,
    scored_blocks,
    target,
)


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

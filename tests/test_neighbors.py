"""FastIF: features, the index against brute force, candidates against the full ranking."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from gifcore.checkpoints import Checkpoint
from gifcore.curved import curvature
from gifcore.errors import GifError
from gifcore.features import features
from gifcore.neighbors import NeighborIndex, rank_nearest
from gifcore.problem import Problem
from gifcore.scoring import Queries, rank
from gifcore.solvers import LSMR, MINRES
from tests import cases
from tests.test_influence import chosen

# --- features ------------------------------------------------------------------------------------


def row_by_row(data: Any, until: Any) -> Tensor:
    return torch.stack([until(data[i][0][None])[0].flatten() for i in range(len(data))]).detach()


@pytest.mark.parametrize("batch_size", cases.BATCH_SIZES)
def test_features_are_what_the_layers_make_of_one_sample_at_a_time(batch_size: int) -> None:
    problem = cases.problem("convolution")
    conv, tanh, flat, last = problem.model
    expected = {
        None: lambda x: flat(tanh(conv(x))),
        "0": conv,
        "1": lambda x: tanh(conv(x)),
        "3": lambda x: last(flat(tanh(conv(x)))),
    }
    for layer, until in expected.items():
        found = torch.cat(list(features(problem, layer, batch_size=batch_size)))
        torch.testing.assert_close(found, row_by_row(problem.train, until))
    others, some = cases.queries("convolution"), torch.tensor([3, 0])
    (found,) = features(problem, data=others, indices=some)
    torch.testing.assert_close(found, row_by_row(others, expected[None])[some])


class Overwritten(nn.Module):
    """Its first layer's output is overwritten by what comes after."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.relu(self.first(x)))


def test_the_model_is_read_as_it_is_and_left_so() -> None:
    x, y = cases.features((3,), 7, seed=0)
    model = nn.Sequential(nn.Dropout(0.9), Overwritten().double()).train()
    problem = Problem(model, TensorDataset(x, y))
    found = torch.cat(list(features(problem, "1.first")))
    torch.testing.assert_close(found, model[1].first(x).detach())
    assert bool((found < 0).any())
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_layers_without_features_are_named() -> None:
    problem = cases.problem("attention")
    with pytest.raises(GifError, match=r"no layer 'head'.*embedding, norm, attention.*, last\."):
        list(features(problem, "head"))
    assert torch.cat(list(features(problem, "attention"))).shape == (6, 12)  # of a tuple the first
    x, y = cases.features((3,), 5, seed=0)
    problem = Problem(Overwritten().double(), TensorDataset(x, y))
    with pytest.raises(GifError, match="'unused' gives no row for each sample"):
        list(features(problem, "unused"))
    without = Problem(nn.Sequential(nn.Conv1d(1, 3, 3), nn.Flatten()).double(), TensorDataset(x, y))
    with pytest.raises(GifError, match="last linear layer.* has none; name a layer: 0, 1"):
        list(features(without, indices=torch.tensor([0])))
    x[2, 1] = torch.nan
    with pytest.raises(GifError, match="features of sample 2 hold NaN"):
        NeighborIndex.build(Problem(Overwritten().double(), TensorDataset(x, y)))
    x[2, 1] = 1e300
    with pytest.raises(GifError, match="beyond 3e38"):
        NeighborIndex.build(Problem(Overwritten().double(), TensorDataset(x, y)), layer="first")


# --- the index -----------------------------------------------------------------------------------


def clustered(n: int = 1500, d: int = 6) -> Problem:
    """A linear model, whose features are its inputs; every eleventh sample is the one before."""
    x, y = cases.features((d,), n, seed=5)
    x = x + 4 * y[:, None]
    x[11::11] = x[10:-1:11]
    model = nn.Linear(d, 3).double()
    nn.init.constant_(model.weight, 0.5)
    nn.init.zeros_(model.bias)
    return Problem(model, TensorDataset(x, y))


def brute_force(problem: Problem, rows: Tensor, k: int) -> np.ndarray:
    """Positions by distance in float32 as faiss has it, then by position."""
    x = problem.train.tensors[0][problem.positions].numpy().astype(np.float32)
    order = [
        np.lexsort((np.arange(len(x)), ((x - row) ** 2).sum(axis=1, dtype=np.float64)))
        for row in rows.numpy().astype(np.float32)
    ]
    return problem.positions.numpy()[np.stack(order)][:, :k]


def shared(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(one, other, strict=True)]))


@pytest.mark.parametrize("k", [1, 7, 300, 1500])
@pytest.mark.parametrize("kind", ["Flat", "IVF", "HNSW"])
def test_candidates_are_those_of_brute_force(kind: str, k: int) -> None:
    """Exactly for Flat, and for all k = n; else all but a few."""
    problem = clustered()
    rows = cases.features((6,), 4, seed=9)[0] + 2
    index = NeighborIndex.build(problem, kind=kind, batch_size=400)
    found = index.candidates(rows, k).numpy()
    expected = brute_force(problem, rows, k)
    if kind == "Flat" or k == problem.n:
        np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(expected, axis=1))
    else:
        assert shared(expected, found) > 0.9
    x = problem.train.tensors[0]
    distances = (x[found] - rows[:, None]).square().sum(dim=2)
    assert bool((distances.diff(dim=1) > -1e-4).all())  # nearest first
    assert all(len(set(row)) == k for row in found.tolist())
    one_by_one = [index.candidates(row[None], k)[0].numpy() for row in rows]
    np.testing.assert_array_equal(found, one_by_one)


@pytest.mark.parametrize("kind", ["IVF", "HNSW"])
def test_an_index_is_built_the_same_again(kind: str) -> None:
    one, other = (NeighborIndex.build(clustered(400), kind=kind, seed=3) for _ in range(2))
    rows = cases.features((6,), 3, seed=9)[0]
    assert torch.equal(one.candidates(rows, 40), other.candidates(rows, 40))


def test_a_narrowed_problem_gives_its_own_positions() -> None:
    narrow = clustered(60).narrowed(torch.tensor([50, 3, 41, 7, 22]))
    index = NeighborIndex.build(narrow)
    rows = cases.features((6,), 3, seed=9)[0]
    np.testing.assert_array_equal(index.candidates(rows, 4).numpy(), brute_force(narrow, rows, 4))


def test_a_group_asks_by_its_mean_feature() -> None:
    problem = cases.problem("convolution")
    index, data = NeighborIndex.build(problem), cases.queries("convolution")
    found = index.query_features(problem, Queries(data, [[1, 4, 2], [3]]))
    alone = torch.cat(list(features(problem, data=data, indices=torch.arange(5))))
    torch.testing.assert_close(found, torch.stack([alone[[1, 2, 4]].mean(0), alone[3]]))


@pytest.mark.parametrize(
    ("rows", "k", "sentence"),
    [
        (torch.zeros(1, 6), 61, "k is 61; choose 1 … 60"),
        (torch.zeros(1, 6), 0, "k is 0"),
        (torch.zeros(0, 6), 3, "There is no query"),
        (torch.zeros(2, 5), 3, r"shape \(2, 5\); give one row of 6 numbers"),
        (torch.full((1, 6), torch.inf), 3, "hold NaN, infinity"),
    ],
)
def test_what_cannot_be_asked(rows: Tensor, k: int, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        NeighborIndex.build(clustered(60)).candidates(rows, k)


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(GifError, match="Unknown kind of index 'LSH'; choose one of: Flat, IVF"):
        NeighborIndex.build(clustered(60), kind="LSH")


# --- saved and loaded ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Flat", "IVF", "HNSW"])
def test_an_index_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    problem = clustered(200)
    index = NeighborIndex.build(problem, kind=kind)
    index.save(tmp_path / "a" / "near.faiss")
    card = json.loads((tmp_path / "a" / "near.json").read_text())
    assert {name: card[name] for name in ("kind", "n", "dim", "layer")} == {
        "kind": kind, "n": 200, "dim": 6, "layer": None,
    }  # fmt: skip
    assert all(len(card[name]) == 64 for name in ("model", "data", "file"))
    again = NeighborIndex.load(tmp_path / "a" / "near.faiss", clustered(200))
    rows = cases.features((6,), 3, seed=9)[0]
    assert torch.equal(again.candidates(rows, 50), index.candidates(rows, 50))


def other_weights(problem: Problem) -> Problem:
    model = nn.Linear(6, 3).double()
    model.load_state_dict(problem.model.state_dict())
    with torch.no_grad():
        model.bias[1] += 1e-9
    return Problem(model, problem.train)


def other_input(problem: Problem) -> Problem:
    x, y = (tensor.clone() for tensor in problem.train.tensors)
    x[17, 2] += 1e-9
    return Problem(problem.model, TensorDataset(x, y))


def other_order(problem: Problem) -> Problem:
    return problem.narrowed(problem.positions.flip(0))


OTHERS = {
    "weights": (other_weights, "another model"),
    "module": (lambda p: Problem(nn.Sequential(p.model), p.train), "another model"),
    "input": (other_input, "other training samples"),
    "order": (other_order, "other training samples"),
    "fewer": (lambda p: p.narrowed(p.positions[:-1]), "other training samples"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_an_index_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    problem = clustered(60)
    index = NeighborIndex.build(problem)
    index.save(tmp_path / "near.faiss")
    change, sentence = OTHERS[name]
    for ask in (index.refuse_other, lambda p: NeighborIndex.load(tmp_path / "near.faiss", p)):
        with pytest.raises(GifError, match=sentence):
            ask(change(problem))
        ask(Problem(problem.model, TensorDataset(*problem.train.tensors)))
    relabelled = TensorDataset(problem.train.tensors[0], 1 - problem.train.tensors[1])
    index.refuse_other(Problem(problem.model, relabelled))  # labels have no part in features


def test_buffers_are_part_of_the_model() -> None:
    problem = cases.problem("batch norm")
    index = NeighborIndex.build(problem)
    other = cases.problem("batch norm")
    other.model[1].running_mean += 0.1
    with pytest.raises(GifError, match="another model"):
        index.refuse_other(Problem(other.model, problem.train))


@pytest.mark.parametrize("data", ["dict batches", "tuple of inputs", "attention"])
def test_hashes_read_every_kind_of_batch(data: str) -> None:
    problem = cases.problem(data)
    index = NeighborIndex.build(problem, layer="left" if data == "dict batches" else "last")
    row = (cases.PROBLEMS | cases.ANY_MODEL)[data]
    same, other = (
        Problem(problem.model, cases.samples(row, problem.n, seed), loss=problem.loss)
        for seed in (0, 1)
    )
    index.refuse_other(same)
    with pytest.raises(GifError, match="other training samples"):
        index.refuse_other(other)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    problem, path = clustered(60), tmp_path / "near.faiss"
    with pytest.raises(GifError, match=r"near.faiss has no card near.json"):
        NeighborIndex.load(path, problem)
    NeighborIndex.build(problem).save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(GifError, match="is not the file its card was written for"):
        NeighborIndex.load(path, problem)
    path.unlink()
    with pytest.raises(GifError, match="cannot be read"):
        NeighborIndex.load(path, problem)
    path.with_suffix(".json").write_text('{"kind": "Flat"}')
    with pytest.raises(GifError, match="no card near.json that can be read"):
        NeighborIndex.load(path, problem)
    with pytest.raises(GifError, match="another ending"):
        NeighborIndex.build(problem).save(tmp_path / "near.json")
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(GifError, match="Cannot write near.faiss"):
        NeighborIndex.build(problem).save(blocked / "near.faiss")


# --- scores of candidates ------------------------------------------------------------------------

GROUPS = [[0], [1, 2, 3], [4]]


def weighted(problem: Problem) -> Problem:
    weights = 0.5 + torch.arange(len(problem.train)) % 4
    narrow = torch.arange(len(problem.train)).flip(0)[:-2]
    return Problem(
        problem.model, problem.train, loss=problem.loss, weight_decay=problem.weight_decay,
        weights=weights, samples=narrow,
    )  # fmt: skip


@pytest.mark.parametrize("method", [*cases.METHODS, "ekfac", "datainf", "hyperinf"])
@pytest.mark.parametrize("k", [1, 6])
def test_scores_are_those_entries_of_the_full_ranking(method: str, k: int) -> None:
    problem = weighted(cases.problem("convolution"))
    queries = Queries(cases.queries("convolution"), GROUPS)
    index = NeighborIndex.build(problem)
    shared = {
        "method": method, "selected": chosen(problem), "curvature": curvature(problem, damping=0.1),
        "solver": LSMR(6, 0.0), "batch_size": 4,
    }  # fmt: skip
    near = rank_nearest(problem, queries, k=k, index=index, **shared)
    full = rank(problem, queries, **shared)
    assert near.candidates.tolist() == index.candidates(
        index.query_features(problem, queries), k
    ).tolist()  # fmt: skip
    place = {int(i): column for column, i in enumerate(full.train_indices)}
    for row in range(3):
        columns = [place[int(i)] for i in near.candidates[row]]
        torch.testing.assert_close(
            near.values[row], full.values[row, columns], rtol=1e-6, atol=1e-10
        )
    spread = near.spread(full.train_indices)
    known = ~spread.isnan()
    assert known.sum(dim=1).tolist() == [k] * 3
    torch.testing.assert_close(spread[known], full.values[known], rtol=1e-6, atol=1e-10)
    for one, other in zip(near.solutions, full.solutions, strict=True):
        assert (one.status, one.iterations, one.residual) == (
            other.status, other.iterations, other.residual,
        )  # fmt: skip
        assert one.halfway is None
        assert (one.rank_stability is None) == (other.rank_stability is None)


def test_rank_stability_is_that_among_the_candidates() -> None:
    problem = clustered(200)
    queries, index = Queries(problem.train, [[3], [77]]), NeighborIndex.build(problem)
    shared = {
        "method": "if",
        "solver": MINRES(4, 0.0),
        "curvature": curvature(problem, damping=1e-3),
    }
    near = rank_nearest(problem, queries, k=200, index=index, **shared)
    full = rank(problem, queries, **shared)
    found = [[s.rank_stability for s in scores.solutions] for scores in (near, full)]
    assert found[0] == found[1]
    assert min(found[0]) < 1
    few = rank_nearest(problem, queries, k=50, index=index, **shared)
    assert [s.rank_stability for s in few.solutions] == [1.0, 1.0]  # the top 50 of 50


@pytest.mark.parametrize("name", ["attention", "dict batches", "recurrent"])
def test_any_model_has_candidates_and_the_gradient_beside_them(name: str) -> None:
    problem, queries = cases.problem(name), Queries(cases.queries(name), [[2], [0, 1]])
    layer = {"dict batches": "left"}.get(name)
    index = NeighborIndex.build(problem, layer=layer)
    found = rank_nearest(problem, queries, k=4, index=index, method="if", solver=LSMR(5, 0.0))
    for method, values in (("if", found.values), ("gradient", found.control)):
        full = rank(problem, queries, method=method, solver=LSMR(5, 0.0)).values
        torch.testing.assert_close(values, full.gather(1, found.candidates), rtol=1e-6, atol=1e-10)
    gbar = problem.data_gradient(problem.positions)
    torch.testing.assert_close(found.mean_gradient, gbar)
    again = rank_nearest(
        problem, queries, k=4, index=index, method="if", solver=LSMR(5, 0.0), mean_gradient=gbar
    )
    torch.testing.assert_close(again.values, found.values)
    row = found.row(1)
    best = row.values[0].argmax()
    assert found.helpful(1, 1) == [(int(found.candidates[1, best]), float(row.values[0, best]))]
    worst = row.values[0].argmin()
    assert found.harmful(1, 1) == [(int(found.candidates[1, worst]), float(row.values[0, worst]))]
    assert abs(found.top(1)[0][1]) == float(row.values.abs().max())


def test_tracin_sums_over_its_checkpoints() -> None:
    problem = cases.problem("convolution")
    queries = Queries(cases.queries("convolution"), GROUPS)
    points = [
        Checkpoint(problem.theta + 0.1 * cases.random_vector(problem.space.size, seed), 0.1, 3)
        for seed in range(2)
    ]
    index = NeighborIndex.build(problem)
    found = rank_nearest(problem, queries, k=6, index=index, method="tracin", checkpoints=points)
    full = rank(problem, queries, method="tracin", checkpoints=points)
    torch.testing.assert_close(found.values, full.values.gather(1, found.candidates))
    control = rank(problem, queries, method="gradient").values.gather(1, found.candidates)
    torch.testing.assert_close(found.control, control)
    assert any("sum over 2 checkpoints" in note for note in found.solutions[0].notes)
    with pytest.raises(GifError, match="tracin needs checkpoints"):
        rank_nearest(problem, queries, k=6, index=index, method="tracin")


def test_what_cannot_be_ranked() -> None:
    problem = cases.problem("perceptron")
    queries, index = Queries(cases.queries("perceptron"), [[0]]), NeighborIndex.build(problem)
    with pytest.raises(GifError, match="k is 12; choose 1 … 11"):
        rank_nearest(problem, queries, k=12, index=index)
    with pytest.raises(GifError, match="another model"):
        rank_nearest(cases.problem("perceptron", seed=1), queries, k=2, index=index)
    with pytest.raises(GifError, match=r"mean gradient has shape \(3,\); .* \(31,\)"):
        rank_nearest(problem, queries, k=2, index=index, mean_gradient=torch.zeros(3))
    with pytest.raises(GifError, match="second-order is an update"):
        rank_nearest(problem, queries, k=2, index=index, method="second-order")

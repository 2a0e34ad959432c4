"""Per-sample influence: forward mode against loops, invariances, and real refits."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from gifcore.change import RemoveSamples
from gifcore.curved import curvature
from gifcore.errors import Cancelled, GifError
from gifcore.gradient_products import Directions, gradient_products, way_of
from gifcore.influence import embedded, influence
from gifcore.problem import Problem, cross_entropy
from gifcore.scoring import Queries, influence_scores, rank
from gifcore.solvers import LSMR
from tests import cases, oracles
from tests.test_influence import CONVERGED, chosen, refitted


@pytest.mark.parametrize("batch_size", cases.BATCH_SIZES)
@pytest.mark.parametrize("name", cases.PROBLEMS)
def test_forward_mode_is_the_loop_over_per_sample_gradients(name: str, batch_size: int) -> None:
    problem = cases.problem(name)
    s = cases.random_vector(problem.space.size)
    gradients = oracles.train_gradients(problem)
    products = gradient_products(problem, s, batch_size=batch_size)
    np.testing.assert_allclose(products, gradients @ s.numpy(), rtol=1e-10, atol=1e-11)
    scores = influence_scores(problem, s, batch_size=batch_size)
    np.testing.assert_allclose(scores, oracles.scores(s.numpy(), gradients), rtol=1e-9, atol=1e-12)
    assert abs(float(scores.sum())) < 1e-10


def test_order_of_the_training_set_only_permutes_the_scores() -> None:
    problem = cases.problem("convolution")
    order = torch.randperm(13, generator=torch.Generator().manual_seed(0))
    x, y = problem.train.tensors
    shuffled = Problem(problem.model, TensorDataset(x[order], y[order]), weight_decay=0.01)
    queries = Queries(cases.queries("convolution"), [[0], [1, 2, 3]])
    for method in cases.METHODS:
        one, two = (
            rank(p, queries, method=method, selected=chosen(p), solver=CONVERGED)
            for p in (problem, shuffled)
        )
        torch.testing.assert_close(one.values[:, order], two.values, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("method", cases.METHODS)
def test_batch_sizes_do_not_change_scores(method: str) -> None:
    """Neither of the ranking nor of the curvature; also at an early stop."""
    problem = cases.problem("convolution")
    queries = Queries(cases.queries("convolution"), [[1], [0, 4]])
    rows = []
    for batch_size in cases.BATCH_SIZES:
        curved = curvature(problem, batch_size=batch_size, memory_mb=batch_size % 2)
        found = rank(
            problem, queries, method=method, selected=chosen(problem), curvature=curved,
            batch_size=batch_size, solver=LSMR(4, 0, probes=4),
        )  # fmt: skip
        rows.append(found.values)
    for other in rows[1:]:
        torch.testing.assert_close(other, rows[0], rtol=1e-10, atol=1e-10)


def test_queries_together_are_queries_alone() -> None:
    problem, data = cases.problem("convolution"), cases.queries("convolution")
    both = rank(problem, Queries(data, [[0], [3]]), selected=chosen(problem))
    for row, query in enumerate(([0], [3])):
        alone = rank(problem, Queries(data, [query]), selected=chosen(problem))
        torch.testing.assert_close(both.values[row], alone.values[0], rtol=1e-12, atol=1e-14)
    assert len(both.solutions) == 2
    assert both.values.shape == (2, 13)


@pytest.mark.parametrize("method", cases.METHODS)
def test_a_group_query_is_the_mean_of_its_samples(method: str) -> None:
    problem, data = cases.problem("convolution"), cases.queries("convolution")
    found = rank(
        problem, Queries(data, [[1, 2, 4], [1], [2], [4]]), method=method,
        selected=chosen(problem), solver=CONVERGED,
    ).values  # fmt: skip
    torch.testing.assert_close(found[0], found[1:].mean(0), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", cases.METHODS)
@pytest.mark.parametrize("name", ["convolution", "perceptron with decay", "squared loss"])
def test_score_is_the_query_gradient_along_the_update_of_removing_that_sample(
    name: str, method: str
) -> None:
    """I(i, q) = g_q . delta of RemoveSamples([i]), with H held at the full set."""
    problem, data = cases.problem(name), cases.queries(name)
    curved, selected = curvature(problem), chosen(problem)
    scores = rank(
        problem, Queries(data, [[2]]), method=method, selected=selected, curvature=curved,
        solver=CONVERGED,
    ).values[0]  # fmt: skip
    g_q = torch.from_numpy(oracles.sample_gradients(problem, data, [2])[0])
    for i in (0, 4, problem.n - 1):
        update = influence(
            problem, RemoveSamples([i]), method=method, selected=selected, curvature=curved,
            curvature_of="full", solver=CONVERGED,
        )  # fmt: skip
        predicted = float(g_q @ embedded(update, problem.space.size))
        assert float(scores[i]) == pytest.approx(predicted, rel=1e-5, abs=1e-9)


@cache
def refits(kind: str) -> tuple[Problem, TensorDataset, np.ndarray]:
    """A convex problem at its optimum, queries, and the true change of each query's loss when
    each training sample is removed and the model is trained again to the end."""
    n = 100
    x, y = cases.features((4,), n, seed=1)
    y[8:16] = (y[8:16] + 1) % 3  # some wrong labels: harmful samples
    loss = {"logistic": cross_entropy, "ridge": cases.half_square}[kind]
    problem = refitted(
        Problem(nn.Linear(4, 3).double(), TensorDataset(x, y), loss=loss, weight_decay=0.1)
    )
    queries = TensorDataset(*cases.features((4,), 3, seed=2))
    base = oracles.theta_of(problem)
    changes = np.zeros((3, n))
    for i in range(n):
        theta = torch.from_numpy(oracles.refit(RemoveSamples([i]).apply(problem)))
        for q in range(3):
            before, after = (oracles.sample_loss(problem, t, queries[q]) for t in (base, theta))
            changes[q, i] = float(after - before)
    return problem, queries, changes


@pytest.mark.parametrize("method", ["if", "gif"])
@pytest.mark.parametrize("kind", ["logistic", "ridge"])
def test_scores_predict_what_real_refits_do(kind: str, method: str) -> None:
    """The sign, the size and the unit: the change of the query's loss in nats, as it is."""
    problem, queries, changes = refits(kind)
    found = rank(
        problem, Queries(queries, [[0], [1], [2]]), method=method, solver=CONVERGED
    ).values.numpy()
    for q in range(3):
        assert np.corrcoef(found[q], changes[q])[0, 1] > 0.99
        slope = float(found[q] @ changes[q] / (found[q] @ found[q]))
        assert slope == pytest.approx(1, abs=0.15)
        clear = np.abs(changes[q]) > 0.02 * np.abs(changes[q]).max()
        assert clear.sum() > 50
        assert (np.sign(found[q]) == np.sign(changes[q]))[clear].all()


def test_helpful_is_positive_and_listed_first() -> None:
    problem, queries, changes = refits("logistic")
    scores = rank(problem, Queries(queries, [[0]]), method="if", solver=CONVERGED)
    best, value = scores.helpful(0, 1)[0]
    assert best == int(changes[0].argmax())  # removing it raises the query's loss the most
    assert value > 0
    worst, value = scores.harmful(0, 1)[0]
    assert worst == int(changes[0].argmin())
    assert value < 0
    assert [v for _, v in scores.helpful(0, 100)] == sorted(scores.values[0].tolist(), reverse=True)
    sizes = [abs(v) for _, v in scores.top(0, 5)]
    assert sizes == sorted(scores.values[0].abs().tolist(), reverse=True)[:5]
    assert len(scores.helpful(0)) == 10


def test_a_narrowed_problem_names_its_samples_by_their_place_in_the_training_set() -> None:
    problem = cases.problem("convolution").narrowed(torch.tensor([2, 5, 6, 11]))
    scores = rank(problem, Queries(cases.queries("convolution"), [[0]]), method="gradient")
    assert scores.train_indices.tolist() == [2, 5, 6, 11]
    assert {i for i, _ in scores.helpful(0)} == {2, 5, 6, 11}
    s = scores.solutions[0].value.numpy()
    expected = oracles.scores(s, oracles.train_gradients(problem))
    np.testing.assert_allclose(scores.values[0], expected, rtol=1e-9, atol=1e-12)


def test_one_sharing_of_curvature_and_preconditioner() -> None:
    problem, data = cases.problem("convolution"), cases.queries("convolution")
    solver = LSMR(20, 0)
    scores = rank(problem, Queries(data, [[0], [1]]), selected=chosen(problem), solver=solver)
    assert len({s.preconditioner["seed"] for s in scores.solutions}) == 1
    assert all(s.samples == 13 for s in scores.solutions)
    assert all(s.curvature_of == "full" for s in scores.solutions)


@pytest.mark.parametrize("groups", [[], [[]], [[0], []]])
def test_no_queries(groups: list[list[int]]) -> None:
    with pytest.raises(GifError, match="quer"):
        Queries(cases.queries("convolution"), groups)


@pytest.mark.parametrize("index", [5, -1])
def test_a_query_that_is_not_there(index: int) -> None:
    with pytest.raises(GifError, match=f"no query sample {index}; positions are 0 … 4"):
        Queries(cases.queries("convolution"), [[0], [index]])


def test_scores_that_are_not_finite() -> None:
    problem = cases.problem("convolution")
    s = torch.full((problem.space.size,), 1e308, dtype=torch.float64)
    with pytest.raises(GifError, match="NaN or infinity"):
        influence_scores(problem, s)


def test_progress_counts_samples_and_can_cancel() -> None:
    problem = cases.problem("convolution")
    seen = []
    gradient_products(
        problem, problem.theta, batch_size=5, progress=lambda *now: seen.append(now[:2])
    )
    assert seen == [(5, 13), (10, 13), (13, 13)]

    def cancel(*_: object) -> None:
        raise Cancelled

    problem.model.train()
    with pytest.raises(Cancelled):
        gradient_products(problem, problem.theta, progress=cancel)
    assert problem.model.training


@pytest.mark.parametrize("batch_size", cases.BATCH_SIZES)
@pytest.mark.parametrize("name", cases.PROBLEMS)
def test_a_stack_of_vectors_is_every_vector_alone(name: str, batch_size: int) -> None:
    """Layer by layer where every layer allows it, else by forward mode: the same products."""
    problem = cases.problem(name)
    stack = torch.stack([cases.random_vector(problem.space.size, seed) for seed in range(3)])
    gradients = oracles.train_gradients(problem)
    products = gradient_products(problem, stack, batch_size=batch_size)
    np.testing.assert_allclose(products, stack.numpy() @ gradients.T, rtol=1e-9, atol=1e-11)


class Tied(nn.Module):
    """A weight that two layers share, a layer that is called twice, an activation in place."""

    def __init__(self, *, outside: bool) -> None:
        super().__init__()
        self.outside = outside
        self.first, self.second, self.last = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.overwrite = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.overwrite(self.first(self.overwrite(self.second(torch.tanh(self.first(x))))))
        return self.last(x) + (x @ self.last.weight if self.outside else 0)


@pytest.mark.parametrize("outside", [False, True])
def test_layers_that_share_and_weights_used_outside_of_their_layer(outside: bool) -> None:
    row = cases.PROBLEMS["perceptron"]
    problem = Problem(Tied(outside=outside).double(), cases.samples(row, 11, 0))
    stack = torch.stack([cases.random_vector(problem.space.size, seed) for seed in range(2)])
    directions = Directions(problem, stack)
    way = "forward mode" if outside else "layer by layer"
    assert way_of(problem, directions, problem.positions) == way
    gradients = oracles.train_gradients(problem)
    products = gradient_products(problem, stack, batch_size=4)
    np.testing.assert_allclose(products, stack.numpy() @ gradients.T, rtol=1e-9, atol=1e-11)
    assert not problem.model.first._forward_hooks


class NoForward(torch.autograd.Function):
    """A sine without a rule for forward mode."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return g * ctx.saved_tensors[0].cos()


class Sine(nn.Module):
    def __init__(self, *, outside: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, cases.CLASSES)
        self.outside = outside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = NoForward.apply(self.first(x))
        return self.last(x) * (self.last.bias.sum() if self.outside else 1)


@pytest.mark.parametrize("outside", [False, True])
def test_without_forward_mode_layers_or_single_gradients_do_it_and_it_is_said(
    outside: bool,
) -> None:
    row = cases.PROBLEMS["perceptron"]
    problem = Problem(Sine(outside=outside).double(), cases.samples(row, 11, 0))
    s = cases.random_vector(problem.space.size)
    gradients = oracles.train_gradients(problem)
    for given in (s, s[None]):
        products = gradient_products(problem, given, batch_size=4)
        np.testing.assert_allclose(
            products.reshape(-1), gradients @ s.numpy(), rtol=1e-9, atol=1e-11
        )
    found = rank(problem, Queries(cases.queries("perceptron"), [[0]]), solver=LSMR(5))
    said = [note for note in found.solutions[0].notes if "single gradients" in note]
    assert bool(said) is outside


class Padded(nn.Module):
    """torch's forward mode of an embedding moves the padding row, its gradient does not."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 3, padding_idx=0)
        self.last = nn.Linear(3, cases.CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.words(x).sum(1)))


def test_a_forward_mode_that_contradicts_the_gradient_is_not_used() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 5, (11, 4), generator=generator)
    x[:, 0] = 0
    y = torch.randint(0, cases.CLASSES, (11,), generator=generator)
    problem = Problem(Padded().double(), TensorDataset(x, y))
    s = cases.random_vector(problem.space.size)
    gradients = oracles.train_gradients(problem)
    products = gradient_products(problem, s, batch_size=4)
    np.testing.assert_allclose(products, gradients @ s.numpy(), rtol=1e-9, atol=1e-11)


class PaddedWords(nn.Module):
    """A bag of words whose padding, token 0, is not trained; the table may be the head too."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(5, 4, padding_idx=0), nn.Linear(4, 5, bias=False)
        if shared:
            self.last.weight = self.words.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.last(self.words(tokens).tanh().mean(1))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("shared", [False, True])
def test_the_row_of_padding_has_no_gradient_in_any_way_of_scoring(shared: bool, count: int) -> None:
    data = cases.samples(cases.ANY_MODEL["attention"], 11, 0)
    problem = Problem(PaddedWords(shared=shared).double().eval(), data)
    stack = torch.stack([cases.random_vector(problem.space.size, seed) for seed in range(count)])
    directions = Directions(problem, stack)
    fast = "forward mode" if count == 1 else "layer by layer"
    expected_way = "gradients in chunks" if shared else fast
    assert way_of(problem, directions, problem.positions[:4]) == expected_way
    expected = stack.numpy() @ oracles.train_gradients(problem).T
    found = gradient_products(problem, stack, batch_size=4)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_forward_mode_gives_no_parameter_a_tangent_of_all_parameters() -> None:
    """20 layers and 2 directions: room for a few copies of theta, not for one a layer."""
    model = nn.Sequential(*[nn.Linear(16, 16) for _ in range(20)]).double()
    x, y = cases.features((16,), 4, seed=0)
    problem = Problem(model, TensorDataset(x, y))
    stack = cases.random_vector(2 * problem.space.size).reshape(2, -1)
    gradient_products(problem, stack, way="forward mode")
    with torch.profiler.profile(profile_memory=True) as watched:
        gradient_products(problem, stack, way="forward mode")
    taken = sum(max(event.self_cpu_memory_usage, 0) for event in watched.key_averages())
    assert taken <= 10 * stack[0].nbytes

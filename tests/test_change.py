"""Changes of the training set: g = grad L - grad L', whatever the parameters.

The reference writes out the samples, labels and weights of L and of L' by hand and sums over them
one by one; it uses nothing of what the changes build.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from gifcore.change import (
    AddSamples,
    Change,
    Relabel,
    RemoveClass,
    RemoveSamples,
    Reweight,
    Union,
)
from gifcore.errors import GifError
from gifcore.problem import Problem, fetch, targets
from tests import cases, oracles

Entry = tuple[Any, float]  # (sample, weight)
Entries = dict[int, Entry]  # by position; added samples follow


def label(sample: Any) -> int:
    return int(sample["labels"] if isinstance(sample, dict) else sample[1])


def other_label(sample: Any, new: int) -> Any:
    if isinstance(sample, dict):
        return {"a": sample["a"], "b": sample["b"], "labels": torch.tensor(new)}
    return sample[0], torch.tensor(new)


def entries(problem: Problem) -> Entries:
    return {i: (problem.train[i], 1.0) for i in range(len(problem.train))}


# --- the table: a change of a problem, and the entries of L' by hand ------------------------------


def next_class(problem: Problem, indices: Sequence[int]) -> list[int]:
    return [(label(problem.train[i]) + 1) % cases.CLASSES for i in indices]


def relabel(problem: Problem, indices: Sequence[int] = (7, 0, 3)) -> Relabel:
    return Relabel(indices, next_class(problem, indices))


def addition(name: str, n: int = 4) -> AddSamples:
    return AddSamples(cases.samples(cases.PROBLEMS[name], n, 42 + n))


def without(e: Entries, gone: Callable[[int, Any], bool]) -> Entries:
    return {i: (sample, w) for i, (sample, w) in e.items() if not gone(i, sample)}


def with_next_class(e: Entries, indices: Sequence[int] = (7, 0, 3)) -> Entries:
    return e | {
        i: (other_label(e[i][0], (label(e[i][0]) + 1) % cases.CLASSES), e[i][1]) for i in indices
    }


def with_weights(e: Entries) -> Entries:
    return e | {i: (e[i][0], w) for i, w in WEIGHTS.items()}


def with_more(name: str, e: Entries, n: int = 4) -> Entries:
    data = cases.samples(cases.PROBLEMS[name], n, 42 + n)
    return e | {max(e) + 1 + i: (data[i], 1.0) for i in range(n)}


def all_at_once(name: str, e: Entries) -> Entries:
    e = with_weights(with_next_class(without(e, lambda i, _s: i == 4)))
    return with_more(name, with_more(name, e), 3)


WEIGHTS = {5: 0.25, 2: 3.0, 9: 1.0}
REWEIGHT = Reweight(list(WEIGHTS), list(WEIGHTS.values()))
Made = Callable[[str, Problem], Change]
ByHand = Callable[[str, Entries], Entries]
CHANGES: dict[str, tuple[Made, ByHand]] = {
    "one sample": (
        lambda _n, _p: RemoveSamples([4]),
        lambda _n, e: without(e, lambda i, _s: i == 4),
    ),
    "several, unsorted": (
        lambda _n, _p: RemoveSamples([7, 0, 3]),
        lambda _n, e: without(e, lambda i, _s: i in {0, 3, 7}),
    ),
    "all but the last": (
        lambda _n, p: RemoveSamples(range(p.n - 1)),
        lambda _n, e: without(e, lambda i, _s: i != max(e)),
    ),
    "a class": (
        lambda _n, _p: RemoveClass(1),
        lambda _n, e: without(e, lambda _i, s: label(s) == 1),
    ),
    "relabel": (lambda _n, p: relabel(p), lambda _n, e: with_next_class(e)),
    "relabel all": (
        lambda _n, p: relabel(p, range(p.n)),
        lambda _n, e: with_next_class(e, range(len(e))),
    ),
    "reweight": (lambda _n, _p: REWEIGHT, lambda _n, e: with_weights(e)),
    "add": (lambda n, _p: addition(n), with_more),
    "relabel and reweight the same": (
        lambda _n, p: relabel(p, [2, 5]) | REWEIGHT,
        lambda _n, e: with_weights(with_next_class(e, [2, 5])),
    ),
    "everything at once": (
        lambda n, p: RemoveSamples([4]) | relabel(p) | addition(n) | REWEIGHT | addition(n, 3),
        all_at_once,
    ),
    "replace all": (
        lambda n, p: RemoveSamples(range(p.n)) | addition(n),
        lambda n, e: without(with_more(n, e), lambda i, _s: i in e),
    ),
}


def objective_gradient(problem: Problem, samples: Entries) -> Tensor:
    """grad of sum w l / sum w + decay, one sample after the other."""
    theta = oracles.theta_of(problem).requires_grad_()
    value = 0.5 * problem.weight_decay * theta @ theta
    total = sum(w for _, w in samples.values())
    for sample, w in samples.values():
        value = value + w / total * oracles.sample_loss(problem, theta, sample)
    return torch.autograd.grad(value, theta)[0]


def objective_value(problem: Problem, samples: Entries) -> float:
    theta = oracles.theta_of(problem)
    total = sum(w for _, w in samples.values())
    data = sum(w * float(oracles.sample_loss(problem, theta, s)) for s, w in samples.values())
    return data / total + 0.5 * problem.weight_decay * float(theta @ theta)


def value_of(problem: Problem, *, batch_size: int) -> float:
    """L as the engine has it: its batches, weights and shares."""
    total = 0.0
    parameters = problem.space.unflatten(problem.theta)
    for part in problem.positions.split(batch_size):
        batch = fetch(problem.train, part, "cpu")
        losses = problem.losses(parameters, batch).detach()
        total += float((problem.shares()[part] * losses).sum())
    return total + 0.5 * problem.weight_decay * float(problem.theta @ problem.theta)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", cases.PROBLEMS)
def test_gradient_change_is_the_difference_of_the_two_objectives(name: str, change: str) -> None:
    problem = cases.problem(name)
    made, by_hand = CHANGES[change]
    before = entries(problem)
    after = by_hand(name, before)
    expected = objective_gradient(problem, before) - objective_gradient(problem, after)
    for batch_size in (1, 4, 1000):
        found = made(name, problem).gradient(problem, batch_size=batch_size)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert float(expected.norm()) > 1e-3


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["perceptron with decay", "unused parameters", "dict batches"])
def test_the_new_problem_has_the_changed_objective(name: str, change: str) -> None:
    problem = cases.problem(name)
    made, by_hand = CHANGES[change]
    changed = made(name, problem).apply(problem)
    expected = by_hand(name, entries(problem))
    assert changed.positions.tolist() == sorted(expected)
    for batch_size in (1, 3, 1000):
        assert value_of(changed, batch_size=batch_size) == pytest.approx(
            objective_value(problem, expected), rel=1e-12
        )


@pytest.mark.parametrize(
    ("change", "samples"),
    [
        ("several, unsorted", [0, 3, 7]),
        ("relabel", [0, 3, 7]),
        ("reweight", [2, 5, 9]),
        ("add", [11, 12, 13, 14]),
        ("everything at once", [0, 2, 3, 4, 5, 7, 9, 11, 12, 13, 14, 15, 16, 17]),
    ],
)
def test_the_changed_samples(change: str, samples: list[int]) -> None:
    problem = cases.problem("dict batches")
    assert CHANGES[change][0]("dict batches", problem).samples(problem).tolist() == samples


@pytest.mark.parametrize("change", CHANGES)
def test_weight_decay_cancels(change: str) -> None:
    without, with_decay = cases.problem("perceptron"), cases.problem("perceptron with decay")
    made = CHANGES[change][0]
    found = made("perceptron", without).gradient(without)
    assert torch.equal(found, made("perceptron", with_decay).gradient(with_decay))


@pytest.mark.parametrize("name", ["perceptron with decay", "dict batches"])
def test_closed_forms_of_the_docstring(name: str) -> None:
    problem = cases.problem(name)
    rows = torch.from_numpy(oracles.train_gradients(problem))
    n, U = len(rows), [0, 3, 7]
    r = len(U)
    remove = r / (n - r) * (rows[U].mean(0) - rows.mean(0))
    torch.testing.assert_close(RemoveSamples(U).gradient(problem), remove, rtol=1e-9, atol=1e-12)
    data = cases.samples(cases.PROBLEMS[name], 4, 46)
    new = torch.from_numpy(oracles.sample_gradients(problem, data, range(4)))
    add = 4 / (n + 4) * (rows.mean(0) - new.mean(0))
    torch.testing.assert_close(AddSamples(data).gradient(problem), add, rtol=1e-9, atol=1e-12)
    other = [
        other_label(problem.train[i], c) for i, c in zip(U, next_class(problem, U), strict=True)
    ]
    moved = torch.from_numpy(oracles.sample_gradients(problem, other, range(r)))
    swap = (rows[U] - moved).sum(0) / n
    torch.testing.assert_close(relabel(problem, U).gradient(problem), swap, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["perceptron with decay", "unused parameters", "dict batches"])
def test_a_union_is_its_changes_one_after_the_other(name: str) -> None:
    problem = cases.problem(name)
    parts = [RemoveSamples([4, 6]), relabel(problem), REWEIGHT, addition(name), addition(name, 3)]
    united = Union(parts)
    at_once, one_by_one, g = united.apply(problem), problem, torch.zeros_like(problem.theta)
    for part in parts:
        g += part.gradient(one_by_one)
        one_by_one = part.apply(one_by_one)
    assert torch.equal(at_once.positions, one_by_one.positions)
    assert torch.equal(at_once.shares(), one_by_one.shares())
    assert torch.equal(targets(at_once.train), targets(one_by_one.train))
    assert value_of(at_once, batch_size=4) == pytest.approx(value_of(one_by_one, batch_size=5))
    torch.testing.assert_close(united.gradient(problem), g, rtol=1e-9, atol=1e-12)
    nested = (parts[0] | parts[1]) | ((parts[2] | parts[3]) | parts[4])
    torch.testing.assert_close(nested.gradient(problem), g, rtol=1e-9, atol=1e-12)


def test_a_sample_may_be_removed_twice_over() -> None:
    problem = cases.problem("perceptron")
    both = RemoveClass(1) | RemoveSamples([1, 0])  # sample 1 is of class 1
    assert label(problem.train[1]) == 1
    gone = sorted({0, *RemoveClass(1).samples(problem).tolist()})
    assert both.samples(problem).tolist() == gone
    torch.testing.assert_close(both.gradient(problem), RemoveSamples(gone).gradient(problem))


def test_removing_a_class_removes_exactly_it() -> None:
    problem = cases.problem("perceptron")
    labels = problem.train.tensors[1]
    rest = RemoveClass(2).apply(problem)
    assert rest.positions.tolist() == [i for i in range(problem.n) if labels[i] != 2]
    assert RemoveClass(2).samples(problem).tolist() == (labels == 2).nonzero().flatten().tolist()
    assert problem.n == 11  # the problem itself is as it was


def test_changes_can_follow_each_other_in_positions_of_the_training_set() -> None:
    problem = cases.problem("perceptron with decay")
    rest = RemoveSamples([0, 1]).apply(problem)
    twice = RemoveSamples([5]).apply(rest)
    assert twice.positions.tolist() == [2, 3, 4, 6, 7, 8, 9, 10]
    expected = oracles.gradient(rest) - oracles.gradient(twice)
    found = RemoveSamples([5]).gradient(rest)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-9, atol=1e-12)
    with pytest.raises(GifError, match="sample 1 is not there; the 9 that count have positions 2"):
        RemoveSamples([1]).samples(rest)
    more = AddSamples(cases.samples(cases.PROBLEMS["perceptron"], 3, 7)).apply(rest)
    assert RemoveSamples([11]).apply(more).positions.tolist() == [*rest.positions.tolist(), 12, 13]


def test_weights_of_added_samples_are_1_whatever_those_before() -> None:
    problem = REWEIGHT.apply(cases.problem("perceptron"))
    more = addition("perceptron").apply(problem)
    assert more.weights_of(torch.tensor([2, 5, 6, 11, 14])).tolist() == [3, 0.25, 1, 1, 1]
    assert addition("perceptron").extended(problem).positions.tolist() == list(range(11))


def test_samples_of_an_addition_exist_in_the_extended_problem() -> None:
    """What a selector scores: the changed samples as they are before the change."""
    problem = cases.problem("dict batches")
    change = addition("dict batches") | relabel(problem)
    extended, found = change.extended(problem), change.samples(problem)
    assert found.tolist() == [0, 3, 7, 11, 12, 13, 14]
    assert value_of(extended, batch_size=4) == value_of(problem, batch_size=4)
    expected = oracles.train_gradients(problem)[[0, 3, 7]]
    data = cases.samples(cases.PROBLEMS["dict batches"], 4, 46)
    new = oracles.sample_gradients(problem, data, range(4))
    mean = torch.from_numpy(np.concatenate([expected, new]).mean(0))
    torch.testing.assert_close(extended.data_gradient(found, batch_size=2), mean)


# --- a subset of the changed samples -------------------------------------------------------------


@pytest.mark.parametrize(
    "change", ["several, unsorted", "relabel", "reweight", "everything at once"]
)
def test_a_subset_of_the_changed_samples_is_unbiased(change: str) -> None:
    """The mean over every single sample is g; each draws one of the changed, scaled up by r."""
    problem = cases.problem("perceptron with decay")
    made = CHANGES[change][0]("perceptron with decay", problem)
    exact, r = made.gradient(problem), len(made.samples(problem))
    by_seed = [made.gradient(problem, change_samples=1, seed=s) for s in range(8 * r)]
    distinct: list[Tensor] = []
    for g in by_seed:
        if not any(torch.allclose(g, d, rtol=1e-9, atol=1e-12) for d in distinct):
            distinct.append(g)
    assert len(distinct) == r
    torch.testing.assert_close(torch.stack(distinct).mean(0), exact, rtol=1e-9, atol=1e-12)


def test_the_published_form_of_a_subset() -> None:
    """r/n mean_drawn - its share of the rest, which is computed whole."""
    problem = cases.problem("perceptron")
    rows = torch.from_numpy(oracles.train_gradients(problem))
    U = [0, 3, 7, 8]
    drawn = torch.tensor(U)[torch.randperm(4, generator=torch.Generator().manual_seed(6))[:2]]
    rest = [i for i in range(11) if i not in U]
    expected = 4 / 11 * (rows[drawn].mean(0) - rows[rest].mean(0))
    found = RemoveSamples(U).gradient(problem, change_samples=2, seed=6)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    for enough in (4, 100):
        same = RemoveSamples(U).gradient(problem, change_samples=enough)
        assert torch.equal(same, RemoveSamples(U).gradient(problem))
    with pytest.raises(GifError, match="change_samples is 0"):
        RemoveSamples(U).gradient(problem, change_samples=0)


@pytest.mark.parametrize(
    ("change", "visited"),
    [("several, unsorted", 11), ("relabel", 6), ("reweight", 11), ("add", 15), ("relabel all", 22)],
)
def test_cost_and_progress(change: str, visited: int) -> None:
    """A relabelling keeps the sum of the weights and touches nothing but its samples."""
    problem, seen = cases.problem("perceptron"), []
    made = CHANGES[change][0]("perceptron", problem)
    made.gradient(problem, batch_size=2, progress=lambda d, t, _n: seen.append((d, t)))
    assert seen[-1] == (visited, visited)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# --- the data set is wrapped: never copied, never touched -----------------------------------------


class Recorded(cases.Rows):
    """Counts what is read."""

    def __init__(self, rows: list[Any]) -> None:
        super().__init__(rows)
        self.reads: list[int] = []

    def __getitem__(self, index: int) -> Any:
        self.reads.append(index)
        return super().__getitem__(index)


def test_tensors_are_shared_and_read_by_the_batch() -> None:
    x, y = cases.features((3,), 11, 0)
    base, calls = TensorDataset(x, y), []
    problem = Problem(cases.perceptron().double(), base)
    changed = (relabel(problem) | addition("perceptron")).apply(problem)
    TensorDataset.__getitem__, kept = (
        lambda self, i: calls.append(i) or kept(self, i),  # type: ignore[func-returns-value]
        TensorDataset.__getitem__,
    )
    try:
        fetch(changed.train, changed.positions, "cpu")
        targets(changed.train)
    finally:
        TensorDataset.__getitem__ = kept  # type: ignore[method-assign]
    assert calls == []
    assert changed.train.base.first is base
    assert torch.equal(base.tensors[1], cases.features((3,), 11, 0)[1])


def test_relabelling_reads_only_what_it_changes() -> None:
    """Labels are not hunted for through the whole set, whose samples may be slow to make."""
    x, y = cases.features((3,), 11, 0)
    base = Recorded([(x[i], int(y[i])) for i in range(11)])
    problem = Problem(cases.perceptron().double(), base)
    change = Relabel([4, 8], [(label(base.rows[i]) + 1) % 3 for i in (4, 8)])
    base.reads.clear()
    change.gradient(problem)
    assert set(base.reads) == {0, 4, 8}  # sample 0 tells how many outputs the model has

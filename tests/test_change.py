"""Changes of the training set: g = grad L - grad L', whatever the parameters."""

import pytest
import torch

from gifcore.change import Change, RemoveClass, RemoveSamples
from gifcore.errors import GifError
from tests import cases, oracles

CHANGES: dict[str, Change] = {
    "one sample": RemoveSamples([4]),
    "several, unsorted": RemoveSamples([7, 0, 3]),
    "all but one": RemoveSamples(range(10)),
    "a class": RemoveClass(1),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", [n for n in cases.PROBLEMS if n != "dict batches"])
def test_gradient_change_is_the_difference_of_the_two_objectives(name: str, change: str) -> None:
    problem = cases.problem(name)
    changed = CHANGES[change].apply(problem)
    expected = oracles.gradient(problem) - oracles.gradient(changed)  # weight decay cancels
    for batch_size in (1, 4, 1000):
        found = CHANGES[change].gradient(problem, batch_size=batch_size)
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_the_formula_of_the_docstring(change: str) -> None:
    """g = r/(n-r) (mean_U grad l - mean_all grad l)."""
    problem = cases.problem("perceptron with decay")
    rows = torch.from_numpy(oracles.train_gradients(problem))
    removed = CHANGES[change].samples(problem)
    n, r = len(rows), len(removed)
    expected = r / (n - r) * (rows[removed].mean(0) - rows.mean(0))
    torch.testing.assert_close(CHANGES[change].gradient(problem), expected, rtol=1e-9, atol=1e-12)


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
    with pytest.raises(GifError, match="sample 1 is not there"):
        RemoveSamples([1]).samples(rest)


@pytest.mark.parametrize("indices", [[], [3, 3]])
def test_none_or_the_same_twice(indices: list[int]) -> None:
    with pytest.raises(GifError, match="one or more training samples to remove, each once"):
        RemoveSamples(indices).samples(cases.problem("perceptron"))


@pytest.mark.parametrize("index", [-1, 11])
def test_a_sample_that_is_not_there(index: int) -> None:
    with pytest.raises(GifError, match=rf"sample {index} is not there"):
        RemoveSamples([2, index]).apply(cases.problem("perceptron"))


@pytest.mark.parametrize("label", [-1, 3, 10**12])
def test_a_class_that_is_not_there_lists_those_that_are(label: int) -> None:
    with pytest.raises(GifError, match=rf"has class {label}; there are: 0, 1, 2\."):
        RemoveClass(label).gradient(cases.problem("perceptron"))


def test_nothing_would_be_left() -> None:
    problem = cases.problem("perceptron")
    with pytest.raises(GifError, match="removes every training sample"):
        RemoveSamples(range(11)).gradient(problem)
    with pytest.raises(GifError, match="removes every training sample"):
        RemoveClass(0).apply(problem.narrowed(torch.tensor([0])))

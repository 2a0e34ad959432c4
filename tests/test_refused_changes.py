"""Changes that are refused, and why."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
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
from gifcore.problem import Problem, targets
from gifcore.views import Relabelled
from tests import cases
from tests.test_change import addition, label, next_class

VERBS: dict[str, Callable[[Any], Change]] = {
    "remove": RemoveSamples,
    "relabel": lambda indices: Relabel(indices, [0] * len(indices)),
    "reweight": lambda indices: Reweight(indices, [2.0] * len(indices)),
}


@pytest.mark.parametrize("indices", [[], [3, 3], [[1], [2]]])
@pytest.mark.parametrize("verb", VERBS)
def test_none_or_the_same_twice(verb: str, indices: list[int]) -> None:
    with pytest.raises(GifError, match=f"one or more training samples to {verb}, each once"):
        VERBS[verb](indices).samples(cases.problem("perceptron"))


@pytest.mark.parametrize("index", [-1, 11, 10**15])
@pytest.mark.parametrize("verb", VERBS)
def test_a_sample_that_is_not_there(verb: str, index: int) -> None:
    with pytest.raises(GifError, match=rf"sample {index} is not there; the 11 .* 0 … 10"):
        VERBS[verb]([2, index]).apply(cases.problem("perceptron"))


@pytest.mark.parametrize("indices", [[1.5, 2.0], [True], ["1"], [10**30]])
def test_positions_are_whole_numbers(indices: list[Any]) -> None:
    with pytest.raises(GifError, match="whole numbers; got"):
        RemoveSamples(indices).samples(cases.problem("perceptron"))


@pytest.mark.parametrize("indices", [(3, 1), np.array([3, 1], np.uint8), torch.tensor([3, 1])])
def test_positions_in_any_form(indices: Any) -> None:
    assert RemoveSamples(indices).samples(cases.problem("perceptron")).tolist() == [1, 3]


@pytest.mark.parametrize("index", [-1, 3, 10**12])
def test_a_class_that_is_not_there_lists_those_that_are(index: int) -> None:
    with pytest.raises(GifError, match=rf"has class {index}; there are: 0, 1, 2\."):
        RemoveClass(index).gradient(cases.problem("perceptron"))


def test_nothing_would_be_left() -> None:
    problem = cases.problem("perceptron")
    with pytest.raises(GifError, match="removes every training sample"):
        RemoveSamples(range(11)).gradient(problem)
    with pytest.raises(GifError, match="removes every training sample"):
        RemoveClass(0).apply(problem.narrowed(torch.tensor([0])))


@pytest.mark.parametrize("name", ["perceptron", "unused parameters", "dict batches"])
@pytest.mark.parametrize("wrong", [-1, 3, 10**12])
def test_a_label_out_of_range(name: str, wrong: int) -> None:
    with pytest.raises(
        GifError, match=rf"sample 5 cannot have the label {wrong}; classes are 0 … 2"
    ):
        Relabel([4, 5], [*next_class(cases.problem(name), [4]), wrong]).apply(cases.problem(name))
    data = Relabelled(cases.queries(name), torch.tensor([1]), torch.tensor([wrong]))
    with pytest.raises(GifError, match=rf"Added sample 1 cannot have the label {wrong}"):
        AddSamples(data).apply(cases.problem(name))


@pytest.mark.parametrize("name", ["perceptron", "unused parameters", "dict batches"])
def test_a_label_that_is_the_old_one(name: str) -> None:
    problem = cases.problem(name)
    old = label(problem.train[4])
    with pytest.raises(GifError, match=f"sample 4 has the label {old} already"):
        Relabel([3, 4], [*next_class(problem, [3]), old]).samples(problem)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([1], r"have shape \(2,\); the new ones have \(1,\)"),
        ([1, 2, 0], r"the new ones have \(3,\)"),
        ([[1], [2]], r"the new ones have \(2, 1\)"),
        ([[1], [2, 3]], "Labels are a sequence of numbers"),
        ([1, None], "Labels are a sequence of numbers"),
        ([0.5, 1.5], r"label 0\.5 is none of the kind of the old ones \(int64\)"),
        ([1, 2**70], "Labels are a sequence of numbers"),
        (["cat", "dog"], "Labels are a sequence of numbers, one for each sample; got"),
        ([], "Labels are a sequence of numbers"),
    ],
)
def test_labels_of_the_wrong_kind(labels: Any, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        Relabel([0, 1], labels).apply(cases.problem("perceptron"))


def bce(outputs: Tensor, batch: Any) -> Tensor:
    target = batch[1].to(outputs)
    return nn.functional.binary_cross_entropy_with_logits(
        outputs.flatten(), target, reduction="none"
    )


def test_two_classes_on_one_output_and_targets_that_are_numbers() -> None:
    x, _ = cases.features((3,), 6, 0)
    y = torch.tensor([0, 1, 0, 1, 1, 0])
    one = Problem(nn.Linear(3, 1).double(), TensorDataset(x, y), loss=bce)
    assert targets(Relabel([0], [1]).apply(one).train).tolist() == [1, 1, 0, 1, 1, 0]
    with pytest.raises(GifError, match="label 2; classes are 0 … 1"):
        Relabel([0], [2]).apply(one)
    assert targets(Relabel([2, 1], torch.tensor([1, 0])).apply(one).train)[:3].tolist() == [0, 0, 1]
    numbers = Problem(nn.Linear(3, 1).double(), TensorDataset(x, y.float()), loss=bce)
    assert targets(Relabel([0, 2], [7.5, -3]).apply(numbers).train)[:3].tolist() == [7.5, 1, -3]
    with pytest.raises(GifError, match="label nan; targets are finite"):
        Relabel([0], [float("nan")]).apply(numbers)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([1.0], r"2 samples need 2 weights; got shape \(1,\)"),
        ([1.0, 0.0], "sample 3 cannot have the weight 0; give a finite one above 0, or remove"),
        ([-1.0, 2.0], "sample 0 cannot have the weight -1"),
        ([1.0, float("inf")], "weight inf"),
        ([float("nan"), 1.0], "weight nan"),
        ([1, 1], "have these weights already"),
        (["a", "b"], "Weights are a sequence of numbers"),
    ],
)
def test_impossible_weights(weights: Any, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        Reweight([0, 3], weights).apply(cases.problem("perceptron"))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (cases.Rows([]), "is empty"),
        (cases.samples(cases.PROBLEMS["dict batches"], 3, 0), r"are a dict of a: float64 \(2,\)"),
        (TensorDataset(torch.zeros(2, 4).double(), torch.zeros(2).long()), r"float64 \(4,\)"),
        (TensorDataset(torch.zeros(2, 3), torch.zeros(2).long()), r"\(float32 \(3,\), int64 \(\)"),
        (TensorDataset(torch.zeros(2, 3).double()), r"are \(float64 \(3,\)\)"),
    ],
)
def test_samples_of_another_form(data: Any, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        AddSamples(data).apply(cases.problem("perceptron"))


@pytest.mark.parametrize(
    ("one", "other", "sentence"),
    [
        (Relabel([1, 5], [0, 0]), Relabel([2, 5], [0, 1]), "sample 5 is relabelled twice"),
        (Reweight([5], [2.0]), Reweight([5], [2.0]), "sample 5 is reweighted twice"),
        (RemoveSamples([5]), Relabel([5], [0]), "sample 5 is both removed and relabelled"),
        (Relabel([1], [0]), RemoveClass(1), "sample 1 is both removed and relabelled"),
        (Reweight([1], [3.0]), RemoveClass(1), "sample 1 is both removed and reweighted"),
    ],
)
def test_conflicts(one: Change, other: Change, sentence: str) -> None:
    problem = cases.problem("perceptron")
    old = [label(s) for s in (problem.train[i] for i in range(11))]
    assert old[1] == 1
    problem = (Relabel([5], [2]).apply(problem)) if old[5] != 2 else problem
    for union in (one | other, other | one, Union([one, addition("perceptron"), other])):
        for ask in (union.samples, union.apply, union.gradient):
            with pytest.raises(GifError, match=f"{sentence}; name it in one change only"):
                ask(problem)


def test_a_union_of_nothing() -> None:
    with pytest.raises(GifError, match="one or more changes"):
        Union([]).samples(cases.problem("perceptron"))


def test_labels_without_a_name_or_a_number() -> None:
    x, _ = cases.features((2,), 3, 0)
    rows = cases.Rows([{"a": v, "b": v, "target": 1} for v in x])
    problem = Problem(cases.OfDict().double(), rows, loss=cases.of_dict)
    with pytest.raises(GifError, match="dicts of a, b, target; name the key of the label 'labels'"):
        RemoveClass(1).apply(problem)
    words = cases.Rows([(v, "cat") for v in x])
    with pytest.raises(GifError, match="A label is a str; labels must be numbers"):
        RemoveClass(1).apply(Problem(nn.Linear(2, 3).double(), words))
    vectors = TensorDataset(x, torch.zeros(3, 3).double())
    with pytest.raises(GifError, match=r"shape \(3, 3\); a class can be removed where every"):
        RemoveClass(1).apply(Problem(nn.Linear(2, 3).double(), vectors))

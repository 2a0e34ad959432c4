"""What the engine refuses, each by a named sentence and before anything is computed.

The rows that belong to one module are tested beside it; here is what any user can do wrong.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gifcore import data as datasets
from gifcore.change import AddSamples, Relabel, RemoveSamples, Reweight
from gifcore.checkpoints import Checkpoint
from gifcore.checks import not_finite
from gifcore.curved import Curved, curvature
from gifcore.errors import GifError
from gifcore.influence import influence
from gifcore.models import build, bundled, load_weights
from gifcore.operators import Matrix
from gifcore.problem import Problem
from gifcore.scoring import Queries, rank
from gifcore.second_derivatives import check_second_derivatives
from gifcore.solvers import LSMR
from gifcore.study import parse
from tests import cases
from tests.test_runner import TINY, run

CHANGE = RemoveSamples([0, 3, 4])
X, Y = cases.features((3,), 11, 0)
WRONG = Y.clone()
WRONG[9] = 7  # beyond the samples that are read ahead


class Noise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.1 * torch.randn_like(x)


def linear(*more: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), *more).double()


def mean_loss(outputs: torch.Tensor, batch: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs, batch[1])


PROBLEMS: dict[str, tuple[Callable[[], Problem], str]] = {
    "label out of range": (
        lambda: Problem(linear(), TensorDataset(X, WRONG)),
        r"There is a label 7, but the model has 3 outputs",
    ),
    "label out of range, found late": (
        lambda: Problem(linear(), cases.Rows([(X[i], WRONG[i]) for i in range(11)])),
        r"Target 7 is out of bounds: the model has 3 outputs, so that labels must be 0 … 2",
    ),
    "a loss that is one number": (
        lambda: Problem(linear(), TensorDataset(X, Y), loss=mean_loss),
        r"The loss returned shape \(\) for a batch of 4; return one number per sample",
    ),
    "a random model": (
        lambda: Problem(linear(Noise()), TensorDataset(X, Y)),
        r"the model is not deterministic; switch off",
    ),
    "batch statistics": (
        lambda: Problem(linear(nn.BatchNorm1d(3, track_running_stats=False)), TensorDataset(X, Y)),
        r"without running statistics one sample's loss depends on its batch",
    ),
    "inputs of another type": (
        lambda: Problem(linear(), TensorDataset(X.float(), Y)),
        r"The inputs are float32 and the parameters float64",
    ),
}


@pytest.mark.parametrize("method", ["gradient", "gif", "tracin"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_no_method_begins_on_a_problem_that_cannot_be_explained(name: str, method: str) -> None:
    build, sentence = PROBLEMS[name]
    problem = build()
    points = [Checkpoint(problem.theta, 0.1, 1)]
    with pytest.raises(GifError, match=sentence):
        influence(problem, CHANGE, method=method, checkpoints=points)
    queries = Queries(TensorDataset(X.to(problem.train[0][0].dtype), Y), [[0]])
    with pytest.raises(GifError, match=sentence):
        rank(problem, queries, method=method, checkpoints=points)


def test_what_was_given_in_training_mode_is_noted_for_tracin_too() -> None:
    problem = Problem(linear(nn.Dropout()).train(), TensorDataset(X, Y))
    points = [Checkpoint(problem.theta, 0.1, 1)]
    queries = Queries(TensorDataset(X, Y), [[0]])
    found = rank(problem, queries, method="tracin", checkpoints=points)
    assert "was given in training mode" in found.solutions[0].notes[-1]


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [
        (torch.tensor([4, 0, 4]), "Training sample 4 is named twice; give samples.unique"),
        (torch.tensor([0, 11]), "There is no training sample 11; positions are 0 … 10"),
        (torch.tensor([-1, 3]), "There is no training sample -1"),
        (torch.ones(11, dtype=torch.bool), r"a vector of positions \(torch.int64\); for a mask"),
        ([0, 1], "a vector of positions"),
    ],
)
def test_samples_that_are_no_positions(samples: Any, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        Problem(linear(), TensorDataset(X, Y), samples=samples)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (RemoveSamples([[1], [2, 3]]), "Name one or more training samples to remove, each once"),
        (Relabel([5], None), "Labels are a sequence of numbers"),
        (Reweight([5], None), "Weights are a sequence of numbers"),
        (
            AddSamples(DataLoader(TensorDataset(X, Y), shuffle=True)),
            r"dataset is a DataLoader; give its data set \(loader.dataset\)",
        ),
    ],
)
def test_changes_that_name_nothing(change: Any, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        influence(cases.problem("perceptron"), change, method="gradient")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"samples": 2.5}, "samples is 2.5; a curvature needs a whole number"),
        ({"damping": "much"}, "damping is much; it must be a number of 0 or more, or 'auto'"),
        ({"solver": "cg"}, r"The solver is 'cg'; give one, such as gif.LSMR"),
        ({"selected": torch.tensor([1, 2])}, "selected is a Tensor; give a Selection"),
        ({"gradient": torch.zeros(3)}, r"shape \(3,\) or holds NaN; give finite numbers, \(31,\)"),
        ({"gradient": torch.full((31,), float("nan"))}, "or holds NaN"),
        (
            {"curvature": curvature(cases.problem("perceptron")), "curvature_of": "retained"},
            "curvature_of is 'retained' and the curvature given is of the full objective",
        ),
    ],
)
def test_arguments_of_the_wrong_kind(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        influence(cases.problem("perceptron"), CHANGE, **arguments)


@pytest.mark.parametrize(
    ("data", "groups", "sentence"),
    [
        (TensorDataset(X, Y), [[1.7]], "Samples are named by whole numbers; got 1.7"),
        (TensorDataset(X, Y), [0], "each a list of one or more samples"),
        (TensorDataset(X, WRONG), [[9]], "Target 7 is out of bounds"),
        (TensorDataset(X[:, :2], Y), [[1]], r"The query samples \[1\] failed in the model"),
        (TensorDataset(X.float(), Y), [[1]], "give samples of the form of the training samples"),
    ],
)
def test_queries_that_do_not_fit(data: Any, groups: Any, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        rank(cases.problem("perceptron"), Queries(data, groups), method="gradient")


def test_a_curvature_made_by_hand_has_the_type_of_the_problem() -> None:
    """The probes of the preconditioner too: here the parameters are float64."""
    problem = cases.problem("perceptron")
    curved = Curved(Matrix(2 * torch.eye(31, dtype=torch.float64)), problem.positions, 0.0, "full")
    found = influence(problem, CHANGE, curvature=curved, solver=LSMR(50))
    assert found.solution.preconditioner["status"] == "used"
    torch.testing.assert_close(found.delta, found.gradient / 2)


# --- numbers that are not finite ------------------------------------------------------------------


def scaled(problem: Problem, name: str, factor: float) -> Problem:
    """The problem with one parameter of its model multiplied."""
    with torch.no_grad():
        dict(problem.model.named_parameters())[name].mul_(factor)
    return Problem(problem.model, problem.train)


def test_the_first_sample_and_layer_that_are_not_finite_are_named() -> None:
    X_far = X.clone()
    X_far[9] = 1e200  # its outputs are finite, their squares and the loss are not read ahead
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).double()
    problem = scaled(Problem(model, TensorDataset(X_far, Y)), "1.weight", 1e200)
    found = not_finite(problem)
    assert str(found) == (
        "The outputs of layer '1' hold NaN or infinity at training sample 9; check its inputs and "
        "the weights of the model."
    )
    assert not_finite(problem, torch.arange(9)) is None
    X_far[7, 1] = torch.nan
    assert "The inputs hold NaN or infinity at training sample 7" in str(not_finite(problem))
    for method in ("gradient", "gif"):
        with pytest.raises(GifError, match="at training sample 7; check its inputs"):
            rank(problem, Queries(TensorDataset(X, Y), [[0]]), method=method)


def test_a_layer_of_large_finite_numbers_has_a_second_derivative() -> None:
    problem = scaled(Problem(linear().float(), TensorDataset(X.float(), Y)), "0.weight", 1e30)
    assert not_finite(problem) is None
    check_second_derivatives(problem)


STUDIES: dict[str, tuple[dict[str, Any], float, str]] = {
    "random selection": (
        {"selection": {"selector": "random", "ratio": 0.2}},
        1e30,
        "The outputs of layer 'linear2' hold NaN or infinity at training sample 0",
    ),
    "selection by gradients": (
        {},
        1e30,
        "The outputs of layer 'linear[12]' hold NaN or infinity at training sample",
    ),
    "features of FastIF": (
        {"fastif": {"k": [10]}, "selection": {"selector": "random", "ratio": 0.2}},
        1e30,
        "The outputs of layer 'linear[12]' hold NaN or infinity at training sample",
    ),
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_names_the_layer_and_the_sample_that_are_not_finite(
    name: str, tmp_path: Path
) -> None:
    changes, factor, sentence = STUDIES[name]
    data = datasets.load("digits")
    model, weights = build("fcn", data.shape, data.n_classes), bundled("fcn", "digits")
    assert weights is not None
    load_weights(model, weights)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    save_file(model.state_dict(), tmp_path / "far.safetensors")
    named = {"name": "fcn", "weights": str(tmp_path / "far.safetensors")}
    study = parse(TINY | {"model": named, "edit": {"enabled": False}} | changes)
    with pytest.raises(GifError, match=sentence) as refused:
        run(study, tmp_path / "runs", "x")
    assert "second derivative" not in str(refused.value)

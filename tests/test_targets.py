"""What a query asks about: groups of samples, and targets other than the loss."""

import tomllib
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from gifcore import data as datasets
from gifcore import runner
from gifcore.change import RemoveClass, RemoveSamples
from gifcore.errors import GifError
from gifcore.models import build, bundled, load_weights
from gifcore.problem import Problem, targets
from gifcore.queries import Queries, predictions
from gifcore.scoring import rank
from gifcore.selection import select
from gifcore.stages import load_problem, tensors
from gifcore.study import RankedTarget, Study, dumps, for_query, parse, study_hash
from gifcore.targets import TARGETS, Target
from tests import cases, oracles
from tests.test_cli import gif
from tests.test_influence import CONVERGED, chosen, refitted
from tests.test_runner import TINY, run

# name -> the number of one sample, written from its definition
SLOW = {
    "logit": lambda z, y: z[y],
    "margin": lambda z, y: torch.log(z.softmax(0)[y] / (1 - z.softmax(0)[y])),
    "probability": lambda z, y: z.softmax(0)[y],
    "loss": lambda z, y: -z.softmax(0)[y].log(),
}


def entropy(outputs: Tensor, batch: Any) -> Tensor:  # noqa: ARG001
    """A target of one's own that reads no label."""
    return -(outputs.softmax(1) * outputs.log_softmax(1)).sum(1)


def slow_value(problem: Problem, theta: Tensor, sample: Any, name: str) -> Tensor:
    """The target of one sample at theta."""

    def loss(outputs: Tensor, batch: Any) -> Tensor:
        return SLOW[name](outputs[0], int(batch[1][0]))[None]

    asked = Problem(problem.model, problem.train, loss=loss)
    return oracles.sample_loss(asked, theta, sample)


@pytest.mark.parametrize("name", SLOW)
def test_ready_targets_are_what_they_say(name: str) -> None:
    problem, data = cases.problem("convolution"), cases.queries("convolution")
    found = next(iter(Queries(data, [[1, 3, 4]], name).gradients(problem)))
    rows = []
    for i in (1, 3, 4):
        theta = oracles.theta_of(problem).requires_grad_()
        value = slow_value(problem, theta, data[i], name)
        rows.append(torch.autograd.grad(value, theta)[0].numpy())
    np.testing.assert_allclose(found, np.mean(rows, axis=0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("target", ["margin", entropy])
@pytest.mark.parametrize("method", ["if", "gif"])
def test_scores_of_a_target_are_its_adjoint_against_gradients_of_the_loss(
    method: str, target: Any
) -> None:
    problem, data = cases.problem("convolution"), cases.queries("convolution")
    J = chosen(problem)
    found = rank(problem, Queries(data, [[2]], target), method=method, selected=J, solver=CONVERGED)
    g_q = next(iter(Queries(data, [[2]], target).gradients(problem))).numpy()
    s = oracles.adjoint(method, oracles.hessian(problem), J.indices.numpy(), g_q)
    expected = oracles.scores(s, oracles.train_gradients(problem))
    np.testing.assert_allclose(found.values[0], expected, rtol=1e-5, atol=1e-9)
    assert found.target.name == ("margin" if target == "margin" else "entropy")


@pytest.mark.parametrize("name", ["margin", "probability"])
def test_scores_predict_the_change_of_the_target_after_a_real_refit(name: str) -> None:
    """Sign and unit: what the target is after the sample is gone, less what it was."""
    x, y = cases.features((4,), 40, seed=1)
    problem = refitted(Problem(nn.Linear(4, 3).double(), TensorDataset(x, y), weight_decay=0.1))
    data = TensorDataset(*cases.features((4,), 3, seed=2))
    scores = rank(problem, Queries(data, [[0]], name), method="if", solver=CONVERGED)
    base, tried = oracles.theta_of(problem), [i for i, _ in scores.top(0, 4)]
    for i in tried:
        after = torch.from_numpy(oracles.refit(RemoveSamples([i]).apply(problem)))
        true = slow_value(problem, after, data[0], name) - slow_value(problem, base, data[0], name)
        assert float(scores.values[0, i]) == pytest.approx(float(true), rel=0.35)


def test_of_a_target_that_is_better_high_a_negative_score_is_helpful() -> None:
    problem, data = cases.problem("perceptron"), cases.queries("perceptron")
    by = {
        name: rank(problem, Queries(data, [[0]], name), method="gradient")
        for name in ("loss", "margin")
    }
    # d margin = -d loss / p(wrong), so that both name the same samples
    for side in ("helpful", "harmful", "top"):
        one, other = (getattr(by[name], side)(0, 4) for name in ("loss", "margin"))
        assert [i for i, _ in one] == [i for i, _ in other]
    assert by["loss"].helpful(0, 1)[0][1] > 0 > by["margin"].helpful(0, 1)[0][1]
    assert by["loss"].target.unit == "nats"


@pytest.mark.parametrize(
    "target",
    [
        lambda _, batch: batch[0].sum(1),
        lambda outputs, _: outputs.detach()[:, 0],
        lambda outputs, _: 0 * outputs[:, 0],
        lambda _, batch: batch[0].sum(1).requires_grad_(),
    ],
)
def test_a_target_that_does_not_depend_on_the_parameters(target: Any) -> None:
    problem, data = cases.problem("perceptron"), cases.queries("perceptron")
    named = Target("brightness", target)
    with pytest.raises(GifError, match="target 'brightness' does not depend on the parameters"):
        rank(problem, Queries(data, [[0], [1, 2]], named), method="gradient")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("accuracy", "Unknown target 'accuracy'; choose one of loss, logit, margin, probability"),
        (7, "Unknown target 7"),
        (lambda outputs, _: outputs, r"returned \(2, 3\); .* shape \(2,\)"),
        (lambda *_: 1.0, "returned float"),
        (lambda outputs, _: outputs[:, 5], "the target .*index 5 is out of bounds"),
    ],
)
def test_targets_that_are_none(target: Any, words: str) -> None:
    problem, data = cases.problem("perceptron"), cases.queries("perceptron")
    with pytest.raises(GifError, match=words):
        rank(problem, Queries(data, [[0, 1]], target), method="gradient")


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "loss"])
def test_class_targets_need_classes(name: str) -> None:
    problem = Problem(nn.Linear(3, 1).double(), cases.samples(cases.PROBLEMS["perceptron"], 11, 0),
                      loss=lambda outputs, batch: outputs[:, 0] - batch[1])  # fmt: skip
    with pytest.raises(GifError, match=r"outputs of \(batch, classes\)"):
        rank(problem, Queries(problem.train, [[0]], name), method="gradient")


# --- groups ---------------------------------------------------------------------------------------


def test_groups_by_class_slice_and_cell() -> None:
    problem, data = cases.problem("convolution"), cases.queries("convolution", n=12)
    labels = targets(data)
    parameters = problem.space.unflatten(problem.theta)
    outputs = torch.stack([problem.outputs(parameters, (data[i][0][None],))[0] for i in range(12)])
    predicted = outputs.argmax(1)
    assert torch.equal(predictions(problem, data), predicted)
    assert Queries.of_class(data, 2, 0).groups == [
        [i for i in range(12) if labels[i] == c] for c in (2, 0)
    ]
    wrong = [i for i in range(12) if labels[i] != predicted[i]]
    assert 0 < len(wrong) < 12
    for given in (labels != predicted, lambda y, said: y != said):
        assert Queries.of_slice(data, given, problem=problem).groups == [wrong]
    y, said = int(labels[wrong[0]]), int(predicted[wrong[0]])
    expected = [i for i in range(12) if (labels[i], predicted[i]) == (y, said)]
    cell = Queries.of_cell(problem, data, y, said, target="margin")
    assert cell.groups == [expected]
    assert cell.target == "margin"


def test_a_group_is_the_mean_of_its_samples() -> None:
    problem, data = cases.problem("convolution"), cases.queries("convolution", n=12)
    group = Queries.of_class(data, int(targets(data)[0]))
    alone = Queries(data, [[i] for i in group.groups[0]])
    one, many = (
        rank(problem, q, method="gif", selected=chosen(problem), solver=CONVERGED).values
        for q in (group, alone)
    )
    assert len(many) > 1
    torch.testing.assert_close(one[0], many.mean(dim=0), rtol=1e-6, atol=1e-10)


def test_groups_that_are_empty_or_no_mask() -> None:
    problem, data = cases.problem("convolution"), cases.queries("convolution")
    for make, words in (
        (lambda: Queries.of_class(data, 9), "No sample .* the class 9"),
        (lambda: Queries.of_slice(data, torch.zeros(5, dtype=torch.bool)), "in the slice"),
        (lambda: Queries.of_slice(data, torch.zeros(4, dtype=torch.bool)), r"mask of bool, \(5,\)"),
        (lambda: Queries.of_slice(data, torch.zeros(5)), "mask of bool"),
        (lambda: Queries.of_slice(data, lambda y, said: y == said), "give the problem"),
        (lambda: Queries.of_cell(problem, data, 9, 9), r"the cell \(9, 9\)"),
        (lambda: Queries.of_class(data), "one or more queries"),
    ):
        with pytest.raises(GifError, match=words):
            make()


# --- in a study -----------------------------------------------------------------------------------

ASKED = TINY | {  # all parameters: the output of a class has no gradient in the other units
    "methods": ["gradient", "gif"], "edit": {"enabled": False}, "selection": {"ratio": 1.0},
}  # fmt: skip


def asked(target: str, **more: Any) -> Study:
    return parse(ASKED | {"ranking": {"queries": [3, 7], "target": target}} | more)


def test_a_study_knows_the_targets_of_the_engine() -> None:
    assert set(get_args(RankedTarget)) == set(TARGETS)
    plain, named = parse(ASKED | {"ranking": {"queries": [3, 7]}}), asked("margin")
    assert parse(tomllib.loads(dumps(named))) == named
    assert study_hash(plain, "d", "w") == study_hash(asked("loss"), "d", "w")
    assert study_hash(plain, "d", "w") != study_hash(named, "d", "w")
    assert for_query(named, 5).ranking.target == "margin"
    with pytest.raises(GifError, match="'accuracy' .* 'loss', 'logit', 'margin' or"):
        asked("accuracy")
    with pytest.raises(GifError, match="previews are of the loss, not of ranking.target"):
        asked("margin", preview={"rank": 8})


@pytest.mark.parametrize("name", ["logit", "margin", "probability"])
def test_a_study_ranks_by_minus_the_change_of_a_target_that_is_better_high(
    name: str, tmp_path: Path
) -> None:
    """Positive stays helpful; the record and `show` say what of, and in which unit."""
    record = run(asked(name), tmp_path / "runs", "x")
    target = TARGETS[name]
    assert record.target == {"name": name, "unit": target.unit, "better_high": True}
    prepared = runner.prepare(asked(name))
    problem = load_problem(
        prepared.study, datasets.load("digits"), prepared.weights, prepared.weight_decay
    )
    test = tensors(datasets.load("digits"), "test")
    J = select(problem, RemoveClass(8), selector="highest-k-gradients", ratio=1.0, seed=0)
    found = rank(problem, Queries(test, [[3], [7]], name), method="gradient", selected=J)
    for row, query in enumerate((3, 7)):
        frame = record.scores("gradient", query).sort_values("train_index")
        np.testing.assert_allclose(
            frame["influence"], -found.values[row].numpy(), rtol=1e-3, atol=1e-9
        )
    said = " ".join(gif("show", record.path).stdout.split())
    assert f"Rankings explain the {name} ({target.unit}), not the loss" in said
    assert "positive = helpful: the removal lowers it" in said


def test_a_record_of_the_loss_states_no_target(tmp_path: Path) -> None:
    record = run(asked("loss", methods=["gradient"]), tmp_path / "runs", "x")
    assert "target" not in record.info
    assert record.target == {"name": "loss", "unit": "nats", "better_high": False}
    assert "Rankings explain" not in gif("show", record.path).stdout


def test_a_study_whose_target_does_not_depend_on_the_parameters_is_refused(tmp_path: Path) -> None:
    """Of a model without a doubt the probability is 1 in float32, and moves with nothing."""
    data = datasets.load("digits")
    model = build("logistic", data.shape, data.n_classes)
    bundle = bundled("logistic", "digits")
    assert bundle is not None
    load_weights(model, bundle)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e4)
    sure = tmp_path / "sure.safetensors"
    save_file(model.state_dict(), sure)
    study = asked("probability", model={"name": "logistic", "weights": str(sure)})
    with pytest.raises(GifError, match="target 'probability' does not depend on the parameters"):
        run(study, tmp_path / "runs", "x")

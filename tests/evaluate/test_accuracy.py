"""Accuracies, F1, per class and confusion, counted by hand."""

import numpy as np
import pytest
import torch

from gifcore.evaluate import Predictions, confusion, metrics, predict
from gifcore.evaluate.accuracy import f1
from tests import cases, oracles


def predictions(labels: list[int], predicted: list[int]) -> Predictions:
    count = len(labels)
    return Predictions(
        np.array(labels), np.array(predicted), np.full(count, 0.5), np.arange(count, dtype=float)
    )


BY_HAND = predictions([0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 0, 2])


def test_by_hand() -> None:
    found = metrics(BY_HAND, removed=1, classes=4)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["self"] == pytest.approx(2 / 3)
    assert found["retain"] == pytest.approx(2 / 3)
    assert found["score"] == pytest.approx(2 * (1 / 3) * (2 / 3) / (1 / 3 + 2 / 3))
    assert (found["self_n"], found["retain_n"]) == (3, 3)
    assert found["self_loss"] == pytest.approx((2 + 3 + 4) / 3)
    assert found["retain_loss"] == pytest.approx((0 + 1 + 5) / 3)
    assert found["per_class"] == [0.5, pytest.approx(2 / 3), 1.0, None]


def test_confusion_by_hand() -> None:
    counts = confusion(BY_HAND.labels, BY_HAND.predicted, 4)
    assert counts.tolist() == [[1, 1, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert counts[1, 0] == 1  # the row is the truth: one 1 was taken for a 0


@pytest.mark.parametrize(
    ("own", "retain", "expected"),
    [(0, 1, 1), (1, 1, 0), (0, 0, 0), (1, 0, 0), (0.5, 1, 2 / 3), (0.01, 0.85, 0.9146739)],
)
def test_f1_of_forgetting_and_retaining(own: float, retain: float, expected: float) -> None:
    assert f1(own, retain) == pytest.approx(expected)


@pytest.mark.parametrize("batch_size", [1, 3, 500])
@pytest.mark.parametrize("name", ["convolution", "batch norm", "unused parameters"])
def test_predictions_one_sample_at_a_time(name: str, batch_size: int) -> None:
    problem, data = cases.problem(name), cases.queries(name)
    problem.model.train()
    found = predict(problem, data, batch_size=batch_size)
    theta = oracles.theta_of(problem)
    model = oracles.at(problem, theta.numpy()).eval()
    for i in range(5):
        x, y = data[i]
        p = model(x[None]).detach().softmax(1)[0]
        assert found.labels[i] == y
        assert found.predicted[i] == int(p.argmax())
        assert found.p_label[i] == pytest.approx(float(p[y]))
        assert found.loss[i] == pytest.approx(float(oracles.sample_loss(problem, theta, data[i])))
    assert problem.model.training


def test_other_parameters_and_the_model_stays() -> None:
    problem, data = cases.problem("convolution"), cases.queries("convolution")
    before = predict(problem, data)
    zero = predict(problem, data, theta=torch.zeros_like(problem.theta))
    np.testing.assert_allclose(zero.p_label, 1 / 3)
    np.testing.assert_allclose(predict(problem, data).loss, before.loss, rtol=0, atol=0)


def test_a_model_blown_up_by_an_edit_has_finite_losses() -> None:
    problem, data = cases.problem("convolution"), cases.queries("convolution")
    found = predict(problem, data, theta=1e200 * problem.theta)
    assert np.isfinite(found.loss).all()
    assert ((found.p_label >= 0) & (found.p_label <= 1)).all()

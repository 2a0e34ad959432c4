"""Problem: mean loss, per-sample losses and gradients; the caller's model is only read."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from gifcore.change import RemoveSamples
from gifcore.curvature import Hessian
from gifcore.errors import GifError
from gifcore.influence import influence
from gifcore.problem import Problem, cross_entropy, engine_mode, fetch, targets
from gifcore.scoring import Queries, rank
from gifcore.selection import select
from tests import cases, oracles


@pytest.mark.parametrize("batch_size", cases.BATCH_SIZES)
@pytest.mark.parametrize("name", cases.PROBLEMS)
def test_mean_gradient_over_ragged_batches_is_the_mean_of_single_ones(
    name: str, batch_size: int
) -> None:
    problem = cases.problem(name)
    expected = torch.from_numpy(oracles.train_gradients(problem).mean(0))
    found = problem.data_gradient(problem.positions, batch_size=batch_size)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", cases.PROBLEMS)
def test_a_subset_and_another_data_set(name: str) -> None:
    problem, other = cases.problem(name), cases.queries(name)
    some = torch.tensor([3, 1, 1])  # unsorted and repeated: a mean all the same
    for data in (None, other):
        rows = oracles.sample_gradients(problem, data or problem.train, [3, 1, 1])
        found = problem.data_gradient(some, data=data, batch_size=2)
        torch.testing.assert_close(found, torch.from_numpy(rows.mean(0)), rtol=1e-10, atol=1e-12)


def test_unreached_parameters_have_zero_gradient() -> None:
    problem = cases.problem("unused parameters")
    named = problem.space.unflatten(problem.data_gradient(problem.positions))
    for key in ("spare", "never_called.weight", "never_called.bias"):
        assert not named[key].any()
    assert named["first.weight"].any()


def everything(problem: Problem) -> None:
    """One call of every kind that touches the model."""
    change = RemoveSamples([0, 4])
    selected = select(problem, change, ratio=0.4)
    influence(problem, change, selected=selected)
    queries = Queries(cases.queries("batch norm"), [[0], [1, 2]])
    rank(problem, queries, selected=selected, samples=7)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_stays_bitwise_as_it_was(training: bool) -> None:
    problem = cases.problem("batch norm")
    problem.model.train(training)
    problem.model[2].train(not training)  # mixed modes are restored one by one
    before = copy.deepcopy(problem.model.state_dict())
    modes = [module.training for module in problem.model.modules()]
    generator = torch.get_rng_state()
    flags = [parameter.requires_grad for parameter in problem.model.parameters()]
    everything(problem)
    after = problem.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert modes == [module.training for module in problem.model.modules()]
    assert torch.equal(generator, torch.get_rng_state())
    assert flags == [parameter.requires_grad for parameter in problem.model.parameters()]
    assert all(parameter.grad is None for parameter in problem.model.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in problem.model.modules())


def test_frozen_parameters_still_count_and_stay_frozen() -> None:
    problem = cases.problem("batch norm")
    expected = problem.data_gradient(problem.positions)
    for parameter in problem.model.parameters():
        parameter.requires_grad_(False)
    torch.testing.assert_close(problem.data_gradient(problem.positions), expected)
    assert not any(parameter.requires_grad for parameter in problem.model.parameters())


class Counting(nn.Module):
    """A model that writes to its own buffer in every forward pass, even in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.linear(x)


def test_a_model_that_writes_to_its_buffers_is_untouched_too() -> None:
    model = Counting().double()
    x, y = cases.features((3,), 11, seed=0)
    problem = Problem(model, TensorDataset(x, y))
    problem.data_gradient(problem.positions, batch_size=2)
    assert float(model.calls) == 0


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_modes_and_fast_path_come_back_after_an_exception(error: type[BaseException]) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    model[0].eval()
    fast = torch.backends.mha.get_fastpath_enabled()

    def inside() -> None:
        with engine_mode(model):
            assert not any(module.training for module in model.modules())
            assert not torch.backends.mha.get_fastpath_enabled()
            raise error

    with pytest.raises(error):
        inside()
    assert [m.training for m in model.modules()] == [True, False, True]
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_evaluation_is_in_eval_mode_so_dropout_is_off_and_batches_do_not_mix() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
    x, y = cases.features((3,), 11, seed=0)
    problem = Problem(model.double().train(), TensorDataset(x, y))
    one = problem.data_gradient(problem.positions, batch_size=11)
    two = problem.data_gradient(problem.positions, batch_size=2)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)


def test_weight_decay_is_no_part_of_data_gradients_but_of_the_objective() -> None:
    with_decay = cases.problem("perceptron with decay")
    without = cases.problem("perceptron")
    assert torch.equal(
        with_decay.data_gradient(with_decay.positions), without.data_gradient(without.positions)
    )
    v = cases.random_vector(with_decay.space.size)
    difference = (
        Hessian(with_decay, with_decay.positions) @ v - Hessian(without, without.positions) @ v
    )
    torch.testing.assert_close(difference, 0.3 * v)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    model = cases.perceptron()
    with torch.no_grad():
        model[2].bias[1] = value
    with pytest.raises(GifError, match=r"parameter 2\.bias holds NaN or infinity"):
        Problem(model, cases.queries("perceptron"))


@pytest.mark.parametrize("decay", [-1e-9, float("nan"), float("inf")])
def test_impossible_weight_decay(decay: float) -> None:
    with pytest.raises(GifError, match="weight_decay"):
        Problem(cases.perceptron(), cases.queries("perceptron"), weight_decay=decay)


def test_inputs_that_are_not_finite() -> None:
    x, y = cases.features((3,), 11, seed=0)
    x[7, 1] = float("nan")
    problem = Problem(cases.perceptron().double(), TensorDataset(x, y))
    with pytest.raises(GifError, match="NaN or infinity"):
        problem.data_gradient(problem.positions)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_loss_that_is_already_reduced_is_refused(reduction: str) -> None:
    def reduced(outputs: Tensor, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(outputs, batch[1], reduction=reduction)

    problem = Problem(cases.perceptron().double(), cases.queries("perceptron"), loss=reduced)
    with pytest.raises(GifError, match="one number per sample"):
        problem.data_gradient(problem.positions)


def test_no_samples() -> None:
    with pytest.raises(GifError, match="no training sample"):
        Problem(cases.perceptron(), TensorDataset(torch.zeros(0, 3), torch.zeros(0)))
    problem = cases.problem("perceptron")
    with pytest.raises(GifError, match="no training sample"):
        problem.narrowed(torch.tensor([], dtype=torch.long))


def test_cross_entropy_is_one_number_a_sample_in_nats() -> None:
    losses = cross_entropy(torch.zeros(2, 4), (None, torch.tensor([0, 3])))
    torch.testing.assert_close(losses, torch.full((2,), 4.0).log())


# --- weights -------------------------------------------------------------------------------------


def weighted(name: str) -> tuple[Problem, Tensor]:
    plain = cases.problem(name)
    w = torch.linspace(0.2, 3.0, plain.n, dtype=torch.float32)
    problem = Problem(plain.model, plain.train, plain.loss, plain.weight_decay, weights=w)
    return problem.narrowed(torch.tensor([8, 1, 2, 5, 9])), w


@pytest.mark.parametrize("batch_size", cases.BATCH_SIZES)
@pytest.mark.parametrize("name", cases.PROBLEMS)
def test_a_weighted_mean_is_divided_by_the_sum_of_its_weights_once(
    name: str, batch_size: int
) -> None:
    problem, w = weighted(name)
    rows, used = oracles.train_gradients(problem), w[problem.positions].double().numpy()
    mean = torch.from_numpy(used @ rows / used.sum())
    found = problem.data_gradient(problem.positions, batch_size=batch_size)
    torch.testing.assert_close(found, mean, rtol=1e-10, atol=1e-12)
    c = torch.tensor([1.0, -2.0, 0.0, 0.5, 4.0])
    total = torch.from_numpy(c.double().numpy() @ rows)
    found = problem.weighted_gradient(problem.positions, c, batch_size=batch_size)
    torch.testing.assert_close(found, total, rtol=1e-10, atol=1e-12)


def test_weights_by_position_and_their_shares() -> None:
    problem, w = weighted("perceptron")
    assert problem.weights_of(torch.tensor([3, 0, 3])).tolist() == w[[3, 0, 3]].double().tolist()
    expected = torch.zeros(11, dtype=torch.float64)
    expected[problem.positions] = w[problem.positions].double()
    torch.testing.assert_close(problem.shares(), expected / expected.sum())
    plain = cases.problem("perceptron")
    assert plain.weights_of(torch.tensor([3, 0])).tolist() == [1.0, 1.0]
    assert plain.narrowed(torch.tensor([1, 4])).shares().tolist() == [0, 0.5, 0, 0, 0.5] + [0] * 6


def test_queries_have_no_weights() -> None:
    problem, _ = weighted("perceptron")
    data, some = cases.queries("perceptron"), torch.tensor([0, 3, 4])
    rows = oracles.sample_gradients(problem, data, some.tolist())
    found = problem.data_gradient(some, data=data)
    torch.testing.assert_close(found, torch.from_numpy(rows.mean(0)), rtol=1e-10, atol=1e-12)


def test_equal_weights_change_nothing() -> None:
    plain = cases.problem("convolution")
    twos = Problem(plain.model, plain.train, weights=torch.full((13,), 2.0))
    torch.testing.assert_close(
        twos.data_gradient(twos.positions), plain.data_gradient(plain.positions)
    )


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (torch.ones(10), r"weights has shape \(10,\); give one for each of 11 samples"),
        (torch.ones(11, 1), r"shape \(11, 1\)"),
        (torch.eye(11)[4], "sample 0 has weight 0; a weight is a finite number above 0"),
        (1 - 2 * torch.eye(11)[4], "sample 4 has weight -1"),
        (torch.ones(11) / (1 - torch.eye(11)[4]), "sample 4 has weight inf"),
        (torch.ones(11) * float("nan"), "sample 0 has weight nan"),
    ],
)
def test_impossible_weights(weights: Tensor, sentence: str) -> None:
    plain = cases.problem("perceptron")
    with pytest.raises(GifError, match=sentence):
        Problem(plain.model, plain.train, weights=weights)


@pytest.mark.parametrize("kind", [int, float, torch.tensor, np.int64, np.float32])
def test_labels_keep_the_type_that_a_batch_gives_them(kind: Any) -> None:
    rows = cases.Rows([(torch.zeros(2), kind(i)) for i in (2, 0, 1)])
    found = targets(rows)
    assert found.tolist() == [2, 0, 1]
    assert found.dtype == fetch(rows, torch.tensor([0]), "cpu")[1].dtype
    assert targets(rows, torch.tensor([1, 1])).tolist() == [0, 0]

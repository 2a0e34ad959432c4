"""ParameterSpace: the only flatten and unflatten, in the order of named_parameters()."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from gifcore.errors import GifError
from gifcore.parameters import ParameterSpace, tangents
from tests import cases, oracles


@pytest.mark.parametrize("name", cases.PROBLEMS)
def test_round_trip_in_the_order_of_named_parameters(name: str) -> None:
    problem = cases.problem(name)
    flat = oracles.theta_of(problem)
    named = dict(problem.model.named_parameters())
    assert torch.equal(problem.space.flatten(named), flat)
    back = problem.space.unflatten(flat)
    assert list(back) == list(named)
    assert all(torch.equal(back[key], named[key]) for key in named)


@pytest.mark.parametrize("name", cases.PROBLEMS)
def test_blocks_leave_no_gap_and_locate_is_their_inverse(name: str) -> None:
    space = cases.problem(name).space
    tensors = space.unflatten(torch.arange(space.size))
    for index in range(space.size):
        key, place = space.locate(index)
        assert int(tensors[key][place]) == index
    assert space.size == sum(block.size for block in space.blocks)


def test_tied_parameters_count_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert [b.name for b in ParameterSpace.of(model).blocks] == ["0.weight", "1.bias"]


def test_a_scalar_and_an_empty_tensor_have_their_place() -> None:
    model = nn.Module()
    model.register_parameter("scalar", nn.Parameter(torch.tensor(2.0)))
    model.register_parameter("empty", nn.Parameter(torch.zeros(0, 3)))
    model.register_parameter("last", nn.Parameter(torch.ones(2)))
    space = ParameterSpace.of(model)
    assert space.size == 3
    assert space.locate(0) == ("scalar", ())
    assert space.locate(1) == ("last", (0,))
    assert space.flatten(space.unflatten(torch.arange(3.0))).tolist() == [0, 1, 2]


@pytest.mark.parametrize("index", [-1, 8, 10**9])
def test_an_index_outside(index: int) -> None:
    with pytest.raises(GifError, match=rf"index {index} is not in 0 … 7"):
        ParameterSpace.of(nn.Linear(3, 2)).locate(index)


@pytest.mark.parametrize("shape", [(7,), (9,), (1, 8), ()])
def test_a_vector_of_another_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(GifError, match="Expected a vector of 8 numbers"):
        ParameterSpace.of(nn.Linear(3, 2)).unflatten(torch.zeros(shape))


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Sequential(), nn.Module()])
def test_a_model_without_parameters(model: nn.Module) -> None:
    with pytest.raises(GifError, match="no parameters"):
        ParameterSpace.of(model)


def integers() -> nn.Module:
    model = nn.Linear(2, 2)
    model.count = nn.Parameter(torch.tensor(3), requires_grad=False)
    return model


def mixed(dtype: torch.dtype) -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2), nn.Module())
    model[1].phase = nn.Parameter(torch.ones(2, dtype=dtype))
    return model


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (lambda: torch.relu, "The model is a builtin_function_or_method; give a torch.nn.Module"),
        (lambda: nn.LazyLinear(3), "parameter weight has no shape yet; call the model once"),
        (integers, "parameter count is int64; parameters must be real floating-point numbers"),
        (lambda: mixed(torch.complex64), r"parameter 1\.phase is complex64"),
        (
            lambda: mixed(torch.float16),
            r"1\.phase is torch\.float16 on cpu, others are torch\.flo",
        ),
        (lambda: nn.Linear(2, 2, device="meta"), "weight is on the meta device; load the weights"),
    ],
)
def test_parameters_that_are_no_vector(model: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        ParameterSpace.of(model())


def test_frozen_parameters_are_part_of_theta() -> None:
    model = nn.Linear(3, 2)
    expected = ParameterSpace.of(model)
    model.weight.requires_grad_(False)
    assert ParameterSpace.of(model) == expected


def test_tangents_leave_out_the_row_of_padding_alone() -> None:
    model = nn.Sequential(nn.Embedding(4, 2, padding_idx=1), nn.Linear(2, 2), nn.Embedding(2, 2))
    space = ParameterSpace.of(model)
    vector = torch.arange(1.0, space.size + 1)
    found = tangents(model, space, vector)
    expected = vector.clone()
    expected[2:4] = 0
    assert torch.equal(space.flatten(found), expected)
    assert vector[2] == 3  # the caller's vector stays


def test_a_table_with_padding_that_is_used_twice_has_no_forward_mode() -> None:
    model = nn.Sequential(nn.Embedding(4, 2, padding_idx=1), nn.Linear(2, 4, bias=False))
    model[1].weight = model[0].weight
    with pytest.raises(NotImplementedError, match="forward mode"):
        tangents(model, ParameterSpace.of(model), torch.zeros(8))

"""What selectors refuse, tell and leave behind."""

from typing import Any

import pytest
import torch
from torch import nn

from gifcore.change import RemoveSamples
from gifcore.errors import Cancelled, GifError
from gifcore.problem import Problem
from gifcore.selection import SELECTORS, select
from gifcore.selection.scores import mean_outputs
from tests import cases
from tests.selection.shared import CHANGE, by_rule


def test_hooks_are_gone_even_after_an_error() -> None:
    problem = cases.problem("batch norm")
    problem.train.tensors[0][2] = float("nan")

    def failing(*_: object) -> torch.Tensor:
        raise RuntimeError("in the loss")

    broken = Problem(problem.model, problem.train, loss=failing)
    with pytest.raises(RuntimeError, match="in the loss"):
        select(broken, CHANGE)
    assert not any(module._forward_hooks for module in problem.model.modules())
    for selector, what in (
        ("threshold", "inputs"), ("highest-k-fisher", "Fisher"), ("caps", "gradient"),
    ):  # fmt: skip
        with pytest.raises(GifError, match=f"{what}.* NaN or infinity"):
            select(problem, CHANGE, selector=selector)
        assert not any(module._forward_hooks for module in problem.model.modules())


@pytest.mark.parametrize("selector", [n for n, (of, _) in cases.SELECTORS.items() if of])
def test_progress_is_told_and_can_cancel(selector: str) -> None:
    problem, told = cases.problem("convolution"), []
    select(problem, CHANGE, selector=selector, ratio=0.3, progress=lambda *t: told.append(t))
    assert (told[-1][0] == told[-1][1]) if told else selector.endswith("magnitude")

    def cancel(*_: object) -> None:
        raise Cancelled

    if told:
        with pytest.raises(Cancelled):
            select(problem, CHANGE, selector=selector, ratio=0.3, progress=cancel)
        assert not any(module._forward_hooks for module in problem.model.modules())


@pytest.mark.parametrize("ratio", [0, -0.1, 1.0001, 5, float("nan"), float("inf")])
def test_an_impossible_ratio(ratio: float) -> None:
    with pytest.raises(GifError, match=r"choose one above 0 and at most 1"):
        select(cases.problem("convolution"), CHANGE, ratio=ratio)


def test_other_refusals() -> None:
    problem = cases.problem("convolution")
    with pytest.raises(GifError, match="Unknown selector 'top'; choose one of: highest-k-grad"):
        select(problem, CHANGE, selector="top")
    for selector in SELECTORS:
        if selector != "all":
            with pytest.raises(GifError, match="selects no parameter"):
                select(problem, CHANGE, selector=selector, ratio=1e-6)
    norm = Problem(nn.BatchNorm1d(3).double(), cases.queries("perceptron"))
    with pytest.raises(GifError, match="no convolution or linear layer"):
        select(norm, RemoveSamples([0]))
    for selector in by_rule("exclusive-k"):
        with pytest.raises(GifError, match="works up to 0.5"):
            select(problem, CHANGE, selector=selector, ratio=0.51)
    with pytest.raises(GifError, match="touches every training sample"):
        select(problem, RemoveSamples(range(13)), selector="caps")
    with pytest.raises(GifError, match="names no training sample"):
        mean_outputs(problem, torch.tensor([], dtype=torch.long))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layers": ["fc"]}, "Unknown name 'fc' in `layers`; there are: '0', '4', '1'"),
        ({"kinds": ["dense"]}, "Unknown name 'dense' in `kinds`; there are: 'conv', 'linear'"),
        ({"kinds": ["embedding"]}, "no layer of kind 'embedding'; its kinds are: conv, linear, n"),
        ({"layers": []}, r"`layers` is \[\]; give a list of names"),
        ({"layers": "0"}, "`layers` is '0'; give a list of names"),
        ({"layers": ["1"], "kinds": ["conv"]}, "'1' is of kind 'norm', which `kinds` leaves out"),
        ({"budget": "both"}, "Unknown budget 'both'; choose one of: layer, global"),
    ],
)
def test_filters_that_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        select(cases.problem("batch norm"), CHANGE, **options)

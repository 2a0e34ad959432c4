"""Where double backward does not exist, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from gifcore.curvature import Hessian
from gifcore.errors import GifError
from gifcore.problem import Problem, cross_entropy
from gifcore.second_derivatives import check_second_derivatives, explain_double_backward
from tests import cases
from tests.test_refused_problems import ROWS, X, Y, perceptron


class Forced(nn.Module):
    """Attention that insists on a fused kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (6, 2)).transpose(1, 2).chunk(3, 1)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * gradient


class Raw(Once):
    """Backward by a kernel that autograd does not see: wrong without a word."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.from_numpy(
            2 * ctx.saved_tensors[0].detach().numpy() * gradient.detach().numpy()
        )


class Applied(nn.Module):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(x)


class Words(nn.Module):
    """Embedded tokens, one layer to look at, the mean over positions."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.embedding, self.layer, self.last = nn.Embedding(5, 4), layer, nn.Linear(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.last(self.layer(self.embedding(tokens)).mean(1))


def words(layer: nn.Module) -> Problem:
    data = cases.samples(cases.ANY_MODEL["attention"], 5, 0)
    return Problem(Words(layer).double().eval(), data, weight_decay=0.1)


def bag() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(5, 4), nn.Linear(4, 3))


RAISES = {
    "forced flash attention": (
        lambda: words(nn.Sequential(nn.Linear(4, 4), Forced())),
        r"Layer 'layer\.1' \(Forced\) has no second derivative .*flash_attention.*"
        r"take sdpa_kernel\(\.\.\.\) out of the model or set it to SDPBackend\.MATH",
    ),
    "once differentiable": (
        lambda: words(Applied(Once)),
        r"Layer 'layer' \(Applied\) has no second .* without once_differentiable",
    ),
    "bag of words": (
        lambda: Problem(
            bag().double(), TensorDataset(cases.tokens(X), Y)
        ),
        r"Layer '0' \(EmbeddingBag\) has no second derivative .* use nn\.Embedding and take",
    ),
}  # fmt: skip

# found layer by layer, though a product would go through and be wrong
SILENT = {
    "raw kernel": (lambda: words(Applied(Raw)), r"Layer 'layer' \(Applied\) has no second"),
    "weight norm": (
        lambda: words(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))),
        r"Layer 'layer.*WeightNorm\) .*does not follow .* choose curvature 'fisher'",
    ),
    "the loss": (
        lambda: replace(words(nn.Tanh()), loss=lambda o, b: Once.apply(cross_entropy(o, b))),
        "The loss has no second derivative",
    ),
}


@pytest.mark.parametrize("name", RAISES)
def test_the_layer_without_double_backward_is_named(name: str) -> None:
    make, sentence = RAISES[name]
    problem = make()
    with pytest.raises(GifError, match=sentence):
        check_second_derivatives(problem)
    with pytest.raises(GifError, match=sentence):
        Hessian(problem, problem.positions, 4) @ problem.theta


@pytest.mark.parametrize("name", SILENT)
def test_a_second_derivative_that_is_wrong_without_a_word_is_found(name: str) -> None:
    make, sentence = SILENT[name]
    with pytest.raises(GifError, match=sentence):
        check_second_derivatives(make())


def test_an_error_that_no_layer_explains_keeps_its_text() -> None:
    error = explain_double_backward(words(nn.Tanh()), RuntimeError("no room\nat all"))
    assert str(error) == "A curvature product failed (no room); try a smaller batch size."


def test_bad_input_is_explained_as_such_by_a_product_too() -> None:
    problem = Problem(perceptron(), TensorDataset(X[:, :2], Y))
    with pytest.raises(GifError, match="The model failed on the first batch"):
        Hessian(problem, problem.positions) @ problem.theta


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(ROWS)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            DataLoader(TensorDataset(X, Y), shuffle=True),
            r"is a DataLoader; give its data set \(load",
        ),
        (Stream(), "train is a Stream without positions; give a map-style data set"),
        (iter(ROWS), "train is a list_iterator without positions"),
    ],
)
def test_data_without_positions(data: Any, sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        Problem(perceptron(), data)


def test_a_loss_that_is_no_tensor() -> None:
    problem = Problem(perceptron(), TensorDataset(X, Y), lambda _o, _b: 0.5)
    with pytest.raises(GifError, match="The loss returned 0.5; return one number per sample"):
        problem.data_gradient(problem.positions)

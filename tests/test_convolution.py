"""Convolutions differentiated twice: torch's derivatives, whole and with channels left out."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from gifcore.convolution import FastConvolutions
from gifcore.curvature import Hessian
from gifcore.operators import Embedding
from gifcore.problem import Problem
from tests import cases, oracles

GEOMETRIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "stride and padding": {"stride": 2, "padding": 1},
    "uneven": {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
    "few positions": {"stride": 3, "padding": 1},
    "few positions, uneven": {"stride": (4, 3), "padding": (1, 0)},
    "few positions, some see padding alone": {"stride": (4, 5), "padding": 2},
    "groups": {"groups": 2, "padding": 1},
    "depthwise": {"groups": 4},
    "no bias": {"bias": False},
    "padding by name": {"padding": "valid"},
}


def network(**geometry: Any) -> nn.Module:
    """Two convolutions, the second of the given kind, between smooth activations."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 2),
        nn.Tanh(),
        nn.Conv2d(4, 4, 2, **geometry),
        nn.Tanh(),
        nn.Flatten(),
        nn.LazyLinear(cases.CLASSES),
    )


def problem(**geometry: Any) -> Problem:
    x, y = cases.features((1, 5, 6), 7, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = network(**geometry).double()
        model(x)
    return Problem(model, TensorDataset(x, y), weight_decay=0.1)


@cache
def dense_of(name: str) -> np.ndarray:
    """The dense Hessian of a geometry: slow, so it is made once."""
    return oracles.hessian(problem(**GEOMETRIES[name]))


@pytest.mark.parametrize("name", GEOMETRIES)
def test_products_are_those_of_the_dense_hessian(name: str) -> None:
    made = problem(**GEOMETRIES[name])
    H = Hessian(made, made.positions, batch_size=3)
    dense = dense_of(name)
    for seed in range(2):  # the second time from kept graphs
        v = cases.random_vector(made.space.size, seed)
        np.testing.assert_allclose(H @ v, dense @ v.numpy(), rtol=1e-10, atol=1e-12)


def some_channels(space: Any) -> Tensor:
    """One whole output channel of the second convolution and a few single numbers."""
    block = space.by_name["2.weight"]
    fan_in = block.size // block.shape[0]
    channel = block.offset + fan_in + torch.arange(fan_in)
    return torch.cat([torch.tensor([1]), channel, torch.tensor([space.size - 1])])


@pytest.mark.parametrize("choose", [some_channels, lambda space: torch.tensor([space.size - 1])])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_selection_leaves_nothing_out_that_counts(
    name: str, choose: Callable[[Any], Tensor]
) -> None:
    """H E x from few channels, E^T H u at few channels; then whole products again."""
    made = problem(**GEOMETRIES[name])
    H, dense = Hessian(made, made.positions, batch_size=3), dense_of(name)
    J = choose(made.space)
    A = H @ Embedding(J, made.space.size)
    x, at = cases.random_vector(len(J)), J.numpy()
    u = cases.random_vector(made.space.size)
    for _ in range(2):
        np.testing.assert_allclose(A @ x, dense[:, at] @ x.numpy(), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(A.T @ u, dense[at] @ u.numpy(), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(H @ u, dense @ u.numpy(), rtol=1e-10, atol=1e-12)


def test_third_derivatives_are_not_cut() -> None:
    """Where derivatives are taken of derivatives, wanted channels do not count."""
    x = cases.random_vector(25).reshape(1, 1, 5, 5)
    w = cases.random_vector(18, 1).reshape(2, 1, 3, 3).requires_grad_()
    found = []
    for mode in (FastConvolutions(), None):
        if mode is None:
            value = torch.conv2d(x, w).tanh().sum()
        else:
            with mode:
                value = torch.conv2d(x, w).tanh().sum()
            mode.want({id(w): torch.tensor([0])})
        (first,) = torch.autograd.grad(value, w, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), w, create_graph=True)
        (third,) = torch.autograd.grad(second[0].square().sum() + second[1].sum(), w)
        found.append(third)
    torch.testing.assert_close(found[0][:1], found[1][:1], rtol=1e-10, atol=1e-12)
    assert float(found[0][1].abs().max()) == 0  # only the last derivative leaves them out
    assert float(found[1][1].abs().max()) > 0


class Awkward(nn.Module):
    """What channels are followed through, and what they must not be followed through."""

    def __init__(self, scaled: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.5, 2, 4)[:, None, None]) if scaled else None
        self.first, self.left, self.right = (nn.Conv2d(i, 4, 2) for i in (1, 4, 4))
        self.head = nn.Linear(4 * 3 * 4, cases.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if self.scale is not None:
            y.mul_(self.scale)  # no longer a function of the first convolution alone
        y = y.tanh()
        z = self.left(y) * self.right(y.sigmoid())
        return self.head(z.view(len(z), -1))


def awkward(scaled: bool) -> Problem:
    x, y = cases.features((1, 5, 6), 7, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Awkward(scaled).double()
    return Problem(model, TensorDataset(x, y), weight_decay=0.1)


@cache
def dense_of_awkward(scaled: bool) -> np.ndarray:
    return oracles.hessian(awkward(scaled))


@pytest.mark.parametrize("chosen", ["first.bias", "first.weight", "left.bias", "right.weight"])
@pytest.mark.parametrize("scaled", [False, True])
def test_channels_are_followed_only_where_they_stay_apart(scaled: bool, chosen: str) -> None:
    """One number of a layer, and the scale where there is one, against the dense Hessian."""
    made = awkward(scaled)
    blocks = made.space.by_name
    J = [blocks[chosen].offset + blocks[chosen].size - 1]
    if scaled:
        J += [blocks["scale"].offset + channel for channel in range(4)]
    A = Hessian(made, made.positions, batch_size=3) @ Embedding(
        torch.tensor(sorted(J)), made.space.size
    )
    dense = dense_of_awkward(scaled)[:, sorted(J)]
    for seed in range(2):
        v, u = cases.random_vector(len(J), seed), cases.random_vector(made.space.size, seed)
        np.testing.assert_allclose(A @ v, dense @ v.numpy(), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(A.T @ u, dense.T @ u.numpy(), rtol=1e-10, atol=1e-12)

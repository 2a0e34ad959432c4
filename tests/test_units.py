"""What excites a unit, against the definition by a loop over samples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import gifcore as gif
from gifcore.units import most_exciting


class Net(nn.Module):
    """A convolution, a linear layer over positions, one that is called twice, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.tokens = nn.Linear(16, 4)
        self.twice = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(self.conv(x).relu().flatten(2))  # (b, 3, 4)
        return self.head(self.twice(self.twice(h)).mean(dim=1))


@pytest.fixture
def problem() -> gif.Problem:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(23, 1, 6, 6, generator=generator, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = Net().double()
    return gif.Problem(net, TensorDataset(x, torch.arange(23) % 2))


@pytest.mark.parametrize("batch_size", [5, 23])
def test_the_samples_of_the_largest_mean_output_come_first(
    problem: gif.Problem, batch_size: int
) -> None:
    found = most_exciting(problem, top=7, batch_size=batch_size)
    assert set(found["layer"]) == {"conv", "tokens", "head"}  # "twice" has no one output
    net, x = problem.model, problem.train.tensors[0]  # type: ignore[attr-defined]
    with torch.no_grad():
        conv = net.conv(x)
        tokens = net.tokens(conv.relu().flatten(2))
        expected = {"conv": conv.mean(dim=(2, 3)), "tokens": tokens.mean(dim=1), "head": net(x)}
    for layer, means in expected.items():
        for unit in range(means.shape[1]):
            rows = found[(found["layer"] == layer) & (found["unit"] == unit)]
            order = means[:, unit].argsort(descending=True)[:7]
            assert rows["place"].tolist() == list(range(7))
            assert rows["train_index"].tolist() == order.tolist()
            assert rows["activation"].tolist() == pytest.approx(means[order, unit].tolist())


def test_only_samples_that_count_are_looked_at(problem: gif.Problem) -> None:
    retained = gif.RemoveSamples(list(range(20))).apply(problem)
    assert set(most_exciting(retained)["train_index"]) == {20, 21, 22}


def test_the_model_keeps_no_hook(problem: gif.Problem) -> None:
    most_exciting(problem)
    assert not any(module._forward_hooks for module in problem.model.modules())

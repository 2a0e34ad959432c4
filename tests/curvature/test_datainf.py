"""DataInf against its formula, layer by layer; on a selection its gradients are cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gifcore.curvature import EKFAC, DataInf, EmpiricalFisher, layers
from gifcore.errors import GifError
from tests import cases, curvature_oracles

CLOSE = {"rtol": 1e-10, "atol": 1e-11}
D = 0.2


@pytest.mark.parametrize("name", [*cases.PROBLEMS, *cases.ANY_MODEL])
def test_inverse_is_the_formula(name: str) -> None:
    problem = cases.problem(name)
    samples = problem.positions.tolist()
    g = curvature_oracles.gradients(problem, samples)
    blocks = list(curvature_oracles.modules(problem).values())
    d = D + problem.weight_decay
    share = curvature_oracles.shares(problem, samples)
    v = cases.random_vector(problem.space.size)
    J = torch.arange(0, problem.space.size, 2)
    cut = g.copy()
    cut[:, 1::2] = 0
    for batch_size in (4, 1000):
        H = DataInf(problem, problem.positions, batch_size)
        expected = curvature_oracles.datainf_inverse(g, share, blocks, d) @ v.numpy()
        np.testing.assert_allclose(H.inverse(v, D).numpy(), expected, **CLOSE)
        found, exact = H.restricted_inverse(v[J], J, D)
        expected = curvature_oracles.datainf_inverse(cut, share, blocks, d) @ v.numpy()
        assert exact
        np.testing.assert_allclose(found.numpy(), expected[J], **CLOSE)


def test_it_is_the_inverse_for_one_sample_and_one_layer() -> None:
    """The formula of Sherman and Morrison."""
    problem = cases.problem("perceptron with decay").narrowed(torch.tensor([4]))
    J = torch.arange(16)  # the first layer
    F = EmpiricalFisher(problem, problem.positions).dense()[J][:, J]
    v = cases.random_vector(16)
    found, _ = DataInf(problem, problem.positions).restricted_inverse(v, J, D)
    expected = torch.linalg.solve(F + D * torch.eye(16).double(), v)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_single_gradients_are_formed_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = replace(cases.problem("convolution"), weights=1.0 + torch.arange(13) % 5)
    v = cases.random_vector(problem.space.size)

    def found() -> list[torch.Tensor]:
        H = EKFAC.fit(problem, problem.positions)
        return [DataInf(problem, problem.positions).inverse(v, D), H @ v]

    expected = found()
    monkeypatch.setattr(layers, "CHUNK_MB", 3 * 2 * 10 * 8 / 2**20)  # three of the convolution
    torch.testing.assert_close(found(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("damping", [0.0, -0.1, float("nan")])
def test_it_divides_by_its_damping(damping: float) -> None:
    problem = cases.problem("perceptron")
    with pytest.raises(GifError, match="positive"):
        DataInf(problem, problem.positions).inverse(problem.theta, damping)


@pytest.mark.parametrize(
    ("name", "factored"),
    [
        ("convolution", {"0", "3"}),
        ("batch norm", {"0", "4"}),
        ("unused parameters", {"first", "last"}),
        ("depthwise and group norm", {"first", "last"}),
        ("tied layers", set()),
        ("parametrized weight", {"2"}),
        ("fused attention, tied words", {"qkv"}),
    ],
)
def test_layers_whose_gradient_is_an_outer_product_are_found(name: str, factored: set[str]) -> None:
    problem = cases.problem(name)
    found = layers.layers_of(problem, problem.positions)
    assert {layer.name for layer in found if layer.factored} == factored
    together = torch.cat([layer.indices for layer in found])
    assert together.sort().values.tolist() == list(range(problem.space.size))

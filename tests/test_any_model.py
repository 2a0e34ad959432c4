"""The engine on any model: generic tests on further rows, and torchvision's networks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import TensorDataset

from gifcore.change import RemoveSamples
from gifcore.checks import check_problem
from gifcore.curvature import Hessian
from gifcore.curved import curvature
from gifcore.edit import edit
from gifcore.gradient_products import gradient_products
from gifcore.influence import embedded, influence
from gifcore.models import build
from gifcore.problem import Problem
from gifcore.scoring import Queries, rank
from gifcore.second_derivatives import check_second_derivatives
from gifcore.selection import select
from gifcore.solvers import LSMR
from tests import cases, oracles
from tests.test_influence import CONVERGED, chosen

EVERY = cases.PROBLEMS | cases.ANY_MODEL
CHANGE = RemoveSamples([0, 3, 4])


class Reference(nn.Module):
    """Called as the oracles call, with attention that can be differentiated twice."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Any) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return self.model(*inputs) if isinstance(inputs, list) else self.model(inputs)


@cache
def truth(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The dense Hessian of the objective and the gradients of all samples."""
    problem = cases.problem(name)
    reference = replace(problem, model=Reference(problem.model))
    return oracles.hessian(reference), oracles.train_gradients(reference)


@pytest.mark.parametrize("memory_mb", [0, 512], ids=["rebuilt", "kept"])
@pytest.mark.parametrize("batch_size", [4, 1000])
@pytest.mark.parametrize("name", cases.ANY_MODEL)
def test_product_is_the_dense_hessian_times_v(name: str, batch_size: int, memory_mb: int) -> None:
    problem = cases.problem(name)
    H = Hessian(problem, problem.positions, batch_size, memory_mb)
    for seed in range(2):
        v = cases.random_vector(problem.space.size, seed)
        expected = torch.from_numpy(truth(name)[0]) @ v
        torch.testing.assert_close(H @ v, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
@pytest.mark.parametrize("name", cases.ANY_MODEL)
def test_gradients_and_their_products(name: str, batch_size: int) -> None:
    problem, gradients = cases.problem(name), truth(name)[1]
    found = problem.data_gradient(problem.positions, batch_size=batch_size)
    np.testing.assert_allclose(found, gradients.mean(0), rtol=1e-10, atol=1e-12)
    stack = torch.stack([cases.random_vector(problem.space.size, seed) for seed in range(3)])
    for s in (stack, stack[0]):
        products = gradient_products(problem, s, batch_size=batch_size)
        np.testing.assert_allclose(products, s.numpy() @ gradients.T, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("method", ["gradient", "if", "gif"])
@pytest.mark.parametrize("name", cases.ANY_MODEL)
def test_update_edit_and_ranking(name: str, method: str) -> None:
    """Damped, as several of these have parameters that the loss hardly reaches."""
    problem, (H, gradients) = cases.problem(name), truth(name)
    H = H + 6 * np.eye(len(H))
    selected, curved = chosen(problem), curvature(problem, damping=6.0)
    n, removed = len(gradients), [0, 3, 4]
    kept = [i for i in range(n) if i not in removed]
    g = gradients.mean(0) - gradients[kept].mean(0)
    J = selected.indices.numpy()
    result = influence(
        problem, CHANGE, method=method, selected=selected, curvature=curved, solver=CONVERGED
    )
    np.testing.assert_allclose(result.delta, oracles.update(method, H, J, g), rtol=1e-6, atol=1e-8)
    edited = copy.deepcopy(problem.model)
    edited.load_state_dict(edit(problem, result))
    moved = nn.utils.parameters_to_vector(edited.parameters()) - problem.theta
    expected = embedded(result, problem.space.size)
    torch.testing.assert_close(moved, expected, rtol=1e-9, atol=1e-12)
    queries = Queries(problem.train, [[1], [2]])
    found = rank(
        problem, queries, method=method, selected=selected, curvature=curved, solver=CONVERGED
    ).values
    for q in range(2):
        s = oracles.adjoint(method, H, J, gradients[q + 1])
        np.testing.assert_allclose(found[q], oracles.scores(s, gradients), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", EVERY)
def test_checks_find_nothing_wrong_with_what_is_right(name: str) -> None:
    problem = cases.problem(name)
    state = torch.get_rng_state()
    before = copy.deepcopy(problem.model.state_dict())
    problem.model.eval()
    assert check_problem(problem) == ()
    check_second_derivatives(problem)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in problem.model.state_dict().items())
    assert not any(m._forward_pre_hooks for m in problem.model.modules())


class OfOutputs(nn.Module):
    """Returns a dict, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"value": self.last(torch.tanh(self.first(x)))[:, 0]}


def test_targets_that_are_numbers_and_outputs_that_are_a_dict() -> None:
    x, _ = cases.features((3,), 11, seed=0)
    problem = Problem(
        OfOutputs().double(),
        TensorDataset(x, x.sum(1)),
        loss=lambda outputs, batch: (outputs["value"] - batch[1]) ** 2,
        weight_decay=0.1,
    )
    assert check_problem(problem) == ()
    v = cases.random_vector(problem.space.size)
    expected = torch.from_numpy(oracles.hessian(problem)) @ v
    torch.testing.assert_close(
        Hessian(problem, problem.positions, 4) @ v, expected, rtol=1e-10, atol=1e-11
    )
    products = gradient_products(problem, v)
    np.testing.assert_allclose(products, oracles.train_gradients(problem) @ v.numpy(), rtol=1e-9)


# --- whole networks ------------------------------------------------------------------------------


def slim_vgg() -> nn.Module:
    """torchvision's VGG-11 with batch norm; its head of 120 million weights is a small one."""
    with torch.device("meta"):
        model = torchvision.models.vgg11_bn(num_classes=3)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Sequential(
        nn.Linear(512, 8), nn.ReLU(True), nn.Dropout(), nn.Linear(8, 3)
    )
    for module in model.features.to_empty(device="cpu").modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return model


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "torchvision resnet18": (lambda: torchvision.models.resnet18(num_classes=3), 32),
    "torchvision vgg11_bn": (slim_vgg, 32),
    "torchvision shufflenet_v2": (lambda: torchvision.models.shufflenet_v2_x1_0(num_classes=3), 32),
    "resnet18": (lambda: build("resnet18", (3, 8, 8), 3), 8),
    "vgg11-bn": (lambda: build("vgg11-bn", (3, 8, 8), 3), 8),
    "shufflenet-v2": (lambda: build("shufflenet-v2", (3, 8, 8), 3), 8),
}


@cache
def network(name: str) -> Problem:
    build_it, side = NETWORKS[name]
    x, y = cases.features((3, side, side), 3, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_it().double()
        model(torch.randn(4, 3, side, side, dtype=torch.float64))  # running statistics that matter
    return Problem(model.eval(), TensorDataset(x, y))


def plain_gradient(problem: Problem, rows: slice, *, graph: bool) -> tuple[Tensor, list[Tensor]]:
    """The summed gradient of a copy of the model, taken without anything of the engine."""
    model = copy.deepcopy(problem.model)
    x, y = problem.train.tensors
    loss = F.cross_entropy(model(x[rows]), y[rows], reduction="sum")
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss, parameters, create_graph=graph)
    return torch.cat([g.reshape(-1) for g in gradients]), parameters


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_run_unchanged(name: str) -> None:
    problem = network(name)
    before = copy.deepcopy(problem.model.state_dict())
    size, n = problem.space.size, problem.n
    v = cases.random_vector(size)
    gradient, parameters = plain_gradient(problem, slice(None), graph=True)
    product = torch.autograd.grad(gradient, parameters, v)
    expected = torch.cat([part.reshape(-1) for part in product]) / n
    found = Hessian(problem, problem.positions, 2) @ v
    assert float((found - expected).norm()) <= 1e-9 * float(expected.norm())
    rows = torch.stack([plain_gradient(problem, slice(i, i + 1), graph=False)[0] for i in range(n)])
    for s in (v, torch.stack([v, problem.theta])):
        found = gradient_products(problem, s, batch_size=2)
        torch.testing.assert_close(found, s @ rows.T, rtol=1e-8, atol=1e-10)
    after = problem.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", ["shufflenet-v2"])
def test_select_gif_edit_and_rank_on_a_network(name: str) -> None:
    problem = network(name)
    assert check_problem(problem) == ()
    selected = select(problem, RemoveSamples([0]), ratio=0.05)
    solver = LSMR(2, reorthogonalise=0)
    result = influence(problem, RemoveSamples([0]), selected=selected, solver=solver)
    edited = copy.deepcopy(problem.model)
    edited.load_state_dict(edit(problem, result))
    moved = nn.utils.parameters_to_vector(edited.parameters()) - problem.theta
    where = moved.nonzero().flatten()
    assert set(where.tolist()) <= set(selected.indices.tolist())
    assert len(where) > 0
    scores = rank(problem, Queries(problem.train, [[1]]), selected=selected, solver=solver)
    assert bool(torch.isfinite(scores.values).all())
    assert float(scores.values.abs().sum()) > 0

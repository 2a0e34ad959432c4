"""EK-FAC: where it is exact, its inverses on all and on some coordinates, its labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from gifcore.curvature import EKFAC, kronecker
from gifcore.errors import GifError
from gifcore.problem import Problem
from tests import cases, curvature_oracles

CLOSE = {"rtol": 1e-9, "atol": 1e-10}
D = 0.2


def fitted(name: str, labels: str = "true") -> tuple[Problem, EKFAC, np.ndarray]:
    """A problem, its EK-FAC and the dense matrix with decay and damping."""
    problem = cases.problem(name)
    H = EKFAC.fit(problem, problem.positions, labels=labels, batch_size=4)
    return problem, H, H.dense().numpy() + D * np.eye(problem.space.size)


# --- where theory says that it is exact -----------------------------------------------------------


def fisher_by_layer(problem: Problem) -> np.ndarray:
    dense = curvature_oracles.fisher(problem, problem.positions.tolist())
    blocks = list(curvature_oracles.modules(problem).values())
    return curvature_oracles.block_diagonal(dense, blocks)


def test_one_sample_is_one_outer_product() -> None:
    """G = s a^T: the eigenvectors of a a^T and s s^T make the Fisher matrix diagonal."""
    problem = cases.problem("perceptron with decay").narrowed(torch.tensor([4]))
    found = EKFAC.fit(problem, problem.positions, labels="true").dense().numpy()
    np.testing.assert_allclose(found, fisher_by_layer(problem), **CLOSE)


def test_a_deep_linear_net_whose_slopes_are_independent_of_its_inputs() -> None:
    """All inputs with all labels, a loss linear in the outputs: F = A x S in every layer."""
    inputs, slopes = (cases.random_vector(size).view(-1, 3) for size in (12, 15))
    x = inputs.repeat_interleave(len(slopes), dim=0)
    y = slopes.repeat(len(inputs), 1)
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 5), nn.Linear(5, 3)).double()
    problem = Problem(model, TensorDataset(x, y), loss=lambda z, batch: (z * batch[1]).sum(1))
    found = EKFAC.fit(problem, problem.positions, batch_size=7)
    np.testing.assert_allclose(found.dense().numpy(), fisher_by_layer(problem), **CLOSE)


def test_its_diagonal_in_its_own_basis_is_that_of_the_fisher_matrix() -> None:
    """No eigenvalues in this basis are nearer: F - F_ekfac has no diagonal there, nor a trace."""
    problem, H, _ = fitted("convolution")
    F = fisher_by_layer(problem) - problem.weight_decay * np.eye(problem.space.size)
    for layer, block in zip(H.layers, H.blocks, strict=True):
        Q = np.kron(block.Q_S.numpy(), block.Q_A.numpy())
        part = F[np.ix_(layer.indices, layer.indices)]
        diagonal = np.diag(Q.T @ part @ Q)
        np.testing.assert_allclose(block.eigenvalues.flatten().numpy(), diagonal, **CLOSE)


# --- inverses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases.PROBLEMS)
def test_inverse(name: str) -> None:
    problem, H, dense = fitted(name)
    v = cases.random_vector(problem.space.size)
    np.testing.assert_allclose(H.inverse(v, D).numpy(), np.linalg.solve(dense, v.numpy()), **CLOSE)


def layer_rows(H: EKFAC, rows: int) -> Tensor:
    """The first rows (units, bias included) of every layer."""
    return torch.cat(
        [layer.indices.view(layer.rows, layer.columns)[:rows].flatten() for layer in H.layers]
    )


def layer_columns(H: EKFAC) -> Tensor:
    return torch.cat(
        [layer.indices.view(layer.rows, layer.columns)[:, 1:3].flatten() for layer in H.layers]
    )


SELECTIONS = {
    "everything": lambda H: torch.arange(H.shape[0]),
    "one layer": lambda H: H.layers[0].indices,
    "whole units": lambda H: layer_rows(H, 2),
    "whole inputs": layer_columns,
    "units and some of another": lambda H: torch.cat([layer_rows(H, 1), layer_columns(H)]).unique(),
    "scattered": lambda H: torch.arange(0, H.shape[0], 3),
    "one": lambda _: torch.tensor([5]),
}


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("name", ["perceptron with decay", "convolution", "batch norm"])
def test_restricted_inverse_is_that_of_the_cut(name: str, selection: str) -> None:
    _, H, dense = fitted(name)
    J = SELECTIONS[selection](H).sort().values
    v = cases.random_vector(len(J))
    for scale in (1, 2):  # the second comes from the kept factors
        found, exact = H.restricted_inverse(scale * v, J, D)
        assert exact
        expected = np.linalg.solve(dense[np.ix_(J, J)], scale * v.numpy())
        np.testing.assert_allclose(found.numpy(), expected, **CLOSE)


def test_another_selection_or_damping_is_another_inverse() -> None:
    _, H, dense = fitted("convolution")
    for J, damping in (([1, 2], D), ([1, 3], D), ([1, 3], 2 * D)):
        found, _ = H.restricted_inverse(torch.ones(2).double(), torch.tensor(J), damping)
        cut = dense[np.ix_(J, J)] + (damping - D) * np.eye(2)
        np.testing.assert_allclose(found.numpy(), np.linalg.solve(cut, np.ones(2)), **CLOSE)


@pytest.mark.parametrize("limit", ["CUT_NUMBERS", "LEFTOVER"])
def test_what_is_too_much_is_the_cut_of_the_inverse(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, H, dense = fitted("convolution")
    monkeypatch.setattr(kronecker, limit, 0)
    J = torch.arange(0, H.shape[0], 3)
    v = cases.random_vector(len(J))
    found, exact = H.restricted_inverse(v, J, D)
    assert not exact
    expected = np.linalg.inv(dense)[np.ix_(J, J)] @ v.numpy()
    np.testing.assert_allclose(found.numpy(), expected, **CLOSE)


@pytest.mark.parametrize("damping", [0.0, -1.0])
def test_a_singular_approximation_is_refused(damping: float) -> None:
    problem = cases.problem("unused parameters")
    H = EKFAC.fit(problem, problem.positions)
    with pytest.raises(GifError, match="singular"):
        H.inverse(problem.theta, damping)


# --- a preconditioner -----------------------------------------------------------------------------


@pytest.mark.parametrize("selection", SELECTIONS)
def test_kronecker_scale_is_positive_and_undoes_the_square(selection: str) -> None:
    _, H, dense = fitted("convolution")
    J = SELECTIONS[selection](H).sort().values
    R = H.kronecker_scale(J, D).dense().numpy()
    np.testing.assert_allclose(R, R.T, **CLOSE)
    assert np.linalg.eigvalsh(R).min() > 0
    squared = (dense @ dense)[np.ix_(J, J)]
    scaled = R @ squared @ R
    if selection in ("everything", "one layer", "whole units", "one"):
        np.testing.assert_allclose(scaled, np.eye(len(J)), rtol=1e-7, atol=1e-8)
    if selection not in ("one", "scattered"):
        assert np.linalg.cond(scaled) < 0.7 * np.linalg.cond(squared)
    cut, _ = H.restricted_inverse(torch.ones(len(J)).double(), J, D)
    assert len(cut) == len(R)


def test_kronecker_scale_by_the_diagonal_where_more_is_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, H, dense = fitted("convolution")
    monkeypatch.setattr(kronecker, "CUT_NUMBERS", 0)
    J = torch.cat([layer_rows(H, 1), torch.tensor([15])]).unique()
    R = H.kronecker_scale(J, D).dense().numpy()
    expected = np.diag(np.diag((dense @ dense)[np.ix_(J, J)]) ** -0.5)
    np.testing.assert_allclose(R, expected, **CLOSE)


# --- labels ---------------------------------------------------------------------------------------


def test_labels_of_the_model_are_drawn_once_a_sample() -> None:
    """As if the data had the labels that its own softmax and the seed give."""
    problem = cases.problem("perceptron with decay")
    x, _ = problem.train.tensors
    p = torch.softmax(problem.model(x).detach(), dim=1)
    numbers = torch.rand(problem.n, generator=torch.Generator().manual_seed(3)).double()
    drawn = torch.tensor(
        [
            next(c for c in range(cases.CLASSES) if p[i, : c + 1].sum() >= numbers[i] or c == 2)
            for i in range(problem.n)
        ]
    )
    assert len(drawn.unique()) > 1
    relabelled = replace(problem, train=TensorDataset(x, drawn))
    expected = EKFAC.fit(relabelled, problem.positions, labels="true").dense()
    for batch_size in (1, 4, 100):
        H = EKFAC.fit(problem, problem.positions, seed=3, batch_size=batch_size)
        torch.testing.assert_close(H.dense(), expected, rtol=1e-9, atol=1e-11)
        assert (H.labels, H.note) == ("model", "")
    other = EKFAC.fit(problem, problem.positions, seed=4).dense()
    assert float((other - expected).norm()) > 1e-3


def test_a_loss_without_a_rule_takes_the_true_labels_and_says_so() -> None:
    problem = cases.problem("squared loss")
    H = EKFAC.fit(problem, problem.positions)
    assert H.labels == "true"
    assert "no rule" in H.note
    expected = EKFAC.fit(problem, problem.positions, labels="true")
    assert expected.note == ""
    torch.testing.assert_close(H.dense(), expected.dense(), **CLOSE)


def test_labels_of_another_name() -> None:
    problem = cases.problem("perceptron")
    with pytest.raises(GifError, match="model or true"):
        EKFAC.fit(problem, problem.positions, labels="false")

"""Figure 3: how many eigenvalues of a small net's Hessian are negative, by its regularisation.

The nets are 784-8-8-10. As published they have no activation between their layers (the code puts a
ReLU after every second hidden layer, and there is one), so that they are linear maps in three
factors; `activation` gives them one.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from gifcore.curvature import Hessian
from gifcore.data.dataset import Data, Split
from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.problem import Loss, Problem, cross_entropy

Array = NDArray[Any]

HIDDEN = 8
BELOW = -1e-8  # an eigenvalue under this counts as negative, as published
TOLERANCE = 1e-4  # of ARPACK, as published
DENSE_LIMIT = 7000  # parameters whose full spectrum is taken


def mean_squared(outputs: Tensor, batch: Any) -> Tensor:
    """Return the squared error to the one-hot label, averaged over the outputs, (b,)."""
    wanted = F.one_hot(batch[1], outputs.shape[1]).to(outputs)
    return ((outputs - wanted) ** 2).mean(dim=1)


LOSSES: dict[str, Loss] = {"MSE": mean_squared, "CE": cross_entropy}


def net(inputs: int, classes: int, activation: str) -> nn.Module:
    """Return a net of two hidden layers of 8; activation "none" or "relu"."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    sizes = (inputs, HIDDEN, HIDDEN, classes)
    for number, (one, next_) in enumerate(zip(sizes, sizes[1:], strict=False), start=1):
        layers[f"linear{number}"] = nn.Linear(one, next_)
        if activation == "relu" and number < len(sizes) - 1:
            layers[f"relu{number}"] = nn.ReLU()
    return nn.Sequential(layers)


# --- training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """SGD with momentum and a cosine over `schedule` epochs, the best epoch by another split kept.

    Args:
        alpha: strength of the regulariser.
        squared: alpha/2 ||theta||^2 as weight decay; False: alpha/2 ||theta||, as published.
        weight_decay: beside it in the optimiser; the published 5e-4 is in no Hessian.
    """

    loss: str
    alpha: float
    squared: bool
    weight_decay: float = 0.0
    epochs: int = 50
    batch_size: int = 512
    lr: float = 0.1
    momentum: float = 0.9
    schedule: int = 200
    patience: int = 5


def trained(
    data: Data, judged_on: Split, asked: Training, activation: str, seed: int,
    listen: Callable[[str], None],
) -> nn.Module:  # fmt: skip
    """Return a net trained from a seeded start, at its epoch of least loss on `judged_on`.

    Raises:
        GifError: the loss is no longer finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = net(math.prod(data.shape), data.n_classes, activation)
    x, y = torch.from_numpy(data.train.inputs()), torch.from_numpy(data.train.y)
    held = torch.from_numpy(judged_on.inputs()), torch.from_numpy(judged_on.y)
    loss = LOSSES[asked.loss]
    optimizer = torch.optim.SGD(
        model.parameters(), asked.lr, asked.momentum, weight_decay=asked.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, asked.schedule)
    generator = torch.Generator().manual_seed(seed)
    best, best_epoch, state = math.inf, 0, _copy(model)
    for epoch in range(1, asked.epochs + 1):
        for part in torch.randperm(len(y), generator=generator).split(asked.batch_size):
            value = loss(model(x[part]), (x[part], y[part])).mean() + _penalty(model, asked)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
        schedule.step()
        with torch.no_grad():
            now = float(loss(model(held[0]), held).mean() + _penalty(model, asked))
        if not math.isfinite(now):
            raise GifError(f"Training diverged in epoch {epoch}; lower lr (now {asked.lr}).")
        listen(f"epoch {epoch} of {asked.epochs}")
        if now < best:
            best, best_epoch, state = now, epoch, _copy(model)
        if epoch - best_epoch >= asked.patience:
            break
    model.load_state_dict(state)
    return model


def accuracy(model: nn.Module, split: Split) -> float:
    """Return the share of a split's images that a net gets right."""
    x, y = torch.from_numpy(split.inputs()), torch.from_numpy(split.y)
    with torch.no_grad():
        return float((model(x).argmax(dim=1) == y).double().mean())


def _penalty(model: nn.Module, asked: Training) -> Tensor:
    theta = nn.utils.parameters_to_vector(model.parameters())
    return asked.alpha / 2 * (theta @ theta if asked.squared else theta.norm())


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


# --- the Hessian and its spectrum -----------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class NormCurvature(LinearOperator):
    """H of alpha/2 ||theta||: alpha/2 (I - u u^T) / ||theta||, u = theta / ||theta||."""

    theta: Tensor
    alpha: float

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.theta), len(self.theta)

    def apply(self, vector: Tensor) -> Tensor:
        norm = self.theta.norm()
        u = self.theta / norm
        return self.alpha / (2 * norm) * (vector - u * (u @ vector))

    def apply_transposed(self, vector: Tensor) -> Tensor:
        return self.apply(vector)


def hessian(
    model: nn.Module, split: Split, asked: Training, *, count: int, dtype: torch.dtype
) -> LinearOperator:
    """Return H of the regularised objective on the first `count` images of a split."""
    from torch.utils.data import TensorDataset

    images = torch.from_numpy(split.inputs()[:count]).to(dtype)
    data = TensorDataset(images, torch.from_numpy(split.y[:count]))
    decay = asked.alpha if asked.squared else 0.0
    problem = Problem(model.to(dtype), data, LOSSES[asked.loss], decay)
    H: LinearOperator = Hessian(problem, problem.positions, batch_size=count)
    if asked.squared or asked.alpha == 0:
        return H
    return H + NormCurvature(problem.theta, asked.alpha)


def largest(H: LinearOperator, count: int, *, dtype: torch.dtype, seed: int) -> Array:
    """Return the `count` eigenvalues of largest magnitude by ARPACK's restarted Lanczos.

    Raises:
        GifError: as many as there are parameters or more, or ARPACK did not converge.

    Cost: 2 count products or more, and as many vectors of memory.
    """
    from scipy.sparse import linalg

    size = H.shape[0]
    if not 1 <= count < size:
        raise GifError(f"{count} eigenvalues of {size} cannot be had by Lanczos; ask for fewer.")
    kind = np.dtype(str(dtype).removeprefix("torch."))
    start = np.random.default_rng(seed).standard_normal(size).astype(kind)
    operator = linalg.LinearOperator(
        (size, size), lambda v: (H @ torch.from_numpy(v.ravel().astype(kind))).numpy(), dtype=kind
    )
    try:
        found = linalg.eigsh(
            operator, count, which="LM", v0=start, ncv=min(2 * count, size), maxiter=200,
            tol=TOLERANCE, return_eigenvectors=False,
        )  # fmt: skip
    except linalg.ArpackNoConvergence as error:
        raise GifError(f"Lanczos found {len(error.eigenvalues)} of {count} eigenvalues.") from None
    return np.asarray(found, dtype=np.float64)


def matrix_of(H: LinearOperator) -> Tensor:
    """Return H in float64, (p, p), made symmetric to the last digit.

    Raises:
        GifError: too many parameters.

    Cost: p products; 8 p^2 bytes twice.
    """
    size = H.shape[0]
    if size > DENSE_LIMIT:
        raise GifError(f"A full spectrum is taken of {DENSE_LIMIT} parameters at most, not {size}.")
    matrix = torch.empty(size, size, dtype=torch.float64)
    unit = torch.zeros(size, dtype=torch.float64)
    for column in range(size):
        unit[column] = 1.0
        matrix[:, column] = H @ unit
        unit[column] = 0.0
    return (matrix + matrix.T) / 2


def spectrum(matrix: Tensor) -> Array:
    """Return all eigenvalues of a symmetric matrix, ascending. Cost: p^3 operations."""
    values: Array = torch.linalg.eigvalsh(matrix).numpy()
    return values


def rate(values: Array, of: int) -> float:
    """Return the share of eigenvalues below -1e-8 among `of`.

    >>> rate(np.array([-1.0, -1e-9, 0.0, 2.0]), 4)
    0.25
    """
    return float((values < BELOW).sum()) / of


def top(values: Array, count: int) -> Array:
    """Return the `count` values of largest magnitude."""
    return values[np.argsort(-np.abs(values), kind="stable")[:count]]

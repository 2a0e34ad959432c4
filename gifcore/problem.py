"""Problem: a trained model, its training data and its objective. Sign, scale, reduction live here.

    L(theta) = (sum_i w_i l_i) / (sum_i w_i) + (wd / 2) ||theta||^2          [nats]

w_i = 1 unless a change reweights. Losses are weighted and divided by the weights' sum only here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    default_collate,
)

from gifcore.errors import GifError
from gifcore.parameters import ParameterSpace

Loss = Callable[[Tensor, Any], Tensor]  # (outputs, batch) -> per-sample losses (b,)
Progress = Callable[[int, int, str], None]  # (done, total, note); raises Cancelled to stop


def silent(done: int, total: int, note: str) -> None:  # noqa: ARG001
    """The progress callback of someone who does not listen."""


def cross_entropy(outputs: Tensor, batch: Any) -> Tensor:
    """Return the cross-entropy of every sample, (b,), in nats; batch is (inputs, labels).

    Raises:
        GifError: a label that is no class.
    """
    try:
        return nn.functional.cross_entropy(outputs, batch[1], reduction="none")
    except IndexError as error:
        raise GifError(
            f"{str(error).rstrip('.')}: the model has {outputs.shape[1]} outputs, so that labels "
            f"must be 0 … {outputs.shape[1] - 1}."
        ) from error


@contextmanager
def engine_mode(model: nn.Module) -> Iterator[None]:
    """Evaluate in eval mode with kernels that can be differentiated twice; restore both after."""
    modes = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        model.eval()
        torch.backends.mha.set_fastpath_enabled(False)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, training in modes.items():
            module.training = training


@dataclass(frozen=True, eq=False)
class Problem:
    """A model at its trained parameters with the objective it was trained on.

    Args:
        model: any module; it is read, never changed.
        train: map-style data set of (input, target) pairs or dicts, n samples.
        loss: per-sample loss (outputs, batch) -> (b,).
        weight_decay: wd of the objective, as the model was trained (0 if none).
        device: where to compute.
        samples: positions of `train` that count; None: all. A change narrows it.
        weights: w of every sample of `train`, (len(train),), above 0; None: all 1.
    """

    model: nn.Module
    train: Dataset[Any]
    loss: Loss = cross_entropy
    weight_decay: float = 0.0
    device: str | torch.device = "cpu"
    samples: Tensor | None = None
    weights: Tensor | None = None

    space: ParameterSpace = field(init=False)
    theta: Tensor = field(init=False)  # (p,) the trained parameters
    buffers: dict[str, Tensor] = field(init=False)
    positions: Tensor = field(init=False)  # (n,) the samples that count

    def __post_init__(self) -> None:
        """Copy the parameters; refuse what cannot be explained.

        Raises:
            GifError: NaN in the parameters, a negative weight decay, no training sample, a sample
                that is not there or named twice, or weights that are not one number above 0 each.
        """
        if not 0 <= self.weight_decay < float("inf"):
            raise GifError(f"weight_decay is {self.weight_decay}; it must be 0 or more.")
        refuse_data(self.train, "train")
        space = ParameterSpace.of(self.model)
        theta = space.flatten(dict(self.model.named_parameters())).detach()
        if not bool(torch.isfinite(theta).all()):
            bad = int((~torch.isfinite(theta)).nonzero()[0])
            raise GifError(
                f"The model's parameter {space.locate(bad)[0]} holds NaN or infinity; "
                "give a checkpoint of a training that did not diverge."
            )
        everything = torch.arange(len(self.train))  # type: ignore[arg-type]
        positions = everything if self.samples is None else self.samples
        _refuse_positions(positions, len(everything))
        if self.weights is not None:
            _refuse_weights(self.weights, len(everything))
        buffers = {k: v.detach().clone().to(self.device) for k, v in self.model.named_buffers()}
        computed = {
            "space": space,
            "theta": theta.clone().to(self.device),
            "buffers": buffers,
            "positions": positions,
        }
        for name, value in computed.items():
            object.__setattr__(self, name, value)  # the dataclass is frozen for everyone else

    @property
    def n(self) -> int:
        """Number of training samples that count."""
        return len(self.positions)

    def narrowed(self, samples: Tensor) -> Problem:
        """Return the same problem on fewer training samples (positions of `train`)."""
        return replace(self, samples=samples)

    def weights_of(self, positions: Tensor) -> Tensor:
        """Return w of these training samples, (m,), in the parameters' type, on the device."""
        if self.weights is None:
            return self.theta.new_ones(len(positions))
        return self.weights[positions.to(self.weights.device)].to(self.theta)

    def shares(self) -> Tensor:
        """Return w_i / sum w of every sample of `train`, (len(train),), 0 where it does not count.

        The data part of L is the sum of shares_i l_i. In float64, on the CPU.
        """
        weights = torch.zeros(len(self.train), dtype=torch.float64)  # type: ignore[arg-type]
        positions = self.positions.cpu()
        weights[positions] = 1.0 if self.weights is None else self.weights.cpu().double()[positions]
        return weights / weights.sum()

    # --- batches ----------------------------------------------------------------------------

    def batches(
        self, indices: Tensor, batch_size: int, data: Dataset[Any] | None = None
    ) -> Iterator[Any]:
        """Yield batches of `data` (default: the training set) on the device, in order."""
        data = self.train if data is None else data
        for part in indices.split(batch_size):
            yield fetch(data, part, self.device)

    # --- losses and gradients ---------------------------------------------------------------

    def outputs(self, parameters: dict[str, Tensor], batch: Any) -> Tensor:
        """Return the model's outputs at these parameters; the model itself stays as it is."""
        inputs = inputs_of(batch)
        arguments = inputs if isinstance(inputs, tuple) else (inputs,)
        return functional_call(self.model, {**parameters, **self.buffers}, arguments)

    def losses(self, parameters: dict[str, Tensor], batch: Any) -> Tensor:
        """Return the per-sample data losses, (b,)."""
        values = self.loss(self.outputs(parameters, batch), batch)
        if not isinstance(values, Tensor) or values.dim() != 1:
            kind = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else repr(values)
            raise GifError(
                f"The loss returned {kind}; return one number per sample, "
                "shape (batch,), for example with reduction='none'."
            )
        return values

    def leaves(self, theta: Tensor | None = None) -> dict[str, Tensor]:
        """Return the parameters by name as fresh leaves that record gradients."""
        flat = (self.theta if theta is None else theta).detach()
        named = self.space.unflatten(flat.clone())
        return {name: tensor.detach().requires_grad_() for name, tensor in named.items()}

    def data_gradient(
        self,
        indices: Tensor,
        *,
        data: Dataset[Any] | None = None,
        batch_size: int = 256,
        progress: Progress = silent,
    ) -> Tensor:
        """Return the mean data gradient over these samples, (p,): sum w_i grad l_i / sum w_i.

        Args:
            indices: (m,) positions in `data`.
            data: another data set, whose samples all have weight 1; None: the training set.

        Cost: one forward and backward pass over m samples.
        """
        weights = self.weights_of(indices) if data is None else self.theta.new_ones(len(indices))
        total = self.weighted_gradient(
            indices, weights, data=data, batch_size=batch_size, progress=progress
        )
        return total / weights.sum()

    def weighted_gradient(
        self,
        indices: Tensor,
        coefficients: Tensor,
        *,
        data: Dataset[Any] | None = None,
        batch_size: int = 256,
        progress: Progress = silent,
    ) -> Tensor:
        """Return sum c_i grad l_i over these samples, (p,); the problem's weights have no part.

        Args:
            indices: (m,) positions in `data` (default: the training set).
            coefficients: (m,) c, of any sign.

        Cost: one forward and backward pass over m samples.
        """
        total = torch.zeros_like(self.theta)
        parameters = self.leaves()
        parts = coefficients.to(self.theta).split(batch_size)
        done = 0
        with engine_mode(self.model):
            for batch, c in zip(self.batches(indices, batch_size, data), parts, strict=True):
                losses = self.losses(parameters, batch)
                total += self.flat_gradient((c * losses).sum(), parameters)
                done += len(losses)
                progress(done, len(indices), "gradient")
        if not bool(torch.isfinite(total).all()):
            raise GifError("The gradient holds NaN or infinity; check the inputs and the weights.")
        return total

    def flat_gradient(
        self, value: Tensor, parameters: dict[str, Tensor], *, create_graph: bool = False
    ) -> Tensor:
        """Return d value / d theta as (p,); parameters that are not reached have 0."""
        gradients = torch.autograd.grad(
            value, tuple(parameters.values()), create_graph=create_graph, allow_unused=True
        )
        named = {
            name: torch.zeros_like(tensor) if gradient is None else gradient
            for (name, tensor), gradient in zip(parameters.items(), gradients, strict=True)
        }
        return self.space.flatten(named)


def inputs_of(batch: Any) -> Any:
    """Return what the model is called with: all of a dict, else the first of a pair."""
    return batch if isinstance(batch, dict) else batch[0]


class Batched(Dataset[Any], ABC):
    """A map-style data set that gives a whole batch, and labels without inputs. Interface only."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: Tensor) -> Any:
        """Return these samples collated, in this order."""

    @abstractmethod
    def labels(self, indices: Tensor) -> Tensor:
        """Return the labels of these samples, (m, ...)."""


def fetch(data: Dataset[Any], indices: Tensor, device: str | torch.device) -> Any:
    """Return one collated batch of these positions on the device."""
    return _to(collated(data, indices), device)


def collated(data: Dataset[Any], indices: Tensor) -> Any:
    """Return one batch of these positions where the data set keeps it."""
    if type(data) is TensorDataset:
        return tuple(tensor[indices] for tensor in data.tensors)
    if isinstance(data, Batched):
        return data.batch(indices)
    return default_collate([data[int(i)] for i in indices])


def _to(batch: Any, device: str | torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: _to(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return tuple(_to(value, device) for value in batch)
    return batch


def targets(data: Dataset[Any], indices: Tensor | None = None) -> Tensor:
    """Return the labels of a data set, (n, ...), or of these positions of it.

    Raises:
        GifError: a sample has no label, or labels that are not numbers.
    """
    if indices is None:
        indices = torch.arange(len(data))  # type: ignore[arg-type]
    if type(data) is TensorDataset:
        return data.tensors[1][indices]
    if isinstance(data, Batched):
        return data.labels(indices)
    labels = default_collate([label_of(data[int(i)]) for i in indices])
    if not isinstance(labels, Tensor):
        raise GifError(f"A label is a {type(labels[0]).__name__}; labels must be numbers.")
    return labels


def label_of(sample: Any) -> Any:
    """Return the label of a sample or the labels of a batch: "labels" of a dict, else the second.

    Raises:
        GifError: there is none.
    """
    if not isinstance(sample, dict):
        return sample[1]
    if "labels" not in sample:
        keys = ", ".join(str(key) for key in sample)
        raise GifError(f"The samples are dicts of {keys}; name the key of the label 'labels'.")
    return sample["labels"]


def refuse_data(data: Any, name: str) -> None:
    """Refuse what has no fixed positions: loaders, streams.

    Raises:
        GifError: says what was given as `name`.
    """
    if isinstance(data, DataLoader):
        raise GifError(
            f"{name} is a DataLoader; give its data set (loader.dataset): the engine makes batches "
            "itself, in the order of the positions, whatever a loader shuffles."
        )
    if isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
        raise GifError(
            f"{name} is a {type(data).__name__} without positions; give a map-style data set with "
            f"len({name}) and {name}[i]."
        )


def _refuse_positions(positions: Tensor, size: int) -> None:
    if not isinstance(positions, Tensor) or positions.dtype != torch.int64 or positions.dim() != 1:
        raise GifError(
            "samples must be a vector of positions (torch.int64); for a mask give "
            "mask.nonzero().flatten()."
        )
    if len(positions) == 0:
        raise GifError("There is no training sample left; remove fewer.")
    order = positions.sort().values
    if int(order[0]) < 0 or int(order[-1]) >= size:
        bad = int(order[0]) if int(order[0]) < 0 else int(order[-1])
        raise GifError(f"There is no training sample {bad}; positions are 0 … {size - 1}.")
    twice = order[1:][order.diff() == 0]
    if len(twice):
        raise GifError(f"Training sample {int(twice[0])} is named twice; give samples.unique().")


def _refuse_weights(weights: Tensor, size: int) -> None:
    if weights.shape != (size,):
        raise GifError(
            f"weights has shape {tuple(weights.shape)}; give one for each of {size} samples."
        )
    bad = (~(weights > 0) | ~torch.isfinite(weights)).nonzero().flatten()
    if len(bad):
        raise GifError(
            f"Training sample {int(bad[0])} has weight {float(weights[bad[0]]):g}; a weight is a "
            "finite number above 0, and a sample without any is removed."
        )

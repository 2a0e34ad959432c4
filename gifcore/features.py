"""Features of samples: the numbers of one layer, one row a sample, streamed over batches.

The model is read through hooks that are taken off again after every batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from gifcore.errors import GifError
from gifcore.problem import Problem, engine_mode, fetch

PASS_SIZE = 256  # samples a forward pass


def features(
    problem: Problem,
    layer: str | None = None,
    *,
    data: Dataset[Any] | None = None,
    indices: Tensor | None = None,
    batch_size: int = PASS_SIZE,
) -> Iterator[Tensor]:
    """Yield the features of samples in order, (b, d) a batch, d numbers of the layer flattened.

    Args:
        layer: a name of `model.named_modules()`, for its output (the first tensor of a tuple);
            None: penultimate, the input of the last linear layer that is called.
        data: another data set than the training set; with `indices`, positions in it.
        indices: (m,) positions; None: the samples of the problem that count.

    Raises:
        GifError: an unknown layer, one that gives no row for each sample, or features that are
            not finite.

    Cost: one forward pass. Memory: one batch.
    """
    refuse_layer(problem, layer)
    data = problem.train if data is None else data
    indices = problem.positions if indices is None else indices
    for part in indices.split(batch_size):
        found = features_of(problem, fetch(data, part, problem.device), layer)
        if found is None:
            raise GifError(_without_rows(problem, layer))
        bad = (~torch.isfinite(found).all(dim=1)).nonzero().flatten()
        if len(bad):
            raise GifError(
                f"The features of sample {int(part[int(bad[0])])} hold NaN or infinity; check its "
                "inputs, or name another layer."
            )
        yield found


def features_of(problem: Problem, batch: Any, layer: str | None = None) -> Tensor | None:
    """Return the features of one batch, (b, d); None if the layer has no row for each sample."""
    with engine_mode(problem.model), torch.no_grad(), _watched(problem.model, layer) as seen:
        outputs = problem.outputs(problem.space.unflatten(problem.theta), batch)
    if not seen or seen[-1].dim() == 0 or len(seen[-1]) != len(outputs):
        return None
    return seen[-1].reshape(len(outputs), -1)


def refuse_layer(problem: Problem, layer: str | None) -> None:
    """Refuse a layer that the model does not have."""
    if layer is not None and layer not in _names(problem.model):
        names = ", ".join(_names(problem.model)) or "none"
        raise GifError(f"There is no layer '{layer}'; the model's layers are: {names}.")


def _names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_modules() if name]


def _without_rows(problem: Problem, layer: str | None) -> str:
    names = ", ".join(_names(problem.model)) or "none"
    if layer is None:
        return (
            "Features are the inputs of the last linear layer, one row per sample, and the model "
            f"has none; name a layer: {names}."
        )
    return (
        f"The layer '{layer}' gives no row for each sample when it is called; choose of: {names}."
    )


@contextmanager
def _watched(model: nn.Module, layer: str | None) -> Iterator[list[Tensor]]:
    """Give a list that holds what the layer saw last; a copy, as it may be overwritten later."""
    seen: list[Tensor] = []

    def note(value: Any) -> None:
        value = value[0] if isinstance(value, tuple | list) and value else value
        seen[:] = [value.detach().clone()] if isinstance(value, Tensor) else []

    if layer is None:
        linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
        handles = [m.register_forward_pre_hook(lambda _m, given: note(given)) for m in linears]
    else:
        module = model.get_submodule(layer)
        handles = [module.register_forward_hook(lambda _m, _given, result: note(result))]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()

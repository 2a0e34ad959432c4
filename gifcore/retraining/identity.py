"""What a retrained model depends on, as one hash: equal trainings have equal keys.

    the changed objective    every sample that counts with label and weight, in order; loss, decay
    the model                names and shapes of its parameters, module text and code, its buffers
    the training             recipe and seed; trained parameters where it starts from them
    the engine               ENGINE_VERSION

A change is hashed by what it makes of the data: two that leave the same samples share models.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import pickle
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from gifcore.change import Change
from gifcore.errors import GifError
from gifcore.problem import Problem, collated, inputs_of
from gifcore.retraining.recipes import Minimise, Proximal, Recipe, Sgd
from gifcore.version import ENGINE_VERSION

ROWS = 1000  # samples fetched at a time
PLAIN = (bool, int, float, str, bytes, type(None))


class Identity:
    """Keys of trainings on changes of one problem; its samples are hashed once.

    Raises:
        GifError: a loss or a recipe whose content cannot be read.
    """

    def __init__(self, problem: Problem, recipe: Recipe) -> None:
        self.problem, self.recipe = problem, recipe
        self.rows = _rows(problem.train, torch.arange(len(problem.train)))  # type: ignore[arg-type]
        self.shared = _digest(
            [
                ENGINE_VERSION.encode(),
                _model(problem.model, isinstance(recipe, Sgd) and recipe.start == "cold"),
                repr((str(problem.theta.dtype), problem.weight_decay)).encode(),
                _described(problem.loss),
                _described(recipe),
            ]
        )
        self.starts_here = isinstance(recipe, Proximal) or recipe.start == "warm"

    def key(self, change: Change | None, seed: int) -> str:
        """Return the content hash of one training, 64 hex digits."""
        parts = [self.shared, self._objective(change)]
        if self.starts_here:
            parts.append(_bytes(self.problem.theta))
        if isinstance(self.recipe, Proximal):  # it asks how the unchanged objective gives way
            parts.append(self._objective(None))
        if draws(self.recipe):
            parts.append(str(seed).encode())
        return _digest(parts).hex()

    def _objective(self, change: Change | None) -> bytes:
        """Return the hash of the samples that count after the change."""
        changed, rows = self.problem, self.rows
        if change is not None:
            effect = change.effect(self.problem)
            changed = effect.apply(self.problem)
            for data in effect.added:
                rows = np.concatenate([rows, _rows(data, torch.arange(len(data)))])  # type: ignore[arg-type]
        positions = changed.positions.cpu()
        weights = changed.weights_of(positions).double().cpu()
        labels = [_labels(changed.train, part) for part in positions.split(ROWS)]
        return _digest([rows[positions.numpy()].tobytes(), b"".join(labels), _bytes(weights)])


def draws(recipe: Recipe) -> bool:
    """Do two seeds give two models?"""
    return isinstance(recipe, Sgd) or (isinstance(recipe, Minimise) and recipe.start == "cold")


def _rows(data: Dataset[Any], positions: Tensor) -> np.ndarray:
    """Return a hash of the inputs of every sample, (n, 16) bytes."""
    found = []
    for part in positions.split(ROWS):
        parts = _leaves(_without_labels(collated(data, part)))
        lines = [(name, _lines(values)) for name, values in parts]
        for row in range(len(part)):
            digest = hashlib.blake2b(digest_size=16)
            for name, of_sample in lines:
                digest.update(name)
                digest.update(of_sample[row])
            found.append(digest.digest())
    return np.frombuffer(b"".join(found), dtype=np.uint8).reshape(-1, 16)


def _labels(data: Dataset[Any], positions: Tensor) -> bytes:
    """Return the hash of all that is no input of these samples: labels and what follows them."""
    batch = collated(data, positions)
    rest = batch.get("labels", ()) if isinstance(batch, dict) else batch[1:]
    return _digest(part for name, values in _leaves(rest) for part in (name, _one(values)))


def _without_labels(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {key: value for key, value in batch.items() if key != "labels"}
    return inputs_of(batch)


def _leaves(batch: Any, name: str = "") -> list[tuple[bytes, Any]]:
    """Return what a batch is made of, by place: tensors, and lists of texts or numbers."""
    if isinstance(batch, dict):
        return [leaf for key in sorted(batch) for leaf in _leaves(batch[key], f"{name}.{key}")]
    if isinstance(batch, tuple) or (isinstance(batch, list) and not _plain(batch)):
        return [leaf for i, part in enumerate(batch) for leaf in _leaves(part, f"{name}.{i}")]
    kind = f"{batch.dtype}{tuple(batch.shape[1:])}" if isinstance(batch, Tensor) else ""
    return [(f"{name}:{kind}".encode(), batch)]


def _plain(values: list[Any]) -> bool:
    """Is this a field of the samples, and no list of fields?"""
    return all(isinstance(value, PLAIN) for value in values)


def _lines(values: Any) -> Any:
    """Return the content of every sample as bytes or text."""
    if isinstance(values, Tensor):
        whole = values.detach().cpu().reshape(len(values), -1).contiguous()
        return whole.view(torch.uint8).numpy()
    return [repr(value).encode() for value in values]


def _one(values: Any) -> Any:
    return _bytes(values) if isinstance(values, Tensor) else repr(values).encode()


def _bytes(values: Tensor) -> Any:
    """Return the numbers of a tensor as they lie in memory."""
    return values.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data


# --- code -----------------------------------------------------------------------------------------


def _model(model: nn.Module, fresh: bool) -> bytes:
    """Return the hash of the architecture: everything but the values of its parameters.

    Args:
        fresh: statistics are learnt anew, so that those of now have no part.
    """
    parts = [repr(model).encode()]
    parts += [f"{n}{tuple(p.shape)}".encode() for n, p in model.named_parameters()]
    statistics: set[int] = set()
    for name, module in model.named_modules():
        if fresh and isinstance(module, nn.modules.batchnorm._NormBase):
            statistics |= {id(buffer) for buffer in module.buffers(recurse=False)}
        own = {k: v for k, v in vars(module).items() if isinstance(v, PLAIN) and k != "training"}
        parts.append(f"{name} {json.dumps(own, sort_keys=True, default=repr)}".encode())
        if not type(module).__module__.startswith("torch."):
            parts.append(_source(type(module)))
    for name, buffer in model.named_buffers():
        if id(buffer) not in statistics:
            parts += [name.encode(), _bytes(buffer)]
    return _digest(parts)


def _described(value: Any) -> bytes:
    """Return the hash of a loss or a recipe: its code and what it holds.

    Raises:
        GifError: it holds something whose content cannot be read.
    """
    kind = f"{type(value).__module__}.{type(value).__qualname__}".encode()
    if isinstance(value, PLAIN):
        return _digest([kind, repr(value).encode()])
    if isinstance(value, Tensor):
        return _digest([kind, repr((value.dtype, tuple(value.shape))).encode(), _bytes(value)])
    if isinstance(value, FunctionType):
        held = [cell.cell_contents for cell in value.__closure__ or ()]
        held += list(value.__defaults__ or ()) + [value.__kwdefaults__ or {}]
        return _digest([value.__qualname__.encode(), _source(value), *map(_described, held)])
    if isinstance(value, dict):
        return _digest([kind, *(_described(part) for item in value.items() for part in item)])
    if isinstance(value, list | tuple):
        return _digest([kind, *map(_described, value)])
    if is_dataclass(value):
        held = [(f.name, getattr(value, f.name)) for f in fields(value)]
        return _digest([kind, _described(held)])
    try:
        return _digest([kind, _source(type(value)), pickle.dumps(value)])
    except Exception as error:  # pickling runs the code of anybody's classes
        raise GifError(
            f"A retrained model cannot be kept: the content of {kind.decode()} cannot be read "
            f"({error}); use a function at the top level of a module as loss, or cache=None."
        ) from error


def _source(code: Any) -> bytes:
    """Return the text of a class or function, its byte code where there is no text."""
    try:
        return inspect.getsource(code).encode()
    except (OSError, TypeError):
        function = getattr(code, "forward", code)
        compiled = getattr(function, "__code__", None)
        if compiled is None:
            return str(getattr(code, "__qualname__", "")).encode()
        return repr((compiled.co_code, compiled.co_names, compiled.co_consts)).encode()


def _digest(parts: Iterable[Any]) -> bytes:
    """Return sha256 of the parts, each with its length, so that none runs into the next."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return whole.digest()

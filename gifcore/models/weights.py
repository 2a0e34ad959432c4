"""Weights into models: checked key by key, prefixes undone and told, refused in one sentence."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from gifcore.errors import GifError
from gifcore.models.weight_files import MAX_BYTES, MAX_WRAPPERS, SUFFIXES, read_weights

__all__ = ["MAX_BYTES", "PREFIXES", "SUFFIXES", "load_weights"]

PREFIXES = {  # what is put before every name, and by what
    "module.": "DataParallel",
    "_orig_mod.": "torch.compile",
    "model.": "a Lightning module",
    "net.": "an outer module",
}


def load_weights(model: nn.Module, path: str | Path) -> tuple[str, ...]:
    """Put the weights of a file into the model, if every key and shape fits and no value is NaN.

    A .pt or .pth file may hold a state dict, or one inside {"state_dict": …} or {"model": …}.

    Returns:
        A sentence for each wrapper or prefix that was undone, and for a change of number type.

    Raises:
        GifError: one sentence; the model is then untouched.
    """
    path = Path(path)
    state, notes = read_weights(path)
    expected = model.state_dict()
    state, undone = without_prefixes(state, expected)
    _check(expected, state, path.name)
    model.load_state_dict(state)
    return (*notes, *undone, *_conversions(state, expected))


def without_prefixes(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the state without prefixes that every name has and the model's names have not."""
    found = dict(state)
    notes: list[str] = []
    for _ in range(MAX_WRAPPERS):
        here = [p for p in PREFIXES if found and all(key.startswith(p) for key in found)]
        if not here or any(key.startswith(here[0]) for key in expected):
            break
        prefix = here[0]
        found = {key.removeprefix(prefix): value for key, value in found.items()}
        notes.append(f"The prefix '{prefix}' of every name ({PREFIXES[prefix]}) was left out.")
    return found, tuple(notes)


def _conversions(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    others = {_kind(t) for key, t in state.items() if t.dtype != expected[key].dtype}
    return [f"Numbers stored as {kind} are computed with as float32." for kind in sorted(others)]


def _check(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], where: str) -> None:
    """Every key there, no other, with the right shape, finite; counters are whole numbers."""
    for key, tensor in expected.items():
        if key not in found:
            raise GifError(
                f"{where} has no weights '{key}' (expected shape {tuple(tensor.shape)}); it is a"
                f" checkpoint of another architecture{_first_of(found)}."
            )
        if found[key].shape != tensor.shape:
            raise GifError(_other_shape(key, found[key], expected, where))
        if found[key].layout != torch.strided or not _same_kind(found[key], tensor):
            kind = "floating-point numbers" if tensor.is_floating_point() else _kind(tensor)
            raise GifError(f"{where}: '{key}' is {_kind(found[key])}, expected {kind}.")
        if not torch.isfinite(found[key].to(tensor.dtype)).all():
            raise GifError(f"{where}: '{key}' has values that are NaN or infinite; train it again.")
    extra = [key for key in found if key not in expected]
    if extra:
        raise GifError(
            f"{where} has weights '{extra[0]}' of shape {tuple(found[extra[0]].shape)}, which this"
            " architecture does not have."
        )


def _first_of(found: Mapping[str, Tensor]) -> str:
    return f" (its first name is '{next(iter(found))}')" if found else ""


def _other_shape(key: str, tensor: Tensor, expected: Mapping[str, Tensor], where: str) -> str:
    """Return what a wrong shape says; in the last layer it is the number of classes."""
    wanted = expected[key]
    said = (
        f"{where}: '{key}' has shape {tuple(tensor.shape)}, expected {tuple(wanted.shape)} for this"
        " model and data"
    )
    last = [name for name, t in expected.items() if t.is_floating_point()][-2:]
    if key in last and tensor.dim() == wanted.dim() and tensor.shape[1:] == wanted.shape[1:]:
        return (
            f"{said}: the checkpoint tells {tensor.shape[0]} classes apart, the data have"
            f" {wanted.shape[0]}."
        )
    return f"{said}."


def _same_kind(found: Tensor, expected: Tensor) -> bool:
    """Any floating-point type for another; the counters of batch norm keep their own type."""
    if expected.is_floating_point():
        return found.is_floating_point()
    return found.dtype == expected.dtype


def _kind(tensor: Tensor) -> str:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return dtype if tensor.layout == torch.strided else f"sparse {dtype}"

"""Checkpoints into models: never unpickled freely, checked key by key, refused in one sentence."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gifcore.errors import GifError

SUFFIXES = (".safetensors", ".pt", ".pth")
MAX_BYTES = 4 * 10**9


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Put the weights of a file into the model, if every key and shape fits and no value is NaN.

    A .pt or .pth file may hold a state dict or {"state_dict": …}; it is opened with
    weights_only=True and never otherwise.

    Raises:
        GifError: one sentence; the model is then untouched.
    """
    path = Path(path)
    _check_file(path)
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    _check(model.state_dict(), state, path.name)
    model.load_state_dict(state)


def _check_file(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise GifError(f"{path.name} is not a checkpoint: expected a {', '.join(SUFFIXES)} file.")
    if not path.is_file():
        raise GifError(f"There is no checkpoint {path}.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise GifError(
            f"{path.name} has {size / 1e9:.1f} GB; checkpoints may have at most"
            f" {MAX_BYTES / 1e9:.0f} GB."
        )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise GifError(
            f"{path.name} is not a safetensors file that can be read; save it again with"
            " safetensors.torch.save_file."
        ) from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():  # about pickle protocols: of no use to the user
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise GifError(
            f"{path.name} is not a plain file of weights (it is damaged or holds Python objects,"
            " which are never loaded because they can run code); save model.state_dict() or a"
            " .safetensors file."
        ) from error
    except Exception as error:  # damaged files raise nearly anything inside torch
        raise GifError(
            f"{path.name} is not a PyTorch checkpoint that can be read; save it again with"
            " torch.save(model.state_dict(), path)."
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    return _tensors(content, path.name)


def _tensors(content: Any, where: str) -> dict[str, Tensor]:  # noqa: ANN401 - any file content
    if not isinstance(content, Mapping) or not content:
        raise GifError(
            f"{where} holds no weights: expected a state dict, found {type(content).__name__}."
        )
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise GifError(
                f"{where}: entry '{key}' is a {type(value).__name__}, not a tensor; save"
                " model.state_dict() alone."
            )
    return {str(key): value for key, value in content.items()}


def _check(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], where: str) -> None:
    """Every key there, no other, with the right shape, finite; counters are whole numbers."""
    for key, tensor in expected.items():
        if key not in found:
            raise GifError(
                f"{where} has no weights '{key}' (expected shape {tuple(tensor.shape)}); it is a"
                " checkpoint of another architecture."
            )
        if found[key].shape != tensor.shape:
            raise GifError(
                f"{where}: '{key}' has shape {tuple(found[key].shape)}, expected"
                f" {tuple(tensor.shape)} for this model and data."
            )
        if found[key].layout != torch.strided or not _same_kind(found[key], tensor):
            kind = "floating-point numbers" if tensor.is_floating_point() else _kind(tensor)
            raise GifError(f"{where}: '{key}' is {_kind(found[key])}, expected {kind}.")
        if not torch.isfinite(found[key]).all():
            raise GifError(f"{where}: '{key}' has values that are NaN or infinite; train it again.")
    extra = [key for key in found if key not in expected]
    if extra:
        raise GifError(
            f"{where} has weights '{extra[0]}' of shape {tuple(found[extra[0]].shape)}, which this"
            " architecture does not have."
        )


def _same_kind(found: Tensor, expected: Tensor) -> bool:
    """Any floating-point type for another; the counters of batch norm keep their own type."""
    if expected.is_floating_point():
        return found.is_floating_point()
    return found.dtype == expected.dtype


def _kind(tensor: Tensor) -> str:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return dtype if tensor.layout == torch.strided else f"sparse {dtype}"

"""Checkpoint files into tensors: no code in them is run, and their sizes are checked before.

A .pt or .pth file is opened with weights_only=True and never otherwise; a file that is refused is
not tried in any other way.
"""

import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gifcore.errors import GifError

SUFFIXES = (".safetensors", ".pt", ".pth")
MAX_BYTES = 4 * 10**9  # of a file, and of its tensors together
MAX_HEADER = 10 * 10**6  # bytes of a safetensors header; a tensor needs about 120
MAX_TENSORS = 50_000
MAX_KEY = 1000  # characters of a tensor's name
MAX_WRAPPERS = 4  # undone inside each other; a file may nest them a million times
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
TORCH = (2, 10)  # before it, weights_only could be got round (CVE-2025-32434, CVE-2026-24747)


def read_weights(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a checkpoint by name, and a sentence for each wrapper undone.

    Raises:
        GifError: one sentence for whatever is wrong with the file.
    """
    _check_file(path)
    notes: tuple[str, ...] = ()
    if path.suffix == ".safetensors":
        state = _read_safetensors(path)
    else:
        state, notes = _unwrapped(_read_torch(path), path.name)
    _check_amount(state, path.name)
    return state, notes


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


def _check_amount(state: Mapping[str, Tensor], where: str) -> None:
    """Refuse what is empty, or huge once it is used: few stored numbers can claim any shape."""
    if not state:
        raise GifError(f"{where} holds no weights: expected a state dict, found no tensor.")
    longest = max(map(len, state))
    if longest > MAX_KEY:
        raise GifError(
            f"{where} has a name of {longest:,} characters; names have at most {MAX_KEY:,}."
        )
    if len(state) > MAX_TENSORS:
        raise GifError(f"{where} holds {len(state):,} tensors; at most {MAX_TENSORS:,} are taken.")
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if total > MAX_BYTES:
        raise GifError(
            f"{where} holds tensors of {total / 1e9:.1f} GB together; at most"
            f" {MAX_BYTES / 1e9:.0f} GB are taken."
        )


# --- safetensors ---------------------------------------------------------------------------------


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    unreadable = GifError(
        f"{path.name} is not a safetensors file that can be read; save it again with"
        " safetensors.torch.save_file."
    )
    try:
        _check_header(path)
        return load_file(path)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise unreadable from error


def _check_header(path: Path) -> None:
    """Refuse a header that is oversized before it is read.

    Raises:
        ValueError: the file is too short to have one.
    """
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise ValueError("no header")
        (length,) = struct.unpack("<Q", start)
        if length > MAX_HEADER:
            raise GifError(
                f"{path.name} is not a safetensors file that is read: it claims a header of"
                f" {length:,} bytes, at most {MAX_HEADER:,} are taken; save it again with"
                " safetensors.torch.save_file."
            )
        entries = json.loads(file.read(length))
    if not isinstance(entries, dict) or len(entries) > MAX_TENSORS + 1:
        raise GifError(
            f"{path.name} has a header of {len(entries):,} entries; at most {MAX_TENSORS:,} tensors"
            " are taken."
        )


# --- PyTorch's own files -------------------------------------------------------------------------


def _read_torch(path: Path) -> object:
    _refuse_old_torch(path.name)
    _check_archive(path)
    try:
        with warnings.catch_warnings():  # about pickle protocols: of no use to the user
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
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


def _refuse_old_torch(where: str) -> None:
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < TORCH:
        raise GifError(
            f"{where} is not opened with torch {torch.__version__}, whose safe loading has holes;"
            " install torch 2.10 or newer, or give a .safetensors file."
        )


def _check_archive(path: Path) -> None:
    """Refuse a zip that unpacks to more than it may; an old file without one has its own size."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return  # torch says what is wrong with it
    if total > MAX_BYTES:
        raise GifError(
            f"{path.name} unpacks to {total / 1e9:.1f} GB; at most {MAX_BYTES / 1e9:.0f} GB are"
            " taken."
        )


def _unwrapped(content: Any, where: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:  # noqa: ANN401
    """Return the state dict inside {"state_dict": …} and the like, and what was opened."""
    notes: tuple[str, ...] = ()
    for _ in range(MAX_WRAPPERS):
        wrapped = content if isinstance(content, Mapping) else {}
        name = next((w for w in WRAPPERS if isinstance(wrapped.get(w), Mapping)), None)
        if name is None:
            break
        others = [str(key) for key in content if key != name]
        beside = f"; beside it, unused: {', '.join(others[:6])}" if others else ""
        notes = (*notes, f"The weights were taken from '{name}' in the file{beside}.")
        content = content[name]
    return _tensors(content, where), notes


def _tensors(content: Any, where: str) -> dict[str, Tensor]:  # noqa: ANN401 - any file content
    if isinstance(content, torch.nn.Module) or not isinstance(content, Mapping) or not content:
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

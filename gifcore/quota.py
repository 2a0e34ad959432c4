"""How many parameters a selector takes, from the shapes of the layers alone; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from safetensors import SafetensorError, safe_open

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # of normalisation, no parameters
PUBLISHED = ("conv", "linear")  # the kinds that are selected unless asked otherwise
BLOCKS = ("caps", "reverse-caps")  # take whole blocks that fit: the quota is their limit


def quota(ratio: float, count: int) -> int:
    """Return int(ratio * count), safe from binary fractions (0.29 * 100 is 29, not 28)."""
    return int(round(ratio * count, 9))


@dataclass(frozen=True)
class Shapes:
    """A layer as its tensors lie in a checkpoint."""

    name: str
    kind: str  # "conv", "linear" or "norm"
    weight: int  # entries
    bias: int

    @property
    def size(self) -> int:
        return self.weight + self.bias


@dataclass(frozen=True)
class Network:
    """The layers of a checkpoint, and p, all its parameters."""

    layers: tuple[Shapes, ...]
    p: int


def network(path: Path) -> Network | None:
    """Return the layers of a .safetensors file, read from its header; None if it is none."""
    try:
        with safe_open(path, framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    found: dict[str, dict[str, list[int]]] = {}
    p = 0
    for name, shape in shapes.items():
        if name.rpartition(".")[2] in BUFFERS:
            continue
        p += prod(shape)
        for own in ("weight", "bias"):
            if name == own or name.endswith((f".{own}", f"_{own}")):
                found.setdefault(name[: -len(own) - 1], {})[own] = shape
    layers = (_layer(name, tensors) for name, tensors in found.items())
    return Network(tuple(layers), p)


def _layer(name: str, tensors: dict[str, list[int]]) -> Shapes:
    kinds = {1: "norm", 2: "linear"}
    kind = kinds.get(len(tensors.get("weight", [0])), "conv")
    weight, bias = (prod(tensors[own]) if own in tensors else 0 for own in ("weight", "bias"))
    return Shapes(name, kind, weight, bias)


def chosen(
    found: Network, layers: Sequence[str] = (), kinds: Sequence[str] = (), *, norms: bool = False
) -> list[Shapes]:
    """Return the layers that a selection of these names or kinds looks at."""
    if layers:
        return [layer for layer in found.layers if layer.name in layers]
    allowed = {*(kinds or PUBLISHED), *(["norm"] if norms else [])}
    return [layer for layer in found.layers if layer.kind in allowed]


def taken(selector: str, ratio: float, layers: Sequence[Shapes], budget: str = "layer") -> int:
    """Return k, the number of parameters that a selector takes of these layers.

    Exact where whole units are filled up by single weights; for CAPS the most it can be.
    """
    total = sum(layer.size for layer in layers)
    if selector == "all":
        return total
    if budget == "global" or selector in BLOCKS:
        return quota(ratio, total)
    if selector == "random":
        tensors = [size for layer in layers for size in (layer.weight, layer.bias)]
        return sum(quota(ratio, size) for size in tensors)
    return sum(quota(ratio, layer.size) for layer in layers)

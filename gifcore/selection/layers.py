"""Layers whose parameters can be selected, and the units they are made of.

A unit is one row of a layer's weight with its entries of the bias: an output channel of a
convolution, an output neuron of a linear layer, a channel of a normalisation layer, one entry of an
embedding, one row of the query, key or value projection of an attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from gifcore.errors import GifError
from gifcore.parameters import Block, ParameterSpace

KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    "linear": (nn.Linear,),
    "norm": (
        nn.BatchNorm1d,
        nn.BatchNorm2d,
        nn.BatchNorm3d,
        nn.SyncBatchNorm,
        nn.InstanceNorm1d,
        nn.InstanceNorm2d,
        nn.InstanceNorm3d,
        nn.GroupNorm,
        nn.LayerNorm,
        nn.RMSNorm,
    ),
    "embedding": (nn.Embedding, nn.EmbeddingBag),
}
PUBLISHED = ("conv", "linear")  # the kinds that are selected unless asked otherwise
PROJECTIONS = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"))


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer: where its weight and bias lie in theta, and how many units it has.

    A tensor that is tied belongs to the layer that names it first; the other has None for it.
    """

    name: str
    kind: str
    weight: Block | None
    bias: Block | None
    module: nn.Module | None = None  # whose output has one entry a unit; None: no such output
    unit_dim: int = -1  # which dimension of the output runs over the units
    block_units: int = 1  # units of one CAPS block: the rows of a head, else 1

    @property
    def units(self) -> int:
        first = self.weight or self.bias
        return first.shape[0] if first else 0

    @property
    def size(self) -> int:
        return sum(block.size for block in (self.weight, self.bias) if block)

    @property
    def fan_in(self) -> int:
        """Weights of one unit."""
        return self.weight.size // self.units if self.weight else 0

    @cached_property
    def members(self) -> Tensor:
        """Flat indices of every unit, (units, parameters of one): its weights, then its bias."""
        parts = [
            block.offset + torch.arange(block.size).view(self.units, -1)
            for block in (self.weight, self.bias)
            if block
        ]
        return torch.cat(parts, dim=1)

    def blocks(self) -> list[Tensor]:
        """Return the flat indices of every CAPS block."""
        return [rows.reshape(-1) for rows in self.members.split(self.block_units)]


def layers_of(model: nn.Module, space: ParameterSpace) -> dict[str, Layer]:
    """Return every layer with parameters of its own: convolutions and linear layers first.

    The order makes a seeded draw on these independent of what else is asked for.
    """
    first: dict[str, Layer] = {}
    later: dict[str, Layer] = {}
    heads = _head_rows(model)
    for name, module in model.named_modules():
        kind = next((k for k, types in KINDS.items() if isinstance(module, types)), None)
        if kind is not None:
            found = Layer(
                name,
                kind,
                space.by_name.get(f"{name}.weight".lstrip(".")),
                space.by_name.get(f"{name}.bias".lstrip(".")),
                module=None if kind == "embedding" else module,
                unit_dim=_unit_dim(module, kind),
                block_units=heads.get(name, 1),
            )
            (first if kind in PUBLISHED else later)[name] = found
        elif isinstance(module, nn.MultiheadAttention):
            later |= _attention(name, module, space)
    return {name: layer for name, layer in (first | later).items() if layer.size}


def _unit_dim(module: nn.Module, kind: str) -> int:
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return -len(module.normalized_shape)
    return -1 if kind == "linear" else 1


def _attention(name: str, module: nn.MultiheadAttention, space: ParameterSpace) -> dict[str, Layer]:
    """Return the projections to queries, keys and values; no hook sees their outputs.

    Packed they are one layer `in_proj` of 3 x embed_dim units. Where they are three layers, the
    packed bias is a fourth, without weights.
    """
    found = {}
    for part in ("in_proj", "q_proj", "k_proj", "v_proj"):
        key = f"{name}.{part}".lstrip(".")
        weight, bias = (space.by_name.get(f"{key}_{own}") for own in ("weight", "bias"))
        found[key] = Layer(key, "linear", weight, bias, block_units=module.head_dim)
    return found


def _head_rows(model: nn.Module) -> dict[str, int]:
    """Return the rows of one head for linear layers that make queries, keys and values by name.

    The attention module says how many heads it has in `num_attention_heads` or `num_heads`.
    """
    rows: dict[str, int] = {}
    for name, module in model.named_modules():
        heads = getattr(module, "num_attention_heads", getattr(module, "num_heads", None))
        children = dict(module.named_children())
        for names in PROJECTIONS:
            found = [c for n in names if isinstance(c := children.get(n), nn.Linear)]
            if isinstance(heads, int) and len(found) == len(names):
                size = max(1, found[0].out_features // heads)
                rows |= {f"{name}.{child}".lstrip("."): size for child in names}
    return rows


def filtered(
    found: dict[str, Layer],
    layers: Sequence[str] | None,
    kinds: Sequence[str] | None,
    *,
    norms: bool,
) -> list[Layer]:
    """Return the layers that were asked for, in the model's order.

    Neither names nor kinds: convolutions and linear layers. Names alone may be of any kind.

    Raises:
        GifError: an unknown name or kind, a kind that the model has not, or nothing left.
    """
    names = _checked("layers", layers, list(found))
    allowed = set(_checked("kinds", kinds, list(KINDS)) or (KINDS if names else PUBLISHED))
    if norms:
        allowed.add("norm")
    for kind in kinds or ():
        if not any(layer.kind == kind for layer in found.values()):
            present = ", ".join(sorted({layer.kind for layer in found.values()})) or "none"
            raise GifError(f"The model has no layer of kind '{kind}'; its kinds are: {present}.")
    for name in names or ():
        if found[name].kind not in allowed:
            raise GifError(
                f"Layer '{name}' is of kind '{found[name].kind}', which `kinds` leaves out; "
                "add the kind or drop the layer."
            )
    chosen = [
        layer
        for name, layer in found.items()
        if layer.kind in allowed and (names is None or name in names)
    ]
    if not chosen:
        raise GifError("The model has no convolution or linear layer; selectors need one.")
    return chosen


def _checked(what: str, asked: Sequence[str] | None, known: list[str]) -> Sequence[str] | None:
    if asked is None:
        return None
    if isinstance(asked, str) or len(asked) == 0:
        raise GifError(f"`{what}` is {asked!r}; give a list of names, or None for the default.")
    for name in asked:
        if name not in known:
            there = ", ".join(f"'{k}'" for k in known) or "none"
            raise GifError(f"Unknown name '{name}' in `{what}`; there are: {there}.")
    return asked


def layer_of(tensor: str) -> str:
    """Return the layer that a named tensor belongs to, by its name alone.

    >>> [layer_of(name) for name in ("fc.weight", "bias", "attention.in_proj_bias", "scale")]
    ['fc', '', 'attention.in_proj', 'scale']
    """
    for own in ("weight", "bias"):
        if tensor == own:
            return ""
        if tensor.endswith((f".{own}", f"_{own}")):
            return tensor[: -len(own) - 1]
    return tensor

"""ParameterSpace: a model's parameters as one flat vector, in the order of `named_parameters()`.

The only place where tensors are flattened or put back. p is the number of parameters.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from gifcore.errors import GifError


@dataclass(frozen=True)
class Block:
    """One named tensor and where it lies in the flat vector."""

    name: str
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def slice(self) -> slice:
        return slice(self.offset, self.offset + self.size)


@dataclass(frozen=True)
class ParameterSpace:
    """The layout of the flat vector theta in R^p: blocks in order, without gaps."""

    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, model: nn.Module) -> ParameterSpace:
        """Read the layout of a model; tied parameters appear once, under their first name.

        Frozen parameters (requires_grad=False) are part of theta as any other: the objective
        depends on them, and a selection says what may move.

        Raises:
            GifError: no module, no parameters, or some without real numbers of one type in one
                place.
        """
        if not isinstance(model, nn.Module):
            raise GifError(f"The model is a {type(model).__name__}; give a torch.nn.Module.")
        blocks, offset = [], 0
        named = list(model.named_parameters())
        for name, tensor in named:
            _refuse(name, tensor, named[0][1])
            blocks.append(Block(name, tuple(tensor.shape), offset, tensor.numel()))
            offset += tensor.numel()
        if not blocks:
            raise GifError("The model has no parameters; give one that has been trained.")
        return cls(tuple(blocks))

    @cached_property
    def size(self) -> int:
        """The number of parameters, p."""
        return sum(block.size for block in self.blocks)

    @cached_property
    def by_name(self) -> dict[str, Block]:
        return {block.name: block for block in self.blocks}

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the flat vector (p,) of tensors by name."""
        return torch.cat([tensors[block.name].reshape(-1) for block in self.blocks])

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Return views of a flat vector (p,) by name, each in its shape."""
        if vector.shape != (self.size,):
            raise GifError(f"Expected a vector of {self.size} numbers, got {tuple(vector.shape)}.")
        return {block.name: vector[block.slice].view(block.shape) for block in self.blocks}

    def locate(self, index: int) -> tuple[str, tuple[int, ...]]:
        """Return the tensor's name and the coordinates in it of one flat index.

        >>> space = ParameterSpace.of(nn.Linear(3, 2))
        >>> space.locate(4), space.locate(7)
        (('weight', (1, 1)), ('bias', (1,)))
        """
        if not 0 <= index < self.size:
            raise GifError(f"Parameter index {index} is not in 0 … {self.size - 1}.")
        place = bisect_right([block.offset for block in self.blocks], index) - 1
        block = self.blocks[place]
        rest, coordinates = index - block.offset, []
        for i in range(len(block.shape)):
            stride = math.prod(block.shape[i + 1 :])
            coordinates.append(rest // stride)
            rest %= stride
        return block.name, tuple(coordinates)


def tangents(model: nn.Module, space: ParameterSpace, vector: Tensor) -> dict[str, Tensor]:
    """Return a direction (p,) by name for forward mode, cut to what reverse mode differentiates.

    The padding row of an embedding has no gradient, but forward mode follows it; its direction is
    set to 0.

    Raises:
        NotImplementedError: the table with padding is used elsewhere too, where that row counts.
    """
    named = space.unflatten(vector)
    names = {id(tensor): name for name, tensor in model.named_parameters()}
    uses = Counter(id(t) for module in model.modules() for t in module.parameters(recurse=False))
    for module in model.modules():
        if not isinstance(module, nn.Embedding | nn.EmbeddingBag) or module.padding_idx is None:
            continue
        if uses[id(module.weight)] != 1:
            raise NotImplementedError("There is no forward mode for a shared table with padding.")
        name = names[id(module.weight)]
        named[name] = named[name].clone()
        named[name][module.padding_idx] = 0
    return named


def _refuse(name: str, tensor: Tensor, first: Tensor) -> None:
    """Refuse a parameter that is no tensor of real numbers like the first one."""
    if isinstance(tensor, nn.parameter.UninitializedParameter):
        raise GifError(
            f"The parameter {name} has no shape yet; call the model once on a batch and train it."
        )
    if not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise GifError(
            f"The parameter {name} is {kind}; parameters must be real floating-point numbers, "
            "others belong into buffers."
        )
    if tensor.is_meta:
        raise GifError(f"The parameter {name} is on the meta device; load the weights first.")
    if tensor.dtype != first.dtype or tensor.device != first.device:
        raise GifError(
            f"The parameter {name} is {tensor.dtype} on {tensor.device}, others are {first.dtype} "
            f"on {first.device}; bring all to one with model.to(device, dtype)."
        )

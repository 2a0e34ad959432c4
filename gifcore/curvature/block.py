"""Any curvature cut to the blocks of layers: the coupling between layers is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import LinearOperator
from gifcore.parameters import ParameterSpace

DENSE_SIZE = 2000  # coordinates of a block that is inverted densely


@dataclass(frozen=True, eq=False)
class BlockDiagonal(LinearOperator):
    """sum_l E_l (E_l^T H E_l) E_l^T over the layers l, for a symmetric H with weight decay in it.

    Args:
        H: (p, p), for example a `Hessian` or a `GaussNewton`.
        blocks: flat coordinates of each layer, disjoint; `layer_blocks` makes them. Coordinates
            in no block are one more block.

    Cost: one product with H a block.
    """

    H: LinearOperator
    blocks: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        """Complete the blocks to a partition of all coordinates.

        Raises:
            GifError: a coordinate that is in two blocks.
        """
        together = torch.cat(self.blocks)
        rest = torch.ones(self.H.shape[0], dtype=torch.bool, device=together.device)
        rest[together] = False
        if int((~rest).sum()) != len(together):
            raise GifError("Two blocks of the curvature overlap; name each layer once.")
        if bool(rest.any()):
            object.__setattr__(self, "blocks", (*self.blocks, rest.nonzero().squeeze(1)))

    @property
    def shape(self) -> tuple[int, int]:
        return self.H.shape

    def apply(self, vector: Tensor) -> Tensor:
        product = torch.zeros_like(vector)
        for block in self.blocks:
            if bool(vector[block].any()):
                product[block] = self._cut(vector[block], block)
        return product

    apply_transposed = apply

    def inverse(self, vector: Tensor, damping: float) -> Tensor:
        """Return (blocks + damping I)^-1 v.

        Raises, cost: as `restricted_inverse` with all coordinates.
        """
        everything = torch.arange(len(vector), device=vector.device)
        return self.restricted_inverse(vector, everything, damping)[0]

    def restricted_inverse(
        self, vector: Tensor, indices: Tensor, damping: float
    ) -> tuple[Tensor, bool]:
        """Return (E^T (blocks + damping I) E)^-1 v, (k,), exactly; and True.

        Raises:
            GifError: a block of more than DENSE_SIZE selected coordinates, or a singular one.

        Cost: one product with H a selected coordinate of a block on which the vector is not 0.
        """
        owner = torch.empty(self.shape[0], dtype=torch.long, device=indices.device)
        for number, block in enumerate(self.blocks):
            owner[block] = number
        solution = torch.zeros_like(vector)
        for number in owner[indices].unique().tolist():
            here = owner[indices] == number
            if bool(vector[here].any()):
                solution[here] = self._solve(vector[here], indices[here], damping)
        return solution, True

    def _cut(self, values: Tensor, block: Tensor) -> Tensor:
        """Return E_l^T H E_l x."""
        full = values.new_zeros(self.shape[0])
        full[block] = values
        return self.H.apply(full)[block]

    def _solve(self, values: Tensor, block: Tensor, damping: float) -> Tensor:
        if len(block) > DENSE_SIZE:
            raise GifError(
                f"A block has {len(block)} selected parameters and is inverted densely up to "
                f"{DENSE_SIZE}; select fewer, or solve with cg or minres."
            )
        columns = [self._cut(unit, block) for unit in torch.eye(len(block)).to(values)]
        B = torch.stack(columns, dim=1).double()
        B = (B + B.T) / 2 + damping * torch.eye(len(block)).to(B)
        solution, info = torch.linalg.solve_ex(B, values.double())
        found = solution.to(values)
        if int(info) or not bool(torch.isfinite(found).all()):
            raise GifError("A block of the curvature is singular; raise `damping`.")
        return found


def layer_blocks(space: ParameterSpace, layers: Sequence[str] | None = None) -> tuple[Tensor, ...]:
    """Return the flat coordinates of each layer; None: of every module with parameters.

    Args:
        layers: names of modules, such as "conv1" or "encoder.0"; a layer holds all parameters
            below its name.

    Raises:
        GifError: a name below which there is no parameter.
    """
    if layers is None:
        layers = list(dict.fromkeys(block.name.rpartition(".")[0] for block in space.blocks))
        own = [[b for b in space.blocks if b.name.rpartition(".")[0] == name] for name in layers]
    else:
        own = [[b for b in space.blocks if f"{b.name}.".startswith(f"{name}.")] for name in layers]
    for name, blocks in zip(layers, own, strict=True):
        if not blocks:
            known = ", ".join(dict.fromkeys(b.name.rpartition(".")[0] for b in space.blocks))
            raise GifError(f"There is no layer '{name}'; the layers are: {known}.")
    return tuple(
        torch.cat([torch.arange(b.offset, b.offset + b.size) for b in blocks]) for blocks in own
    )

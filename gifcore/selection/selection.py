"""Selection: the sorted flat indices J of the parameters that may move."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gifcore.errors import GifError
from gifcore.operators import Embedding
from gifcore.parameters import Block, ParameterSpace
from gifcore.selection.layers import layer_of

FORMAT = "gif-studio selection 1"


@dataclass(frozen=True, eq=False)
class Selection:
    """J, sorted, with the settings that reproduce it.

    Args:
        indices: (k,) sorted distinct flat indices, in the order of `named_parameters()`.
        selector: a name of SELECTORS, or any other text for indices chosen by hand.

    The other settings are those of `select`.
    """

    indices: Tensor
    space: ParameterSpace
    selector: str
    ratio: float
    seed: int
    layers: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None
    norms: bool = False
    budget: str = "layer"

    def __post_init__(self) -> None:
        """Refuse what is not an index set.

        Raises:
            GifError: no vector of whole numbers, empty, unsorted, duplicate or out of range.
        """
        J, p = self.indices, self.space.size  # noqa: N806
        if J.dtype != torch.int64 or J.dim() != 1:
            raise GifError(
                f"Selected indices are {J.dtype} of shape {tuple(J.shape)}, expected torch.int64 of"
                " shape (k,); turn a mask into indices with mask.nonzero().flatten()."
            )
        if len(J) == 0:
            raise GifError("The selection is empty; select one parameter or more.")
        if int(J.min()) < 0 or int(J.max()) >= p:
            bad = int(J.min()) if int(J.min()) < 0 else int(J.max())
            raise GifError(f"Selected index {bad} is out of range; indices are 0 … {p - 1}.")
        steps = J.diff()
        if bool((steps < 0).any()):
            raise GifError("The selected indices are not sorted; give indices.sort().values.")
        if bool((steps == 0).any()):
            twice = int(J[1:][steps == 0][0])
            raise GifError(f"Index {twice} is selected twice; give indices.unique().")

    @property
    def k(self) -> int:
        return len(self.indices)

    @property
    def embedding(self) -> Embedding:
        """E, (p, k)."""
        return Embedding(self.indices, self.space.size)

    @property
    def advice(self) -> str:
        """What to know about this selection before it is used; empty if there is nothing."""
        if self.k < self.space.size:
            return ""
        return (
            "Every parameter is selected, so that GIF, freeze and projected are the classic "
            "influence function; choose a smaller ratio to compare them."
        )

    @property
    def reproduces(self) -> dict[str, Any]:
        """Keyword arguments: `select(problem, change, **selection.reproduces)` gives it again.

        For indices chosen by hand `select` refuses them, as it does not know the selector.
        """
        return {
            "selector": self.selector,
            "ratio": self.ratio,
            "seed": self.seed,
            "layers": self.layers,
            "kinds": self.kinds,
            "norms": self.norms,
            "budget": self.budget,
        }

    # --- coverage -----------------------------------------------------------------------------

    def by_layer(self) -> dict[str, int]:
        """Return how many numbers of each named tensor are selected."""
        edges = torch.tensor([b.offset for b in self.space.blocks] + [self.space.size])
        counts = torch.searchsorted(self.indices.cpu(), edges).diff()
        return {b.name: int(c) for b, c in zip(self.space.blocks, counts, strict=True)}

    def coverage(self) -> dict[str, float]:
        """Return the selected share of every layer, weight and bias together, in [0, 1]."""
        counts = self.by_layer()
        return {
            name: sum(counts[b.name] for b in blocks) / sum(b.size for b in blocks)
            for name, blocks in _by_layer(self.space).items()
        }

    def by_unit(self, layer: str) -> Tensor:
        """Return the selected share of every unit of a layer, (units,), float64, in [0, 1].

        A unit is one row of the weight with its entry of the bias.

        Raises:
            GifError: an unknown layer, or one whose tensors differ in their number of rows.
        """
        known = _by_layer(self.space)
        if layer not in known:
            there = ", ".join(f"'{name}'" for name in known)
            raise GifError(f"Unknown layer '{layer}'; there are: {there}.")
        rows = {b.shape[0] if b.shape else 1 for b in known[layer]}
        if len(rows) > 1:
            raise GifError(
                f"The tensors of layer '{layer}' have different numbers of rows "
                f"({', '.join(map(str, sorted(rows)))}); use by_layer() for it."
            )
        units = rows.pop()
        J, counts = self.indices.cpu(), torch.zeros(units, dtype=torch.int64)  # noqa: N806
        for block in known[layer]:
            places = J - block.offset
            inside = places[(places >= 0) & (places < block.size)]
            counts += torch.bincount(inside // (block.size // units), minlength=units)
        return counts.double() / (sum(b.size for b in known[layer]) // units)

    # --- files --------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the indices, the settings and the parameter layout as one safetensors file.

        Raises:
            GifError: the folder does not exist.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise GifError(f"There is no folder {path.parent} to save the selection in; make it.")
        metadata = {
            "format": FORMAT,
            "settings": json.dumps(self.reproduces),
            "layout": json.dumps(_layout(self.space)),
        }
        half = path.with_name(path.name + ".part")
        save_file({"indices": self.indices.cpu().contiguous()}, half, metadata)
        half.replace(path)

    @classmethod
    def load(cls, path: str | Path, space: ParameterSpace) -> Selection:
        """Read a file of `save` for a model of this parameter layout; the indices are on the CPU.

        Raises:
            GifError: no such file, another kind of file, damage, or another parameter layout.
        """
        path = Path(path)
        if not path.is_file():
            raise GifError(f"There is no selection {path}.")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise GifError(
                        f"{path.name} is not a selection: expected the format '{FORMAT}'; "
                        "save it with Selection.save."
                    )
                indices = file.get_tensor("indices")
            layout = json.loads(metadata["layout"])
            settings = json.loads(metadata["settings"])
            for name in ("layers", "kinds"):
                settings[name] = None if settings[name] is None else tuple(settings[name])
            _check_layout(layout, _layout(space), path.name)
            return cls(indices, space, **settings)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise GifError(
                f"{path.name} is damaged: its selection cannot be read; save it again."
            ) from error


def _by_layer(space: ParameterSpace) -> dict[str, list[Block]]:
    found: dict[str, list[Block]] = {}
    for block in space.blocks:
        found.setdefault(layer_of(block.name), []).append(block)
    return found


def _layout(space: ParameterSpace) -> list[list[Any]]:
    return [[block.name, list(block.shape)] for block in space.blocks]


def _check_layout(found: Any, expected: list[list[Any]], where: str) -> None:
    if found == expected:
        return
    for index, (name, shape) in enumerate(cast(list[list[Any]], found)):
        here = expected[index] if index < len(expected) else None
        if here != [name, shape]:
            mine = f"this model has '{here[0]}' of shape {tuple(here[1])}" if here else "no more"
            raise GifError(
                f"{where} is a selection for another model: its tensor {index + 1} is '{name}' of "
                f"shape {tuple(shape)}, {mine}; select again."
            )
    raise GifError(
        f"{where} is a selection for another model: it has {len(found)} tensors, this model "
        f"{len(expected)}; select again."
    )

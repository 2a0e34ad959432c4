"""Models by name; one row of MODELS an entry, importable without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gifcore.errors import GifError
from gifcore.models.bundle import bundled, checkpoint_card

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

__all__ = ["MODELS", "ModelRow", "build", "bundled", "checkpoint_card", "load_weights"]


@dataclass(frozen=True)
class ModelRow:
    """One architecture; the function of the same name in architectures.py builds it."""

    name: str
    title: str
    text: str  # one line for people


MODELS: dict[str, ModelRow] = {
    row.name: row
    for row in (
        ModelRow("tinynet", "TinyNet", "Four stride-2 convolutions and a linear layer."),
        ModelRow("fcn", "Fully connected", "Three fully connected layers with ReLU."),
        ModelRow("lenet", "LeNet", "Two convolutions with pooling and three linear layers."),
        ModelRow("logistic", "Logistic regression", "One linear layer; its objective is convex."),
    )
}


def build(name: str, shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """A freshly initialised model for (C, H, W) inputs and n_classes outputs (torch's global seed).

    Raises:
        GifError: if there is no model of that name.
    """
    if name not in MODELS:
        raise GifError(f"There is no model '{name}'; the models are {', '.join(MODELS)}.")
    from gifcore.models import architectures

    builder: Callable[[tuple[int, int, int], int], nn.Module] = getattr(architectures, name)
    return builder(shape, n_classes)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Put the weights of a .safetensors, .pt or .pth file into the model.

    Raises:
        GifError: one sentence for whatever does not fit; the model is then untouched.
    """
    from gifcore.models.weights import load_weights as load

    load(model, path)

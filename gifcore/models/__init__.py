"""Models by name; one row of MODELS an entry, importable without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from gifcore.errors import GifError
from gifcore.models import plugins
from gifcore.models.bundle import bundled, checkpoint_card
from gifcore.models.torchvision_names import AUXILIARY, NAMES, PREFIX

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

__all__ = [
    "MODELS",
    "ModelRow",
    "build",
    "bundled",
    "check_name",
    "checkpoint_card",
    "load_weights",
    "title",
]


@dataclass(frozen=True)
class ModelRow:
    """One architecture; the function of the same name (- is _) in its module builds it."""

    name: str
    title: str
    text: str  # one line for people
    module: str = "architectures"


MODELS: dict[str, ModelRow] = {
    row.name: row
    for row in (
        ModelRow("tinynet", "TinyNet", "Four stride-2 convolutions and a linear layer."),
        ModelRow("fcn", "Fully connected", "Three fully connected layers with ReLU."),
        ModelRow("lenet", "LeNet", "Two convolutions with pooling and three linear layers."),
        ModelRow("logistic", "Logistic regression", "One linear layer; its objective is convex."),
        ModelRow(
            "resnet18",
            "ResNet-18",
            "Eight residual blocks with batch norm, for small images; 11 million parameters.",
            "small_image",
        ),
        ModelRow(
            "vgg11-bn",
            "VGG-11",
            "Eight convolutions with batch norm, for small images; 9 million parameters.",
            "small_image",
        ),
        ModelRow(
            "shufflenet-v2",
            "ShuffleNetV2",
            "Depthwise convolutions and channel shuffle, for small images; 1.3 million parameters.",
            "small_image",
        ),
    )
}


def check_name(name: str) -> None:
    """Refuse what is no model's name; a plugin is not imported for it.

    Raises:
        GifError: naming the models there are.
    """
    module, plugin, _ = name.partition(plugins.SEPARATOR)
    if name in MODELS or (plugin and module in plugins.allowed()):
        return
    if name.startswith(PREFIX) and name.removeprefix(PREFIX) in (*NAMES, *AUXILIARY):
        return
    if plugins.is_plugin(name):
        plugins.source(name)  # says that it is not allowed
    raise GifError(
        f"There is no model '{name}'; the models are {', '.join(MODELS)}, the classifiers of "
        f"torchvision as {PREFIX}resnet18 and the like, and those of a --plugin."
    )


def title(name: str) -> str:
    """Return a model's name for people: "TinyNet", "resnet18 of torchvision"."""
    if name in MODELS:
        return MODELS[name].title
    if name.startswith(PREFIX):
        return f"{name.removeprefix(PREFIX)} of torchvision"
    return name


def build(name: str, shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """A freshly initialised model for (C, H, W) inputs and n_classes outputs (torch's global seed).

    Raises:
        GifError: if there is no model of that name, or it cannot take such inputs.
    """
    check_name(name)
    if plugins.is_plugin(name):
        return plugins.build(name, shape, n_classes)
    if name.startswith(PREFIX):
        from gifcore.models import torchvision_models

        return torchvision_models.build(name.removeprefix(PREFIX), shape, n_classes)
    module = import_module(f"gifcore.models.{MODELS[name].module}")
    builder: Callable[[tuple[int, int, int], int], nn.Module]
    builder = getattr(module, name.replace("-", "_"))
    return builder(shape, n_classes)


def load_weights(model: nn.Module, path: str | Path) -> tuple[str, ...]:
    """Put the weights of a .safetensors, .pt or .pth file into the model; say what was undone.

    Raises:
        GifError: one sentence for whatever does not fit; the model is then untouched.
    """
    from gifcore.models.weights import load_weights as load

    return load(model, path)

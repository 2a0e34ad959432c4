"""Classifiers of torchvision for any number of classes and channels, without their weights."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from gifcore.errors import GifError
from gifcore.models.torchvision_names import AUXILIARY, NAMES, PREFIX

Shape = tuple[int, int, int]  # (C, H, W)


def build(name: str, shape: Shape, n_classes: int) -> nn.Module:
    """Return torchvision.models.<name> with n_classes outputs, freshly initialised.

    Where the inputs have not three channels, the first convolution takes as many as there are.
    Activations do not work in place: a module's output is then what it was when it was seen.

    Raises:
        GifError: there is no such classifier, or it cannot take inputs of this shape.
    """
    if name in AUXILIARY:
        raise GifError(
            f"{PREFIX}{name} was trained on auxiliary outputs too, which is another objective than "
            "the one explained here; choose another model."
        )
    if name not in NAMES:
        raise GifError(
            f"There is no classifier '{PREFIX}{name}'; there are {', '.join(NAMES[:5])}, …, "
            f"{NAMES[-1]}: see torchvision.models."
        )
    from torchvision import models

    options: dict[str, Any] = {"weights": None, "num_classes": n_classes}
    if name.startswith("vit_"):
        options["image_size"] = shape[1]
    try:
        with warnings.catch_warnings():  # about initialisations that weights overwrite
            warnings.simplefilter("ignore")
            model: nn.Module = models.get_model(name, **options)
        if shape[0] != 3:
            _take_channels(model, shape[0])
        for module in model.modules():
            if isinstance(getattr(module, "inplace", None), bool):
                vars(module)["inplace"] = False
        _try(model, shape, n_classes)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        said = (str(error).splitlines() or ["it failed"])[0].rstrip(".")[:160]
        raise GifError(
            f"{PREFIX}{name} cannot take inputs of {' x '.join(map(str, shape))} (channels x "
            f"height x width): {said}; scale the images, or choose another model."
        ) from error
    return model


def _take_channels(model: nn.Module, channels: int) -> None:
    """Put a first convolution of the same form in, for another number of channels."""
    path, first = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    size, stride = (first.kernel_size[0], first.kernel_size[1]), (first.stride[0], first.stride[1])
    padding: Any = first.padding
    new = nn.Conv2d(
        channels, first.out_channels, size, stride, padding, bias=first.bias is not None
    )
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, new)


def _try(model: nn.Module, shape: Shape, n_classes: int) -> None:
    """One blank input through it: a shape that does not fit is refused here, not in a study."""
    training = model.training
    model.eval()
    with torch.no_grad():
        outputs = model(torch.zeros(1, *shape))
    model.train(training)
    if not isinstance(outputs, torch.Tensor) or outputs.shape != (1, n_classes):
        raise GifError(f"{type(model).__name__} does not answer one number a class.")

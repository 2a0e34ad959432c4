"""Architectures of one's own: Python modules that whoever starts the process allows, no others.

A plugin is a module with MODELS = {"name": build}, build(shape, n_classes) -> torch.nn.Module; a
study names it "mypkg.mymodule:name". No study, upload or record can make a module be imported that
`--plugin` did not name.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gifcore.errors import GifError

if TYPE_CHECKING:
    from torch import nn

VARIABLE = "GIF_STUDIO_PLUGINS"  # modules by comma; --plugin sets it, for child processes too
SEPARATOR = ":"


def allowed() -> tuple[str, ...]:
    """Return the modules that this process may import architectures from."""
    return tuple(name for name in os.environ.get(VARIABLE, "").split(",") if name)


def allow(module: str) -> None:
    """Allow a module, for this process and those it starts.

    Raises:
        GifError: it is no name of a module.
    """
    if not all(part.isidentifier() for part in module.split(".")):
        raise GifError(f"'{module}' is no name of a Python module, such as mypkg.mymodule.")
    if module not in allowed():
        os.environ[VARIABLE] = ",".join([*allowed(), module])


def is_plugin(name: str) -> bool:
    """Is this the name of a plugin's architecture, such as "mypkg.mymodule:name"?"""
    return SEPARATOR in name


def names() -> list[str]:
    """Return the names of all architectures of the allowed modules, which are imported.

    Raises:
        GifError: a module cannot be imported or has no MODELS.
    """
    return [f"{module}{SEPARATOR}{name}" for module in allowed() for name in _table(module)]


def source(name: str) -> Path:
    """Return the file of the module that an architecture is from.

    Raises:
        GifError: it is not allowed or cannot be imported.
    """
    _table(_module_of(name))
    file = getattr(import_module(_module_of(name)), "__file__", None)
    if file is None:
        raise GifError(f"The plugin {_module_of(name)} has no file; give a module that has one.")
    return Path(file)


def build(name: str, shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """Return the model of a plugin's architecture for (C, H, W) inputs.

    Raises:
        GifError: it is not allowed, there is none of the name, or it gives no module.
    """
    from torch import nn

    module, _, own = name.partition(SEPARATOR)
    known = _table(_module_of(name))
    if own not in known:
        raise GifError(f"The plugin {module} has no '{own}'; it has {', '.join(known)}.")
    try:
        model = known[own](shape, n_classes)
    except Exception as error:  # other people's code may raise anything
        raise GifError(
            f"The architecture {name} failed: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise GifError(f"The architecture {name} gave a {type(model).__name__}, no torch module.")
    return model


def _module_of(name: str) -> str:
    module = name.partition(SEPARATOR)[0]
    if module not in allowed():
        raise GifError(
            f"The architecture {name} is from a plugin that is not allowed here; whoever starts "
            f"this program can allow it with --plugin {module}."
        )
    return module


def _table(module: str) -> dict[str, Any]:
    try:
        found = getattr(import_module(module), "MODELS", None)
    except Exception as error:  # other people's code may raise anything
        raise GifError(
            f"The plugin {module} cannot be imported ({type(error).__name__}: {error}); check its "
            "name and that Python finds it."
        ) from error
    if not isinstance(found, dict) or not found or not all(map(callable, found.values())):
        raise GifError(
            f"The plugin {module} has no MODELS = {{'name': build}}; add it, build(shape, "
            "n_classes) giving a torch module."
        )
    return found

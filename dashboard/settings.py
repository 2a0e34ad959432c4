"""What the server was started with, told to the script by environment variables."""

from __future__ import annotations

import os
from pathlib import Path

from gifcore.assets_path import asset

WORKSPACE_VARIABLE = "GIF_STUDIO_WORKSPACE"
DEMO_VARIABLE = "GIF_STUDIO_DEMO"
DATA_VARIABLE = "GIF_STUDIO_DATA_ROOT"
MODELS_VARIABLE = "GIF_STUDIO_PLUGIN_MODELS"


def workspace() -> Path:
    """The folder of this server's studies: what --workspace said, else ./runs."""
    return Path(os.environ.get(WORKSPACE_VARIABLE) or "runs").resolve()


def demo_only() -> bool:
    """Was the server started with --demo: nothing can be uploaded or computed?"""
    return os.environ.get(DEMO_VARIABLE) == "1"


def data_root() -> Path | None:
    """The folder that --data-root opened to visitors, None if there is none."""
    folder = os.environ.get(DATA_VARIABLE)
    return Path(folder).resolve() if folder else None


def plugin_models() -> list[str]:
    """The architectures of the server's plugins by name: what --plugin named."""
    return [name for name in os.environ.get(MODELS_VARIABLE, "").split(",") if name]


def demo_folder() -> Path:
    """The bundled records, read-only."""
    return asset("demo")

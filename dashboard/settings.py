"""What the server was started with, told to the script by two environment variables."""

from __future__ import annotations

import os
from pathlib import Path

from gifcore.assets_path import asset

WORKSPACE_VARIABLE = "GIF_STUDIO_WORKSPACE"
DEMO_VARIABLE = "GIF_STUDIO_DEMO"


def workspace() -> Path:
    """The folder of this server's studies: what --workspace said, else ./runs."""
    return Path(os.environ.get(WORKSPACE_VARIABLE) or "runs").resolve()


def demo_only() -> bool:
    """Was the server started with --demo: nothing can be uploaded or computed?"""
    return os.environ.get(DEMO_VARIABLE) == "1"


def demo_folder() -> Path:
    """The bundled records, read-only."""
    return asset("demo")

"""Where data sets lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder() -> Path:
    """Return where data are looked for and downloaded to: $GIF_DATA, else ./data."""
    return Path(os.environ.get("GIF_DATA") or "data")

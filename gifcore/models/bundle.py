"""The checkpoints that come with GIF Studio, and the cards beside checkpoints; no torch."""

import json
from pathlib import Path
from typing import Any

from gifcore.assets_path import asset
from gifcore.errors import GifError


def bundled(model: str, data: str) -> Path | None:
    """The shipped checkpoint of a model on a data set, or None if there is none."""
    path = asset("models", f"{model}-{data}.safetensors")
    return path if path.is_file() else None


def checkpoints_beside(weights: Path) -> Path:
    """Where the checkpoints of the training that gave these weights are kept, if it kept any."""
    return weights.with_name(f"{weights.stem}.checkpoints.safetensors")


def checkpoint_card(path: str | Path) -> dict[str, Any] | None:
    """What is known about a checkpoint: the JSON of the same name beside it, else None.

    Raises:
        GifError: if the JSON is there but damaged.
    """
    card = Path(path).with_suffix(".json")
    if not card.is_file():
        return None
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GifError(f"The card {card} cannot be read as JSON; delete or repair it.") from error
    if not isinstance(content, dict):
        raise GifError(f"The card {card} is not a JSON object; delete or repair it.")
    return content

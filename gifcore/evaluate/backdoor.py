"""How far a backdoor is gone: accuracies on triggered and on clean images."""

from __future__ import annotations

from typing import Any

from gifcore.errors import GifError
from gifcore.evaluate.accuracy import Predictions


def backdoor_metrics(triggered: Predictions, clean: Predictions, label: int) -> dict[str, Any]:
    """Return accuracies (fractions), their F1 and how many images they are measured on.

    `corrupt` is the share of triggered images that get the backdoor's label: a model without the
    backdoor has about `corrupt_expected`, the share that truly is of that class. `relabel` is the
    accuracy on triggered images by their true labels, `clean` that on images without trigger, and
    `score` their F1 = 2 relabel clean / (relabel + clean), 0 when both are 0.

    Args:
        triggered: predictions on images with the trigger; `labels` are their true ones.
        clean: predictions on images without it.
        label: the backdoor's label.

    Which images: a test split and its triggered copy (`gifcore.data.backdoor.triggered`), or the
    training images as published (`Poisoned.triggered` and `Poisoned.clean`).

    Raises:
        GifError: one of the two holds no image.

    Reference: Lyu et al. 2023 (arXiv 2312.05586), code of the experiment on backdoor recovery.
    """
    for name, predictions in (("triggered", triggered), ("clean", clean)):
        if len(predictions.labels) == 0:
            raise GifError(f"There is no {name} image to measure the backdoor on; give some.")
    relabel = float((triggered.predicted == triggered.labels).mean())
    unharmed = float((clean.predicted == clean.labels).mean())
    both = relabel + unharmed
    return {
        "corrupt": float((triggered.predicted == label).mean()),
        "corrupt_expected": float((triggered.labels == label).mean()),
        "relabel": relabel,
        "clean": unharmed,
        "score": 2 * relabel * unharmed / both if both > 0 else 0.0,
        "triggered_n": len(triggered.labels),
        "clean_n": len(clean.labels),
    }

"""What an accuracy of a record is where there was anything to measure; no Streamlit."""

from __future__ import annotations

from typing import Any

from gifcore.outcome import Figure


def share(metrics: dict[str, Any], figure: Figure) -> float | None:
    """Return an accuracy, 0 to 1; None where there were no such images, for which metrics say 0."""
    return metrics[figure.key] if figure.count(metrics) else None

"""What a model does on data: predictions, accuracies by group, and what judges an edit."""

from gifcore.evaluate.accuracy import Predictions, confusion, metrics, predict
from gifcore.evaluate.judges import BackdoorJudge, ClassJudge, Judge, SamplesJudge, touched

__all__ = [
    "BackdoorJudge",
    "ClassJudge",
    "Judge",
    "Predictions",
    "SamplesJudge",
    "confusion",
    "metrics",
    "predict",
    "touched",
]

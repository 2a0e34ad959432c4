"""What a model does on data: predictions and accuracies by group."""

from gifcore.evaluate.accuracy import Predictions, confusion, metrics, predict

__all__ = ["Predictions", "confusion", "metrics", "predict"]

"""Models really trained on other data: the truth that predictions are held against."""

from gifcore.retraining.objectives import newton_scaling, objective_of
from gifcore.retraining.recipes import (
    STARTS,
    Minimise,
    Proximal,
    Recipe,
    Sgd,
    retrain,
    start_of,
)
from gifcore.retraining.retrained import Retrained
from gifcore.retraining.service import Job, expected_seconds, retrain_all, retrain_each

__all__ = [
    "STARTS",
    "Job",
    "Minimise",
    "Proximal",
    "Recipe",
    "Retrained",
    "Sgd",
    "expected_seconds",
    "newton_scaling",
    "objective_of",
    "retrain",
    "retrain_all",
    "retrain_each",
    "start_of",
]

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
from gifcore.retraining.service import (
    Job,
    expected_seconds,
    passes,
    retrain_all,
    retrain_each,
    seconds_per_sample,
)

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
    "passes",
    "retrain",
    "retrain_all",
    "retrain_each",
    "seconds_per_sample",
    "start_of",
]

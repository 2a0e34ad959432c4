"""GIF Studio's engine: which training data and parameters made a model do this, and what if.

Names load on first use: importing this package does not import torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gifcore.change import AddSamples, Relabel, RemoveClass, RemoveSamples, Reweight, Union
    from gifcore.checkpoints import Checkpoint
    from gifcore.curved import Curved
    from gifcore.edit import edit
    from gifcore.errors import Cancelled, GifError
    from gifcore.influence import Influence, influence
    from gifcore.neighbors import NearestScores, NeighborIndex, rank_nearest, recall, recall_table
    from gifcore.parameters import ParameterSpace
    from gifcore.problem import Problem, cross_entropy
    from gifcore.queries import Queries
    from gifcore.scoring import rank
    from gifcore.selection import Selection, select
    from gifcore.self_influence import SelfInfluence, self_influence
    from gifcore.solvers import CG, LSMR, MINRES, Dense, Lissa, Neumann, PLissa, Solution, Status
    from gifcore.streams import Scores

_HOME = {
    "AddSamples": "change",
    "CG": "solvers",
    "Cancelled": "errors",
    "Checkpoint": "checkpoints",
    "Curved": "curved",
    "Dense": "solvers",
    "GifError": "errors",
    "Influence": "influence",
    "LSMR": "solvers",
    "Lissa": "solvers",
    "MINRES": "solvers",
    "NearestScores": "neighbors",
    "NeighborIndex": "neighbors",
    "Neumann": "solvers",
    "PLissa": "solvers",
    "ParameterSpace": "parameters",
    "Problem": "problem",
    "Queries": "queries",
    "Relabel": "change",
    "RemoveClass": "change",
    "RemoveSamples": "change",
    "Reweight": "change",
    "Scores": "streams",
    "Selection": "selection",
    "SelfInfluence": "self_influence",
    "Solution": "solvers",
    "Status": "solvers",
    "Union": "change",
    "cross_entropy": "problem",
    "edit": "edit",
    "influence": "influence",
    "rank": "scoring",
    "rank_nearest": "neighbors",
    "recall": "neighbors",
    "recall_table": "neighbors",
    "select": "selection",
    "self_influence": "self_influence",
}

__all__ = [
    "CG",
    "LSMR",
    "MINRES",
    "AddSamples",
    "Cancelled",
    "Checkpoint",
    "Curved",
    "Dense",
    "GifError",
    "Influence",
    "Lissa",
    "NearestScores",
    "NeighborIndex",
    "Neumann",
    "PLissa",
    "ParameterSpace",
    "Problem",
    "Queries",
    "Relabel",
    "RemoveClass",
    "RemoveSamples",
    "Reweight",
    "Scores",
    "Selection",
    "SelfInfluence",
    "Solution",
    "Status",
    "Union",
    "cross_entropy",
    "edit",
    "influence",
    "rank",
    "rank_nearest",
    "recall",
    "recall_table",
    "select",
    "self_influence",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gifcore' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"gifcore.{_HOME[name]}"), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """This package; `gifcore.edit` stays the function when the module of that name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in _HOME and _HOME[name] == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

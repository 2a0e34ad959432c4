"""GIF Studio's engine: which training data and parameters made a model do this, and what if.

Names load on first use: importing this package does not import torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gifcore.change import RemoveClass, RemoveSamples
    from gifcore.edit import edit
    from gifcore.errors import Cancelled, GifError
    from gifcore.influence import Influence, influence
    from gifcore.parameters import ParameterSpace
    from gifcore.problem import Problem, cross_entropy
    from gifcore.scoring import Queries, Scores, rank
    from gifcore.selection import Selection, select
    from gifcore.solvers import LSMR, MINRES, Solution, Status

_HOME = {
    "Cancelled": "errors",
    "GifError": "errors",
    "Influence": "influence",
    "LSMR": "solvers",
    "MINRES": "solvers",
    "ParameterSpace": "parameters",
    "Problem": "problem",
    "Queries": "scoring",
    "RemoveClass": "change",
    "RemoveSamples": "change",
    "Scores": "scoring",
    "Selection": "selection",
    "Solution": "solvers",
    "Status": "solvers",
    "cross_entropy": "problem",
    "edit": "edit",
    "influence": "influence",
    "rank": "scoring",
    "select": "selection",
}

__all__ = [
    "LSMR",
    "MINRES",
    "Cancelled",
    "GifError",
    "Influence",
    "ParameterSpace",
    "Problem",
    "Queries",
    "RemoveClass",
    "RemoveSamples",
    "Scores",
    "Selection",
    "Solution",
    "Status",
    "cross_entropy",
    "edit",
    "influence",
    "rank",
    "select",
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

"""Which parameters may move: unit scores x rules -> Selection."""

from gifcore.selection.select import SELECTORS, Selection, select

__all__ = ["SELECTORS", "Selection", "select"]

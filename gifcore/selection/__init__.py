"""Which parameters may move: unit scores x rules -> Selection."""

from gifcore.selection.select import SELECTORS, Selector, select
from gifcore.selection.selection import Selection

__all__ = ["SELECTORS", "Selection", "Selector", "select"]

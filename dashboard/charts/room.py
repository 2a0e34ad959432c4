"""The room that the labels of axes take, told to Plotly, which need not draw a chart twice.

The theme of the pages turns `automargin` on: Plotly then draws, measures its labels and draws
again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import unescape
from unicodedata import east_asian_width

import plotly.graph_objects as go

TICKS = 12  # pixels, the size of the labels in the theme
BESIDE = 20  # between a label and both the axis and the edge
TITLE = 36  # of an axis, with its distance
BELOW = 65  # a line of labels and a title
_NARROW, _BROAD = frozenset("fijlrtI.,:;'’|!()[]- "), frozenset("mwMW%@—…▸")


def width(text: str, size: int = TICKS) -> float:
    """Return about how many pixels a label takes, a little more rather than less.

    >>> round(width("<b>Bag (removed)</b>")), round(width("&lt;il")), width("")
    (76, 13, 0)
    """
    return size * sum(_ems(letter) for letter in unescape(re.sub("<[^>]*>", "", text)))


def _ems(letter: str) -> float:
    if letter in _NARROW:
        return 0.3
    if letter in _BROAD or east_asian_width(letter) in "WF":
        return 0.9
    return 0.62 if letter.isupper() else 0.52


def fixed(
    figure: go.Figure, left: Iterable[str], *, y_title: bool = False, below: float = BELOW
) -> go.Figure:
    """Fix the margins of a finished figure for the labels left of it and what stands below."""
    beside = BESIDE + max(map(width, left), default=0) + TITLE * y_title
    figure.update_layout(margin={"l": beside, "b": below})
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        axis.automargin = False
    return figure

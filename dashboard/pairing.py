"""Which two views Compare holds against one another, and what of them fits together; no Streamlit.

The first view is the sidebar's. The second is named in the address by `other`:
"study:selector:ratio:first method:second method"; a field that is empty or left out is as in the
sidebar (study, selector, ratio) or at its default (methods).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from dashboard.picks import number
from gifcore.outcome import outcome

Mode = Literal["method", "setting", "study"]
MODES: dict[Mode, str] = {
    "method": "Another method of this study",
    "setting": "Another selector or ratio",
    "study": "Another study",
}
Combination = tuple[str, float]  # selector, ratio
FIELDS = 5
OUTCOMES = {  # of one test image under two edits
    "right": "both right",
    "first": "only {first} wrong",
    "second": "only {second} wrong",
    "wrong": "both wrong",
}


# --- the second view in the address ---------------------------------------------------------------


@dataclass(frozen=True)
class Other:
    """The second view and the two methods, as an address names them; "" and None: not named."""

    study: str = ""
    selector: str = ""
    ratio: float | None = None
    first: str = ""  # the method of the sidebar's view
    second: str = ""


def parse(text: str) -> Other | None:
    """Return the view that a text names, None if it names none.

    >>> parse(":random:0.05:gif")
    Other(study='', selector='random', ratio=0.05, first='gif', second='')
    >>> parse("a:b:c:d:e:f"), parse("::much")
    (None, None)
    """
    fields = text.split(":")
    if len(fields) > FIELDS:
        return None
    study, selector, ratio, first, second = fields + [""] * (FIELDS - len(fields))
    try:
        share = float(ratio) if ratio else None
    except ValueError:
        return None
    if share is not None and not 0 < share <= 1:
        return None
    return Other(study, selector, share, first, second)


def text(other: Other) -> str:
    """Return how an address names a view; `parse` reads it back.

    >>> text(Other(selector="random", ratio=0.05)), text(Other(first="if", second="gif"))
    (':random:0.05', ':::if:gif')
    """
    ratio = "" if other.ratio is None else number(other.ratio)
    fields = (other.study, other.selector, ratio, other.first, other.second)
    return ":".join(fields).rstrip(":")


def mode(other: Other, study: str, combination: Combination) -> Mode:
    """Return what the second view differs in from the sidebar's study and combination."""
    if other.study not in ("", study):
        return "study"
    if not other.selector and other.ratio is None:
        return "method"
    named = (other.selector or combination[0], other.ratio or combination[1])
    return "method" if other.study and named == combination else "setting"


def nearest(combinations: Iterable[Combination], to: Combination) -> Combination | None:
    """Return another combination that differs little: first another ratio, else another selector.

    >>> nearest([("a", 0.05), ("a", 0.1), ("a", 0.5), ("b", 0.05)], ("a", 0.05))
    ('a', 0.1)
    """

    def far(one: Combination) -> tuple[bool, float, str]:
        return one[0] != to[0], abs(math.log(one[1] / to[1])), one[0]

    return min((one for one in combinations if one != to), key=far, default=None)


# --- what fits together ---------------------------------------------------------------------------


def same_data(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Are two record.json about one data set: is test image 3 the same image in both?"""
    return bool(first["data"]["hash"] == second["data"]["hash"])


def same_change(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Are both edits after the same thing, counted on the same images?"""
    if not same_data(first, second):
        return False
    judged = [outcome(info["change"]) for info in (first, second)]
    if judged[0].task == "class":  # of samples the numbers say it, not how many there are
        return judged[0] == judged[1]
    return bool(first["change"] == second["change"])


def same_layers(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Do the two models have the same layers: is parameter 100 the same number in both?"""
    shapes = [
        [(layer["name"], layer["shape"], layer["offset"]) for layer in info["model"]["layers"]]
        for info in (first, second)
    ]
    return shapes[0] == shapes[1]


def same_query(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Do two ranked queries of one data set ask about the same test image or group of them?"""
    groups = [query.get("group") or {} for query in (first, second)]
    images = [group.get("images") for group in groups]
    return bool(first["index"] == second["index"] and images[0] == images[1])


Queries = Sequence[dict[str, Any]]


def common(first: Queries, second: Queries, methods: tuple[str, str]) -> list[dict[str, Any]]:
    """Return the queries that both methods ranked, those of the first view in its order."""
    others = {query["index"]: query for query in second}
    return [
        query
        for query in first
        if methods[0] in query["certificates"]
        and query["index"] in others
        and same_query(query, others[query["index"]])
        and methods[1] in others[query["index"]]["certificates"]
    ]


# --- two updates of one layer ---------------------------------------------------------------------


@dataclass(frozen=True)
class Selected:
    """How many numbers of a layer are selected by whom."""

    both: int
    first: int  # by the first alone
    second: int
    none: int


def selected(first: np.ndarray, second: np.ndarray) -> Selected:
    """Count who selected the numbers of a layer; nan is a number that was not selected.

    >>> selected(np.array([1.0, np.nan, np.nan]), np.array([2.0, 3.0, np.nan]))
    Selected(both=1, first=0, second=1, none=1)
    """
    one, two = ~np.isnan(first), ~np.isnan(second)
    counts = (one & two, one & ~two, ~one & two, ~one & ~two)
    return Selected(*(int(mask.sum()) for mask in counts))


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return second - first, where a number that only one selected does not move in the other.

    It is nan where neither selected it.

    >>> difference(np.array([1.0, np.nan, np.nan]), np.array([3.0, 3.0, np.nan]))
    array([ 2.,  3., nan])
    """
    moved = np.nan_to_num(second, nan=0.0) - np.nan_to_num(first, nan=0.0)
    moved[np.isnan(first) & np.isnan(second)] = np.nan
    return moved


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Return the cosine of two updates over what either moves; nan if one of them is 0."""
    one, two = np.nan_to_num(first.ravel(), nan=0.0), np.nan_to_num(second.ravel(), nan=0.0)
    size = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(one @ two) / size if size else math.nan


# --- two edits on the same test images ------------------------------------------------------------


def outcomes(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return the test images under two edits: index, label, and twice predicted and p_label.

    Also `same`, whether both predict one class, and `outcome`, a key of OUTCOMES. The columns of
    the edits end in _first and _second.
    """
    kept = ["index", "label", "predicted", "p_label"]
    both = first[kept].merge(second[kept], on=["index", "label"], suffixes=("_first", "_second"))
    right = [both[f"predicted_{side}"] == both["label"] for side in ("first", "second")]
    both["same"] = both["predicted_first"] == both["predicted_second"]
    both["outcome"] = np.select(
        [right[0] & right[1], ~right[0] & right[1], right[0] & ~right[1]],
        ["right", "first", "second"],
        "wrong",
    )
    return both


def counted(images: pd.DataFrame) -> dict[str, int]:
    """Return how many images have each of OUTCOMES."""
    return {name: int((images["outcome"] == name).sum()) for name in OUTCOMES}

"""A cell of the confusion matrices: how the address writes it, and which test images it holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

BEFORE, EDITED, RETRAINED = "before", "edited", "retrained"
MODELS = (BEFORE, EDITED, RETRAINED)  # whose matrix it is
MOST = 20  # classes that a matrix shows


@dataclass(frozen=True)
class Cell:
    """Test images of one class that a model takes for a class."""

    label: int
    predicted: int
    model: str = EDITED

    @property
    def text(self) -> str:
        """As the address says it.

        >>> Cell(8, 6).text, Cell(8, 6, "before").text
        ('8-6', '8-6-before')
        """
        return f"{self.label}-{self.predicted}" + (f"-{self.model}" if self.model != EDITED else "")


def parse(text: object, classes: int, models: Sequence[str] = MODELS) -> Cell | None:
    """Return the cell that a text names, None if it is nonsense or of a class or model not there.

    >>> parse("8-6", 10)
    Cell(label=8, predicted=6, model='edited')
    >>> parse("8-10", 10), parse("8", 10), parse("8-6-before", 10, ["edited"])
    (None, None, None)
    """
    parts = str(text).split("-")
    if len(parts) not in (2, 3) or not all(re.fullmatch("[0-9]{1,6}", p) for p in parts[:2]):
        return None
    cell = Cell(int(parts[0]), int(parts[1]), *parts[2:])
    known = max(cell.label, cell.predicted) < classes and cell.model in models
    return cell if known else None


def together(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Return index, label, and predicted, p_label and loss twice (_was, _now) of every image."""
    return before.merge(after, on=["index", "label"], suffixes=("_was", "_now"))


def voted(both: pd.DataFrame, retrained: Sequence[pd.DataFrame]) -> np.ndarray:
    """Return what each retrained model takes the images of `both` for, (n, models)."""
    columns = [one.set_index("index")["predicted"].reindex(both["index"]) for one in retrained]
    return np.column_stack(columns).astype(int) if columns else np.empty((len(both), 0), int)


def images(both: pd.DataFrame, votes: np.ndarray, cell: Cell) -> pd.DataFrame:
    """Return the images of a cell, the largest change of p(label) first.

    Of the retrained models' matrix: those that any of them takes so, the most agreed upon first;
    `models` is how many do.
    """
    models = (votes == cell.predicted).sum(axis=1)
    taken = {
        BEFORE: (both["predicted_was"] == cell.predicted).to_numpy(),
        EDITED: (both["predicted_now"] == cell.predicted).to_numpy(),
        RETRAINED: models > 0,
    }[cell.model]
    inside = taken & (both["label"] == cell.label).to_numpy()
    found = both[inside].copy()
    found["models"] = models[inside]
    found["change"] = (found["p_label_now"] - found["p_label_was"]).abs()
    first = ["models"] if cell.model == RETRAINED else []
    order = [*first, "change", "index"]
    return found.sort_values(order, ascending=[name == "index" for name in order])


def default(label: int, edited: np.ndarray) -> Cell:
    """Return the cell shown first: what most images of a class are taken for after the edit."""
    return Cell(label, int(edited[label].argmax()))


def concerned(
    counts: Sequence[np.ndarray], always: Sequence[int | None], most: int = MOST
) -> list[int]:
    """Return the classes whose rows and columns the edit changes most, in their order.

    `counts`: (C, C) of the model before, then of the others; `always` are in it in any case. Where
    nothing changes, the classes with most mistakes count.
    """
    first = counts[0].astype(float)
    moved = sum((np.abs(one - first) for one in counts[1:]), np.zeros_like(first))
    wrong = sum((one - np.diag(np.diag(one)) for one in counts), np.zeros_like(first))
    weight = moved + 1e-6 * wrong
    of_class = weight.sum(axis=0) + weight.sum(axis=1)
    wanted = [c for c in dict.fromkeys(always) if c is not None]
    others = [int(c) for c in np.argsort(-of_class, kind="stable") if c not in wanted]
    return sorted([*wanted, *others][:most])


def most_changed(before: np.ndarray, after: np.ndarray) -> int:
    """Return the class most of whose images are taken for something else after the edit."""
    return int(np.abs(after - before).sum(axis=1).argmax())

"""What a record knows of wrong labels, in one form for the page; pure pandas, no Streamlit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gifcore import mislabel_words
from gifcore.mislabel_words import BASELINES, SELF
from gifcore.record import Record
from gifcore.study import METHOD_LABELS

SHOWN = {
    "all": "All",
    "differ": "Prediction differs",
    "wrong": "Known to be wrong",
    "right": "Known to be right",
}


@dataclass(frozen=True)
class Suspects:
    """The training samples with their labels and scores, and how well each score finds.

    Args:
        table: one row a sample, in their order: train_index, given, and where the record looked
            for wrong labels true, predicted, suggested, contradicted; a column a score.
        info: as in record.json: methods with label, kind, unit, and where it is known AUC and
            curve; n, wrong, rate.
    """

    table: pd.DataFrame
    info: dict[str, Any]

    @property
    def scores(self) -> list[str]:
        return list(self.info["methods"])

    @property
    def wrong(self) -> np.ndarray | None:
        """Return (n,) marks of the labels known to be wrong, None where that is not known."""
        if not self.info.get("wrong"):
            return None
        return np.asarray(self.table["given"] != self.table["true"], dtype=bool)

    @property
    def labelled(self) -> bool:
        """Are labels known at all?"""
        return bool(self.table["given"].notna().all())

    def name(self, score: str) -> str:
        """Return what a score is called: "Self-influence by IF", "Loss"."""
        return mislabel_words.name_of(self.info["methods"][score])

    def first(self) -> str:
        """Return the score that is shown first: the best self-influence known, else the first."""
        return mislabel_words.best(self.info, kind=SELF) or self.scores[0]

    def order(self, score: str) -> np.ndarray:
        """Return positions, most suspicious first."""
        return np.argsort(-self.table[score].to_numpy(), kind="stable")

    def found(self, score: str, k: int) -> tuple[int, int] | None:
        """Return how many wrong labels are among the first k, and how many there are."""
        wrong = self.wrong
        return (
            None if wrong is None else (int(wrong[self.order(score)[:k]].sum()), int(wrong.sum()))
        )


def of(record: Record, suspects: pd.DataFrame, own: dict[str, pd.DataFrame],
       labels: np.ndarray | None) -> Suspects | None:  # fmt: skip
    """Return what a record knows: its search, else its self-influence alone, else None.

    Args:
        suspects: `record.suspects()`.
        own: `record.self_influence(method)` of each method.
        labels: of the training split, as the model was given them; None if the data set is gone.
    """
    if not suspects.empty:
        return Suspects(suspects, record.mislabel)
    ranked = {method: frame for method, frame in own.items() if len(frame)}
    if not ranked:
        return None
    n = len(next(iter(ranked.values())))
    given = pd.array(labels if labels is not None else [None] * n, dtype="Int32")
    table = pd.DataFrame({"train_index": np.arange(n), "given": given})
    for method, frame in ranked.items():
        values = np.empty(n)
        values[frame["train_index"].to_numpy()] = frame["value"].to_numpy()
        table[method] = values
    entries = {m: {"kind": SELF, "label": METHOD_LABELS.get(m, m), "unit": "nats"} for m in ranked}
    return Suspects(table, {"n": n, "rate": None, "wrong": None, "methods": entries})


def shown_choices(suspects: Suspects) -> dict[str, str]:
    """Return the filters that this record knows enough for."""
    chosen = ["all"]
    if "predicted" in suspects.table:
        chosen.append("differ")
    if suspects.wrong is not None:
        chosen += ["wrong", "right"]
    return {name: SHOWN[name] for name in chosen}


def select(suspects: Suspects, score: str, shown: str, classes: Sequence[int]) -> pd.DataFrame:
    """Return the rows of a filter and of these given labels, most suspicious first, with `place`.

    `place` is the place in the whole order, from 1.
    """
    order = suspects.order(score)
    table = suspects.table.iloc[order].assign(place=np.arange(1, len(order) + 1))
    if shown == "differ":
        table = table[table["given"] != table["predicted"]]
    elif shown in ("wrong", "right"):
        table = table[(table["given"] != table["true"]) == (shown == "wrong")]
    return table[table["given"].isin(classes)] if classes else table


def measures(suspects: Suspects, k: int) -> pd.DataFrame:
    """Return how well each score finds, best first; empty where that is not known."""
    rows = []
    for score, entry in suspects.info["methods"].items():
        found = suspects.found(score, k)
        if "auc" not in entry or found is None:
            continue
        area = entry["auc"]
        rows.append(
            {
                "score": suspects.name(score),
                "AUC": area["value"],
                "95 % interval": f"{area['low']:.3f} to {area['high']:.3f}",
                "found in first 10 %": 100 * entry["curve"][10],
                "found in first 20 %": 100 * entry["found_20"],
                f"wrong in first {k:,}": found[0],
            }
        )
    table = pd.DataFrame(rows)
    return table if table.empty else table.sort_values("AUC", ascending=False, ignore_index=True)


def what(score: str) -> str:
    """Return what a score is, in one sentence."""
    if score in BASELINES:
        return BASELINES[score].what
    return (
        "How much its own loss is predicted to rise if the image is removed and the model refitted."
    )

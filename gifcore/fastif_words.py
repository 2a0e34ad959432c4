"""What a record says of FastIF, in lines of words; no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from gifcore.record import Record
from gifcore.study import METHOD_LABELS


def lines(record: Record) -> list[str]:
    """Return a few lines a method: what k candidates keep, and how near each solve comes."""
    measured = record.fastif
    return [
        line
        for method, entry in measured.get("methods", {}).items()
        for line in _of_method(record, method, entry, measured)
    ]


def top_kept(recall: pd.DataFrame, depth: int, predictions: str = "all") -> dict[int, float]:
    """Return, by k, the share of the exact top `depth` by |influence| among the k candidates.

    Args:
        predictions: of "all" queries, or of those that are predicted "correct" or "wrong".
    """
    rows = recall[
        (recall["way"] == "exact")
        & (recall["predictions"] == predictions)
        & (recall["criterion"] == "largest")
        & (recall["m"] == depth)
    ]
    return dict(sorted(zip(rows["k"].tolist(), rows["kept"].tolist(), strict=True)))


def depth_shown(measured: dict[str, Any]) -> int:
    """Return the m of recall@m that is spoken of: 100, or the largest below it that there is."""
    depths = sorted(measured["depths"])
    return max((m for m in depths if m <= 100), default=depths[0])


def _of_method(
    record: Record, method: str, entry: dict[str, Any], measured: dict[str, Any]
) -> Iterator[str]:
    label, n, m = METHOD_LABELS[method], measured["index"]["n"], depth_shown(measured)
    kept = top_kept(record.recall(method), m)
    shares = ", ".join(f"{100 * kept[k]:.0f} % with k = {k:,}" for k in measured["k"] if k in kept)
    yield f"FastIF, {label}: the exact top {m} of {n:,} by |influence| are kept to {shares}."
    for words, predictions in (("right", "correct"), ("wrong", "wrong")):
        of = top_kept(record.recall(method), m, predictions)
        if of:
            shares = ", ".join(f"{100 * of[k]:.0f} % with k = {k:,}" for k in measured["k"])
            yield f"Of test images that are predicted {words}: {shares}."
    speed = record.speed(method)
    means = speed[speed["k"] == n].groupby("way")["spearman"].mean()
    for name, way in entry["ways"].items():
        if way["kind"] != "lissa":
            continue
        near = f"{means[name]:.2f}" if means[name] == means[name] else "none: it ran away"
        yield (
            f"{way['label']}: rank correlation with the exact solve {near}, of the gradient alone "
            f"{means['gradient']:.2f}."
        )
        yield from (f"note: {note}" for note in way["notes"] if "was lost" in note)

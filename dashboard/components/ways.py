"""The ways to a ranking that a study compared, as lines of a figure and rows of a table."""

from __future__ import annotations

from typing import Any

import pandas as pd

from dashboard.charts.style import listed
from dashboard.charts.ways import Line, by_way
from dashboard.components.measures import percent, seconds, significant


def points_of(entry: dict[str, Any]) -> pd.DataFrame:
    """Return way, k and seconds a test image of every point of the chart."""
    return pd.DataFrame(entry["points"])


def lines_of(entry: dict[str, Any], quality: pd.DataFrame, counted: str) -> list[Line]:
    """Return a line for every way that gave a ranking, the exact one first.

    Args:
        quality: mean, min, max by (way, k).
        counted: the column of the points with the seconds.
    """
    lines = []
    for way, rows in points_of(entry).sort_values("k").groupby("way"):
        source = "exact" if way == "loop" else way  # the loop's scores are the exact ones
        values = quality.reindex([(source, k) for k in rows["k"]])
        kind = "loop" if way == "loop" else entry["ways"][way]["kind"]
        name = "Loop over single gradients" if way == "loop" else entry["ways"][way]["label"]
        if values["mean"].notna().any():
            lines.append(
                Line(
                    kind, name, rows["k"].tolist(), rows[counted].tolist(),
                    *(values[column].tolist() for column in ("mean", "min", "max")),
                )
            )  # fmt: skip
    order = ("exact", "study", "lissa", "preview", "gradient", "loop")
    return sorted(lines, key=lambda line: order.index(line.kind))


def seconds_of(value: float) -> str:
    """Return a duration, in milliseconds below a tenth of a second.

    >>> seconds_of(0.0123), seconds_of(3.21)
    ('12.3 ms', '3.2 s')
    """
    return f"{significant(1000 * value)} ms" if value < 0.1 else seconds(value)


def spread(entry: dict[str, Any], speed: pd.DataFrame, depth: int) -> pd.DataFrame:
    """Return mean, least and most of recall and rank correlation, a row per way and k."""
    recall, rho = by_way(speed, "largest"), by_way(speed, "spearman")
    rows = []
    for point in entry["points"]:
        way, k, spent = point["way"], point["k"], point["seconds"]
        if way not in entry["ways"] or (way, k) not in recall.index:
            continue
        one, other = recall.loc[(way, k)], rho.loc[(way, k)]
        rows.append(
            {
                "way": entry["ways"][way]["label"],
                "k": f"{k:,}",
                "seconds": seconds_of(spent),
                f"recall@{depth}": _range(one, percent_of=True),
                "rank correlation": _range(other, percent_of=False),
            }
        )
    return pd.DataFrame(rows)


def _range(values: pd.Series, *, percent_of: bool) -> str:
    if values.isna().any():
        return "n/a"
    if percent_of:
        low, high = (f"{100 * values[name]:.0f}" for name in ("min", "max"))
        return f"{percent(values['mean'], 0)} ({low} to {high})"
    return f"{values['mean']:.2f} ({values['min']:.2f} to {values['max']:.2f})"


def solves(entry: dict[str, Any], speed: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return J, B, T, effective damping and agreement of every LiSSA, then the control's."""
    lissa = {name: way for name, way in entry["ways"].items() if way["kind"] == "lissa"}
    spent = {(p["way"], p["k"]): p["solve_seconds"] for p in entry["points"]}
    whole = speed[speed["k"] == n]
    rho, cosine = by_way(whole, "spearman"), dict(by_way(whole, "cosine")["mean"])
    rows = []
    for name, way in (lissa | {"gradient": entry["ways"]["gradient"]}).items() if lissa else ():
        rows.append(
            _settings(way)
            | {
                "rank correlation": _range(rho.loc[(name, n)], percent_of=False),
                "cosine": f"{cosine[name, n]:.2f}",
                "seconds": seconds_of(spent[name, n]),
                "ended": listed([f"{count} {words}" for words, count in way["statuses"].items()]),
            }
        )
    return pd.DataFrame(rows)


def _settings(way: dict[str, Any]) -> dict[str, str]:
    names = ("J", "B", "T", "damp × scale", "= damping")
    if way["kind"] != "lissa":
        return dict.fromkeys(names, "") | {"J": "gradient alone"}
    side = f" in {way['processes']} processes" if way["processes"] > 1 else ""
    values = (
        f"{way['iterations']:,}",
        f"{way['batch_size']:,}",
        f"{way['chains']:,}{side}",
        f"{way['damp']:g} × {way['scale']:,g}",
        f"{way['effective_damping']:.3g}",
    )
    return dict(zip(names, values, strict=True))

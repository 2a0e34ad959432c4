"""Can two views be compared: are they about the same images, and did both rank the test image?"""

from __future__ import annotations

from typing import Any

from dashboard import cache, pairing
from dashboard.charts.style import label
from dashboard.components import gallery, measures
from dashboard.components.messages import plain
from dashboard.components.sidebar import query_label, query_noun
from dashboard.views.compare_pick import Pair, ranked_by


def fits(pair: Pair) -> bool:
    """Is training sample 3 the same image with the same label in both studies?"""
    planted = [gallery.planted(side.context) for side in pair.sides]
    return pairing.same_data(*pair.infos) and planted[0] == planted[1]


def apart(pair: Pair) -> str:
    """Return why there are no two rankings of the test image to compare; "" if there are."""
    first, second = pair.sides
    only = "only edits and costs can be compared"
    if not pairing.same_data(*pair.infos):
        names = [plain(side.info["data"]["name"]) for side in pair.sides]
        which = (
            f"{names[0]} and {names[1]}" if names[0] != names[1] else f"two sets named {names[0]}"
        )
        return (
            f"The two studies are about **different data** ({which}): training image 12 of one is "
            f"not that of the other, so {only}, not rankings."
        )
    if not fits(pair):
        return (
            "The two studies start from one data set, but one of them **planted something else in "
            f"the training images or labels**: they no longer are the same, so {only}, not "
            "rankings."
        )
    if first.context.query is None or first.query is None:
        return f"This study ranked no test image: {only}."
    ranked = [ranks(pair, number) for number in (0, 1)]
    if all(ranked):
        return ""
    noun = query_noun(first.query).lower()
    what = f"{noun} {plain(query_label(first.query, first.info['data']['classes']))}"
    if pair.one_record:
        by = ranked_by(first.context)
        who = f"only {label(by[0])}" if len(by) == 1 else "no method" if not by else "not both"
        if who == "not both":
            silent = [side.name for side, can in zip(pair.sides, ranked, strict=True) if not can]
            return f"{' and '.join(silent)} did not rank {what}: for it {only}."
        return f"Of this study {who} ranked {what}: for it {only}."
    who = f"**Only {pair.names[ranked.index(True)]} ranked" if any(ranked) else "**Neither ranked"
    return f"{who} {what}**: for it {only}."


def ranks(pair: Pair, number: int) -> bool:
    """Did this side rank the sidebar's test image?"""
    side, asked = pair.sides[number], pair.first.query
    query = side.query
    return bool(
        asked and query and pairing.same_query(asked, query)
        and side.method in query["certificates"]
    )  # fmt: skip


def common(pair: Pair) -> list[dict[str, Any]]:
    """Return the queries that both ranked."""
    first, second = (cache.queries(side.context.shown) for side in pair.sides)
    return pairing.common(first, second, pair.methods)


def remedy(pair: Pair, others: list[dict[str, Any]]) -> str:
    """Return what to do where both ranked too few test images, `others`, to compare."""
    if not fits(pair):
        return "To compare rankings, hold the view against a study of the same data above."
    both = "a second test image" if others else "a test image"
    return (
        f"To compare more, rank {both} with both, under *Samples*; or choose another method or "
        "study above."
    )


def notes(pair: Pair) -> list[str]:
    """Return what must be known before any number is read: one computation, other models."""
    first, second = pair.infos
    lines = []
    if pair.identical and not pair.one_record:
        lines.append(
            f"{label(pair.first.method)} does not depend on what differs between the two views: "
            "both show the same computation. Choose another method to see a difference."
        )
    if first["model"]["hash"] != second["model"]["hash"]:
        lines.append(
            "The two studies explain different models: a difference is between models as much as "
            "between methods."
        )
    return lines


def targets(pair: Pair) -> str:
    """Return that the scores of both are about different things; "" if they are not."""
    first, second = (measures.explained(info) for info in pair.infos)
    if first == second:
        return ""
    return (
        f"The scores are about different things: A about the {first.noun} ({first.unit}), B about "
        f"the {second.noun} ({second.unit}). Ranks can be compared, sizes cannot."
    )

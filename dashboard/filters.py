"""What the grid of training images shows: filters, order, size and page as one short text.

`parse` reads the text that stands in the address (`all~label.8~said.6~wrong~strongest.5`), `text`
writes it, `apply` returns the samples that match. Pure NumPy, no Streamlit: words of the text that
mean nothing are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

import numpy as np

Sign = Literal["", "helpful", "harmful"]
Apart = Literal["", "signs", "places", "either"]
Sort = Literal["strongest", "helpful", "harmful", "number", "loss", "apart"]
Size = Literal["small", "medium", "large"]

PER_PAGE: dict[Size, int] = {"small": 48, "medium": 24, "large": 12}
STRONGEST = (1, 5, 10, 25)  # percent
FAR = 0.25  # of all samples: two places further apart than this are far apart
MOST_DIGITS = 9  # of a number in the text


@dataclass(frozen=True)
class Filter:
    """What is asked of the grid; as made, every training image is shown."""

    browse: bool = False  # the grid of all images, not the most helpful and harmful alone
    labels: tuple[int, ...] = ()  # classes; none: every one
    predicted: tuple[int, ...] = ()  # the same of what the model says
    right: bool | None = None  # is the model's answer the label?
    after: bool = False  # answers and loss after the edit by the method `by`, not before
    by: str = ""  # the method whose score counts
    sign: Sign = ""
    strongest: int = 0  # percent of all samples, those of largest |score|; 0: all
    apart: Apart = ""  # how the two methods of `pair` disagree
    pair: tuple[str, ...] = ()  # two methods
    sort: Sort = "strongest"
    size: Size = "medium"
    page: int = 1

    @property
    def narrows(self) -> bool:
        """Does it leave any image out?"""
        return replace(self, page=1) != self.cleared()

    def cleared(self) -> Filter:
        """Return the same order and size without a filter, from the first page on."""
        kept = {
            name: getattr(self, name) for name in ("browse", "after", "by", "pair", "sort", "size")
        }
        return Filter(**kept)


@dataclass(frozen=True)
class Known:
    """What is known of the n training samples, each in their order; None where it is not."""

    n: int
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)  # by method, (n,)
    labels: np.ndarray | None = None
    predicted: np.ndarray | None = None
    loss: np.ndarray | None = None
    classes: int = 0
    edited: bool = False  # are the answers after the edit by the method asked for known?

    @property
    def right(self) -> np.ndarray | None:
        """Return (n,) where the model's answer is the label."""
        if self.labels is None or self.predicted is None:
            return None
        return np.asarray(self.labels == self.predicted)

    def default_by(self) -> str:
        """Return the method that counts if none is asked for: GIF, else the first."""
        return "gif" if "gif" in self.scores else next(iter(self.scores), "")

    def default_pair(self) -> tuple[str, ...]:
        """Return the two methods that are compared if none are asked for; () with fewer."""
        return tuple(self.scores)[:2] if len(self.scores) > 1 else ()


# --- text -----------------------------------------------------------------------------------------


def parse(text: str | None) -> Filter:
    """Return what a text asks for; words that mean nothing are ignored.

    >>> found = parse("all~label.8~purple~wrong")
    >>> found.browse, found.labels, found.right
    (True, (8,), False)
    """
    asked: dict[str, Any] = {}
    for word in (text or "").split("~"):
        name, *rest = word.split(".")
        asked |= _word(name, rest)
    asked["browse"] = asked.get("browse", bool(asked.keys() - {"size"}))
    return Filter(**asked)


def _word(name: str, rest: list[str]) -> dict[str, Any]:
    """Return the fields that one word sets; none if it means nothing."""
    numbers = [int(part) for part in rest if part.isdecimal() and len(part) <= MOST_DIGITS]
    match name:
        case "all" | "top":
            return {"browse": name == "all"}
        case "label" | "said" if numbers:
            key = "labels" if name == "label" else "predicted"
            return {key: tuple(sorted(set(numbers)))}
        case "right" | "wrong":
            return {"right": name == "right"}
        case "after":
            return {"after": True}
        case "by" if rest and rest[0]:
            return {"by": rest[0]}
        case "helpful" | "harmful":
            return {"sign": name}
        case "strongest" if numbers and 0 < numbers[0] < 100:
            return {"strongest": numbers[0]}
        case "apart" if rest and rest[0] in get_args(Apart) and rest[0]:
            return {"apart": rest[0]}
        case "pair" if len(rest) == 2 and rest[0] != rest[1]:
            return {"pair": tuple(rest)}
        case "sort" if rest and rest[0] in get_args(Sort):
            return {"sort": rest[0]}
        case "small" | "medium" | "large":
            return {"size": name}
        case "page" if numbers and numbers[0] > 0:
            return {"page": numbers[0]}
    return {}


def text(asked: Filter) -> str | None:
    """Return the text that `parse` reads as this; None for what is shown without any.

    >>> text(Filter(browse=True, labels=(8,), predicted=(6,), right=False))
    'all~label.8~said.6~wrong'
    """
    words = ["all"] if asked.browse else []
    if asked.labels:
        words.append(".".join(["label", *map(str, asked.labels)]))
    if asked.predicted:
        words.append(".".join(["said", *map(str, asked.predicted)]))
    if asked.right is not None:
        words.append("right" if asked.right else "wrong")
    words += ["after"] if asked.after else []
    words += [f"by.{asked.by}"] if asked.by else []
    words += [asked.sign] if asked.sign else []
    words += [f"strongest.{asked.strongest}"] if asked.strongest else []
    words += [f"apart.{asked.apart}"] if asked.apart else []
    words += [".".join(["pair", *asked.pair])] if asked.pair else []
    words += [f"sort.{asked.sort}"] if asked.sort != Filter.sort else []
    words += [asked.size] if asked.size != Filter.size else []
    words += [f"page.{asked.page}"] if asked.page > 1 else []
    if words and not asked.browse:
        words = ["top", *words]
    return "~".join(words) or None


# --- which samples --------------------------------------------------------------------------------


def fitted(asked: Filter, known: Known) -> Filter:
    """Return what of it can be asked here: methods, classes and facts that are known."""
    can = replace(
        asked,
        labels=tuple(c for c in asked.labels if known.labels is not None and c < known.classes),
        predicted=tuple(
            c for c in asked.predicted if known.predicted is not None and c < known.classes
        ),
        right=asked.right if known.right is not None else None,
        after=asked.after and known.edited,
        by=asked.by if asked.by in known.scores else known.default_by(),
        pair=asked.pair if set(asked.pair) <= set(known.scores) and asked.pair else (),
    )
    can = replace(can, pair=can.pair or known.default_pair())
    if not known.scores:
        can = replace(can, sign="", strongest=0)
    if not can.pair:
        can = replace(can, apart="")
    return can if can.sort in sorts(known) else replace(can, sort=sorts(known)[0])


def shortened(can: Filter, known: Known) -> Filter:
    """Return it without what is chosen anyway, so that its text is short."""
    return replace(
        can,
        by="" if can.by == known.default_by() else can.by,
        pair=() if can.pair == known.default_pair() else can.pair,
        sort=Filter.sort if can.sort == sorts(known)[0] else can.sort,
    )


def left_out(asked: Filter, can: Filter) -> list[str]:
    """Return the fields that were asked for and cannot be here, for the visitor to know."""
    plain = Filter()
    return [
        name
        for name in (one.name for one in fields(Filter))
        if getattr(asked, name) not in (getattr(plain, name), getattr(can, name))
    ]


def answered(label: int, predicted: int, by: str = "") -> str | None:
    """Return the text that asks for the images of a label that a model takes for a class.

    Args:
        by: the method that edited the model; "" for the model before.

    >>> answered(8, 6), answered(8, 6, "gif")
    ('all~label.8~said.6', 'all~label.8~said.6~after~by.gif')
    """
    asked = Filter(browse=True, labels=(label,), predicted=(predicted,))
    return text(replace(asked, by=by, after=bool(by)))


def sorts(known: Known) -> list[Sort]:
    """Return the orders that can be asked for; the first is the one without being asked."""
    can: list[Sort] = ["strongest", "helpful", "harmful"] if known.scores else []
    can += ["apart"] if len(known.scores) > 1 else []
    can += ["number"]
    return can + (["loss"] if known.loss is not None else [])


def apply(can: Filter, known: Known) -> np.ndarray:
    """Return the positions of the samples that match, in the order asked for; ties by position.

    Args:
        can: what `fitted` returned.
    """
    match = np.ones(known.n, dtype=bool)
    if can.labels:
        assert known.labels is not None
        match &= np.isin(known.labels, can.labels)
    if can.predicted:
        assert known.predicted is not None
        match &= np.isin(known.predicted, can.predicted)
    if can.right is not None:
        assert known.right is not None
        match &= known.right == can.right
    if can.sign:
        score = known.scores[can.by]
        match &= score > 0 if can.sign == "helpful" else score < 0
    if can.strongest:
        match &= among_strongest(known.scores[can.by], can.strongest)
    if can.apart:
        match &= disagree(known, can.pair, can.apart)
    order = _order(can, known)
    return order[match[order]]


def among_strongest(score: np.ndarray, percent: int) -> np.ndarray:
    """Return (n,) marks of the `percent` of all samples with the largest |score|, rounded up."""
    marked = np.zeros(len(score), dtype=bool)
    count = -(-len(score) * percent // 100)
    marked[np.argsort(-np.abs(score), kind="stable")[:count]] = True
    return marked


def disagree(known: Known, pair: Sequence[str], how: Apart) -> np.ndarray:
    """Return (n,) marks of the samples on which two methods disagree.

    signs: one score is positive, the other negative. places: the places in the two rankings (from
    most helpful to most harmful) are more than a quarter of all samples apart.
    """
    first, second = (known.scores[method] for method in pair)
    signs = np.sign(first) * np.sign(second) < 0
    if how == "signs":
        return np.asarray(signs)
    far = distance(first, second) > FAR * known.n
    return np.asarray(far if how == "places" else far | signs)


def distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return (n,) how many places apart each sample stands in two rankings."""
    return np.asarray(np.abs(places(first) - places(second)))


def places(score: np.ndarray) -> np.ndarray:
    """Return (n,) places from 0, the most helpful; ties by position."""
    found = np.empty(len(score), dtype=np.int64)
    found[np.argsort(-score, kind="stable")] = np.arange(len(score))
    return found


def _order(can: Filter, known: Known) -> np.ndarray:
    if can.sort == "number":
        return np.arange(known.n)
    if can.sort == "loss":
        assert known.loss is not None
        return np.argsort(-known.loss, kind="stable")
    if can.sort == "apart":
        first, second = (known.scores[method] for method in can.pair)
        return np.argsort(-distance(first, second), kind="stable")
    score = known.scores[can.by]
    key = {"helpful": -score, "harmful": score}.get(can.sort, -np.abs(score))
    return np.argsort(key, kind="stable")


# --- pages ----------------------------------------------------------------------------------------


def pages(matches: int, size: Size) -> int:
    """Return how many pages there are; one even if nothing matches."""
    return max(1, -(-matches // PER_PAGE[size]))


def part(positions: np.ndarray, can: Filter) -> np.ndarray:
    """Return the samples of one page; of a page that is not there the last."""
    number = min(can.page, pages(len(positions), can.size))
    return positions[(number - 1) * PER_PAGE[can.size] : number * PER_PAGE[can.size]]

"""Figure 5: what models predict for images of the removed class: before, edited, retrained."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, ClassVar

from pydantic import Field

from gifcore.experiments import by_ours, by_paper
from gifcore.experiments.kind import Column, Kind, Place, Run
from gifcore.experiments.points import points_of, seconds_of
from gifcore.experiments.removal import (
    COLUMNS,
    REFERENCES,
    SHARES,
    Bench,
    Removal,
    about,
    references,
)
from gifcore.study import METHOD_LABELS, USES_SELECTION, Method, Selector


class Histogram(Removal):
    """The keys of the class histograms."""

    free: ClassVar[frozenset[str]] = Removal.free | {"methods", "ratios"}

    methods: tuple[Method, ...] = ("gif",)
    ratios: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.05,)
    selector: Selector = "highest-k-gradients"
    checkpoints: int = Field(2, ge=1)  # of the training, for tracin

    def choices(self) -> list[tuple[str, float]]:
        """Return method and ratio of every row; what moves all parameters has one row."""
        found = [
            (method, ratio if USES_SELECTION[method] else 1.0)
            for method in self.methods
            for ratio in self.ratios
        ]
        return list(dict.fromkeys(found))


def runs(spec: Histogram, place: Place) -> Iterator[Run]:
    """Yield the runs, seed by seed: a seed's models, its gradient and curvature serve all rows."""
    yield from method_runs(spec, Bench(spec, place), "model")


def method_runs(spec: Histogram, bench: Bench, heading: str) -> Iterator[Run]:
    """Yield a run a method, ratio and seed, and those of the models before and retrained."""
    if "ours" in spec.protocols:
        for seed in range(spec.seeds):
            yield from references(bench, "ours", seed, label(heading, "", 1.0))
            shared = by_ours.shared(bench)
            for method, ratio in spec.choices():
                points = partial(points_of, bench, seed, spec.checkpoints, method)
                seconds = by_ours.expected(bench, method) + shared
                seconds += seconds_of(bench, seed, spec.checkpoints, method)
                compute = partial(by_ours.edited, bench, seed, method, spec.selector, ratio, points)
                yield Run("ours", seed, label(heading, method, ratio), seconds, compute)
                shared = 0.0
    if "paper" in spec.protocols:
        fresh, words = "ours" not in spec.protocols, label(heading, "", 1.0)
        yield from references(bench, "paper", by_paper.SEED, words, trained=fresh)
        for seed in range(spec.seeds):
            for method, ratio in spec.choices():
                points = partial(points_of, bench, by_paper.SEED, spec.checkpoints, method)
                seconds = by_paper.expected(bench, method)
                compute = partial(
                    by_paper.edited, bench, seed, "table-2", method, spec.selector, ratio, points
                )
                yield Run("paper", seed, label(heading, method, ratio), seconds, compute)


def label(heading: str, method: str, ratio: float) -> dict[str, str]:
    """Return the words of a row."""
    return {heading: METHOD_LABELS.get(method, method), "ratio": f"{100 * ratio:g} %"}


KIND = Kind(
    Histogram,
    (
        *(column for column in COLUMNS if column.key not in ("products", "seconds")),
        *(Column(f"class_{c}", f"as {c}", ".3f") for c in range(SHARES)),
    ),
    "total_variation",
    runs,
    {"ours": by_ours.NOTE, "paper": by_paper.note("test")},
    smaller=True,
    references=REFERENCES,
    about=about,
)

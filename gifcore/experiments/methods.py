"""Table 2: every method that removes a class, over ratios, beside the retrained models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from gifcore.experiments import by_ours, by_paper
from gifcore.experiments.histogram import Histogram, label, method_runs
from gifcore.experiments.kind import Kind, Place, Published, Run
from gifcore.experiments.removal import COLUMNS, REFERENCES, Bench, about
from gifcore.study import Method


class Methods(Histogram):
    """The keys of the method comparison."""

    methods: tuple[Method, ...] = (
        "gradient",
        "if",
        "freeze",
        "projected",
        "second-order",
        "tracin",
        "datainf",
        "hyperinf",
        "ekfac",
        "gif",
    )
    ratios: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.1, 0.3, 0.5)


def runs(spec: Methods, place: Place) -> Iterator[Run]:
    """Yield the runs, seed by seed: a seed's models, its gradient and curvature serve all rows."""
    yield from method_runs(spec, Bench(spec, place), "method")


PUBLISHED: dict[tuple[str, str], Published] = {
    (" ".join(label("method", method, ratio).values()), "f1"): Published(f1)
    for method, column in {
        "gif": (0.9320, 0.9271, 0.9205),
        "freeze": (0.9258, 0.9247, 0.9198),
        "projected": (0.9196, 0.9219, 0.9209),
    }.items()
    for ratio, f1 in zip((0.1, 0.3, 0.5), column, strict=True)
}

KIND = Kind(
    Methods,
    COLUMNS,
    "f1",
    runs,
    {"ours": by_ours.NOTE, "paper": by_paper.note("test")},
    references=REFERENCES,
    about=about,
    published=PUBLISHED,
    published_in="table 2 (CIFAR-10, VGG-11, class 0)",
)

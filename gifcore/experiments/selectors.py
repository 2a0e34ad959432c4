"""Table 1: GIF on the parameters that each selector takes, over ratios, and on all of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, ClassVar

from pydantic import Field

from gifcore.experiments import by_ours, by_paper
from gifcore.experiments.kind import Kind, Place, Published, Run
from gifcore.experiments.removal import COLUMNS, REFERENCES, Bench, Removal, about, references
from gifcore.study import Selector

METHOD = "gif"


class Selectors(Removal):
    """The keys of the selector comparison; all parameters are one row more, called 100 %."""

    free: ClassVar[frozenset[str]] = Removal.free | {"selectors", "ratios"}

    selectors: tuple[Selector, ...] = (
        "highest-k-outputs",
        "highest-k-gradients",
        "random",
        "lowest-k-outputs",
        "lowest-k-gradients",
    )
    ratios: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (
        0.02,
        0.05,
        0.08,
        0.11,
        0.14,
        0.17,
        0.20,
    )

    def choices(self) -> list[tuple[str, float]]:
        """Return selector and ratio of every row."""
        chosen = [(s, r) for r in self.ratios for s in self.selectors if r < 1 and s != "all"]
        return [*chosen, ("all", 1.0)]


def runs(spec: Selectors, place: Place) -> Iterator[Run]:
    """Yield the runs, seed by seed: a seed's models, its gradient and curvature serve all rows."""
    bench = Bench(spec, place)
    if "ours" in spec.protocols:
        for seed in range(spec.seeds):
            yield from references(bench, "ours", seed, label("", 1.0))
            seconds = by_ours.shared(bench)
            for selector, ratio in spec.choices():
                seconds += by_ours.expected(bench, METHOD)
                compute = partial(by_ours.edited, bench, seed, METHOD, selector, ratio, tuple)
                yield Run("ours", seed, label(selector, ratio), seconds, compute)
                seconds = 0.0
    if "paper" in spec.protocols:
        fresh = "ours" not in spec.protocols
        yield from references(bench, "paper", by_paper.SEED, label("", 1.0), trained=fresh)
        for seed in range(spec.seeds):
            for selector, ratio in spec.choices():
                edit = partial(by_paper.edited, bench, seed, "table-1", METHOD, selector)
                compute = partial(edit, ratio, tuple)
                seconds = by_paper.expected(bench, METHOD)
                yield Run("paper", seed, label(selector, ratio), seconds, compute)


def label(selector: str, ratio: float) -> dict[str, str]:
    """Return the words of a row."""
    return {"selector": selector, "ratio": f"{100 * ratio:g} %"}


PUBLISHED: dict[tuple[str, str], Published] = {
    (" ".join(label(selector, ratio).values()), "f1"): Published(f1)
    for selector, column in {
        "highest-k-outputs": (0.9443, 0.9520, 0.9481, 0.9443, 0.9421, 0.9370, 0.9304),
        "highest-k-gradients": (0.9181, 0.9510, 0.9501, 0.9486, 0.9475, 0.9456, 0.9435),
        "random": (0.9111, 0.9172, 0.9156, 0.9186, 0.9167, 0.9214, 0.9222),
        "lowest-k-outputs": (None, 0.5719, 0.7189, 0.8002, 0.8092, 0.8613, 0.8931),
        "lowest-k-gradients": (0.6004, 0.6450, 0.6689, 0.6809, 0.6851, 0.7056, 0.6994),
    }.items()
    for ratio, f1 in zip((0.02, 0.05, 0.08, 0.11, 0.14, 0.17, 0.20), column, strict=True)
    if f1 is not None  # 9 of its 30 runs are copies of the run before
} | {("all 100 %", "f1"): Published(0.8801)}

KIND = Kind(
    Selectors,
    COLUMNS,
    "f1",
    runs,
    {"ours": by_ours.NOTE, "paper": by_paper.note("training")},
    references=REFERENCES,
    about=about,
    published=PUBLISHED,
    published_in="table 1 (CIFAR-10, VGG-11, class 0)",
)

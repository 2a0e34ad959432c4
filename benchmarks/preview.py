"""How good the instant preview is, what it takes to make and to read (the demo's settings).

    python -m benchmarks.preview --browser [IMAGES]

times it in a real browser: from the key Enter to the painted page.
"""

from __future__ import annotations

import statistics
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table
from torch.utils.data import TensorDataset

from gifcore import data as datasets
from gifcore.assets_path import asset
from gifcore.change import RemoveClass
from gifcore.curved import Curved, curvature, preconditioned
from gifcore.models import build, bundled, load_weights
from gifcore.preview import Sketch
from gifcore.problem import Problem
from gifcore.queries import Queries
from gifcore.record import Record
from gifcore.scoring import rank
from gifcore.selection import Selection, select
from gifcore.sketch import Known, build_sketch
from gifcore.solvers import LSMR
from gifcore.stages import tensors

SOURCE, MODEL = "fashion-mnist-mini", "tinynet"
METHODS = ("if", "gif")
RANKS = (384,)
QUERIES = 16  # on which a recall is measured
TIMED = 2  # queries that are ranked exactly here, for the time it takes
ITERATIONS = 16
LARGE = 60_000  # training samples of the full data set, for the time of reading
READS = 5
DEMO = "highest-k-gradients-05"


@dataclass(frozen=True, eq=False)
class Setting:
    """The demo's problem with what all rankings of a run share, and its exact rankings."""

    problem: Problem
    test: TensorDataset
    data: str
    selected: Selection
    curved: Curved
    exact: Known  # of the demo's record, which asks the very same
    seconds: float  # of one exact ranking by each of the methods


def setting(methods: Sequence[str]) -> Setting:
    """Return the demo's problem, with what an exact ranking by these methods takes."""
    data = datasets.load(SOURCE)
    net = build(MODEL, data.shape, data.n_classes)
    weights = bundled(MODEL, SOURCE)
    if weights is None:
        raise SystemExit(f"No bundled {MODEL} for {SOURCE}: run assets/models/make_models.py.")
    load_weights(net, weights)
    problem, test = Problem(net, tensors(data, "train"), weight_decay=5e-3), tensors(data, "test")
    selected = select(problem, RemoveClass(8), selector="highest-k-gradients", ratio=0.05)
    solver = LSMR(ITERATIONS)
    curved = curvature(problem, samples=256, batch_size=256)
    curved = preconditioned(curved, selected, solver)
    started = time.perf_counter()
    for method in methods:
        rank(
            problem, Queries(test, [[q] for q in range(TIMED)]), method=method, selected=selected,
            curvature=curved, solver=solver,
        )  # fmt: skip
    seconds = (time.perf_counter() - started) / TIMED
    return Setting(problem, test, data.hash, selected, curved, shipped(methods), seconds)


def shipped(methods: Sequence[str]) -> Known:
    """Return the exact rankings that the demo's record holds by these methods."""
    record = Record.open(asset("demo") / DEMO)
    return {
        method: {
            q: record.scores(method, q).sort_values("train_index")["influence"].to_numpy()
            for q in record.ranked(method)
        }
        for method in methods
        if method in record.methods
    }


def compare(table: Table, methods: Sequence[str] = METHODS, ranks: Sequence[int] = RANKS) -> None:
    """Add one row a rank and method: recall@100, the control's; and rows of size and time."""
    given = setting(methods)
    for r in ranks:
        sketch = build_sketch(
            given.problem, given.test, methods=methods, curved=given.curved, model=MODEL,
            data=given.data, selected=given.selected, solver=LSMR(ITERATIONS), rank=r,
            held_out=QUERIES, known=given.exact,
        )  # fmt: skip
        for method in methods:
            found = sketch.recall(method)
            values = [
                f"{found[name]['mean']:.2f} (least {found[name]['min']:.2f}; gradients alone "
                f"{found[name]['control']:.2f})"
                for name in ("largest", "helpful", "harmful")
            ]
            table.add_row(
                f"Preview of rank {r}, {method}: recall@{found['depth']}, largest / helpful / "
                f"harmful, {found['queries']} held-out queries",
                values[0],
                " / ".join(values[1:]),
            )
        seconds = sketch.info["seconds"]
        parts = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
        table.add_row(
            f"Preview of rank {r}: making it for {len(methods)} methods and {len(given.test):,} "
            f"test samples / exact rankings of one by them",
            f"{sum(seconds.values()) / given.seconds:.1f}",
            f"{parts} / {given.seconds:.1f} s",
        )
        table.add_row(
            f"Preview of rank {r}: reading one ranking of {LARGE:,} training samples",
            f"{reading(sketch):.3f} s",
            f"{sketch.bytes_per_sample} bytes a training sample, as many a test sample and method; "
            f"{sketch.nbytes / 1e6:.0f} MB for {len(sketch.train):,} and {len(given.test):,}",
        )
    table.add_row(*of_the_demo())


def of_the_demo() -> tuple[str, str, str]:
    """Return what the page Samples waits for: the demo's sketch, then a ranking a method."""
    record = Record.open(asset("demo") / DEMO)
    started = time.perf_counter()
    sketch = record.sketch()
    opened = time.perf_counter() - started
    assert sketch is not None
    started = time.perf_counter()
    for query in range(READS):
        for method in sketch.methods:
            sketch.scores(query, method)
    shown = (time.perf_counter() - started) / READS
    return (
        f"Scores of a test image of the demo, {' and '.join(sketch.methods)}: first / others",
        f"{opened + shown:.3f} / {shown:.3f} s",
        f"rank {sketch.info['rank']}, {len(sketch.train):,} training samples",
    )


def reading(sketch: Sketch) -> float:
    """Return the median time of one ranking in a sketch of LARGE training samples."""
    rows = {
        name: np.resize(getattr(sketch, name), (LARGE, *getattr(sketch, name).shape[1:]))
        for name in ("train", "lengths", "factors", "positions")
    }
    large = Sketch(
        **rows, mean=sketch.mean, solves=sketch.solves, solve_lengths=sketch.solve_lengths,
        info=sketch.info,
    )  # fmt: skip
    times = []
    for query in range(READS):
        started = time.perf_counter()
        found = large.scores(query, sketch.methods[0])
        np.argpartition(-np.abs(found), 100)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def asked() -> tuple[list[str], list[int], int]:
    """Return the methods and ranks of the command line; images to time in a browser, 0: none."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--browser", nargs="?", type=int, const=20, default=0, metavar="IMAGES")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--ranks", nargs="+", type=int, default=list(RANKS))
    given = parser.parse_args()
    return given.methods, given.ranks, given.browser


def main() -> None:
    """Print the table of the engine, or with --browser how long a page takes to show a preview."""
    methods, ranks, images = asked()
    if images:
        from benchmarks.preview_browser import of_the_browser

        results = of_the_browser(images)
        results.add_row(*of_the_demo()[:2])
    else:
        results = Table("what", "value", "beside it", title=f"Preview of {MODEL}, {SOURCE}")
        compare(results, methods, ranks)
    Console(width=160).print(results)


if __name__ == "__main__":
    main()

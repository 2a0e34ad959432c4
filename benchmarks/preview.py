"""How good the instant preview is, what it takes to make and to read (the demo's settings)."""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from gifcore import data as datasets
from gifcore.change import RemoveClass
from gifcore.curved import curvature
from gifcore.models import build, bundled, load_weights
from gifcore.preview import Sketch
from gifcore.problem import Problem
from gifcore.scoring import Queries, rank
from gifcore.selection import select
from gifcore.sketch import build_sketch
from gifcore.solvers import LSMR
from gifcore.stages import tensors

SOURCE, MODEL = "fashion-mnist-mini", "tinynet"
METHODS = ("gradient", "if", "projected", "freeze", "gif")
RANKS = (128, 384)
QUERIES = 16
LARGE = 60_000  # training samples of the full data set, for the time of reading
READS = 5


def compare(table: Table, ranks: tuple[int, ...] = RANKS) -> None:
    """Add one row a rank and method: recall@100, the control's; and rows of size and time."""
    data = datasets.load(SOURCE)
    net = build(MODEL, data.shape, data.n_classes)
    weights = bundled(MODEL, SOURCE)
    if weights is None:
        raise SystemExit(f"No bundled {MODEL} for {SOURCE}: run assets/models/make_models.py.")
    load_weights(net, weights)
    problem, test = Problem(net, tensors(data, "train"), weight_decay=5e-3), tensors(data, "test")
    selected = select(problem, RemoveClass(8), selector="highest-k-gradients", ratio=0.05)
    curved = curvature(problem, samples=256, batch_size=256)
    started = time.perf_counter()
    rank(
        problem, Queries(test, [[q] for q in range(QUERIES)]), method="gif", selected=selected,
        curvature=curved, solver=LSMR(16),
    )  # fmt: skip
    one = time.perf_counter() - started
    for r in ranks:
        sketch = build_sketch(
            problem, test, methods=METHODS, curved=curved, model=MODEL, data=data.hash,
            selected=selected, solver=LSMR(16), rank=r, held_out=QUERIES,
        )  # fmt: skip
        for method in METHODS:
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
            f"Preview of rank {r}: making it for {len(METHODS)} methods / one GIF ranking of "
            f"{QUERIES} queries",
            f"{sum(seconds.values()) / one:.1f}",
            f"{parts} / {one:.0f} s",
        )
        table.add_row(
            f"Preview of rank {r}: reading one ranking of {LARGE:,} training samples",
            f"{reading(sketch):.3f} s",
            f"{sketch.train.nbytes / len(sketch.train):.0f} bytes a training sample, as many a test "
            f"sample and method; {sketch.nbytes / 1e6:.0f} MB for {len(sketch.train):,} and "
            f"{len(test)} of them",
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


if __name__ == "__main__":
    results = Table("what", "value", "beside it", title=f"Preview of {MODEL}, {SOURCE}")
    compare(results, tuple(int(r) for r in sys.argv[1:]) or RANKS)
    Console(width=160).print(results)

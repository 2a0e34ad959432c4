"""What benches share: ratios of interleaved rounds, a forward pass, the table of results."""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.table import Table

from gifcore.problem import Problem, engine_mode
from gifcore.version import ENGINE_VERSION

ROUNDS = 5
RESULTS = Path(__file__).with_name("results.csv")


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def ratio(
    numerator: Callable[[], object], denominator: Callable[[], object], rounds: int = ROUNDS
) -> tuple[float, ...]:
    """Return the median ratio of interleaved rounds and both median times."""
    numerator(), denominator()  # warm up, and keep graphs
    pairs = [(seconds(numerator), seconds(denominator)) for _ in range(rounds)]
    ratios = [a / b for a, b in pairs]
    tops, bottoms = zip(*pairs, strict=True)
    return statistics.median(ratios), statistics.median(tops), statistics.median(bottoms)


def forward(problem: Problem, batch_size: int) -> None:
    parameters = problem.space.unflatten(problem.theta)
    with engine_mode(problem.model), torch.no_grad():
        for batch in problem.batches(problem.positions, batch_size):
            problem.outputs(parameters, batch)


def best_batch(action: Callable[[int], object], sizes: tuple[int, ...]) -> int:
    """Return the batch size that is fastest, each tried twice."""
    return min(sizes, key=lambda size: min(seconds(lambda: action(size)) for _ in range(2)))


def keep(table: Table) -> None:
    """Append what was measured to the table of past results."""
    columns = [list(column.cells) for column in table.columns]
    stamp = (
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        ENGINE_VERSION,
        torch.__version__,
        torch.get_num_threads(),
    )
    new = not RESULTS.exists()
    with RESULTS.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(["utc", "engine", "torch", "threads", "what", "ratio", "of"])
        for cells in zip(*columns, strict=True):
            writer.writerow([*stamp, *(str(cell).strip() for cell in cells)])

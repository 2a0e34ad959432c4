"""Solves of many queries in blocks, as a ratio of the same solves one by one, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from gifcore import data as datasets
from gifcore.curved import Curved, curvature
from gifcore.models import build
from gifcore.problem import Problem
from gifcore.queries import Queries
from gifcore.scoring import adjoints
from gifcore.solvers import LSMR
from gifcore.stages import tensors

SOURCE = "fashion-mnist-mini"
ROWS = (("fcn", 512), ("fcn", 0), ("tinynet", 512), ("tinynet", 0))  # model, memory for graphs
QUERIES, SAMPLES, ITERATIONS, ROUNDS = 4, 256, 3, 3


def main() -> None:
    """Print, for each model with and without room for its graphs, block / one by one."""
    table = Table("model", "graphs kept", "vectorised", "block / one by one", "largest difference")
    data = datasets.load(SOURCE)
    for name, memory_mb in ROWS:
        torch.manual_seed(0)
        problem = Problem(build(name, data.shape, data.n_classes), tensors(data, "train"))
        curved = curvature(problem, samples=SAMPLES, memory_mb=memory_mb)
        groups = [[i] for i in range(QUERIES)]
        queries = Queries(tensors(data, "test"), groups)
        alone = [Queries(queries.data, [group]) for group in groups]
        block, single = (
            lambda queries=queries, problem=problem, curved=curved: _solved(
                problem, [queries], curved
            ),
            lambda alone=alone, problem=problem, curved=curved: _solved(problem, alone, curved),
        )
        far = float((block() - single()).norm() / single().norm())
        ratio = _ratio(block, single)
        refused = bool(getattr(curved.H, "_refused", False))
        table.add_row(
            name, "yes" if memory_mb else "no", "no" if refused else "yes", f"{ratio:.2f}",
            f"{far:.1e}",
        )  # fmt: skip
    Console().print(table)
    Console().print(
        f"{QUERIES} queries by IF, {ITERATIONS} iterations, {SAMPLES} curvature samples, medians "
        f"of {ROUNDS} interleaved rounds, {torch.get_num_threads()} threads."
    )


def _solved(problem: Problem, asked: list[Queries], curved: Curved) -> torch.Tensor:
    found = []
    for queries in asked:
        found += adjoints(
            problem, queries, method="if", selected=None, curvature=curved, samples=None,
            solver=LSMR(ITERATIONS, 0), damping=0.0, seed=0, progress=lambda *_: None,
        )  # fmt: skip
    return torch.stack([one.value for one in found])


def _ratio(one: Callable[[], object], other: Callable[[], object]) -> float:
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for place, call in enumerate((one, other)):
            started = time.perf_counter()
            call()
            spent[place].append(time.perf_counter() - started)
    return statistics.median(spent[0]) / statistics.median(spent[1])


if __name__ == "__main__":
    main()

"""Solves of many queries in blocks, as a ratio of the same solves one by one, in one run.

What `gifcore.block_adjoints.next_block` decides by: which of the two is faster.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gifcore import data as datasets
from gifcore.block_adjoints import adjoints_together
from gifcore.curved import Curved, curvature
from gifcore.influence import adjoint
from gifcore.models import build
from gifcore.problem import Problem, silent
from gifcore.queries import Queries
from gifcore.solvers import LSMR
from gifcore.stages import tensors

SOURCE = "fashion-mnist-mini"
ROWS = (("fcn", 512), ("fcn", 0), ("tinynet", 512), ("tinynet", 0))  # model, memory for graphs
QUERIES, SAMPLES, ITERATIONS, ROUNDS = 4, 128, 2, 3
SOLVER = LSMR(ITERATIONS, 0)


def main() -> None:
    """Print, for each model with and without room for its graphs, block / one by one."""
    table = Table("model", "graphs kept", "vectorised", "block / one by one", "largest difference")
    data = datasets.load(SOURCE)
    for name, memory_mb in ROWS:
        torch.manual_seed(0)
        problem = Problem(build(name, data.shape, data.n_classes), tensors(data, "train"))
        curved = curvature(problem, samples=SAMPLES, memory_mb=memory_mb)
        queries = Queries(tensors(data, "test"), [[i] for i in range(QUERIES)])
        gradients = list(queries.gradients(problem))
        block, single = (
            partial(solve, problem, gradients, curved) for solve in (_together, _one_by_one)
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


def _together(problem: Problem, gradients: list[Tensor], curved: Curved) -> Tensor:
    found = adjoints_together(
        problem, gradients, method="if", selected=None, curved=curved, solver=SOLVER,
        progress=silent,
    )  # fmt: skip
    return torch.stack([one.value for one in found])


def _one_by_one(problem: Problem, gradients: list[Tensor], curved: Curved) -> Tensor:
    found = [
        adjoint(problem, g_q, method="if", selected=None, curved=curved, solver=SOLVER)
        for g_q in gradients
    ]
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

"""`python -m benchmarks.scoring [n]`: the speed of rankings, as ratios of one run.

tinynet with its bundled weights on n training images of Fashion-MNIST (default: all 60,000, of
which the slower parts take 12,000 and 6,000); the deep networks on noise, with random weights.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "30000")  # as the command line does

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import TensorDataset

from benchmarks import kronfluence_scores
from benchmarks.rounds import ROUNDS, best_batch, forward, keep, ratio, seconds
from gifcore import data as datasets
from gifcore.gradient_products import Directions, choose, gradient_products
from gifcore.models import build, bundled, load_weights
from gifcore.neighbors import NeighborIndex, candidate_scores
from gifcore.problem import Batched, Problem
from gifcore.queries import Queries
from gifcore.stages import tensors

N = 60_000
ONE = 12_000  # images of the timings of one query
MANY = 6_000  # and of many
LOOP = 300  # images of the loop of single-sample gradients, whose time is scaled
K = 1_000  # candidates of FastIF
BATCHES = (32, 64, 128, 256, 512)
DEEP = (("resnet18", 64), ("shufflenet-v2", 256))  # with images each


def main(n: int) -> None:
    data = datasets.load("fashion-mnist")
    net = build("tinynet", data.shape, data.n_classes)
    weights = bundled("tinynet", "fashion-mnist-mini")
    if weights is None:
        raise SystemExit("No bundled tinynet: run assets/models/make_models.py.")
    load_weights(net, weights)
    whole = Problem(net, tensors(data, "train"), weight_decay=5e-3)
    n = min(n, whole.n)
    problem = whole.narrowed(whole.positions[:n])
    few = problem.narrowed(problem.positions[:MANY])
    queries = Queries(tensors(data, "test"), [[i] for i in range(64)])
    table = Table("what", "ratio", "median times", title=f"Rankings, {ROUNDS} rounds")
    one_query("tinynet", problem.narrowed(problem.positions[:ONE]), table)
    for name, count in DEEP:
        one_query(name, noise(name, min(count, max(8, n // 100))), table)
    loop = loop_of_single(problem)
    against_loop(problem, queries, loop, table)
    many_queries(few, table)
    kronfluence_scores.compare(few, queries, table)
    memory(n, table)
    console = Console(width=120)
    console.print(table)
    keep(table)
    console.print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")


def noise(name: str, count: int) -> Problem:
    """Return a deep network on noise of 3 x 32 x 32."""
    torch.manual_seed(0)
    images = TensorDataset(torch.randn(count, 3, 32, 32), torch.arange(count) % 10)
    return Problem(build(name, (3, 32, 32), 10), images)


def directions(problem: Problem, m: int) -> Tensor:
    return torch.randn(m, problem.space.size, generator=torch.Generator().manual_seed(0))


def one_query(name: str, problem: Problem, table: Table) -> None:
    """A ranking against a forward pass; with enough samples the engine finds its batch size.

    The choice of the way, one batch, is not in it.
    """
    s = directions(problem, 1)[0]

    def ranked(batch_size: int | None) -> Tensor:
        return gradient_products(problem, s, batch_size=batch_size, way="forward mode")

    sizes = tuple(size for size in BATCHES if size <= problem.n) or (problem.n,)
    size = best_batch(lambda b: forward(problem, b), sizes)
    own = None if problem.n >= ONE else best_batch(ranked, sizes)
    value, top, bottom = ratio(lambda: ranked(own), lambda: forward(problem, size))
    table.add_row(
        f"{name}, one query x {problem.n:,} ({f'batch {own}' if own else 'batch as measured'}) / a "
        f"forward pass (batch {size})",
        f"{value:.2f}",
        f"{top:.2f} / {bottom:.2f} s",
    )


def loop_of_single(problem: Problem) -> float:
    """Return the seconds of a loop of single-sample gradients over all n, scaled from LOOP."""
    s, some = directions(problem, 1)[0], problem.positions[:LOOP]

    def loop() -> None:
        for i in some.split(1):
            problem.data_gradient(i) @ s

    loop()
    return sorted(seconds(loop) for _ in range(3))[1] * problem.n / len(some)


def against_loop(problem: Problem, queries: Queries, loop: float, table: Table) -> None:
    """A full ranking, and FastIF's k candidates after a solve, against the loop over all n."""
    s = directions(problem, 1)
    some = problem.narrowed(problem.positions[:ONE])
    time = sorted(seconds(lambda: gradient_products(some, s[0])) for _ in range(3))[1]
    words = f"The loop of single gradients (scaled from {LOOP})"
    part = loop * some.n / problem.n
    table.add_row(
        f"{words} / one query, both x {some.n:,}",
        f"{part / time:.1f}",
        f"{part:.1f} / {time:.2f} s",
    )
    k = min(K, problem.n)
    index = NeighborIndex.build(problem)
    gbar = problem.data_gradient(problem.positions)
    one = Queries(queries.data, queries.groups[:1])

    def fast() -> None:
        candidates = index.candidates(index.query_features(problem, one), k)
        candidate_scores(problem, [s], candidates, gbar)

    fast()
    time = sorted(seconds(fast) for _ in range(ROUNDS))[ROUNDS // 2]
    table.add_row(
        f"{words} x {problem.n:,} / FastIF's k = {k:,} after a solve",
        f"{loop / time:.0f}",
        f"{loop:.1f} / {time:.2f} s",
    )


def many_queries(problem: Problem, table: Table) -> None:
    stack = directions(problem, 64)
    choice = choose(problem, Directions(problem, stack[:2]), problem.positions[:64], 64)
    value, top, bottom = ratio(
        lambda: gradient_products(problem, stack, way=choice.way),
        lambda: gradient_products(problem, stack[:16], way=choice.way),
        rounds=2,
    )
    table.add_row(
        f"64 queries / 16, both x {problem.n:,}, {choice.way}",
        f"{value:.2f}",
        f"{top:.2f} / {bottom:.2f} s",
    )


# --- peak memory ----------------------------------------------------------------------------------


class Generated(Batched):
    """Images that are made when they are asked for, so that the data take no memory."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def batch(self, indices: Tensor) -> Any:
        waves = torch.arange(784.0).view(1, 28, 28)
        return torch.sin(waves * (1 + indices.view(-1, 1, 1, 1) % 997)), self.labels(indices)

    def labels(self, indices: Tensor) -> Tensor:
        return indices % 10


def peak(n: int) -> None:
    """Print the peak memory, in MB, of one query and then two on n images."""
    torch.manual_seed(0)
    problem = Problem(build("tinynet", (1, 28, 28), 10), Generated(n))
    gradient_products(problem, directions(problem, 1)[0], batch_size=256)
    gradient_products(problem, directions(problem, 2), batch_size=256)
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # getrusage has the parent's
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def memory(n: int, table: Table) -> None:
    def of(count: int) -> float:
        command = [sys.executable, "-m", "benchmarks.scoring", "--peak", str(count)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    small, large = of(max(1, n // 10)), of(n)
    table.add_row(
        f"Peak memory of a process that ranks {n:,} generated images / {n // 10:,}",
        f"{large / small:.3f}",
        f"{large:.0f} / {small:.0f} MB",
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        peak(int(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else N)

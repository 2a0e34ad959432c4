"""`make bench`: the engine's speed on the bundled model, as ratios of one run.

Each ratio is the median over interleaved rounds of (numerator, denominator) pairs.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import resource
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from gifcore import data as datasets
from gifcore.change import RemoveClass
from gifcore.curvature import Hessian, draw_samples
from gifcore.curved import curvature
from gifcore.influence import influence
from gifcore.models import build, bundled, load_weights
from gifcore.problem import Problem, engine_mode
from gifcore.scoring import gradient_products
from gifcore.selection import select
from gifcore.solvers import LSMR
from gifcore.stages import tensors

ROUNDS = 5


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def ratio(numerator: Callable[[], object], denominator: Callable[[], object]) -> tuple[float, ...]:
    """Return the median ratio of interleaved rounds and both median times."""
    numerator(), denominator()  # warm up, and keep graphs
    pairs = [(seconds(numerator), seconds(denominator)) for _ in range(ROUNDS)]
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


def main() -> None:
    source, model = "fashion-mnist-mini", "tinynet"
    data = datasets.load(source)
    net = build(model, data.shape, data.n_classes)
    weights = bundled(model, source)
    if weights is None:
        raise SystemExit(f"No bundled {model} for {source}: run assets/models/make_models.py.")
    load_weights(net, weights)
    problem = Problem(net, tensors(data, "train"), weight_decay=5e-3)
    table = Table("what", "ratio", "median times", title=f"{model}, {source}, {ROUNDS} rounds")
    products(problem, table)
    ranking(problem, table)
    solver(problem, table)
    console = Console(width=110)
    console.print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, peak memory {peak:.0f} MB"
    )


def products(problem: Problem, table: Table) -> None:
    vector = torch.randn(problem.space.size, generator=torch.Generator().manual_seed(0))
    for count in (128, 512):
        samples = draw_samples(problem, count, 0)
        for memory, words in ((512.0, "graphs kept"), (0.0, "graphs rebuilt")):
            H = Hessian(problem, samples, batch_size=count, memory_mb=memory)

            def product(H: Hessian = H) -> object:
                return H @ vector

            def gradient(samples: torch.Tensor = samples) -> object:
                return problem.data_gradient(samples, batch_size=len(samples))

            value, top, bottom = ratio(product, gradient)
            table.add_row(
                f"Hessian product / gradient, {count} samples, {words}",
                f"{value:.2f}",
                f"{1e3 * top:.0f} / {1e3 * bottom:.0f} ms",
            )


def ranking(problem: Problem, table: Table) -> None:
    s = torch.randn(problem.space.size, generator=torch.Generator().manual_seed(0))
    size = best_batch(lambda b: forward(problem, b), (128, 256, 512, 1000))
    value, top, bottom = ratio(
        lambda: gradient_products(problem, s, batch_size=256), lambda: forward(problem, size)
    )
    table.add_row(
        f"Ranking all {problem.n:,} training samples / one plain forward pass (batch {size})",
        f"{value:.2f}",
        f"{top:.2f} / {bottom:.2f} s",
    )


def solver(problem: Problem, table: Table) -> None:
    change = RemoveClass(8)
    selected = select(problem, change, ratio=0.05)
    curved = curvature(change.apply(problem), samples=512, of="retained", batch_size=128)
    g = change.gradient(problem)
    found = {
        kind: influence(
            problem,
            change,
            selected=selected,
            curvature=curved,
            gradient=g,
            solver=LSMR(20, preconditioner=kind),
        ).solution
        for kind in ("jacobi", "none")
    }
    jacobi, plain = found["jacobi"], found["none"]
    table.add_row(
        "LSMR residual at 20 iterations, Jacobi / plain",
        f"{jacobi.residual / plain.residual:.2f}",
        f"{jacobi.residual:.3f} ({jacobi.hvps} products) / {plain.residual:.3f} ({plain.hvps})",
    )
    table.add_row(
        "LSMR normal residual at 20 iterations, Jacobi / plain",
        f"{jacobi.normal_residual / plain.normal_residual:.2f}",
        f"{jacobi.normal_residual:.2g} / {plain.normal_residual:.2g}",
    )


if __name__ == "__main__":
    main()

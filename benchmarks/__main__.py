"""`make bench`: the engine's speed on the bundled model, as ratios of one run.

Each ratio is the median over interleaved rounds of (numerator, denominator) pairs.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "30000")  # as the command line does

import resource
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import published
from benchmarks.rounds import ROUNDS, best_batch, keep, ratio
from gifcore import data as datasets
from gifcore.change import RemoveClass
from gifcore.curvature import SAMPLERS, GaussNewton, Hessian, draw_samples, spread
from gifcore.curved import curvature
from gifcore.influence import influence
from gifcore.models import build, bundled, load_weights
from gifcore.operators import LinearOperator
from gifcore.problem import Problem
from gifcore.selection import select
from gifcore.solvers import LSMR
from gifcore.stages import tensors

SEEDS = 3


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
    solver(problem, table)
    samplers(problem, table)
    published.compare(table)
    console = Console(width=120)
    console.print(table)
    keep(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, peak memory {peak:.0f} MB"
    )


def products(problem: Problem, table: Table) -> None:
    """What a product costs, in gradients over the same samples in the same chunks."""
    vector = torch.randn(problem.space.size, generator=torch.Generator().manual_seed(0))
    cases = [
        (Hessian, 128, 512.0, "graphs kept"),
        (Hessian, 512, 512.0, "graphs kept"),
        (Hessian, 512, 0.0, "graphs rebuilt"),
        (GaussNewton, 512, 512.0, "graphs kept"),
    ]
    for kind, count, memory, words in cases:
        samples = draw_samples(problem, count, 0)

        def made(
            size: int, kind: Any = kind, samples: Tensor = samples, memory: float = memory
        ) -> LinearOperator:
            operator: LinearOperator = kind(problem, samples, size, memory)
            operator @ vector  # keeps its graphs
            return operator

        operators = {size: made(size) for size in (64, 128, 256, 512) if size <= count}
        best = best_batch(lambda size, of=operators: of[size] @ vector, tuple(operators))
        own = best_batch(
            lambda size, samples=samples: problem.data_gradient(samples, batch_size=size),
            tuple(operators),
        )
        for chunk in dict.fromkeys((best, own)):  # the gradient in the same chunks, and in its best
            value, top, bottom = ratio(
                lambda of=operators, size=best: of[size] @ vector,
                lambda samples=samples, size=chunk: problem.data_gradient(samples, batch_size=size),
            )
            table.add_row(
                f"{kind.__name__} product in chunks of {best} / gradient in chunks of {chunk}, "
                f"{count} samples, {words}",
                f"{value:.2f}",
                f"{1e3 * top:.0f} / {1e3 * bottom:.0f} ms",
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


def samplers(problem: Problem, table: Table) -> None:
    """How far the update differs from seed to seed of the curvature samples, by sampler."""
    change = RemoveClass(8)
    selected, g = select(problem, change, ratio=0.05), change.gradient(problem)
    retained = change.apply(problem)
    for sampler in SAMPLERS:
        updates = []
        for seed in range(SEEDS):
            curved = curvature(retained, samples=512, of="retained", seed=seed, sampler=sampler)
            solver = LSMR(10, 0.0, preconditioner="none")
            found = influence(
                problem, change, selected=selected, curvature=curved, gradient=g, solver=solver
            )
            updates.append(found.delta)
        of = spread(updates)
        table.add_row(
            f"Mean cosine of GIF updates, {SEEDS} draws of 512 samples, sampler {sampler}",
            f"{of['cosine']:.3f}",
            f"norm varies by {of['norm']:.1%}, coordinates by {of['coordinate']:.0%} (median)",
        )


if __name__ == "__main__":
    main()

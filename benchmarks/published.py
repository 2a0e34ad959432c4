"""Our solvers against the published series: TinyNet, full Fashion-MNIST, one rule for all.

Class 8, 5 % of the parameters by highest-k gradients, the Hessian of 512 retained samples. Every
product counts, those of probes and of abandoned restarts too; certificates are not counted.
"""

from __future__ import annotations

import time
from pathlib import Path

from rich.table import Table
from torch import Tensor

from gifcore import data as datasets
from gifcore.change import RemoveClass
from gifcore.curved import Curved, curvature
from gifcore.data.dataset import Data
from gifcore.errors import GifError
from gifcore.influence import influence
from gifcore.methods import Solver
from gifcore.models import build, load_weights
from gifcore.problem import Problem
from gifcore.selection import Selection, select
from gifcore.solvers import LSMR, Neumann, Solution
from gifcore.stages import tensors
from gifcore.training import train

SAMPLES, RATIO, LABEL, PRODUCTS = 512, 0.05, 8, 115
WEIGHT_DECAY = 5e-4
FOLDER = Path("runs") / "bench"
SERIES = {  # the settings of the published tables: iterations and what divergence adds to c
    "published series, table 2 (30 iterations, step 3)": Neumann(30, step=3.0),
    "published series, table 1 (200 iterations, step 7)": Neumann(200, step=7.0),
}


def full_problem() -> tuple[Problem, Data]:
    """Return TinyNet on the full Fashion-MNIST, trained once and kept."""
    data = datasets.load("fashion-mnist")
    path = FOLDER / "tinynet-fashion-mnist.safetensors"
    if not path.is_file():
        train(data, "tinynet", epochs=8, weight_decay=WEIGHT_DECAY, out=path)
    net = build("tinynet", data.shape, data.n_classes)
    load_weights(net, path)
    return Problem(net, tensors(data, "train"), weight_decay=WEIGHT_DECAY), data


class System:
    """One system for all solvers."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.change = problem, RemoveClass(LABEL)
        self.selected: Selection = select(problem, self.change, ratio=RATIO)
        self.g: Tensor = self.change.gradient(problem)
        retained = self.change.apply(problem)
        self.curved: Curved = curvature(retained, samples=SAMPLES, of="retained")
        self.curved.H @ problem.theta  # keep its graphs: all solvers find them

    def solve(self, solver: Solver) -> tuple[Solution, float]:
        """Return the solution and the seconds it took, certificate included."""
        started = time.perf_counter()
        found = influence(
            self.problem,
            self.change,
            selected=self.selected,
            curvature=self.curved,
            gradient=self.g,
            solver=solver,
        ).solution
        return found, time.perf_counter() - started


def to_reach(system: System, residual: float) -> tuple[Solution, float]:
    """Return the shortest LSMR solve whose residual is at most this."""
    for iterations in range(1, 60):
        found, seconds = system.solve(LSMR(iterations, 0.0))
        if found.residual <= residual:
            return found, seconds
    raise GifError(f"LSMR did not reach the residual {residual}.")


def compare(table: Table) -> None:
    """Add the rows of the comparison."""
    problem, _ = full_problem()
    system = System(problem)
    for name, series in SERIES.items():
        theirs, their_seconds = system.solve(series)
        ours, our_seconds = to_reach(system, theirs.residual)
        table.add_row(
            f"Products to reach the residual {theirs.residual:.3f}: LSMR / {name}",
            f"{ours.hvps / theirs.hvps:.3f}",
            f"{ours.hvps} / {theirs.hvps} ({theirs.status.value})",
        )
        table.add_row(
            "   seconds of the same two solves",
            f"{our_seconds / their_seconds:.3f}",
            f"{our_seconds:.1f} / {their_seconds:.1f} s",
        )
    for kind, probes in (("none", 0), ("jacobi", 8), ("kronecker", 0)):
        iterations = (PRODUCTS - 1 - probes) // 2
        found, seconds = system.solve(
            LSMR(iterations, 0.0, preconditioner=kind, probes=probes or None)
        )
        table.add_row(
            f"LSMR residual at {PRODUCTS} products, preconditioner {kind}",
            f"{found.residual:.3f}",
            f"{found.hvps} products, {seconds:.0f} s, normal residual {found.normal_residual:.2g}",
        )

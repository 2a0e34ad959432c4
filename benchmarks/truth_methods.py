"""The scores of every method on the base models of `benchmarks.truth`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.truth_bases import SEED, Base, Runner, hash_of
from gifcore.change import RemoveSamples
from gifcore.checkpoints import Checkpoint
from gifcore.curved import Curved, curvature
from gifcore.operators import Identity, Matrix
from gifcore.problem import Problem
from gifcore.queries import Queries
from gifcore.scoring import rank
from gifcore.selection import Selection, select
from gifcore.solvers import LSMR, Dense, Solution, Status
from gifcore.solvers.many import products_of

Array = np.ndarray[Any, Any]
DENSE = 8000  # parameters, at most, for dense solves
ITERATIONS = 50  # of the others


@dataclass(frozen=True)
class Scored:
    """The scores of a method, (m, n), and how it came by them."""

    values: Array
    seconds: float
    how: str


@dataclass(frozen=True)
class Row:
    """A method with its settings; ratio: of the parameters it works on, drawn at random."""

    method: str
    ratio: float = 1.0
    kind: str = "hessian"
    damping: float | str = 0.0
    also: str = ""  # after the name

    @property
    def name(self) -> str:
        share = f" {self.ratio:.0%}" if self.ratio < 1 or self.method == "gif" else ""
        return f"{self.method}{share}{f', {self.also}' if self.also else ''}"


ALL = (  # those without a system first
    Row("ekfac"), Row("datainf"), Row("tracin"), Row("gradient"),
    Row("if", damping="auto", also="automatic damping"),
    Row("if", also="undamped"),
    Row("gif", 0.05), Row("gif", 0.3), Row("gif", 0.5), Row("gif"),
    Row("gif", damping="if", also="damped as if is"),
    Row("freeze", 0.05), Row("freeze", 0.3),
    Row("projected", 0.05), Row("projected", 0.3),
    Row("if", kind="ggn", damping="auto", also="GGN, automatic damping"),
    Row("hyperinf", 0.05), Row("hyperinf"),
)  # fmt: skip
FEW = tuple(row for row in ALL if row.name in ("if, undamped", "gif 5%", "ekfac", "gradient"))


def scores(
    base: Base, queries: Sequence[int], rows: Sequence[Row], runner: Runner
) -> Iterator[tuple[str, Scored]]:
    """Yield the scores of each method, the slow ones kept as files."""
    asked = Queries(base.test, [[q] for q in queries])
    shared = _Shared(base.problem)
    folder = runner.folder / "scores"
    folder.mkdir(parents=True, exist_ok=True)
    stamp = f"{base.name}-{hash_of(base.problem.theta)}-{len(queries)}"
    for row in rows:
        file = folder / f"{stamp}-{row.name}.npz".replace(" ", "-").replace("%", "").replace(
            ",", ""
        )
        if file.is_file():
            with np.load(file) as kept:
                yield row.name, Scored(kept["values"], float(kept["seconds"]), str(kept["how"]))
            continue
        started = time.perf_counter()
        found = rank(base.problem, asked, **shared.settings(row, base))
        seconds = time.perf_counter() - started
        assert found.values is not None
        how = _how(found.solutions)
        scored = Scored(found.values.double().numpy(), seconds, how)
        np.savez(file, values=scored.values, seconds=seconds, how=how)
        runner.console.print(f"{row.name}: {seconds:.0f} s, {how}")
        yield row.name, scored


def settings_of(problem: Problem, method: str) -> dict[str, Any]:
    """Return the arguments of one exact ranking on all parameters."""
    return {
        "method": method,
        "solver": Dense(DENSE),
        "curvature": _Shared(problem).of("hessian", 0.0),
    }


class _Shared:
    """Curvatures, matrices and selections that the methods share."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.small = problem.space.size <= DENSE
        self.curved: dict[tuple[str, float | str], Curved] = {}
        self.matrices: dict[str, Tensor] = {}

    def settings(self, row: Row, base: Base) -> dict[str, Any]:
        """Return the arguments of `rank`."""
        solver = Dense(DENSE) if self.small and row.method != "hyperinf" else LSMR(ITERATIONS, 1e-8)
        given: dict[str, Any] = {
            "method": row.method, "selected": self.selected(row.ratio), "solver": solver,
            "seed": SEED,
        }  # fmt: skip
        if row.method == "tracin":
            given["checkpoints"] = [Checkpoint(theta, 1.0, 1) for theta in base.checkpoints]
        elif row.method in ("datainf", "ekfac"):
            given["curvature"] = curvature(self.problem)
        elif row.method != "gradient":
            damping = row.damping
            if damping == "if":
                damping = self.of("hessian", "auto").auto_damping().value
            given["curvature"] = self.of(row.kind, damping)
        return given

    def selected(self, ratio: float) -> Selection | None:
        if ratio == 1:
            return None
        some = RemoveSamples([0])  # drawn at random: the change has no part in it
        return select(self.problem, some, selector="random", ratio=ratio, seed=SEED)

    def of(self, kind: str, damping: float | str) -> Curved:
        """Return the curvature; of a small model as a matrix, made once."""
        key = (kind, damping)
        if key not in self.curved:
            made = curvature(self.problem, kind=kind, damping=damping)
            self.curved[key] = self._small(made, kind) if self.small else made
        return self.curved[key]

    def _small(self, made: Curved, kind: str) -> Curved:
        if kind not in self.matrices:
            self.matrices[kind] = matrix_of(self.problem, kind)
        matrix = self.matrices[kind]
        eye = Identity(len(matrix))
        H = Matrix(matrix) + made.damping * eye if made.damping > 0 else Matrix(matrix)
        return replace(made, H=H)


def matrix_of(problem: Problem, kind: str) -> Tensor:
    """Return a curvature written out, (p, p), symmetric to the last bit."""
    H = curvature(problem, kind=kind).H
    units = torch.eye(problem.space.size, dtype=problem.theta.dtype)
    matrix = torch.cat([products_of(H, part.T) for part in units.split(64)], dim=1)
    return (matrix + matrix.T) / 2


def _how(solutions: Sequence[Solution]) -> str:
    """Return the certificate of all solves in a line."""
    statuses = sorted({solution.status.value for solution in solutions})
    if statuses == [Status.DIRECT.value]:
        return statuses[0]
    worst = max(s.residual if s.judged_by == "residual" else s.normal_residual for s in solutions)
    damping, ridge = solutions[0].damping, solutions[0].ridge
    parts = [" / ".join(statuses), f"residual {worst:.1e} at most"]
    parts += [f"damping {damping:.3g}"] if damping else []
    parts += [f"ridge {ridge:.3g}"] if ridge else []
    return ", ".join(parts)


def summed(values: Array, out: Tensor) -> Array:
    """Return what leaving each set out is predicted to do to each query, (m, s)."""
    found: Array = values @ out.double().numpy().T
    return found

"""The ways to a ranking that the stage fastif compares: each query solved and all samples scored.

Exact, LiSSA as FastIF walks it, the gradient alone (the control), and the preview. Every way is
scored on all n training samples, so that any number of candidates can be judged from one run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from gifcore.curved import Curved, curvature, preconditioned
from gifcore.fastif_section import LISSA_SOLVES
from gifcore.influence import adjoint
from gifcore.methods import METHODS, Solver
from gifcore.operators import Identity
from gifcore.problem import Progress
from gifcore.query_solves import query_gradient
from gifcore.scoring import influence_scores, stack_size
from gifcore.selection import Selection
from gifcore.sketch import build_sketch
from gifcore.solvers import Dense, Lissa, Solution, Status
from gifcore.solving import solver_of
from gifcore.stages import Kept, Loaded, Meter
from gifcore.study import METHOD_LABELS, Study

BATCH = 256
Scored = tuple[dict[str, Any], dict[str, np.ndarray]]
Solves = Callable[[Sequence["Asked"], str], list[Solution]]


@dataclass(frozen=True)
class Asked:
    """One query of a study: a test image, or a group of them."""

    index: int  # as in the record's `queries`
    positions: tuple[int, ...]  # in the test split
    correct: bool | None  # is the prediction right? None: a group


@dataclass(frozen=True, eq=False)
class Way:
    """One way to a ranking, for one method, with its scores of all queries.

    Args:
        scores: (m, n); NaN rows where it gave no ranking.
        solve_seconds: a query, its certificate included.
        score_seconds: a query, for all n samples, many queries a sweep.
        cosine: (m,) of the angle between its s and the exact one; NaN where it has none.
        error: (m,) ||s - s*|| / ||s*||.
    """

    method: str
    name: str
    info: dict[str, Any]
    scores: np.ndarray
    solve_seconds: float
    score_seconds: float
    cosine: np.ndarray
    error: np.ndarray

    @property
    def filtered(self) -> bool:
        """Can it be asked for candidates only? A preview reads all, the study scored all."""
        return self.info["kind"] in ("exact", "lissa", "gradient")


class Ways:
    """Solves and scores of all ways; curvature and R are made once and shared."""

    def __init__(
        self,
        study: Study,
        loaded: Loaded,
        selected: Selection,
        kept: Kept,
        meter: Meter,
        queries: Sequence[Asked],
    ) -> None:
        self.study, self.loaded, self.selected = study, loaded, selected
        self.problem, self.kept, self.meter = loaded.problem, kept, meter
        self.queries = queries
        self.test = loaded.splits["test"]
        self._curved: Curved | None = None

    def of(self, method: str, first_solved: Callable[[str, Tensor], None]) -> list[Way]:
        """Return the exact way, the gradient's and LiSSA's.

        Args:
            first_solved: called with the method and the exact solves of the first stack, (b, p).
        """
        ways: dict[str, tuple[dict[str, Any], Solves]] = {
            "gradient": (
                {"kind": "gradient", "label": "Gradient alone"},
                partial(self._gradients, method),
            )
        }
        for number, solver in enumerate(lissas(self.study, method), start=1):
            ways[f"lissa-{number}"] = (lissa_info(solver), partial(self._solves, method, solver))
        parts: dict[str, list[Scored]] = {name: [] for name in ("exact", *ways)}
        exactly = partial(self._solves, method, exact_solver(self.study))
        for first in range(0, len(self.queries), stack_size(self.problem.theta)):
            info, arrays = self._part(method, "exact", first, exactly, None)
            parts["exact"].append((info, arrays))
            s = torch.from_numpy(arrays["s"]).to(self.problem.theta)
            if first == 0:
                first_solved(method, s)
            for name, (_, solve) in ways.items():
                parts[name].append(self._part(method, name, first, solve, s))
        kinds = {"exact": {"kind": "exact", "label": "Exact solve"}}
        kinds |= {name: kind for name, (kind, _) in ways.items()}
        return [self._joined(method, name, kinds[name], found) for name, found in parts.items()]

    def previews(self, methods: Sequence[str], report: Progress) -> list[Way]:
        """Return the previews of the study's ranks, for single test images; groups have none."""
        single = [row for row, one in enumerate(self.queries) if one.correct is not None]
        ways: list[Way] = []
        for rank in self.study.fastif.previews if single else ():
            info, arrays = self.kept.part(
                f"fastif-preview-{rank}", partial(self._preview, rank, methods, single, report)
            )
            self.meter.add(1)
            for method in methods:
                scores = np.full((len(self.queries), self.problem.n), np.nan, arrays[method].dtype)
                scores[single] = arrays[method]
                own = {
                    "kind": "preview", "label": f"Preview, rank {info['rank']}",
                    "rank": info["rank"], "build_seconds": info["build"],
                }  # fmt: skip
                nothing = np.full(len(self.queries), np.nan)
                ways.append(
                    Way(method, f"preview-{rank}", own, scores, 0.0, info["read"], nothing, nothing)
                )
        return ways

    def loop_seconds(self, count: int) -> float:
        """Return the seconds that the gradient of one training sample takes, by itself."""
        began = time.perf_counter()
        for position in self.problem.positions[:count].split(1):
            self.problem.data_gradient(position)
        return (time.perf_counter() - began) / min(count, self.problem.n)

    # --- inside -----------------------------------------------------------------------------

    def _part(
        self, method: str, name: str, first: int, solve: Solves, exact: Tensor | None
    ) -> Scored:
        """Return the scores of one stack of queries; without `exact` the solves are kept too."""

        def compute() -> Scored:
            words = f"{METHOD_LABELS[method]}, {name}"
            self._curvature(method)  # made once for all ways: in no way's seconds
            began = time.perf_counter()
            some = self.queries[first : first + stack_size(self.problem.theta)]
            solutions = solve(some, words)
            solved = time.perf_counter() - began
            s = torch.stack([solution.value for solution in solutions])
            usable = torch.tensor([_usable(solution) for solution in solutions])
            began = time.perf_counter()
            scores = influence_scores(
                self.problem, torch.where(usable[:, None], s, 0), batch_size=BATCH,
                progress=self.meter.part(0, f"{words}: scores"),
            )  # fmt: skip
            scores[~usable] = torch.nan
            info = {
                "solve": solved,
                "score": time.perf_counter() - began,
                "solves": [_said(solution) for solution in solutions],
            }
            arrays = {"scores": scores.cpu().numpy(), **_nearness(s, usable, exact)}
            if exact is None:
                arrays["s"] = s.cpu().numpy()
            return info, arrays

        part = self.kept.part(f"fastif-{method}-{name}-{first}", compute)
        self.meter.add(1)
        return part

    def _joined(self, method: str, name: str, kind: dict[str, Any], parts: list[Scored]) -> Way:
        solves = [solve for info, _ in parts for solve in info["solves"]]
        count = len(self.queries)
        seconds = {key: sum(info[key] for info, _ in parts) / count for key in ("solve", "score")}
        scores, cosine, error = (
            np.concatenate([arrays[key] for _, arrays in parts])
            for key in ("scores", "cosine", "error")
        )
        info = kind | _summary(solves, self.queries)
        return Way(method, name, info, scores, seconds["solve"], seconds["score"], cosine, error)

    def _solves(
        self, method: str, solver: Solver, queries: Sequence[Asked], words: str
    ) -> list[Solution]:
        curved, found = self._curvature(method), []
        for done, (one, g_q) in enumerate(self._query_gradients(queries)):
            report = self.meter.part(1, f"{words} for {named(one)}")
            solution = adjoint(
                self.problem, g_q, method=method, selected=self.selected, curved=curved,
                solver=solver, seed=self.study.seed, progress=_share(report, done, len(queries)),
            )  # fmt: skip
            found.append(solution)
        return found

    def _gradients(self, method: str, queries: Sequence[Asked], _words: str) -> list[Solution]:
        """Return the control, no solve: E E^T g_q, or g_q where the method moves all parameters."""
        cut = METHODS[method].selects
        E = self.selected.embedding if cut else Identity(self.problem.space.size)
        return [
            Solution(E @ (E.T @ g_q), Status.DIRECT, "none")
            for _, g_q in self._query_gradients(queries)
        ]

    def _query_gradients(self, queries: Sequence[Asked]) -> Iterator[tuple[Asked, Tensor]]:
        for one in queries:
            yield one, query_gradient(self.study, self.loaded, one.positions)

    def _curvature(self, method: str) -> Curved:
        c = self.study.curvature
        if self._curved is None:
            self._curved = curvature(
                self.problem, kind=c.kind, samples=None if c.samples == "all" else c.samples,
                damping=c.damping, of="full", seed=self.study.seed, sampler=c.sampler,
                batch_size=c.batch_size, memory_mb=c.memory_mb, stop=self.meter.state.check,
            )  # fmt: skip
        if METHODS[method].rectangular and self._curved.preconditioner is None:
            self._curved = preconditioned(
                self._curved, self.selected, exact_solver(self.study), seed=self.study.seed
            )
        return self._curved

    def _preview(
        self, rank: int, methods: Sequence[str], single: Sequence[int], report: Progress
    ) -> Scored:
        """Return every method's preview of the queries, its sketch made of these queries alone."""
        positions = [self.queries[row].positions[0] for row in single]
        began = time.perf_counter()
        sketch = build_sketch(
            self.problem, Subset(self.test, positions), methods=methods,
            curved=self._curvature(methods[0]), model="", data="", selected=self.selected,
            solver=exact_solver(self.study), rank=rank, held_out=1, seed=self.study.seed,
            progress=report,
        )  # fmt: skip
        built = time.perf_counter() - began
        began = time.perf_counter()
        rows = {
            method: np.stack([sketch.scores(q, method) for q in range(len(single))])
            for method in methods
        }
        read = (time.perf_counter() - began) / (len(single) * len(methods))
        return {"build": built, "read": read, "rank": sketch.info["rank"]}, rows


def lissas(study: Study, method: str) -> list[Lissa]:
    """Return the study's configurations of LiSSA, if the method has a system for them."""
    if method not in LISSA_SOLVES:
        return []
    return [
        Lissa(
            one.iterations, one.batch_size, one.chains, one.damp, one.scale,
            seed=study.seed, processes=one.processes,
        )
        for one in study.fastif.solves
    ]  # fmt: skip


def lissa_info(solver: Lissa) -> dict[str, Any]:
    """Return J, B, T, damp, scale and the damping they amount to."""
    J, B, T = solver.iterations, solver.batch_size, solver.chains
    return {
        "kind": "lissa",
        "label": f"LiSSA: J {J:,}, B {B:,}, T {T:,}, damping {solver.damp * solver.scale:.3g}",
        "iterations": J,
        "batch_size": B,
        "chains": T,
        "damp": solver.damp,
        "scale": solver.scale,
        "effective_damping": solver.damp * solver.scale,
        "processes": solver.processes,
    }


def exact_solver(study: Study) -> Solver:
    """Return the solver of the solves taken as exact: the study's, with its iterations or more."""
    solver, iterations = solver_of(study), study.fastif.iterations
    if iterations is None or isinstance(solver, Dense):
        return solver
    return replace(solver, iterations=iterations)


def _share(report: Progress, at: int, of: int) -> Progress:
    """Return the progress of part `at` of `of` equal ones."""
    return lambda done, total, note: report(at * max(total, 1) + done, of * max(total, 1), note)


def named(one: Asked) -> str:
    """Return a query in words.

    >>> named(Asked(17, (17,), True)), named(Asked(-2, (3, 5), None))
    ('test image 17', 'group 2')
    """
    return f"test image {one.index}" if one.index >= 0 else f"group {-one.index}"


def _usable(solution: Solution) -> bool:
    """Does the solve give a ranking? Not where it ran away, and not where it is zero."""
    failed = solution.status in (Status.DIVERGED, Status.NOT_FINITE)
    return not failed and bool(solution.value.norm() > 0)


def _nearness(s: Tensor, usable: Tensor, exact: Tensor | None) -> dict[str, np.ndarray]:
    """Return the cosine of every solve with the exact one and its relative error, (b,) each."""
    if exact is None:
        return {"cosine": usable.double().numpy(), "error": (~usable).double().numpy()}
    one, other = s.double().cpu(), exact.double().cpu()
    length = other.norm(dim=1)
    cosine = (one * other).sum(dim=1) / (one.norm(dim=1) * length)
    error = (one - other).norm(dim=1) / length
    nan = torch.full_like(length, torch.nan)
    known = usable & (length > 0)
    return {
        "cosine": torch.where(known, cosine, nan).numpy(),
        "error": torch.where(known, error, nan).numpy(),
    }


def _said(solution: Solution) -> dict[str, Any]:
    """Return what a table says of a solve."""
    return {
        "status": solution.status.value,
        "trusted": solution.trusted,
        "solver": solution.solver,
        "iterations": solution.iterations,
        "products": solution.hvps + solution.check_hvps,
        "residual": solution.residual if np.isfinite(solution.residual) else None,
        "notes": list(solution.notes),
    }


def _summary(solves: list[dict[str, Any]], queries: Sequence[Asked]) -> dict[str, Any]:
    """Return the certificates of a way in short: a note of a few queries is given with them."""
    residuals = [solve["residual"] for solve in solves if solve["residual"] is not None]
    whose: dict[str, list[Asked]] = {}
    for solve, one in zip(solves, queries, strict=True):
        for note in solve["notes"]:
            whose.setdefault(note, []).append(one)
    return {
        "solver": solves[0]["solver"],
        "statuses": dict(Counter(solve["status"] for solve in solves)),
        "trusted": sum(solve["trusted"] for solve in solves),
        "max_iterations": max(solve["iterations"] for solve in solves),
        "products": sum(solve["products"] for solve in solves) / len(solves),
        "max_residual": max(residuals, default=None),
        "notes": [
            note if len(asked) == len(solves) else f"{', '.join(map(named, asked))}: {note}"
            for note, asked in whose.items()
        ],
    }

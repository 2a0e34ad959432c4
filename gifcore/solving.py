"""The stages solve and rank: every system of a study, its curvature and R made once and shared."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from gifcore.curvature import spread
from gifcore.curved import Curved, curvature, preconditioned
from gifcore.errors import GifError
from gifcore.estimate import products
from gifcore.influence import Update, influence
from gifcore.methods import METHODS, Solver
from gifcore.problem import Progress
from gifcore.queries import Queries
from gifcore.query_solves import QuerySolves, key_of, refuse_flat, solved
from gifcore.record import curve_query
from gifcore.run_state import RunState
from gifcore.scoring import rank, score, stack_size
from gifcore.selection import Selection
from gifcore.solvers import (
    CG,
    LSMR,
    MINRES,
    Dense,
    Lissa,
    Neumann,
    PLissa,
    Solution,
    Status,
)
from gifcore.stages import Kept, Loaded, Meter
from gifcore.study import METHOD_LABELS, Study
from gifcore.tables import MethodResult, curve_frame
from gifcore.targets import TARGETS, as_loss


class Solving:
    """All solves of a study: curvatures and preconditioners are made once and shared."""

    def __init__(
        self,
        study: Study,
        loaded: Loaded,
        selected: Selection,
        kept: Kept,
        state: RunState,
        queries: list[int],
        methods: Sequence[str],
    ) -> None:
        self.study, self.loaded, self.selected, self.kept = study, loaded, selected, kept
        self.state, self.queries, self.methods = state, queries, methods
        self.solver = solver_of(study)
        self.ranked = [m for m in methods if METHODS[m].adjoint]
        updates = study.curvature.draws if study.edit.enabled else 0
        solves = sum(products(m, study) or 1 for m in methods) * (len(queries) + updates)
        self.solve_meter = Meter(state, "solve", max(solves, 1))
        asked = len(queries) + study.on_themselves
        self.rank_meter = Meter(state, "rank", max(len(self.ranked) * asked, 1))
        self._curved: Curved | None = None
        self._draw = 0
        refuse_flat(study, loaded, queries)
        self.solves = QuerySolves(
            study, loaded, selected, kept, self.solve_meter, self.solver,
            partial(self._curvature, "full"), certificate,
        )  # fmt: skip

    def updates(self, results: Mapping[str, MethodResult]) -> dict[str, Update]:
        """Solve every method's update with the curvature of the changed objective."""
        found: dict[str, Update] = {}
        for method in self.methods:
            info, arrays = self._update_of(method)
            result = results[method]
            result.info |= info
            result.delta, result.indices = arrays["delta"], arrays.get("indices")
            result.curves.append(
                curve_frame("residual", range(len(arrays["history"])), arrays["history"])
            )
            indices = None if result.indices is None else torch.from_numpy(result.indices)
            found[method] = Update(torch.from_numpy(result.delta), indices, method)
        self._other_draws(results, found)
        self._curved, self._draw = None, 0
        return found

    def _update_of(self, method: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the update with the curvature samples of this draw; the first is the study's."""
        weight = products(method, self.study) or 1
        which = f" of draw {self._draw + 1}" if self._draw else ""
        note = f"{METHOD_LABELS[method]} update{which}"
        key = f"draw-{self._draw}-{method}" if self._draw else f"update-{method}"
        report = self.solve_meter.part(weight, note)
        part = self.kept.part(key, partial(self._update, method, report))
        self.solve_meter.add(weight)
        return part

    def _other_draws(
        self, results: Mapping[str, MethodResult], first: Mapping[str, Update]
    ) -> None:
        """Solve updates again on other draws of the curvature samples; note their spread.

        Those without a curvature, such as gradient, are left out.
        """
        draws = self.study.curvature.draws
        if draws < 2:
            return
        deltas = {
            method: [update.delta]
            for method, update in first.items()
            if results[method].info["certificate"]["samples"]
        }
        costs = {method: {"hvps": 0, "seconds": 0.0} for method in deltas}
        for self._draw in range(1, draws):
            for method, found in deltas.items():
                info, arrays = self._update_of(method)
                found.append(torch.from_numpy(arrays["delta"]))
                certificate = info["certificate"]
                costs[method]["hvps"] += certificate["hvps"] + certificate["check_hvps"]
                costs[method]["seconds"] += certificate["seconds"]
        for method, found in deltas.items():
            results[method].info["spread"] = spread_of(found) | costs[method]
            results[method].info["seconds"]["draws"] = costs[method]["seconds"]

    def _update(
        self, method: str, progress: Progress
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        problem, seed = self.loaded.problem, self.study.seed
        gradient = self.kept.part("gradient", self._gradient)[1]["g"]
        row = METHODS[method]
        of = "retained" if row.adjoint else "full"  # an update alone: second-order
        result = influence(
            problem,
            self.loaded.change,
            method=method,
            selected=self.selected,
            curvature=self._curvature(of, method),
            curvature_of=of,
            solver=self.solver,
            seed=seed,
            change_samples=self.study.change.change_samples,
            gradient=None if row.checkpoints else torch.from_numpy(gradient),
            checkpoints=self.loaded.checkpoints,
            progress=progress,
        )
        if not bool(torch.isfinite(result.delta).all()):
            raise GifError(f"The {METHOD_LABELS[method]} update is not finite; raise damping.")
        arrays = {
            "delta": result.delta.numpy(),
            "history": np.array(result.solution.residual_history),
        }
        if result.indices is not None:
            arrays["indices"] = result.indices.numpy()
        info = {
            "certificate": certificate(result.solution, "update"),
            "k": len(result.delta),
            "norm": float(result.delta.norm()),
            "seconds": {"solve": result.solution.seconds},
        }
        return info, arrays

    def _gradient(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        report = self.solve_meter.part(0.0, "gradient change")
        g = self.loaded.change.gradient(
            self.loaded.problem,
            change_samples=self.study.change.change_samples,
            seed=self.study.seed,
            progress=report,
        )
        return {}, {"g": g.numpy()}

    def full_curvature(self, methods: Sequence[str]) -> Curved:
        """Return the curvature that queries are solved with, with R if one of these asks for it."""
        for method in methods:
            self._curvature("full", method)
        found, self._curved = self._curved, None
        assert found is not None
        return found

    def _curvature(self, of: str, method: str) -> Curved:
        """Return the one curvature of this objective, with R as soon as a method asks for it."""
        c, problem = self.study.curvature, self.loaded.problem
        seed = self.study.seed + self._draw
        if self._curved is None or self._curved.of != of or self._curved.seed != seed:
            objective = self.loaded.change.apply(problem) if of == "retained" else problem
            samples = None if c.samples == "all" else c.samples
            self._curved = curvature(
                objective,
                kind=c.kind,
                samples=samples,
                damping=c.damping,
                of=of,
                seed=seed,
                sampler=c.sampler,
                batch_size=c.batch_size,
                memory_mb=c.memory_mb,
                stop=self.state.check,
            )
        if METHODS[method].rectangular and self._curved.preconditioner is None:
            self._curved = preconditioned(
                self._curved, self.selected, self.solver, seed=self.study.seed
            )
        return self._curved

    def rank(self, results: Mapping[str, MethodResult]) -> None:
        """Solve every query by every method; a sweep over the training set scores many at once.

        Memory is flat in the number of queries: one stack of solves at a time.
        """
        methods = [m for m in self.ranked if not METHODS[m].checkpoints]
        systems = [(method, query) for query in self.queries for method in methods]
        size = max(1, stack_size(self.loaded.problem.theta) // 2)  # with their earlier iterates
        for first in range(0, len(systems), size):
            stack = systems[first : first + size]
            info, arrays = self.kept.part(f"rank-{first}", partial(self._rank, stack))
            self.kept.drop(key_of(method, query) for method, query in stack)
            self.rank_meter.add(len(stack))
            self._take(results, stack, f"rank-{first}", info, arrays)
        self._curved = None
        for method in [m for m in self.ranked if METHODS[m].checkpoints and self.queries]:
            stack = [(method, query) for query in self.queries]
            info, arrays = self.kept.part(f"rank-{method}", partial(self._over_checkpoints, method))
            self.rank_meter.add(len(stack))
            self._take(results, stack, f"rank-{method}", info, arrays)

    def _take(
        self,
        results: Mapping[str, MethodResult],
        stack: Sequence[tuple[str, int]],
        part: str,
        info: dict[str, Any],
        arrays: dict[str, np.ndarray],
    ) -> None:
        """Put certificates where they belong; scores stay in their part until they are written."""
        for place, (method, query) in enumerate(stack):
            result, history = results[method], arrays[f"history-{place}"]
            result.scores[query] = partial(self.kept.row, part, "scores", place)
            certificate = info["certificates"][place]
            if "scoring" in info:
                result.info["scoring"] = info["scoring"]
            result.info.setdefault("query_certificates", {})[str(query)] = certificate
            seconds = result.info.setdefault("seconds", {})
            seconds["rank"] = seconds.get("rank", 0.0) + info["seconds"] / len(stack)
            seconds["solve"] = seconds.get("solve", 0.0) + certificate["seconds"]
            curve = curve_frame("residual", range(len(history)), history, curve_query(query))
            result.curves.append(curve)

    def _rank(
        self, stack: Sequence[tuple[str, int]]
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        found = self.solves.of(stack)
        note = f"{len(stack)} solves against all training images"
        started = time.perf_counter()
        scores, stable, choice = score(
            self.loaded.problem,
            [_solved(arrays) for _, arrays in found],
            batch_size=self.study.ranking.batch_size,
            progress=self.rank_meter.part(len(stack), note),
        )
        seconds = time.perf_counter() - started
        histories = {f"history-{i}": arrays["history"] for i, (_, arrays) in enumerate(found)}
        certificates = [
            part["certificate"]
            | {
                "rank_stability": one.rank_stability,
                "notes": [*part["certificate"]["notes"], *one.notes],  # how it was scored
            }
            for (part, _), one in zip(found, stable, strict=True)
        ]
        info = {"certificates": certificates, "seconds": seconds, "scoring": choice.card()}
        return info, {"scores": scores.numpy()} | histories

    def _over_checkpoints(self, method: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        started = time.perf_counter()
        found = rank(
            self.loaded.problem,
            Queries(
                self.loaded.splits["test"],
                [self.loaded.positions(q) for q in self.queries],
                as_loss(TARGETS[self.study.ranking.target]),
            ),
            method=method,
            selected=self.selected,
            checkpoints=self.loaded.checkpoints,
            batch_size=self.study.ranking.batch_size,
            progress=self.rank_meter.part(len(self.queries), METHOD_LABELS[method]),
        )
        assert found.values is not None
        seconds = time.perf_counter() - started
        certificates = [certificate(solution, "query") for solution in found.solutions]
        histories = {f"history-{i}": np.zeros(0) for i in range(len(certificates))}
        return {"certificates": certificates, "seconds": seconds}, {
            "scores": found.values.numpy()
        } | histories


def spread_of(deltas: Sequence[torch.Tensor]) -> dict[str, Any]:
    """Return how far the updates of several draws of the curvature samples differ.

    draws                    how many
    norms                    of each update, the study's own first
    mean_cosine              of the angles of all pairs; 1 where all agree
    norm_deviation           standard deviation of the norms, relative to their mean
    coordinate_deviation     median over coordinates of standard deviation / |mean|

    The last three are None if an update is zero and has no direction.
    """
    norms = [float(delta.norm()) for delta in deltas]
    found = spread(deltas) if min(norms) > 0 else dict.fromkeys(("cosine", "norm", "coordinate"))
    return {
        "draws": len(deltas),
        "norms": norms,
        "mean_cosine": found["cosine"],
        "norm_deviation": found["norm"],
        "coordinate_deviation": found["coordinate"],
    }


def solver_of(study: Study) -> Solver:
    """Return the solver that a study asks for."""
    s = study.solver
    match s.kind:
        case "lsmr":
            return LSMR(s.iterations, s.tolerance, s.ridge, s.preconditioner, s.probes)
        case "cg":
            return CG(s.iterations, s.tolerance)
        case "minres":
            return MINRES(s.iterations, s.tolerance)
        case "neumann":
            return Neumann(s.iterations, s.tolerance)
        case "p-lissa":
            return PLissa(s.iterations, s.tolerance, seed=study.seed)
        case "lissa":
            return Lissa(
                s.iterations, s.batch_size, s.chains, s.damp, s.scale, s.tolerance, study.seed
            )
        case "dense":
            return Dense(ridge=s.ridge)


def _solved(arrays: dict[str, np.ndarray]) -> Solution:
    """Return the vectors of a solve that was kept."""
    value, halfway = solved(arrays)
    return Solution(value, Status.DIRECT, "kept", halfway=halfway)


def certificate(solution: Solution, system: str) -> dict[str, Any]:
    """Return a solve's certificate as plain values."""
    if solution.status is Status.NOT_FINITE:
        raise GifError(
            f"A Hessian product of the {system} became NaN or infinite; raise curvature.damping or "
            "train the model again with a smaller learning rate."
        )
    return {
        "system": system,
        "solver": solution.solver,
        "status": solution.status.value,
        "trusted": solution.trusted,
        "advice": solution.status.advice,
        "iterations": solution.iterations,
        "hvps": solution.hvps,
        "check_hvps": solution.check_hvps,
        "residual": solution.residual,
        "normal_residual": solution.normal_residual,
        "judged_by": solution.judged_by,
        "drift": solution.drift,
        "damping": solution.damping,
        "ridge": solution.ridge,
        "preconditioner": solution.preconditioner,
        "lambda_max": solution.lambda_max,
        "rayleigh": solution.lambda_min,
        "negative_curvature": solution.negative_curvature,
        "curvature_of": solution.curvature_of,
        "samples": solution.samples,
        "rank_stability": solution.rank_stability,
        "auto": list(solution.auto),
        "solver_damping": solution.solver_damping,
        "notes": list(solution.notes),
        "seconds": round(solution.seconds, 3),
    }

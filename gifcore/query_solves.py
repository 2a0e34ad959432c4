"""The adjoint solves of a study's queries: in blocks where that saves work, else one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gifcore.block_adjoints import adjoints_together, block_size, next_block
from gifcore.curved import Curved
from gifcore.estimate import products
from gifcore.influence import adjoint
from gifcore.methods import Solver
from gifcore.problem import Progress
from gifcore.queries import Queries
from gifcore.scoring import with_halfway
from gifcore.selection import Selection
from gifcore.solvers import Solution
from gifcore.stages import Kept, Loaded, Meter
from gifcore.study import METHOD_LABELS, Study
from gifcore.targets import TARGETS, as_loss, independent

Part = tuple[dict[str, Any], dict[str, np.ndarray]]


def query_gradient(study: Study, loaded: Loaded, images: Sequence[int]) -> Tensor:
    """Return g_q, (p,): the mean gradient of the study's target over these test images.

    Of a target that is better when it is higher, minus the gradient: a positive score is helpful
    whatever is asked about.
    """
    target = as_loss(TARGETS[study.ranking.target])
    asked = Queries(loaded.splits["test"], [list(images)], target)
    return next(asked.gradients(loaded.problem, zero=True))


def refuse_flat(study: Study, loaded: Loaded, queries: Sequence[int]) -> None:
    """Refuse a target whose gradient is zero on every query; of the loss that is an answer.

    Raises:
        GifError: it does not depend on the parameters, or is saturated wherever it is asked for.

    Cost: one gradient, as a rule.
    """
    if study.ranking.target == "loss" or not queries:
        return
    if not any(bool(query_gradient(study, loaded, loaded.positions(q)).any()) for q in queries):
        raise independent(study.ranking.target)


class QuerySolves:
    """Every solve of a query, each kept as a part of the run as soon as its block is solved."""

    def __init__(
        self,
        study: Study,
        loaded: Loaded,
        selected: Selection,
        kept: Kept,
        meter: Meter,
        solver: Solver,
        curvature: Callable[[str], Curved],
        certificate: Callable[[Solution, str], dict[str, Any]],
    ) -> None:
        self.study, self.loaded, self.selected = study, loaded, selected
        self.kept, self.meter, self.solver = kept, meter, with_halfway(solver)
        self.curvature, self.certificate = curvature, certificate  # of a method; of a solve
        self._known: set[int] = set()  # curvatures of which a product is behind us

    def of(self, stack: Sequence[tuple[str, int]]) -> list[Part]:
        """Return certificate, s, history and earlier iterate of each (method, query), in order."""
        found: dict[tuple[str, int], Part] = {}
        for method in dict.fromkeys(method for method, _ in stack):
            waiting = [q for one, q in stack if one == method]
            for query in [q for q in waiting if self.kept.has(key_of(method, q))]:
                found[method, query] = self._keep(method, query, None)
                waiting.remove(query)
            while waiting:
                size = self._together(method)
                block, waiting = waiting[:size], waiting[size:]
                for query, solution in zip(block, self._solve(method, block), strict=True):
                    found[method, query] = self._keep(method, query, solution)
        return [found[one] for one in stack]

    def _together(self, method: str) -> int:
        """Return how many queries the next block takes."""
        size = block_size(method, self.solver, self.selected, self.loaded.problem.theta)
        if size == 1:
            return 1
        H = self.curvature(method).H
        first = id(H) not in self._known
        self._known.add(id(H))
        return next_block(size, self.solver, H, first=first)

    def _solve(self, method: str, block: Sequence[int]) -> list[Solution]:
        gradients = [
            query_gradient(self.study, self.loaded, self.loaded.positions(q)) for q in block
        ]
        shared: dict[str, Any] = {
            "method": method,
            "selected": self.selected,
            "curved": self.curvature(method),
            "solver": self.solver,
            "progress": self._report(method, block),
        }
        if len(block) > 1:
            found = adjoints_together(self.loaded.problem, gradients, **shared)
            note = f"solved in a block of {len(block)} queries: its extreme curvatures are of all"
            return [replace(one, notes=(*one.notes, note)) for one in found]
        return [adjoint(self.loaded.problem, gradients[0], seed=self.study.seed, **shared)]

    def _report(self, method: str, block: Sequence[int]) -> Progress:
        first = self._named(block[0])
        rest = f" and {len(block) - 1} more" if len(block) > 1 else ""
        weight = (products(method, self.study) or 1) * len(block)
        return self.meter.part(weight, f"{METHOD_LABELS[method]} for {first}{rest}")

    def _named(self, query: int) -> str:
        return f"image {query}" if query >= 0 else self.study.ranking.groups[-query - 1].name

    def _keep(self, method: str, query: int, solution: Solution | None) -> Part:
        """Return the part of a solve; None: it is on the disk."""

        def contents() -> Part:
            assert solution is not None
            arrays = {
                "s": solution.value.numpy(),
                "history": np.array(solution.residual_history),
            }
            if solution.halfway is not None:
                arrays["halfway"] = solution.halfway.numpy()
            return {"certificate": self.certificate(solution, "query")}, arrays

        part = self.kept.part(key_of(method, query), contents)
        self.meter.add(products(method, self.study) or 1)
        return part


def key_of(method: str, query: int) -> str:
    """Return the name of the part of a run that holds this solve."""
    return f"solve-{method}-{query}"


def solved(arrays: dict[str, np.ndarray]) -> tuple[Tensor, Tensor | None]:
    """Return s and the iterate at half the budget of a solve that was kept."""
    halfway = torch.from_numpy(arrays["halfway"]) if "halfway" in arrays else None
    return torch.from_numpy(arrays["s"]), halfway

"""Makes the instant preview's sketch: every method, solved in a small space, for all test samples.

In the space V of `gifcore.small_space` the problem keeps its form: H becomes V^T H V, E the columns
on J, a gradient V^T g. So each method is run there as it is, with its own solver and iterations,
once a test sample: s_q is about V x. With V square that is exact; with a small one `Sketch.recall`
says what is lost.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gifcore.curved import Curved, preconditioned
from gifcore.errors import GifError
from gifcore.influence import adjoint
from gifcore.methods import MethodRow, Solver, scored
from gifcore.preview import CRITERIA, DEPTH, Array, Sketch, recall
from gifcore.problem import Problem, Progress, silent
from gifcore.scoring import influence_scores
from gifcore.selection import Selection
from gifcore.small_solve import small_solve
from gifcore.small_space import VECTORS, coordinates, small_space
from gifcore.solvers import LSMR

RANK = 384
HELD_OUT = 16  # test samples on which the recall is measured
NUMBERS = {"float16": np.float16, "float32": np.float32, "float64": np.float64}
MOST_KNOWN = 64  # exact rankings that are there already and that a recall is measured on

Known = Mapping[str, Mapping[int, Array]]  # exact scores (n,) by method and test sample


def build_sketch(
    problem: Problem,
    test: Dataset[Any],
    *,
    methods: Sequence[str],
    curved: Curved,
    model: str,
    data: str,
    selected: Selection | None = None,
    solver: Solver | None = None,
    rank: int = RANK,
    held_out: int = HELD_OUT,
    known: Known | None = None,
    seed: int = 0,
    numbers: str = "float16",
    batch_size: int = 256,
    memory_mb: float = 4096,
    progress: Progress = silent,
) -> Sketch:
    """Return the sketch of a training and a test set for these methods, its recall measured.

    Nothing of the test set goes into V. It is `unmeasured`, then `measured`; see there.
    """
    count = len(test)  # type: ignore[arg-type]
    if not 1 <= held_out <= count:
        raise GifError(
            f"held_out is {held_out}; it must be from 1 to the {count} test samples: a preview "
            "without a measured recall is not shown."
        )
    shared: dict[str, Any] = {"curved": curved, "selected": selected, "solver": solver}
    shared |= {"seed": seed, "progress": progress}
    sketch = unmeasured(
        problem, test, methods=methods, model=model, data=data, rank=rank, numbers=numbers,
        memory_mb=memory_mb, **shared,
    )  # fmt: skip
    return measured(
        sketch, problem, test, held_out=held_out, known=known, batch_size=batch_size, **shared
    )


def unmeasured(
    problem: Problem,
    test: Dataset[Any],
    *,
    methods: Sequence[str],
    curved: Curved,
    model: str,
    data: str,
    selected: Selection | None = None,
    solver: Solver | None = None,
    rank: int = RANK,
    seed: int = 0,
    numbers: str = "float16",
    memory_mb: float = 4096,
    progress: Progress = silent,
) -> Sketch:
    """Return the sketch of a training and a test set, without a recall yet.

    Args:
        test: map-style data set of the samples that can be asked for.
        curved: the curvature of the full objective that the exact rankings use.
        model: hash of the model; with `data` what `preview.load` checks.
        data: hash of the data.
        rank: r, numbers a training sample; fewer are kept where gradients span fewer directions.
        numbers: how rows are kept, a name of NUMBERS; each with its length beside it.
        memory_mb: for vectors of size p: up to VECTORS r of them.

    Raises:
        GifError: a method without a preview, a rank beyond p, n or the memory, or values that are
            not finite.

    Cost: r products with H, `coordinates` of both sets, one small solve a test sample and method.
    Memory: flat in n beside the sketch itself.
    """
    if not methods:
        raise GifError("Name one or more methods to preview.")
    rows = {method: _row(method) for method in methods}
    _refuse(problem, rank, numbers, memory_mb)
    solver = solver or LSMR()
    if any(row.rectangular for row in rows.values()) and curved.preconditioner is None:
        curved = preconditioned(curved, selected, solver, seed=seed, like=problem.theta)
    J = torch.arange(problem.space.size) if selected is None else selected.indices
    clock = _Clock()
    solving = any(row.solves for row in rows.values())
    space = small_space(problem, curved, J, rank, solving=solving, seed=seed, progress=progress)
    clock.lap("space")
    train = coordinates(problem, space, progress, "training coordinates")
    asked = replace(problem, train=test, samples=None, weights=None)
    b = coordinates(asked, space, progress, "test coordinates").double()
    clock.lap("coordinates")
    solves: dict[str, Tensor] = {}
    for method, row in rows.items():
        solve = small_solve(space, curved, selected, solver, method, row)
        found = []
        for b_q in b:
            found.append(solve(b_q))
            done = len(solves) * len(b) + len(found)
            progress(done, len(rows) * len(b), f"preview by {method}")
        solves[method] = torch.stack(found)
    clock.lap("solves")
    info: dict[str, Any] = {
        "model": model,
        "data": data,
        "rank": len(space.V),
        "on_selection": len(space.inside),
        "numbers": numbers,
        "seed": seed,
        "seconds": clock.laps,
        "methods": {method: {} for method in methods},
    }
    return _packed(train, problem, solves, info, numbers)


def measured(
    sketch: Sketch,
    problem: Problem,
    test: Dataset[Any],
    *,
    curved: Curved,
    selected: Selection | None = None,
    solver: Solver | None = None,
    held_out: int = HELD_OUT,
    known: Known | None = None,
    batch_size: int = 256,
    seed: int = 0,
    progress: Progress = silent,
) -> Sketch:
    """Return the sketch with the recall of each method, and of a control beside it.

    It is measured against exact scores of `held_out` or more test samples: those that all methods
    have in `known`, and drawn ones, solved at full size, where these are fewer. The control ranks
    by the query's gradient alone.

    Cost: one full solve a method for each sample that is not known, one sweep of the training set
    for every 16 of them and of the control.
    """
    known, clock = known or {}, _Clock()
    held = held_out_samples(sketch, known, held_out, seed)
    gradients = torch.stack([problem.data_gradient(torch.tensor([q]), data=test) for q in held])
    control = _exact(problem, gradients, batch_size)
    summaries: dict[str, Any] = {}
    for method in sketch.methods:
        of_method = known.get(method, {})
        missing = [place for place, q in enumerate(held) if q not in of_method]
        progress(len(summaries), len(sketch.methods), f"exact rankings by {method}")
        full = [
            adjoint(
                problem, gradients[place], method=method, selected=selected, curved=curved,
                solver=solver or LSMR(), seed=seed, progress=progress,
            ).value
            for place in missing
        ]  # fmt: skip
        exact = np.empty((len(held), problem.n))
        if full:
            exact[missing] = _exact(problem, torch.stack(full), batch_size)
        for place in set(range(len(held))) - set(missing):
            exact[place] = of_method[held[place]]
        summaries[method] = {"recall": _recall_of(sketch, method, held, exact, control)}
    clock.lap("recall")
    seconds = sketch.info["seconds"] | clock.laps
    info = {**sketch.info, "held_out": held, "seconds": seconds, "methods": summaries}
    return replace(sketch, info=info)


def held_out_samples(sketch: Sketch, known: Known, held_out: int, seed: int) -> list[int]:
    """Return the test samples of the recall: those known for all methods, then drawn ones."""
    count = len(next(iter(sketch.solves.values())))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(count, generator=generator).tolist()
    ready = set(range(count)).intersection(*(known.get(m, {}) for m in sketch.methods))
    first = [q for q in drawn if q in ready][: max(held_out, MOST_KNOWN)]
    rest = [q for q in drawn if q not in ready][: max(0, min(held_out, count) - len(first))]
    return sorted(first + rest)


@dataclass
class _Clock:
    """Seconds of each part, one after the other."""

    laps: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.perf_counter)

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self.last = round(now - self.last, 3), now


def _row(method: str) -> MethodRow:
    row = scored(method)
    if row.checkpoints:
        raise GifError(f"{method} takes gradients at many checkpoints and has no preview.")
    return row


def largest_rank(problem: Problem, memory_mb: float) -> int:
    """Return the largest rank that p, n and this memory allow, 0 if none does."""
    p = problem.space.size
    fits = int(memory_mb * 2**20 // (VECTORS * p * problem.theta.element_size()))
    return min(p, problem.n, fits)


def _refuse(problem: Problem, rank: int, numbers: str, memory_mb: float) -> None:
    p, n = problem.space.size, problem.n
    if not 1 <= rank <= min(p, n):
        raise GifError(
            f"rank is {rank}; it must be from 1 to {min(p, n)}, the smaller of {p} parameters and "
            f"{n} training samples."
        )
    if numbers not in NUMBERS:
        raise GifError(f"numbers is '{numbers}'; choose one of: {', '.join(NUMBERS)}.")
    fits = largest_rank(problem, memory_mb)
    if rank > fits:
        raise GifError(
            f"A sketch of rank {rank} needs {rank / max(fits, 1):.1f} times the memory of "
            f"{memory_mb:g} MB; lower `rank` to {fits} or raise `memory_mb`."
        )


# --- what is kept ---------------------------------------------------------------------------------


def _exact(problem: Problem, vectors: Tensor, batch_size: int) -> Array:
    """Return the scores of all training samples along vectors of full size, (m, n)."""
    return influence_scores(problem, vectors, batch_size=batch_size).double().cpu().numpy()


def _packed(
    train: Tensor,
    problem: Problem,
    solves: dict[str, Tensor],
    info: dict[str, Any],
    numbers: str,
) -> Sketch:
    w = problem.weights_of(problem.positions).double().cpu()
    mean = (w @ train.double().cpu()) / w.sum()
    rows, lengths = _scaled(train, numbers)
    scaled = {method: _scaled(found, numbers) for method, found in solves.items()}
    wide = np.float64 if numbers == "float64" else np.float32
    return Sketch(
        train=rows,
        lengths=lengths,
        factors=(w / (w.sum() - w)).numpy().astype(wide),
        mean=mean.numpy().astype(wide),
        positions=problem.positions.cpu().numpy(),
        solves={method: rows for method, (rows, _) in scaled.items()},
        solve_lengths={method: lengths for method, (_, lengths) in scaled.items()},
        info=info,
    )


def _scaled(rows: Tensor, numbers: str) -> tuple[Array, Array]:
    """Return rows of length 1 in the type they are kept in, and their lengths.

    So no row is lost below the smallest number of float16.
    """
    given = rows.double().cpu().numpy()
    lengths = np.linalg.norm(given, axis=1)
    unit = given / np.where(lengths > 0, lengths, 1)[:, None]
    wide = np.float64 if numbers == "float64" else np.float32
    return unit.astype(NUMBERS[numbers]), lengths.astype(wide)


def _recall_of(
    sketch: Sketch, method: str, held: Sequence[int], exact: Array, control: Array
) -> dict[str, Any]:
    """Return recall@m of the preview on the held-out queries, and the mean one of the control.

    m is DEPTH, or a tenth of fewer samples. The control scores by the query's gradient alone.
    """
    depth = max(1, min(DEPTH, exact.shape[1] // 10))
    preview = [sketch.scores(q, method) for q in held]
    found, plain = (
        [recall(one, other, depth) for one, other in zip(exact, scores, strict=True)]
        for scores in (preview, control)
    )
    summary: dict[str, Any] = {"queries": len(held), "depth": depth}
    for name in CRITERIA:
        values = [one[name] for one in found]
        summary[name] = {
            "mean": float(np.mean(values)),
            "min": float(min(values)),
            "control": float(np.mean([one[name] for one in plain])),
        }
    return summary

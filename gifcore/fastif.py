"""The stage fastif: what FastIF's candidates and solves miss of the exact ranking, at what cost.

Reference: Guo et al. 2021 (arXiv 2012.15781), sections 4.2 and 4.3.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from gifcore.errors import GifError
from gifcore.fastif_ways import BATCH, Asked, Way, Ways, lissas
from gifcore.features import refuse_layer
from gifcore.methods import METHODS
from gifcore.neighbors import (
    CRITERIA,
    DEPTHS,
    NeighborIndex,
    candidate_scores,
    columns_of,
    rank_correlation,
    recall,
    recall_table,
)
from gifcore.problem import Progress
from gifcore.queries import Queries
from gifcore.record import INDEX, RECALL, SPEED, parquet_bytes
from gifcore.run_state import RunState
from gifcore.scoring import stack_size
from gifcore.selection import Selection
from gifcore.stages import Kept, Loaded, Meter
from gifcore.study import Study
from gifcore.tables import MethodResult

DEPTH = 100  # m of the recall beside the seconds


@dataclass(frozen=True, eq=False)
class Measured:
    """What the stage leaves in a record: `fastif` of record.json, and two files."""

    info: dict[str, Any]
    files: dict[str, bytes]


def measured_methods(study: Study) -> list[str]:
    """Return the methods of a study that FastIF is measured for: those with one solve a query."""
    rows = {m: METHODS[m] for m in study.methods}
    return [m for m, row in rows.items() if row.adjoint and not row.checkpoints]


def asked(loaded: Loaded, queries: Sequence[int]) -> list[Asked]:
    """Return the queries with what the stage needs to know of them."""
    before = loaded.before["test"]
    right = before.predicted == before.labels
    return [Asked(q, loaded.positions(q), bool(right[q]) if q >= 0 else None) for q in queries]


def refuse(study: Study, loaded: Loaded, queries: Sequence[Any]) -> None:
    """Refuse what [fastif] cannot be measured with, before anything is solved.

    Raises:
        GifError: more candidates or a greater depth than samples, a rank, a layer or a method that
            is not there, or no query.
    """
    asked, n, p = study.fastif, loaded.problem.n, loaded.problem.space.size
    if not asked.enabled:
        return
    for name, values, most in (
        ("k", asked.k, n),
        ("depths", asked.depths, n),
        ("previews", asked.previews, min(n, p)),
    ):
        if values and max(values) > most:
            of = f"the smaller of {n:,} training images and {p:,} parameters"
            of = of if name == "previews" else "the number of training images"
            raise GifError(f"fastif.{name} = {max(values)} is too many; choose 1 … {most}, {of}.")
    refuse_layer(loaded.problem, asked.layer)
    if not len(queries):
        raise GifError("fastif is measured on ranked test images; give ranking.count or queries.")
    if not measured_methods(study):
        raise GifError("fastif needs a method with one solve a query, such as if or gif.")


def measure(
    study: Study,
    loaded: Loaded,
    selected: Selection,
    kept: Kept,
    state: RunState,
    queries: Sequence[Asked],
    own: Mapping[str, MethodResult],
    folder: Path,
) -> Measured:
    """Return recall and cost of every way and number of candidates on the study's queries.

    Args:
        own: the study's rankings of this run; compared where the exact solves are longer.
        folder: of the record; the index is kept there.

    Raises:
        GifError: as `refuse`; an index of another model, or features that are not finite.

    Cost: the index and the mean gradient, a forward and backward pass over all samples; for each
    method and way the solves and a sweep over the training samples for every stack of queries.
    """
    methods, problem = measured_methods(study), loaded.problem
    stacks = -(-len(queries) // stack_size(problem.theta))
    ways_in_all = sum(2 + len(lissas(study, m)) for m in methods)
    parts = 2 + ways_in_all * stacks + len(methods) + len(study.fastif.previews)
    meter = Meter(state, "fastif", parts)
    near = _Near.of(study, loaded, queries, folder, meter)
    ways = Ways(study, loaded, selected, kept, meter, queries)
    seconds: dict[str, dict[int, float]] = {}

    def candidates_timed(method: str, s: Tensor) -> None:
        part = partial(near.timed, loaded, s, meter.part(1, "candidates"))
        info, _ = kept.part(f"fastif-{method}-candidates", part)
        seconds[method] = {int(k): value for k, value in info.items()}
        meter.add(1)

    found = {method: ways.of(method, candidates_timed) for method in methods}
    previews = ways.previews(methods, meter.part(1, "preview"))
    loop = ways.loop_seconds(study.fastif.loop) if study.fastif.loop else None
    depths = study.fastif.depths or tuple(m for m in DEPTHS if m <= problem.n) or (problem.n,)
    info: dict[str, Any] = {
        "k": list(study.fastif.k),
        "depths": list(depths),
        "depth": max(1, min(DEPTH, problem.n // 10)),
        "index": near.info,
        "methods": {},
    }
    recalls, qualities = [], []
    for method in methods:
        mine = found[method] + [way for way in previews if way.method == method]
        if study.fastif.iterations and method in own:
            mine.append(_own_way(study, own[method], queries))
        info["methods"][method] = {
            "ways": {way.name: way.info for way in mine},
            "points": _points(mine, problem.n, seconds[method], loop),
        }
        recalls.append(_recall_frame(mine, near, queries, depths))
        qualities.append(_quality_frame(mine, near, queries, info["depth"]))
    state.finish("fastif")
    frames = {RECALL: pd.concat(recalls), SPEED: pd.concat(qualities)}
    files = {
        name: parquet_bytes([pa.Table.from_pandas(frame, preserve_index=False)])
        for name, frame in frames.items()
    }
    return Measured(info, files)


# --- index and candidates -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Near:
    """The candidates of every query for every k and for all n, and what they took."""

    columns: dict[int, Tensor]  # k -> (m, k) columns of a full ranking
    positions: dict[int, Tensor]  # k -> (m, k) in the training set
    search_seconds: dict[int, float]  # a query, its features included
    mean: Tensor  # gbar, (p,)
    info: dict[str, Any]

    @classmethod
    def of(
        cls, study: Study, loaded: Loaded, queries: Sequence[Asked], folder: Path, meter: Meter
    ) -> _Near:
        problem, began = loaded.problem, time.perf_counter()
        index, source = _index(study, loaded, folder, meter.part(1, "index"))
        seconds = time.perf_counter() - began
        meter.add(1)
        began = time.perf_counter()
        mean = problem.data_gradient(
            problem.positions, batch_size=BATCH, progress=meter.part(1, "mean gradient")
        )
        mean_seconds = time.perf_counter() - began
        meter.add(1)
        asked = Queries(loaded.splits["test"], [one.positions for one in queries])
        positions, spent = {}, {}
        for k in dict.fromkeys((*study.fastif.k, problem.n)):
            began = time.perf_counter()
            positions[k] = index.candidates(index.query_features(problem, asked), k)
            spent[k] = (time.perf_counter() - began) / len(queries)
        columns = {k: columns_of(problem.positions, found) for k, found in positions.items()}
        card = index.card
        info = {
            "kind": card.kind,
            "layer": card.layer,
            "n": card.n,
            "dim": card.dim,
            "source": source,
            "seconds": seconds,
            "mean_gradient_seconds": mean_seconds,
        }
        return cls(columns, positions, spent, mean, info)

    def timed(
        self, loaded: Loaded, s: Tensor, progress: Progress
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the seconds a query for the search of k candidates and their scores, for each k.

        Args:
            s: (b, p) solves of the first b queries.
        """
        found = {}
        for k, positions in self.positions.items():
            if k == loaded.problem.n:
                continue
            began = time.perf_counter()
            stacks = list(s.split(1))
            candidate_scores(
                loaded.problem, stacks, positions[: len(s)], self.mean, batch_size=BATCH,
                progress=progress,
            )  # fmt: skip
            found[str(k)] = self.search_seconds[k] + (time.perf_counter() - began) / len(s)
        return found, {}


def _index(
    study: Study, loaded: Loaded, folder: Path, progress: Progress
) -> tuple[NeighborIndex, str]:
    """Return the index and where it is from: given, kept beside the record, or built and kept."""
    asked, problem = study.fastif, loaded.problem
    if asked.index_file is None:
        try:
            return NeighborIndex.load(folder / INDEX, problem), "kept"
        except GifError:  # none yet, or damaged by what stopped the run
            index = NeighborIndex.build(
                problem, layer=asked.layer, kind=asked.index, seed=study.seed, progress=progress
            )
            index.save(folder / INDEX)
            return index, "built"
    index = NeighborIndex.load(asked.index_file, problem)
    name = Path(asked.index_file).name
    if index.card.layer != asked.layer:
        raise GifError(
            f"The index {name} is of the layer {index.card.layer or 'penultimate'} instead of "
            f"{asked.layer or 'penultimate'}; give that as fastif.layer, or leave index_file out."
        )
    if asked.index not in (None, index.card.kind):
        raise GifError(
            f"The index {name} is of the kind {index.card.kind} instead of {asked.index}; give "
            "that as fastif.index, or leave index_file out."
        )
    return index, "given"


# --- tables ---------------------------------------------------------------------------------------


def _own_way(study: Study, result: MethodResult, queries: Sequence[Asked]) -> Way:
    """Return the study's own rankings, with fewer iterations than the exact ones."""
    scores = np.stack([result.scores[one.index] for one in queries])
    certificates = result.info["query_certificates"]
    info = {
        "kind": "study",
        "label": f"As the study solves, {study.solver.iterations:,} iterations",
        "solver": next(iter(certificates.values()))["solver"],
        "notes": [],
    }
    nothing = np.full(len(queries), np.nan)
    solve = sum(found["seconds"] for found in certificates.values()) / len(certificates)
    score = result.info["seconds"]["rank"] / len(result.scores)
    return Way(result.method, "study", info, scores, solve, score, nothing, nothing)


def _points(
    ways: Sequence[Way], n: int, candidates: Mapping[int, float], loop: float | None
) -> list[dict[str, Any]]:
    """Return the seconds a query of every way with every number of scored samples."""
    points = []
    for way in ways:
        own = {n: way.score_seconds}
        if way.filtered:
            own = {k: spent for k, spent in candidates.items() if k < n} | own
        points += [_point(way, k, spent) for k, spent in own.items()]
    if loop is not None:
        exact = next(way for way in ways if way.name == "exact")
        points.append(_point(exact, n, n * loop) | {"way": "loop", "extrapolated": True})
    return points


def _point(way: Way, k: int, score_seconds: float) -> dict[str, Any]:
    solve = way.solve_seconds
    return {
        "way": way.name,
        "k": k,
        "solve_seconds": solve,
        "score_seconds": score_seconds,
        "seconds": solve + score_seconds,
        "extrapolated": False,
    }


def _recall_frame(
    ways: Sequence[Way], near: _Near, queries: Sequence[Asked], depths: Sequence[int]
) -> pd.DataFrame:
    """Return recall@m of every way that ranked all queries, for every k and for all n."""
    by_name = {way.name: torch.from_numpy(way.scores).double() for way in ways}
    exact, control = by_name["exact"], by_name["gradient"]
    single = [row for row, one in enumerate(queries) if one.correct is not None]
    correct = [bool(queries[row].correct) for row in single]
    rows = []
    for way in ways:
        scores = by_name[way.name]
        ranked = bool(torch.isfinite(torch.stack([exact, control, scores])).all())
        if way.name == "gradient" or not ranked:  # the first is the control of every row
            continue
        for k, nearest in near.columns.items():
            if k < exact.shape[1] and not way.filtered:
                continue
            given = (exact, scores, control, nearest)
            found = recall_table(*given, depths=depths, counts=[k])
            if single:
                few = (values[single] for values in given)
                split = recall_table(*few, depths=depths, counts=[k], correct=correct)
                found += [row for row in split if row.predictions != "all"]
            rows += [{"method": way.method, "way": way.name, **vars(row)} for row in found]
    return pd.DataFrame(rows, columns=["method", "way", *_RECALL_COLUMNS])


_RECALL_COLUMNS = ["predictions", "criterion", "m", "k", "queries", "kept", "found", "control"]


def _quality_frame(
    ways: Sequence[Way], near: _Near, queries: Sequence[Asked], depth: int
) -> pd.DataFrame:
    """Return how well each query's ranking by each way, among k candidates, agrees with exact."""
    exact = next(torch.from_numpy(way.scores).double() for way in ways if way.name == "exact")
    n = exact.shape[1]
    rows = []
    for way in ways:
        scores = torch.from_numpy(way.scores).double()
        for k, nearest in near.columns.items():
            if k < n and not way.filtered:
                continue
            for row, one in enumerate(queries):
                known = bool(torch.isfinite(torch.stack([scores[row], exact[row]])).all())
                rows.append(
                    {"method": way.method, "way": way.name, "k": k, "query": one.index}
                    | (_quality(scores[row], exact[row], nearest[row], depth) if known else {})
                    | {"cosine": way.cosine[row], "error": way.error[row]}
                )
    columns = ["method", "way", "k", "query", "spearman", *CRITERIA, "cosine", "error"]
    return pd.DataFrame(rows, columns=columns)


def _quality(scores: Tensor, exact: Tensor, nearest: Tensor, depth: int) -> dict[str, float]:
    """Return the rank correlation among the candidates, and recall@depth of all samples."""
    among = torch.full_like(scores, torch.nan).scatter(0, nearest, scores[nearest])
    shared = rank_correlation(scores[nearest], exact[nearest]) if len(nearest) > 1 else np.nan
    return {"spearman": shared} | recall(among, exact, depth)

"""The stages of a study, in order: load, select, solve, rank, edit, evaluate.

Each finished part is kept in the study's folder, so that a run that was stopped goes on from there.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from gifcore.change import Change
from gifcore.changing import SPLITS, as_tensors, asked, judge_of
from gifcore.checkpoints import Checkpoint, read_checkpoints
from gifcore.curvature import Hessian, check_deterministic, draw_samples
from gifcore.data.dataset import Data
from gifcore.edit import StepSearch, edited_parameters, search_step
from gifcore.errors import GifError
from gifcore.estimate import estimate
from gifcore.evaluate import Judge, Predictions, predict
from gifcore.influence import Update
from gifcore.methods import METHODS
from gifcore.models import build, load_weights
from gifcore.models.bundle import checkpoints_beside
from gifcore.parameters import ParameterSpace
from gifcore.problem import Problem, Progress
from gifcore.record import NATURAL, SEARCHED, write_atomically
from gifcore.run_state import RunState
from gifcore.selection import Selection, select
from gifcore.selection.scores import layers
from gifcore.study import METHOD_LABELS, Study
from gifcore.tables import MethodResult, curve_frame, sample_frame

CALIBRATION = 128  # samples on which the cost of a product is measured


# --- finished parts, kept for a resumed run ------------------------------------------------------


@dataclass
class Kept:
    """Finished parts of a run by key; a part is computed once and read back afterwards."""

    folder: Path
    from_disk: set[str] = field(default_factory=set)

    def part(
        self, key: str, compute: Callable[[], tuple[dict[str, Any], dict[str, np.ndarray]]]
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return (info, arrays) of a part, from the disk if it was finished before."""
        path = self.folder / f"{key}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            self.from_disk.add(key)
            return json.loads(str(arrays.pop("info"))), arrays
        info, arrays = compute()
        buffer = io.BytesIO()
        stored: dict[str, Any] = {"info": np.array(json.dumps(info))} | arrays
        np.savez(buffer, **stored)
        write_atomically(path, buffer.getvalue())
        return info, arrays

    def has(self, key: str) -> bool:
        """Was this part finished?"""
        return (self.folder / f"{key}.npz").exists()

    def row(self, key: str, name: str, place: int) -> np.ndarray:
        """Return one row of an array of a finished part, from the disk."""
        with np.load(self.folder / f"{key}.npz", allow_pickle=False) as file:
            return np.array(file[name][place])

    def drop(self, keys: Iterable[str]) -> None:
        """Forget parts that a later part has taken up."""
        for key in keys:
            (self.folder / f"{key}.npz").unlink(missing_ok=True)


@dataclass
class Meter:
    """Turns the progress of many solves into one stage's progress."""

    state: RunState
    stage: str
    total: float
    done: float = 0.0

    def part(self, weight: float, note: str) -> Progress:
        def report(done: int, total: int, _note: str) -> None:
            self.state.tick(self.stage, self.done + weight * done / max(total, 1), self.total, note)

        return report

    def add(self, weight: float) -> None:
        self.done += weight
        self.state.tick(self.stage, self.done, self.total, "")


# --- load ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Loaded:
    """The study's problem, splits and unedited predictions."""

    problem: Problem
    change: Change
    judge: Judge
    data: Data  # with the backdoor of the study in it, if it has one
    splits: dict[str, TensorDataset]
    before: dict[str, Predictions]
    sizes: dict[str, int]
    costs: dict[str, float]
    checkpoints: tuple[Checkpoint, ...] = ()  # of the training, for tracin
    groups: tuple[tuple[int, ...], ...] = ()  # test images of each group query, in its order

    def positions(self, query: int) -> tuple[int, ...]:
        """Return the test images of a query: -1 is the first group, -2 the second."""
        return (query,) if query >= 0 else self.groups[-query - 1]


def tensors(data: Data, split: str) -> TensorDataset:
    """Return one split as (inputs, labels) tensors."""
    return as_tensors(data.split(split))


def load_problem(study: Study, data: Data, weights: Path, weight_decay: float) -> Problem:
    """Return the study's problem: the architecture with these weights on the training split."""
    with torch.random.fork_rng(devices=[]):
        model = build(study.model.name, data.shape, data.n_classes)
    load_weights(model, weights)
    return Problem(model, tensors(data, "train"), weight_decay=weight_decay)


def load(study: Study, data: Data, weights: Path, weight_decay: float, state: RunState) -> Loaded:
    """Load everything, measure the unedited model and what a product costs here."""
    state.tick("load", 0, 3, "model and data")
    wanted = asked(study, data)
    data = wanted.data
    problem = load_problem(study, data, weights, weight_decay)
    wanted.change.apply(problem)  # refuses what cannot be made, such as a class that is not there
    splits = {name: tensors(data, name) for name in SPLITS}
    state.tick("load", 1, 3, "accuracy before")
    started = time.perf_counter()
    before = {name: predict(problem, split) for name, split in splits.items()}
    judge = judge_of(study, wanted, problem, before)
    sizes = {"train": problem.n} | {name: len(split) for name, split in splits.items()}
    forward = (time.perf_counter() - started) / sum(len(split) for split in splits.values())
    state.tick("load", 2, 3, "cost of a Hessian product")
    hvp = _cost_of_product(problem, study, state)
    costs = {
        "forward_per_sample": forward,
        "jvp_per_sample": 3 * forward,
        "hvp_per_sample": hvp,
    }
    if study.preview.rank:
        costs["column_per_sample"] = _cost_of_column(problem)
    state.expect(estimate(study, sizes, costs)["stages"])
    state.finish("load")
    points: tuple[Checkpoint, ...] = ()
    looked = study.mislabel.enabled and checkpoints_beside(weights).is_file()
    if looked or any(METHODS[method].checkpoints for method in study.methods):
        points = read_checkpoints(weights, problem.space)
    groups = groups_of(study, before["test"])
    return Loaded(problem, wanted.change, judge, data, splits, before, sizes, costs, points, groups)


def _cost_of_product(problem: Problem, study: Study, state: RunState) -> float:
    """Return the seconds a product takes for one curvature sample; refuses randomness."""
    few = min(study.curvature.batch_size, CALIBRATION, problem.n)
    drawn = draw_samples(problem, few, study.seed)
    H = Hessian(problem, drawn, few, study.curvature.memory_mb, state.check)
    vector = problem.theta / problem.theta.norm().clamp_min(1e-12)
    check_deterministic(H, vector)
    started = time.perf_counter()
    H @ vector
    return (time.perf_counter() - started) / few


def _cost_of_column(problem: Problem) -> float:
    """Return the seconds a gradient of one sample takes times one column of p numbers."""
    samples, size, columns = 64, min(4096, problem.space.size), 384
    one, other = problem.theta.new_ones(samples, size), problem.theta.new_ones(size, columns)
    one @ other
    started = time.perf_counter()
    one @ other
    seconds = time.perf_counter() - started
    return seconds * problem.space.size / (samples * size * columns)


def choose_queries(study: Study, loaded: Loaded) -> list[int]:
    """Return the test images to rank: the study's own, or half wrong and half right, spread.

    Behind them its groups: -1, -2, …
    """
    size = loaded.sizes["test"]
    groups = [-1 - number for number in range(len(loaded.groups))]
    if study.ranking.queries:
        bad = [q for q in study.ranking.queries if q >= size]
        if bad:
            raise GifError(
                f"ranking.queries: there is no test image {bad[0]}; 0 … {size - 1} exist."
            )
        return list(study.ranking.queries) + groups
    predictions = loaded.before["test"]
    wrong = predictions.predicted != predictions.labels
    generator = np.random.default_rng(study.seed)
    count = min(study.ranking.count, size)
    missed = _spread(np.flatnonzero(wrong), predictions.labels, count // 2, generator)
    right = _spread(np.flatnonzero(~wrong), predictions.labels, count - len(missed), generator)
    rest = [] if len(missed) + len(right) >= count else sorted(set(range(size)) - {*missed, *right})
    return sorted([*missed, *right, *rest[: count - len(missed) - len(right)]]) + groups


def groups_of(study: Study, tested: Predictions) -> tuple[tuple[int, ...], ...]:
    """Return the test images of every group query.

    Raises:
        GifError: a group without images, or with one that is not there.
    """
    found = []
    for group in study.ranking.groups:
        if group.samples:
            bad = [i for i in group.samples if i >= len(tested.labels)]
            if bad:
                raise GifError(
                    f"ranking.groups: there is no test image {bad[0]} for '{group.name}'; "
                    f"0 … {len(tested.labels) - 1} exist."
                )
            found.append(group.samples)
            continue
        label, predicted = group.cell or (group.label, None)
        mask = tested.labels == label
        if predicted is not None:
            mask = mask & (tested.predicted == predicted)
        if not mask.any():
            raise GifError(f"ranking.groups: no test image is in '{group.name}'; leave it out.")
        found.append(tuple(np.flatnonzero(mask).tolist()))
    return tuple(found)


def _spread(
    pool: np.ndarray, labels: np.ndarray, count: int, generator: np.random.Generator
) -> list[int]:
    """Return up to `count` positions, one class after the other."""
    pool = generator.permutation(pool)
    turn = np.empty(len(pool), dtype=np.int64)
    for label in np.unique(labels[pool]):
        of_class = labels[pool] == label
        turn[of_class] = np.arange(of_class.sum())
    return [int(i) for i in pool[np.argsort(turn, kind="stable")][:count]]


# --- select --------------------------------------------------------------------------------------


def selection(study: Study, loaded: Loaded, kept: Kept, state: RunState) -> Selection:
    """Return J, as the study's selector and ratio give it."""
    state.tick("select", 0, 1, study.selection.selector)
    chosen = study.selection

    def compute() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        found = select(
            loaded.problem,
            loaded.change,
            selector=chosen.selector,
            ratio=chosen.ratio,
            seed=study.seed,
            layers=chosen.layers or None,
            kinds=chosen.kinds or None,
            norms=chosen.norms,
            budget=chosen.budget,
            progress=lambda done, total, note: state.tick("select", done, total, note),
        )
        return {"ratio": found.ratio}, {"indices": found.indices.cpu().numpy()}

    info, arrays = kept.part("select", compute)
    indices = torch.from_numpy(arrays["indices"])
    state.finish("select")
    return Selection(indices, loaded.problem.space, chosen.selector, info["ratio"], study.seed)


# --- edit and evaluate ---------------------------------------------------------------------------


def measured(
    loaded: Loaded, theta: Tensor, splits: Mapping[str, TensorDataset]
) -> tuple[dict[str, Predictions], dict[str, dict[str, Any]]]:
    """Return the predictions of these splits and what judges the change on them, at theta."""
    found = {name: predict(loaded.problem, split, theta=theta) for name, split in splits.items()}
    return found, loaded.judge.measure(loaded.problem, found, theta)


def search(
    study: Study, loaded: Loaded, update: Update, kept: Kept, progress: Progress
) -> StepSearch:
    """Return the step search of one method on the validation split."""
    tried, judge, most = 0, loaded.judge, study.edit.evaluations
    validation = {"validation": loaded.splits["validation"]}

    def measure(scale: float) -> dict[str, float]:
        nonlocal tried
        tried += 1
        progress(min(tried, most), most + 1, f"step x {scale:g}")
        try:
            theta = edited_parameters(loaded.problem, update, scale)
        except GifError:
            return dict(judge.curves)
        found = measured(loaded, theta, validation)[1]["validation"]
        return {name: found[name] for name in judge.curves}

    def compute() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        asked = study.edit
        done = search_step(
            measure,
            min_scale=asked.min_scale,
            max_scale=asked.max_scale,
            evaluations=asked.evaluations,
        )
        return {"scales": done.scales, "values": done.values, "best": done.best}, {}

    info, _ = kept.part(f"edit-{update.method}", compute)
    return StepSearch(tuple(info["scales"]), tuple(info["values"]), info["best"])


def edits(
    study: Study,
    loaded: Loaded,
    updates: dict[str, Update],
    results: Mapping[str, MethodResult],
    kept: Kept,
    state: RunState,
) -> None:
    """Search each method's step on validation, then measure natural and searched step."""
    meter = Meter(state, "edit", max(len(updates), 1))
    chosen: dict[str, StepSearch] = {}
    for method, update in updates.items():
        started = time.perf_counter()
        chosen[method] = search(study, loaded, update, kept, meter.part(1, METHOD_LABELS[method]))
        meter.add(1)
        for name in loaded.judge.curves:
            values = [v[name] for v in chosen[method].values]
            results[method].curves.append(curve_frame(name, chosen[method].scales, values))
        results[method].info.setdefault("seconds", {})["edit"] = time.perf_counter() - started
    state.finish("edit")
    meter = Meter(state, "evaluate", max(2 * len(updates), 1))
    for method, update in updates.items():
        started = time.perf_counter()
        results[method].info["steps"] = {}
        for step, scale in ((NATURAL, 1.0), (SEARCHED, chosen[method].scale)):
            _evaluate(loaded, update, step, scale, results[method])
            meter.add(1)
        results[method].info["seconds"]["evaluate"] = time.perf_counter() - started
    state.finish("evaluate")


def _evaluate(
    loaded: Loaded, update: Update, step: str, scale: float, result: MethodResult
) -> None:
    theta = edited_parameters(loaded.problem, update, scale)
    predictions, found = measured(loaded, theta, loaded.splits)
    for name, of_split in predictions.items():
        result.samples.append(sample_frame(of_split, name, update.method, step))
    result.info["steps"][step] = {"scale": scale} | found


def layer_rows(problem: Problem) -> list[dict[str, Any]]:
    """Return what a page needs to know of the parameter layout."""
    space: ParameterSpace = problem.space
    selectable = set(layers(problem.model))
    rows = []
    for block in space.blocks:
        module, _, kind = block.name.rpartition(".")
        rows.append(
            {
                "name": block.name,
                "module": module,
                "kind": kind,
                "shape": list(block.shape),
                "offset": block.offset,
                "size": block.size,
                "selectable": module in selectable,
            }
        )
    return rows

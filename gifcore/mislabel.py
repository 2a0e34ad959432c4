"""Looking for wrong training labels in a study: scores of every sample, and how well they find.

Higher is more suspicious, for every score. Self-influence is the change of a sample's own loss that
its removal is predicted to make [nats]; the baselines need the model's probabilities alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from gifcore import data as datasets
from gifcore import truth
from gifcore.change import RemoveSamples
from gifcore.errors import GifError
from gifcore.evaluate import agreement, confident
from gifcore.mislabel_words import BASELINE, BASELINES, SELF, WITHIN
from gifcore.problem import Problem, engine_mode, fetch
from gifcore.record import MISLABEL, parquet_bytes
from gifcore.retraining import Job, retrain_all
from gifcore.run_state import RunState
from gifcore.self_influence import self_influence
from gifcore.solving import Solving
from gifcore.stages import Kept, Loaded
from gifcore.study import METHOD_LABELS, Study
from gifcore.tables import MethodResult

DRAWS = 200  # of the bootstrap of an AUC
POINTS = 101  # of a kept curve: at every 1 % inspected
BATCH = 500  # samples of a forward pass


@dataclass(frozen=True, eq=False)
class Found:
    """What a study found: its part of record.json and its file; both empty if it did not look."""

    info: dict[str, Any]
    files: dict[str, bytes]


def look(
    study: Study,
    weights: Path,
    loaded: Loaded,
    solving: Solving,
    results: Mapping[str, MethodResult],
    workspace: Path,
    kept: Kept,
    state: RunState,
) -> Found:
    """Score every training sample by every method and baseline, and measure what is known.

    TracIn comes in wherever checkpoints of the training are kept, though the study names it not.
    With folds, confident learning contradicts and suggests labels by held-out probabilities.
    """
    section, problem = study.mislabel, loaded.problem
    if not section.enabled:
        return Found({}, {})
    began = time.perf_counter()
    state.tick("mislabel", 0, 3, "predictions of the training set")
    given = np.asarray(loaded.data.train.y)
    p = probabilities(problem)
    scores = {m: r.self_influence for m, r in results.items() if r.self_influence is not None}
    if "tracin" not in scores and loaded.checkpoints:
        state.tick("mislabel", 1, 3, f"{METHOD_LABELS['tracin']} on themselves")
        scores["tracin"] = _tracin(loaded, solving, kept)
    scores |= baselines(p, given)
    if section.folds:
        held = held_out(study, weights, loaded, workspace, state)
        scores |= {f"held_{name}": s for name, s in baselines(held, given).items()
                   if f"held_{name}" in BASELINES}  # fmt: skip
    else:
        held = p
    state.tick("mislabel", 2, 3, "how well they find")
    true = true_labels(study)
    suspects = confident.contradicted(held, given)
    table = pd.DataFrame(
        {
            "train_index": np.arange(len(given), dtype=np.int32),
            "given": given.astype(np.int32),
            "true": pd.array(true, dtype="Int32") if true is not None else _unknown(len(given)),
            "predicted": p.argmax(axis=1).astype(np.int32),
            "suggested": _suggested(held, given),
            "p_given": p[np.arange(len(given)), given].astype(np.float32),
            "contradicted": suspects,
        }
        | {name: np.asarray(values, np.float32) for name, values in scores.items()}
    )
    wrong = None if true is None else true != given
    info: dict[str, Any] = {
        "rate": section.rate,
        "seed": section.seed if section.rate else None,
        "n": len(given),
        "wrong": None if wrong is None else int(wrong.sum()),
        "folds": section.folds,
        "contradicted": {
            "count": int(suspects.sum()),
            "wrong": None if wrong is None else int((suspects & wrong).sum()),
        },
        "methods": {
            name: _entry(name) | ({} if wrong is None else measured(table[name], wrong))
            for name in scores
        },
    }
    info["seconds"] = round(time.perf_counter() - began, 2)
    state.finish("mislabel")
    content = parquet_bytes([pa.Table.from_pandas(table, preserve_index=False)])
    return Found({"mislabel": info}, {MISLABEL: content})


def true_labels(study: Study) -> np.ndarray | None:
    """Return the true training labels where wrong ones were planted, None where none are known."""
    if study.mislabel.noise is None:
        return None
    return np.asarray(datasets.load(study.data.source).train.y)


def baselines(p: np.ndarray, given: np.ndarray) -> dict[str, np.ndarray]:
    """Return the score of every row of BASELINES from the probabilities (n, C)."""
    own = p[np.arange(len(given)), given]
    return {
        "loss": -np.log(np.maximum(own, np.finfo(np.float64).tiny)),
        "confidence": 1 - own,
        "confident": confident.margins(p, given),
    }


def measured(scores: Any, wrong: np.ndarray) -> dict[str, Any]:
    """Return AUC with its interval, the share found within WITHIN, and the curve at every 1 %."""
    values = np.asarray(scores, np.float64)
    area = agreement.bootstrap(agreement.auc, values, wrong, draws=DRAWS)
    inspected, found = agreement.found_curve(values, wrong)
    curve = np.interp(np.linspace(0, 1, POINTS), inspected, found)
    return {
        "auc": {"value": area.value, "low": area.low, "high": area.high},
        "found_20": agreement.found_within(values, wrong, WITHIN),
        "curve": [round(float(share), 5) for share in curve],
    }


def probabilities(problem: Problem) -> np.ndarray:
    """Return what a classifier gives each class of each training sample, (n, C), in float64."""
    parameters = problem.space.unflatten(problem.theta)
    parts = []
    with engine_mode(problem.model), torch.no_grad():
        for part in problem.positions.split(BATCH):
            batch = fetch(problem.train, part, problem.device)
            parts.append(problem.outputs(parameters, batch).double().softmax(dim=1).cpu())
    return torch.cat(parts).numpy()


def held_out(
    study: Study, weights: Path, loaded: Loaded, workspace: Path, state: RunState
) -> np.ndarray:
    """Return what models that never saw a sample give each class of it, (n, C).

    The training set is split into `folds` parts at random; of each, a model is trained without it,
    as [retrain] says: by default as the card of the checkpoint does.
    """
    problem, folds = loaded.problem, study.mislabel.folds
    if folds > problem.n:
        raise GifError(
            f"mislabel.folds: {problem.n} training samples cannot be split into {folds} parts."
        )
    parts = torch.randperm(problem.n, generator=torch.Generator().manual_seed(study.seed))
    left_out = [part.sort().values for part in parts.tensor_split(folds)]
    found = retrain_all(
        problem,
        [Job(RemoveSamples(part.tolist()), study.seed) for part in left_out],
        truth.recipe_of(study, weights, problem),
        cache=workspace / truth.CACHE,
        processes=study.retrain.processes,
        progress=lambda done, total, note: state.tick("mislabel", done, total, f"folds: {note}"),
    )
    p = np.empty((problem.n, loaded.data.n_classes))
    for part, model in zip(left_out, found, strict=True):
        p[part.numpy()] = probabilities(model.problem(problem).narrowed(part))
    return p


def _suggested(p: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return the most probable class beside the given one, (n,)."""
    others = p.copy()
    others[np.arange(len(given)), given] = -1
    return others.argmax(axis=1).astype(np.int32)


def _tracin(loaded: Loaded, solving: Solving, kept: Kept) -> np.ndarray:
    def compute() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        found = self_influence(
            loaded.problem,
            method="tracin",
            selected=solving.selected,
            checkpoints=loaded.checkpoints,
        )
        return {}, {"value": found.values.numpy()}

    return kept.part("mislabel-tracin", compute)[1]["value"]


def _entry(name: str) -> dict[str, Any]:
    if name in BASELINES:
        return {"kind": BASELINE, "label": BASELINES[name].label, "unit": BASELINES[name].unit}
    return {"kind": SELF, "label": METHOD_LABELS[name], "unit": "nats"}


def _unknown(n: int) -> Any:
    return pd.array([None] * n, dtype="Int32")

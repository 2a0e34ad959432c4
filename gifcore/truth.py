"""The stage retrain: models really trained on the study's changed data, and how edits compare.

    models       each with the metrics that the edits have
    agreement    figures of every edit against every retrained model (`evaluate.against`)
    between      the same between pairs of retrained models: how well the truth agrees with itself
    before       the same of the unedited model

A training that failed is a line of the record; the others count.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gifcore.edit import edited_parameters
from gifcore.errors import GifError
from gifcore.estimate import estimate
from gifcore.evaluate.against import FIGURES, Images, Seen, figures, images_of, see
from gifcore.influence import Update
from gifcore.models import checkpoint_card
from gifcore.problem import Problem
from gifcore.record import RETRAINED
from gifcore.retraining import (
    Job,
    Minimise,
    Proximal,
    Recipe,
    Retrained,
    Sgd,
    expected_seconds,
    passes,
    retrain_each,
    seconds_per_sample,
)
from gifcore.run_state import RunState
from gifcore.stages import Loaded, measured
from gifcore.study import Study
from gifcore.tables import MethodResult, sample_frame
from gifcore.training import Settings

CACHE = ".retrained"  # in the workspace
EVALUATIONS = 500  # of the objective by minimise and proximal, at most
TOLERANCE = {torch.float64: 1e-6}  # on the gradient; what is reached in other types:
COARSE = 1e-4


@dataclass
class Truth:
    """What the stage leaves in the record; nothing if it is off."""

    info: dict[str, Any] = field(default_factory=dict)
    samples: list[pd.DataFrame] = field(default_factory=list)


# --- how --------------------------------------------------------------------------------------


def recipe_of(study: Study, weights: Path, problem: Problem) -> Recipe:
    """Return how this study trains; by sgd as the card of the checkpoint says.

    An early stopping is repeated at its epoch: no validation loss decides when retraining ends.

    Raises:
        GifError: there is no card with the settings of the training.
    """
    asked, tolerance = study.retrain, TOLERANCE.get(problem.theta.dtype, COARSE)
    if asked.recipe == "minimise":
        return Minimise(asked.start, tolerance, EVALUATIONS)
    if asked.recipe == "proximal":
        return Proximal(tolerance=tolerance, evaluations=EVALUATIONS)
    card = checkpoint_card(weights) or {}
    known = card.get("settings")
    names = {"epochs", "batch_size", "lr", "momentum"}
    if not isinstance(known, dict) or not names <= set(known):
        raise GifError(
            f"retrain.recipe 'sgd' trains as the card beside {weights.name} says, and it states no "
            "settings: train with `python -m gifcore train`, or choose recipe 'minimise'."
        )
    try:
        settings = Settings(
            epochs=asked.epochs or int(known["epochs"]),
            batch_size=int(known["batch_size"]),
            lr=float(known["lr"]),
            momentum=float(known["momentum"]),
            weight_decay=problem.weight_decay,
        )
    except (TypeError, ValueError) as error:
        raise GifError(f"The settings on the card beside {weights.name}: {error}.") from None
    best = card.get("best_epoch")
    stop = best if asked.epochs is None and isinstance(best, int) and best > 0 else None
    return Sgd(settings, asked.start, stop)


def described(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as record.json holds it."""
    if isinstance(recipe, Sgd):
        asked = recipe.settings
        return {
            "kind": "sgd",
            "start": recipe.start,
            "epochs": recipe.epochs,
            "schedule": asked.epochs,
            "batch_size": asked.batch_size,
            "lr": asked.lr,
            "momentum": asked.momentum,
        }
    shared = {"tolerance": recipe.tolerance, "evaluations": recipe.evaluations}
    if isinstance(recipe, Minimise):
        return {"kind": "minimise", "start": recipe.start} | shared
    return {"kind": "proximal", "start": "warm", "damping": recipe.damping} | shared


def jobs_of(study: Study, loaded: Loaded) -> list[Job]:
    """Return the models to train: of the seeds 1, 2, …; 0 is often that of the model itself."""
    return [Job(loaded.change, seed) for seed in range(1, study.retrain.seeds + 1)]


def measure_costs(study: Study, weights: Path, loaded: Loaded) -> None:
    """Add to the unit costs what retraining takes; nothing if it is off."""
    if not (study.retrain.enabled or study.mislabel.folds):
        return
    recipe = recipe_of(study, weights, loaded.problem)
    loaded.costs["training_per_sample"] = seconds_per_sample(loaded.problem, recipe)
    loaded.costs["training_passes"] = float(passes(recipe))


def expect(study: Study, weights: Path, loaded: Loaded, state: RunState) -> None:
    """Say how long the stages will take, retraining with what it costs here."""
    measure_costs(study, weights, loaded)
    state.expect(estimate(study, loaded.sizes, loaded.costs)["stages"])


# --- the stage --------------------------------------------------------------------------------


def look(
    study: Study,
    weights: Path,
    loaded: Loaded,
    results: Mapping[str, MethodResult],
    workspace: Path,
    state: RunState,
) -> Truth:
    """Train the models, or read them from the workspace, and compare every edit with them."""
    if not study.retrain.enabled:
        return Truth()
    started = time.perf_counter()
    recipe, jobs = recipe_of(study, weights, loaded.problem), jobs_of(study, loaded)
    cache, processes = workspace / CACHE, study.retrain.processes
    state.stage("retrain")["expected"] = expected_seconds(
        loaded.problem, jobs, recipe, cache=cache, processes=processes
    )
    found = retrain_each(
        loaded.problem,
        jobs,
        recipe,
        cache=cache,
        processes=processes,
        progress=lambda done, total, note: state.tick("retrain", done, total, note),
    )
    truth, images = Truth(), images_of(loaded.judge, loaded.splits["test"])
    models, seen = [], []
    for job, one in zip(jobs, found, strict=True):
        state.check()
        models.append(_model(job.seed, one, loaded, truth))
        seen.append(
            see(one.problem(loaded.problem), images) if isinstance(one, Retrained) else None
        )
    truth.info = {
        "retrained": {
            "recipe": described(recipe),
            "models": models,
            "agreement": _agreement(loaded, results, images, seen, state),
            "between": _between(seen),
            "before": _against(see(loaded.problem, images), seen),
            "seconds": round(time.perf_counter() - started, 2),
        }
    }
    state.finish("retrain")
    return truth


def _model(seed: int, one: Retrained | GifError, loaded: Loaded, truth: Truth) -> dict[str, Any]:
    """Return the entry of one model; its predictions go to the rows of the record."""
    names = ("key", "seconds", "gradient_norm", "converged", "steps", "cached", "note")
    if isinstance(one, GifError):
        nothing = dict.fromkeys((*names, "validation", "test"))
        return {"seed": seed} | nothing | {"cached": False, "note": "", "failed": str(one)}
    problem = one.problem(loaded.problem)
    predictions, found = measured(replace(loaded, problem=problem), problem.theta, loaded.splits)
    for split, of_split in predictions.items():
        truth.samples.append(sample_frame(of_split, split, RETRAINED, f"seed-{seed}"))
    return {"seed": seed} | {name: getattr(one, name) for name in names} | {"failed": None} | found


def _agreement(
    loaded: Loaded,
    results: Mapping[str, MethodResult],
    images: Images,
    seen: Sequence[Seen | None],
    state: RunState,
) -> dict[str, Any]:
    agreement: dict[str, Any] = {}
    for method, result in results.items():
        if result.delta is None or "steps" not in result.info:
            continue
        delta = torch.from_numpy(result.delta).to(loaded.problem.theta)
        indices = None if result.indices is None else torch.from_numpy(result.indices).long()
        agreement[method] = {}
        for step, entry in result.info["steps"].items():
            state.check()
            update = Update(delta, indices, method)
            theta = edited_parameters(loaded.problem, update, entry["scale"])
            agreement[method][step] = _against(see(loaded.problem, images, theta), seen)
    return agreement


def _against(one: Seen, seen: Sequence[Seen | None]) -> dict[str, Any]:
    """Return every figure of a model against each retrained one; None for one that failed."""
    return _summed([None if other is None else figures(one, other) for other in seen])


def _between(seen: Sequence[Seen | None]) -> dict[str, Any] | None:
    """Return every figure of each pair of retrained models; differences without sign."""
    pairs = list(itertools.combinations(seen, 2))
    if not pairs:
        return None
    found: list[dict[str, float | None] | None] = []
    for one, other in pairs:
        if one is None or other is None:
            found.append(None)
            continue
        compared = figures(one, other)
        found.append({name: None if v is None else abs(v) for name, v in compared.items()})
    return _summed(found)


def _summed(found: Sequence[Mapping[str, float | None] | None]) -> dict[str, Any]:
    """Return mean, standard deviation (n - 1; None of one) and values of every figure."""
    summed = {}
    for name in FIGURES:
        values = [None if one is None else one[name] for one in found]
        known = [value for value in values if value is not None]
        summed[name] = {
            "mean": statistics.fmean(known) if known else None,
            "std": statistics.stdev(known) if len(known) > 1 else None,
            "values": values,
        }
    return summed

"""record.json: what was computed, from what, with what, at what cost."""

from __future__ import annotations

import io
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gifcore import stages
from gifcore.change_section import BackdoorSection, RemoveClassSection, UnionSection
from gifcore.estimate import sweeps
from gifcore.run_state import RunState
from gifcore.targets import TARGETS
from gifcore.version import ENGINE_VERSION

if TYPE_CHECKING:
    from gifcore.runner import Prepared
    from gifcore.selection import Selection
    from gifcore.stages import Loaded
    from gifcore.study import Study
    from gifcore.tables import MethodResult

TOP = 24  # images kept a side for every query and method
GROUP_SHOWN = 9  # images of a group query that stand for it


def thumbnails(loaded: Loaded, results: list[MethodResult], queries: list[int]) -> bytes:
    """Return the images a page shows first, so that a record speaks when its data is gone."""
    train = {
        int(i)
        for result in results
        for scores in result.scores.values()
        for i in [
            *np.argsort(-scores, kind="stable")[:TOP],
            *np.argsort(scores, kind="stable")[:TOP],
        ]
    }
    own = [result.self_influence for result in results if result.self_influence is not None]
    train |= {int(i) for values in own for i in np.argsort(-values, kind="stable")[:TOP]}
    tested = {i for q in queries for i in loaded.positions(q)[:GROUP_SHOWN]}
    chosen = {
        "train": np.array(sorted(train), dtype=np.int64),
        "test": np.array(sorted(tested), dtype=np.int64),
    }
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"{split}.index": index for split, index in chosen.items()}
    arrays |= {f"{split}.images": loaded.data.images(split, i) for split, i in chosen.items()}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def describe(
    prepared: Prepared, loaded: Loaded, selected: Selection, queries: list[int], state: RunState
) -> dict[str, Any]:
    """Return record.json without its methods: what was computed, from what, at what cost."""
    study, data = prepared.study, loaded.data
    by_layer = selected.by_layer()
    return {
        "status": "finished",
        "hash": prepared.hash,
        "family": prepared.family,
        "title": study.title,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "engine": ENGINE_VERSION,
        "versions": _versions(),
        "commit": _commit(),
        "threads": torch.get_num_threads(),
        "seed": study.seed,
        "data": {
            "source": study.data.source,
            "name": data.name,
            "hash": data.hash,
            "classes": list(data.classes),
            "shape": list(data.shape),
            "sizes": loaded.sizes,
            "note": data.note,
        },
        "model": {
            "name": study.model.name,
            "weights": prepared.weights.name,
            "hash": prepared.weights_hash,
            "parameters": loaded.problem.space.size,
            "weight_decay": prepared.weight_decay,
            "layers": stages.layer_rows(loaded.problem),
        },
        "change": _change(study, loaded),
        "selection": {
            "selector": study.selection.selector,
            "ratio": study.selection.ratio,
            "k": selected.k,
            "p": loaded.problem.space.size,
            "layers": [
                {"name": b.name, "k": by_layer[b.name], "size": b.size}
                for b in loaded.problem.space.blocks
            ],
        },
        "queries": [_query(q, study, loaded) for q in queries],
        **_target(study),
        "before": loaded.judge.measure(loaded.problem, loaded.before),
        "timings": {s["name"]: s["seconds"] for s in state.values["stages"]},
        "costs": dict(loaded.costs),
    }


def _query(query: int, study: Study, loaded: Loaded) -> dict[str, Any]:
    """Return what was asked: a test image, or a group of them with the means over it.

    The label and the prediction of a group are None where its images do not share one.
    """
    tested, images = loaded.before["test"], list(loaded.positions(query))
    labels, predicted = set(tested.labels[images]), set(tested.predicted[images])
    entry = {
        "index": query,
        "label": int(labels.pop()) if len(labels) == 1 else None,
        "predicted": int(predicted.pop()) if len(predicted) == 1 else None,
        "p_label": float(tested.p_label[images].mean()),
        "loss": float(tested.loss[images].mean()),
    }
    if query >= 0:
        return entry
    name = study.ranking.groups[-query - 1].name
    return entry | {"group": {"name": name, "size": len(images), "images": images[:GROUP_SHOWN]}}


def _target(study: Study) -> dict[str, Any]:
    """Return what the scores are the predicted change of, if it is not the loss."""
    target = TARGETS[study.ranking.target]
    if target.name == "loss":
        return {}
    known = {"name": target.name, "unit": target.unit, "better_high": target.better_high}
    return {"target": known}


def _change(study: Study, loaded: Loaded) -> dict[str, Any]:
    """Return what was changed and what judges the edit; `label` is of a class or a backdoor."""
    section, changed = study.change, len(loaded.change.samples(loaded.problem))
    found: dict[str, Any] = {"kind": section.kind, "judged_by": loaded.judge.task}
    if isinstance(section, RemoveClassSection | BackdoorSection):
        found |= {"label": section.label, "class_name": loaded.data.classes[section.label]}
    if isinstance(section, RemoveClassSection):
        return found | {"removed": changed}
    if isinstance(section, UnionSection):
        found["kinds"] = [one.kind for one in section.changes]
    return found | {"touched": changed}


def measured_costs(results: list[MethodResult], loaded: Loaded) -> dict[str, float]:
    """Return what products and rankings cost in this run, in seconds a sample."""
    queried = [c for r in results for c in r.info.get("query_certificates", {}).values()]
    solves = [c for c in queried if c["samples"]]
    ranked = sum(len(r.scores) for r in results)
    costs = {}
    if solves:
        products = sum(_timed_products(c) * c["samples"] for c in solves)
        costs["hvp_per_sample"] = sum(c["seconds"] for c in solves) / products
    if ranked:
        seconds = sum(r.info["seconds"]["rank"] for r in results if r.scores)
        costs["jvp_per_sample"] = 3 * seconds / (sweeps(2 * ranked) * loaded.sizes["train"])
    return costs


def _timed_products(certificate: dict[str, Any]) -> int:
    """Return the products behind a certificate's seconds: its probes were spent before, once."""
    probes = (certificate["preconditioner"] or {}).get("products", 0)
    return int(certificate["hvps"] + certificate["check_hvps"] - probes)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("torch", "numpy", "gif-studio"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """Return the git commit of a checkout, None for an installed package."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    answer = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None


def peak_memory_mb() -> float:
    """Return the most memory this process has held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 if sys.platform != "darwin" else 1024**2), 1)

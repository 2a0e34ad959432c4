"""A small record that is true to the schema, with invented numbers from a seed.

    python -m tests.dashboard.make_record FOLDER     five records, for a look: one has all methods

The data set is scikit-learn's digits; the model has two convolutions and a linear layer.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import save

from gifcore import data as datasets
from gifcore import record as records
from gifcore.study import (
    METHOD_LABELS,
    METHODS,
    RANKS,
    Study,
    dumps,
    family_hash,
    method_hash,
    parse,
    study_hash,
)
from tests.dashboard.make_opinions import opinion_tables
from tests.dashboard.make_retrained import retrained_entry, retrained_tables

SHAPES = {
    "conv1.weight": (8, 1, 3, 3),
    "conv1.bias": (8,),
    "conv2.weight": (16, 8, 3, 3),
    "conv2.bias": (16,),
    "fc.weight": (10, 64),
    "fc.bias": (10,),
}
WEIGHTS_HASH = "ab" * 32
QUERIES = (3, 17)
LATER = ("rank_stability", "auto", "solver_damping", "notes")  # not in the first records
DIRECT = {  # solver, effective damping and notes of methods that solve nothing
    "gradient": ("none", None, []),
    "tracin": ("none", None, ["a sum over 3 checkpoints; the value is that of the last"]),
    "datainf": ("datainf closed form", 0.012, ["inverse of the cut curvature"]),
    "ekfac": ("ekfac closed form", 0.012, ["cut of the inverse curvature"]),
}
STABILITY = {"if": 0.62, "gif": 0.94, "projected": 0.8, "freeze": 1.0, "hyperinf": 0.78}
REASON = "damping = sqrt(eps) lambda_max, lambda_max = 41.3 from 20 Lanczos steps, seed 0"
METRIC_NAMES = ("accuracy", "self", "retain", "score", "self_loss", "retain_loss")


def layers() -> list[dict[str, Any]]:
    rows, offset = [], 0
    for name, shape in SHAPES.items():
        size = math.prod(shape)
        module, _, kind = name.partition(".")
        rows.append(
            {
                "name": name,
                "module": name,
                "kind": kind,
                "shape": list(shape),
                "offset": offset,
                "size": size,
                "selectable": True,
            }
            | {"module": module}
        )
        offset += size
    return rows


def selection(ratio: float, rng: np.random.Generator) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Whole units of each weight layer, with their biases, about `ratio` of them."""
    chosen, rows = [], []
    by_name = {row["name"]: row for row in layers()}
    for module in ("conv1", "conv2", "fc"):
        weight, bias = by_name[f"{module}.weight"], by_name[f"{module}.bias"]
        units, width = weight["shape"][0], weight["size"] // weight["shape"][0]
        picked = np.sort(rng.choice(units, max(1, round(ratio * units)), replace=False))
        inside = (picked[:, None] * width + np.arange(width)).ravel()
        chosen += [weight["offset"] + inside, bias["offset"] + picked]
        rows += [
            {"name": weight["name"], "k": len(inside), "size": weight["size"]},
            {"name": bias["name"], "k": len(picked), "size": bias["size"]},
        ]
    return np.concatenate(chosen).astype(np.int64), rows


def certificate(system: str, method: str, *, good: bool) -> dict[str, Any]:
    """As the engine writes it; `LATER` are the keys that old records lack."""
    if method in DIRECT:
        return _direct(system, method)
    return {
        "system": system,
        "solver": "lsmr" if method == "gif" else "minres",
        "status": "converged" if good else "iteration limit",
        "advice": "" if good else "stopped at the iteration limit: raise iterations or damping",
        "iterations": 20,
        "hvps": 41,
        "check_hvps": 2,
        "residual": 0.61,
        "normal_residual": 3e-7 if good else 0.042,
        "judged_by": "normal_residual",
        "damping": 0.0,
        "ridge": 0.0,
        "preconditioner": {"kind": "jacobi", "probes": 5, "products": 5, "status": "ok"}
        if method == "gif"
        else None,
        "lambda_max": 41.3,
        "negative_curvature": method == "if",
        "rayleigh": -0.02,
        "curvature_of": "retained" if system == "update" else "full",
        "samples": 512,
        "seconds": 2.4,
        "drift": False,
        "rank_stability": STABILITY.get(method) if system == "query" else None,
        "auto": [REASON] if method == "freeze" else [],
        "solver_damping": 50.0 if method == "projected" else None,
        "notes": ["two solves: the worse certificate"] if method == "second-order" else [],
    }


def _direct(system: str, method: str) -> dict[str, Any]:
    solver, damping, notes = DIRECT[method]
    return certificate(system, "", good=True) | {
        "solver": solver,
        "status": "no system",
        "advice": "A gradient: no system was solved.",
        "iterations": 0,
        "hvps": 0,
        "check_hvps": 0,
        "residual": 0.0,
        "normal_residual": 0.0,
        "judged_by": "residual",
        "lambda_max": None,
        "rayleigh": None,
        "samples": 512 if damping else 0,
        "solver_damping": damping,
        "notes": notes,
    }


def metrics(
    accuracy: float, own: float, retain: float, label: int, classes: int = 10
) -> dict[str, Any]:
    per_class = [retain] * classes
    per_class[label] = own
    score = 2 * (1 - own) * retain / max((1 - own) + retain, 1e-9)
    values = (accuracy, own, retain, score, 0.2 + 3 * (1 - own), 1.2 - retain)
    return dict(zip(METRIC_NAMES, values, strict=True)) | {
        "self_n": 18,
        "retain_n": 162,
        "per_class": per_class,
    }


LEFT = {"gif": 0.004, "if": 0.31, "gradient": 0.6}  # self-accuracy after the searched step


def steps(method: str, ratio: float, label: int, classes: int = 10) -> dict[str, Any]:
    own = LEFT.get(method, 0.2) + 0.1 * ratio
    retain = {"gif": 0.951, "if": 0.87}.get(method, 0.93) - 0.2 * ratio
    near = metrics(0.96, 0.9, 0.965, label, classes)
    far = metrics(0.9 * retain + 0.1 * own, own, retain, label, classes)
    return {
        "natural": {"scale": 1.0, "validation": near, "test": near},
        "searched": {"scale": 12.6, "validation": far, "test": far},
    }


def scores_table(method: str, query: int, n: int, rng: np.random.Generator) -> pa.Table:
    common = np.random.default_rng(query).standard_t(3, n)  # methods agree in part
    own = np.sort(3e-6 * (common + 0.6 * rng.standard_t(3, n)))[::-1]
    order = np.argsort(-(common + 0.6 * rng.standard_normal(n)), kind="stable")
    return pa.table(
        {
            "query": pa.array([query] * n, pa.int32()),
            "method": [method] * n,
            "train_index": pa.array(order, pa.int32()),
            "influence": pa.array(own, pa.float32()),
            "rank": pa.array(np.arange(n), pa.int32()),
        }
    )


def samples_tables(
    data: datasets.Data, methods: list[str], label: int, rng: np.random.Generator
) -> list[pa.Table]:
    kinds, classes = [("before", "", 0.97, 0.97)], len(data.classes)
    for method in methods:
        wrong = round(LEFT.get(method, 0.2), 1)
        kinds += [(method, "natural", 0.96, 0.9), (method, "searched", 0.93, wrong)]
    tables = []
    for split in ("validation", "test"):
        y = data.split(split).y
        for method, step, retain, own in kinds:
            right = rng.random(len(y)) < np.where(y == label, own, retain)
            predicted = np.where(right, y, (y + rng.integers(1, max(classes, 2), len(y))) % classes)
            p = np.where(right, rng.uniform(0.5, 1, len(y)), rng.uniform(0.01, 0.45, len(y)))
            tables.append(
                pa.table(
                    {
                        "split": [split] * len(y),
                        "index": pa.array(np.arange(len(y)), pa.int32()),
                        "label": pa.array(y, pa.int16()),
                        "method": [method] * len(y),
                        "step": [step] * len(y),
                        "predicted": pa.array(predicted, pa.int16()),
                        "p_label": pa.array(p, pa.float32()),
                        "loss": pa.array(-np.log(p), pa.float32()),
                    }
                )
            )
    return tables


def curves_table(methods: list[str], queries: list[int]) -> pa.Table:
    rows: list[tuple[str, str, int, float, float]] = []
    for number, method in enumerate(methods):
        for query in (-1, *queries) if method not in DIRECT else ():
            rows += [
                (method, "residual", query, float(i), 0.4 + 0.6 * 0.8**i + 0.05 * number)
                for i in range(21)
            ]
        for x in np.geomspace(0.1, 1000, 13):
            own, retain = 1 / (1 + (x / 3) ** 2), 1 / (1 + (x / 300) ** 2)
            score = 2 * (1 - own) * retain / ((1 - own) + retain)
            rows += [
                (method, name, -1, float(x), float(value))
                for name, value in (("self", own), ("retain", retain), ("score", score))
            ]
    columns = list(zip(*rows, strict=True))
    return pa.table(
        {
            "method": list(columns[0]),
            "curve": list(columns[1]),
            "query": pa.array(columns[2], pa.int32()),
            "x": pa.array(columns[3], pa.float32()),
            "value": pa.array(columns[4], pa.float32()),
        }
    )


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def make_study(selector: str, ratio: float, methods: tuple[str, ...] = ("if", "gif")) -> Study:
    return parse(
        {
            "title": "Forget class 8 (digits)",
            "methods": methods,
            "data": {"source": "digits"},
            "model": {"name": "lenet", "weight_decay": 0.0},
            "change": {"label": 8},
            "selection": {"selector": selector, "ratio": ratio},
            "ranking": {"queries": QUERIES},
        }
    )


def make_record(
    path: Path,
    *,
    selector: str = "highest-k-gradients",
    ratio: float = 0.05,
    study: Study | None = None,
    share: Path | None = None,
    queries: Iterable[int] | None = None,
    seeds: tuple[int, ...] = (),
    astray: int | None = None,
) -> Path:
    """Write a record; with `share` its `if` rows are those of that sibling record.

    `seeds`: of retrained models; that of `astray` did not learn.
    """
    study = study or make_study(selector, ratio)
    selector, ratio = study.selection.selector, study.selection.ratio
    data = datasets.load(study.data.source)
    rng = np.random.default_rng([int(1000 * ratio), list(map(ord, selector))[0]])
    indices, selected = selection(ratio, rng)
    rows, label = layers(), study.change.label
    p = sum(row["size"] for row in rows)
    queries = list(study.ranking.queries if queries is None else queries)
    own = [m for m in study.methods if not (share and m == "if")]
    files = {records.STUDY: dumps(study).encode()}
    if queries and any(RANKS[m] for m in own):
        files[records.SCORES] = records.parquet_bytes(
            [scores_table(m, q, len(data.train), rng) for q in queries for m in own if RANKS[m]]
        )
    files[records.CURVES] = records.parquet_bytes([curves_table(own, queries)])
    edited = own if study.edit.enabled else []
    files[records.TRAIN] = records.parquet_bytes(opinion_tables(data.train.y, edited, label))
    if study.edit.enabled:
        tables = samples_tables(data, own, label, rng) + retrained_tables(data, label, seeds, rng)
        files[records.SAMPLES] = records.parquet_bytes(tables)
    updates: dict[str, np.ndarray] = {}
    for method in own if study.edit.enabled else ():
        size = p if method == "if" else len(indices)
        updates[f"{method}.delta"] = (1e-3 * rng.standard_t(4, size)).astype(np.float32)
        if method != "if":
            updates[f"{method}.indices"] = indices
    if updates:
        files[records.UPDATES] = save(updates)
    shown = np.unique(np.concatenate([np.arange(60), rng.integers(0, len(data.train), 60)]))
    files[records.THUMBNAILS] = _npz(
        {
            "train.index": shown,
            "train.images": data.images("train", shown),
            "test.index": np.array(queries, int),
            "test.images": data.images("test", queries),
        }
    )
    entries = {}
    for method in study.methods:
        size = p if method == "if" else len(indices)
        entries[method] = {
            "key": method_hash(study, method, data.hash, WEIGHTS_HASH),
            "folder": f"../{share.name}" if share and method == "if" else ".",
            "label": METHOD_LABELS[method],
            "k": size,
            "norm": 0.031 if method == "if" else 0.21,
            "certificate": certificate("update", method, good=method == "gif"),
            "query_certificates": {
                str(q): certificate("query", method, good=False) for q in queries
            },
            "seconds": {"solve": 3.1, "rank": 1.2, "edit": 0.8, "evaluate": 0.3},
        }
        if not RANKS[method]:
            del entries[method]["query_certificates"]
        if study.edit.enabled:
            entries[method]["steps"] = steps(method, ratio, label, len(data.classes))
        else:
            for what in ("k", "norm", "certificate"):
                del entries[method][what]
    before = metrics(0.971, 0.96, 0.972, label, len(data.classes))
    info = {
        "status": "finished",
        "hash": study_hash(study, data.hash, WEIGHTS_HASH),
        "family": family_hash(study, data.hash, WEIGHTS_HASH),
        "title": study.title,
        "created": "2026-01-02T03:04:05Z",
        "engine": "test",
        "versions": {"python": "3.11", "torch": "2.10"},
        "commit": None,
        "threads": 2,
        "seed": 0,
        "data": {
            "source": study.data.source,
            "name": "Digits" if study.data.source == "digits" else data.name,
            "hash": data.hash,
            "classes": list(data.classes),
            "shape": list(data.shape),
            "sizes": {s: len(data.split(s)) for s in ("train", "validation", "test")},
            "note": data.note,
        },
        "model": {
            "name": "lenet",
            "weights": None,
            "hash": WEIGHTS_HASH,
            "parameters": p,
            "weight_decay": 0.0,
            "layers": rows,
        },
        "change": {
            "kind": "remove-class",
            "label": label,
            "class_name": data.classes[label],
            "removed": int((data.train.y == label).sum()),
        },
        "selection": {
            "selector": selector,
            "ratio": ratio,
            "k": len(indices),
            "p": p,
            "layers": selected,
        },
        "queries": [_query(data, q) for q in queries],
        "methods": entries,
        "before": {"validation": before, "test": before},
        "timings": {
            "load": 0.4,
            "select": 0.2,
            "solve": 6.2,
            "rank": 2.4,
            "edit": 1.6,
            "evaluate": 0.6,
        },
        "costs": {"hvp_per_sample": 6e-5, "jvp_per_sample": 2e-5, "forward_per_sample": 6e-6},
        "seconds": 11.4,
        "peak_memory_mb": 612.0,
    }
    if seeds:
        info["retrained"] = retrained_entry(
            own, seeds, astray, lambda retain: metrics(0.9 * retain, 0.0, retain, label)
        )
    records.write_record(path, info, files)
    return path


def _query(data: datasets.Data, index: int) -> dict[str, Any]:
    label = int(data.test.y[index])
    wrong = index % 2
    return {
        "index": index,
        "label": label,
        "predicted": (label + wrong) % len(data.classes),
        "p_label": 0.31 if wrong else 0.98,
        "loss": 1.171 if wrong else 0.0202,
    }


def make_workspace(folder: Path) -> Path:
    """Four records of one family: two selectors, two ratios; `if` is shared by all."""
    first = make_record(folder / "g05")
    make_record(folder / "g10", ratio=0.1, share=first)
    make_record(folder / "o05", selector="highest-k-outputs", share=first)
    make_record(folder / "o10", selector="highest-k-outputs", ratio=0.1, share=first)
    return folder


ALL_METHODS = ("if", "gif", *(m for m in METHODS if m not in ("if", "gif")))


def make_record_of_all(folder: Path) -> Path:
    """A record with every method there is; second-order is in it without a ranking."""
    return make_record(folder, study=make_study("highest-k-gradients", 0.05, ALL_METHODS))


if __name__ == "__main__":
    make_record_of_all(Path(sys.argv[1]) / "all")
    print(make_workspace(Path(sys.argv[1])))

"""A record of 60,000 training samples and 64 queries, for what the dashboard takes to browse it.

    python -m benchmarks.dashboard_record FOLDER     the data set and the record, 250 MB

Nothing is computed: the bundled records, which the engine made, are laid side by side until they
are large enough, every copy a little different. So each number is plausible, each table and file
has the form that a study writes, and the network, its update and its weights are real ones.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from safetensors.numpy import load_file, save

from gifcore import data as datasets
from gifcore import record as records
from gifcore.assets_path import asset
from gifcore.data import Data
from gifcore.models import bundled
from gifcore.preview import Sketch
from gifcore.record import Record
from gifcore.runner import Prepared, prepare
from gifcore.study import Study, dumps, parse, read

SAMPLES, QUERIES, TESTS = 60_000, 64, 10_000
BASE = "forget-class-retrained"  # its tables, edits and retrained models
RANKED = "highest-k-gradients-05"  # its rankings and its sketch
SUSPICIOUS = "wrong-labels"  # its scores of wrong labels
KINDS = ("loss", "confidence", "confident")  # of scores that need no influence
NOISE = 0.2  # of a copied score, as a share of it


def make(folder: Path, samples: int = SAMPLES, queries: int = QUERIES, tests: int = TESTS) -> Path:
    """Write the data set and its record below `folder`; return the folder of the record."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"clothes-{samples}.npz"
    _write_data(source, samples, tests, rng)
    data = datasets.load(str(source))
    base = Record.open(asset("demo") / BASE)
    study = _study(base, source, queries, tests)
    prepared = prepare(study)
    info = _info(base, study, prepared, data)
    info["queries"] = _queries(base, study, tests)
    _certify(info, rng)
    sketch = _sketch(info, samples, tests)
    info["preview"] = Record.open(asset("demo") / RANKED).info["preview"] | {
        "bytes": sketch.nbytes,
        "held_out": [query["index"] for query in info["queries"]],
    }
    found, info["mislabel"] = _suspects(base.methods, np.asarray(data.train.y), rng)
    tables = {
        records.SCORES: _scores(info, samples, rng),
        records.SAMPLES: _samples(base, tests),
        records.TRAIN: _train(base, np.asarray(data.train.y), rng),
        records.CURVES: _curves(base, info),
        records.UNITS: _units(base, samples, rng),
        records.MISLABEL: iter([pa.Table.from_pandas(found, preserve_index=False)]),
        records.SELF_INFLUENCE: _self_influence(base.methods, found),
    }
    files: dict[str, records.Content] = {
        name: records.parquet_bytes(parts) for name, parts in tables.items()
    }
    files[records.UPDATES] = save(load_file(base.path / records.UPDATES))
    files[records.SKETCH] = sketch.content()
    files[records.STUDY] = dumps(study).encode()
    path = folder / "workspace" / f"clothes-{samples}"
    records.write_record(path, info, files)
    return path


def tiled(values: np.ndarray, n: int) -> np.ndarray:
    """Return `n` rows: all of `values`, again and again."""
    return np.asarray(values)[np.arange(n) % len(values)]


# --- data and study -------------------------------------------------------------------------------


def _write_data(path: Path, samples: int, tests: int, rng: np.random.Generator) -> None:
    """Write the bundled images again and again, each copy moved by up to two pixels."""
    known = datasets.load("fashion-mnist-mini")
    sizes = {"train": samples, "validation": len(known.validation), "test": tests}
    arrays: dict[str, Any] = {"classes": np.array(known.classes)}
    for split, n in sizes.items():
        part = known.split(split)
        images = tiled(part.x[:, 0], n).copy()
        for start in range(len(part), n, len(part)):
            moved = tuple(int(by) for by in rng.integers(-2, 3, 2))
            rows = slice(start, start + len(part))
            images[rows] = np.roll(images[rows], moved, axis=(1, 2))
        arrays |= {f"x_{split}": images, f"y_{split}": tiled(part.y, n)}
    np.savez(path, **arrays)


def _study(base: Record, source: Path, queries: int, tests: int) -> Study:
    values = read(base.path / records.STUDY).model_dump(exclude_none=True)
    known = Record.open(asset("demo") / RANKED).queries
    asked = [
        query["index"] + 2000 * (i // 16) for i, query in enumerate(known * (queries // 16 + 1))
    ]
    weights = bundled("tinynet", "fashion-mnist-mini")
    assert weights is not None
    values["title"] = f"Forget class 8 (Bag), {source.stem}"
    values["data"] = {"source": str(source.resolve())}
    values["model"] = values["model"] | {"weights": str(weights)}
    values["ranking"] |= {"queries": [q for q in asked if q < tests][:queries], "count": 0}
    values["mislabel"] |= {"rate": 0.0}
    values["preview"] |= {"rank": 352}
    return parse(values)


# --- record.json ----------------------------------------------------------------------------------


def _info(base: Record, study: Study, prepared: Prepared, data: Data) -> dict[str, Any]:
    info = copy.deepcopy(base.info)
    for key in ("files", "schema"):
        del info[key]
    info |= {"title": study.title, "hash": prepared.hash, "family": prepared.family}
    sizes = {split: len(data.split(split)) for split in info["data"]["sizes"]}
    info["data"] |= {
        "source": study.data.source,
        "name": data.name,
        "hash": data.hash,
        "sizes": sizes,
        "note": data.note,
    }
    info["model"] |= {"hash": prepared.weights_hash, "weights": prepared.weights.name}
    info["change"]["removed"] = int((data.train.y == info["change"]["label"]).sum())
    _grow(info, sizes["test"] / base.info["data"]["sizes"]["test"])
    return info


def _grow(values: Any, factor: float) -> None:  # noqa: ANN401 - any part of record.json
    """Multiply the numbers of test images, wherever metrics name them."""
    if isinstance(values, list):
        for value in values:
            _grow(value, factor)
    if isinstance(values, dict):
        for key, value in values.items():
            if key in ("self_n", "retain_n"):
                values[key] = max(1, round(value * factor))
            elif key != "validation":
                _grow(value, factor)


def _queries(base: Record, study: Study, tests: int) -> list[dict[str, Any]]:
    rows = base.samples(records.BEFORE)
    found = []
    for index in study.ranking.queries:
        row = rows.iloc[index % len(rows)]
        query = {"index": index} | {key: int(row[key]) for key in ("label", "predicted")}
        found.append(query | {key: float(row[key]) for key in ("p_label", "loss")})
    assert all(query["index"] < tests for query in found)
    return found


def _certify(info: dict[str, Any], rng: np.random.Generator) -> None:
    """Give every query the certificate of a solve that was made, its residual a little other."""
    for entry in info["methods"].values():
        known = list(entry["query_certificates"].values())
        entry["query_certificates"] = {}
        for i, query in enumerate(info["queries"]):
            one = copy.deepcopy(known[i % len(known)])
            for key in ("residual", "normal_residual"):
                one[key] *= float(rng.uniform(0.8, 1.2))
            entry["query_certificates"][str(query["index"])] = one
        entry["self_influence"] = {"words": "laid side by side from smaller records", "checked": 0}


# --- tables ---------------------------------------------------------------------------------------


def _scores(info: dict[str, Any], n: int, rng: np.random.Generator) -> Iterator[pa.Table]:
    """Yield the ranking of each query by each method: those of a bundled record, blurred."""
    ranked = Record.open(asset("demo") / RANKED)
    known = {(m, i): _influences(ranked, m, i) for m in ranked.methods for i in range(16)}
    for i, query in enumerate(info["queries"]):
        for method in info["methods"]:
            own = known[method if method in ranked.methods else "gif", i % 16]
            values = tiled(own, n) * rng.normal(1, NOISE, n)
            order = np.argsort(-values, kind="stable")
            yield pa.table(
                {
                    "query": pa.array(np.full(n, query["index"]), pa.int32()),
                    "method": [method] * n,
                    "train_index": pa.array(order, pa.int32()),
                    "influence": pa.array(values[order], pa.float32()),
                    "rank": pa.array(np.arange(n), pa.int32()),
                }
            )


def _influences(record: Record, method: str, number: int) -> np.ndarray:
    frame = record.scores(method, record.queries[number]["index"])
    return frame.sort_values("train_index")["influence"].to_numpy()


def _samples(base: Record, tests: int) -> Iterator[pa.Table]:
    """Yield every model's predictions; those of the test split again and again."""
    kinds = [(records.BEFORE, "")]
    kinds += [(m, step) for m in base.methods for step in base.info["methods"][m]["steps"]]
    kinds += [(records.RETRAINED, f"seed-{m['seed']}") for m in base.info["retrained"]["models"]]
    for split in ("validation", "test"):
        for method, step in kinds:
            rows = base.samples(method, step, split)
            if split == "test":
                rows = rows.iloc[np.arange(tests) % len(rows)]
            yield _predictions(rows, split, method, step)


def _predictions(rows: pd.DataFrame, split: str, method: str, step: str) -> pa.Table:
    n = len(rows)
    types = {"label": pa.int16(), "predicted": pa.int16(), "p_label": pa.float32()}
    columns = {name: pa.array(rows[name].to_numpy(), kind) for name, kind in types.items()}
    return pa.table(
        {
            "split": [split] * n,
            "index": pa.array(np.arange(n), pa.int32()),
            "label": columns["label"],
            "method": [method] * n,
            "step": [step] * n,
            "predicted": columns["predicted"],
            "p_label": columns["p_label"],
            "loss": pa.array(rows["loss"].to_numpy(), pa.float32()),
        }
    )


def _train(base: Record, labels: np.ndarray, rng: np.random.Generator) -> Iterator[pa.Table]:
    """Yield what the models say of the training samples, as often wrong as on the test split."""
    n, classes = len(labels), len(base.info["data"]["classes"])
    kinds = [("", "")] + [(m, records.SEARCHED) for m in sorted(base.methods)]
    for method, step in sorted(kinds):
        steps = base.info["methods"][method]["steps"] if method else {}
        metrics = steps[step]["test"] if method else base.info["before"]["test"]
        right = rng.random(n) < np.array(metrics["per_class"])[labels]
        other = (labels + rng.integers(1, classes, n)) % classes
        p = np.where(right, rng.uniform(0.5, 1, n), rng.uniform(0.01, 0.45, n))
        yield pa.table(
            {
                "train_index": pa.array(np.arange(n), pa.int32()),
                "method": [method] * n,
                "step": [step] * n,
                "predicted": pa.array(np.where(right, labels, other), pa.int16()),
                "p_label": pa.array(p, pa.float32()),
                "loss": pa.array(-np.log(p), pa.float32()),
            }
        )


def _curves(base: Record, info: dict[str, Any]) -> Iterator[pa.Table]:
    """Yield the curves of each method; those of the residuals for every query."""
    for method in base.methods:
        rows = base.curves(method)
        residuals = rows[(rows["curve"] == "residual") & (rows["query"] != -1)]
        first = residuals[residuals["query"] == residuals["query"].min()]
        parts = [rows[~rows.index.isin(residuals.index)]]
        parts += [first.assign(query=query["index"]) for query in info["queries"]]
        found = pd.concat(parts, ignore_index=True)
        yield pa.table(
            {
                "method": [method] * len(found),
                "curve": found["curve"].tolist(),
                "query": pa.array(found["query"].to_numpy(), pa.int32()),
                "x": pa.array(found["x"].to_numpy(), pa.float32()),
                "value": pa.array(found["value"].to_numpy(), pa.float32()),
            }
        )


def _units(base: Record, n: int, rng: np.random.Generator) -> Iterator[pa.Table]:
    rows = base.units()
    rows["train_index"] = rng.integers(0, n, len(rows)).astype(np.int32)
    yield pa.Table.from_pandas(rows, preserve_index=False)


def _suspects(
    methods: list[str], labels: np.ndarray, rng: np.random.Generator
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the table of suspicious labels and its part of record.json; no truth is known."""
    known = Record.open(asset("demo") / SUSPICIOUS)
    n, scores = len(labels), [*methods, *KINDS]
    rows = known.suspects().iloc[np.arange(n) % known.info["mislabel"]["n"]].copy()
    agrees = (rows["given"] == rows["predicted"]).to_numpy()
    rows["train_index"] = np.arange(n, dtype=np.int32)
    rows["given"] = labels.astype(np.int32)
    rows["true"] = pd.array([None] * n, dtype="Int32")
    rows["suggested"] = ((labels + rng.integers(1, 10, n)) % 10).astype(np.int32)
    rows["predicted"] = np.where(agrees, labels, rows["suggested"]).astype(np.int32)
    for name in scores:
        rows[name] = (rows[name] * rng.normal(1, NOISE, n)).astype(np.float32)
    kept = ["train_index", "given", "true", "predicted", "suggested", "p_given", "contradicted"]
    entry = copy.deepcopy(known.info["mislabel"]) | {"rate": 0.0, "seed": None, "n": n}
    entry |= {
        "wrong": None,
        "contradicted": {"count": int(rows["contradicted"].sum()), "wrong": None},
    }
    entry["methods"] = {
        name: {key: entry["methods"][name][key] for key in ("kind", "label", "unit")}
        for name in scores
    }
    return rows[kept + scores].reset_index(drop=True), entry


def _self_influence(methods: list[str], found: pd.DataFrame) -> Iterator[pa.Table]:
    for method in methods:
        yield pa.table(
            {
                "method": [method] * len(found),
                "train_index": pa.array(found["train_index"].to_numpy(), pa.int32()),
                "value": pa.array(found[method].to_numpy(), pa.float32()),
            }
        )


def _sketch(info: dict[str, Any], n: int, tests: int) -> Sketch:
    known = Record.open(asset("demo") / RANKED).sketch()
    assert known is not None
    said = dict(known.info) | {what: info[what]["hash"] for what in ("model", "data")}
    arrays = {name: tiled(value, n) for name, value in known.arrays.items() if name in ROWS}
    arrays |= {"mean": known.mean, "positions": np.arange(n), "factors": np.full(n, 1 / (n - 1))}
    for method in known.methods:
        arrays[f"solves.{method}"] = tiled(known.solves[method], tests)
        arrays[f"lengths.{method}"] = tiled(known.solve_lengths[method], tests)
    return Sketch.of(said, arrays)


ROWS = ("train", "lengths")  # arrays of a sketch with a row a training sample


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))

"""Reading a record: opened and verified; every reader returns fresh arrays or frames."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file

from gifcore import preview
from gifcore.preview import Sketch
from gifcore.record.files import (
    BEFORE,
    CURVES,
    DEFERRED,
    LOSS,
    MISLABEL,
    RECALL,
    RECORD,
    RETRAINED,
    SAMPLES,
    SCHEMA,
    SCORES,
    SELF_INFLUENCE,
    SKETCH,
    SPEED,
    THUMBNAILS,
    TRAIN,
    UNITS,
    UPDATES,
    RecordError,
    sha256,
)


@dataclass(frozen=True)
class Record:
    """A finished record, opened and checked; every reader returns fresh arrays or frames."""

    path: Path
    info: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Record:
        """Open and verify a record.

        Raises:
            RecordError: nothing there, unfinished, another schema, or a file that was changed,
                cut short or removed; one sentence.
        """
        record = cls._verified(Path(path))
        for method, entry in record.info["methods"].items():
            folder = record.folder(method)
            if folder == record.path.resolve():
                continue
            other = cls._verified(folder)
            theirs = other.info["methods"].get(method, {})
            if theirs.get("key") != entry["key"] or other.folder(method) != folder:
                raise RecordError(
                    f"{record.path.name}: its {method} results are in {folder.name}, "
                    "which now holds another study."
                )
        return record

    @classmethod
    def _verified(cls, path: Path) -> Record:
        info = read_info(path)
        if info["status"] != "finished":
            raise RecordError(f"{path.name}: this study was {info['status']}; it has no result.")
        for name, entry in info["files"].items():
            if name not in DEFERRED:
                _verify(path, name, entry)
        return cls(path, info)

    # --- what it says of itself -------------------------------------------------------------

    @property
    def hash(self) -> str:
        return self.info["hash"]

    @property
    def title(self) -> str:
        return self.info["title"]

    @property
    def methods(self) -> list[str]:
        return list(self.info["methods"])

    @property
    def queries(self) -> list[dict[str, Any]]:
        """The ranked test images: index, label, predicted, p_label, loss."""
        return list(self.info["queries"])

    @property
    def target(self) -> dict[str, Any]:
        """What is explained: `name`, `unit` of the scores, `better_high`.

        Positive scores are helpful whatever it is: of a target that is better when it is higher,
        they are the predicted fall.
        """
        return dict(self.info.get("target") or LOSS)

    def folder(self, method: str) -> Path:
        """The folder that holds this method's rows: this one, or a sibling it is shared with."""
        return (self.path / self.info["methods"][method].get("folder", ".")).resolve()

    # --- its tables -------------------------------------------------------------------------

    def scores(self, method: str, query: int) -> pd.DataFrame:
        """Return train_index, influence (in `target`'s unit), rank (0 = most helpful), by rank."""
        path = self.folder(method) / SCORES
        try:
            with pq.ParquetFile(path) as file:
                groups = _row_groups(file)
                if (query, method) not in groups:
                    raise RecordError(
                        f"{self.path.name}: test image {query} is not ranked by {method}."
                    )
                table = file.read_row_group(
                    groups[query, method], columns=["train_index", "influence", "rank"]
                )
        except (OSError, pa.ArrowException) as error:
            raise RecordError(f"{path} cannot be read: {error}.") from None
        return table.to_pandas()

    def influences(self, method: str) -> dict[int, np.ndarray]:
        """Return (n,) float32 influences in the order of the training samples, by query.

        As `scores`, but of all queries in one pass over the file.
        """
        path, found = self.folder(method) / SCORES, {}
        if not path.exists():
            return {}
        try:
            with pq.ParquetFile(path) as file:
                for (query, name), group in _row_groups(file).items():
                    if name == method:
                        table = file.read_row_group(group, columns=["train_index", "influence"])
                        row = np.empty(len(table), dtype=np.float32)
                        row[table["train_index"].to_numpy()] = table["influence"].to_numpy()
                        found[int(query)] = row
        except (OSError, pa.ArrowException) as error:
            raise RecordError(f"{path} cannot be read: {error}.") from None
        return found

    def ranked(self, method: str) -> list[int]:
        """Return the queries that this method ranked; [] for a method that only updates."""
        path = self.folder(method) / SCORES
        if not path.exists():
            return []
        try:
            with pq.ParquetFile(path) as file:
                return [query for query, name in _row_groups(file) if name == method]
        except (OSError, pa.ArrowException) as error:
            raise RecordError(f"{path} cannot be read: {error}.") from None

    def self_influence(self, method: str) -> pd.DataFrame:
        """Return train_index and value [nats] of all training samples; empty if not computed.

        Positive = removing the sample raises its own loss. How it was computed, and whether that
        is exact: `info["methods"][method]["self_influence"]`.
        """
        path = self.folder(method) / SELF_INFLUENCE
        if "self_influence" not in self.info["methods"][method] or not path.exists():
            return pd.DataFrame({"train_index": np.zeros(0, np.int32), "value": np.zeros(0)})
        table = _read_parquet(path, [("method", "=", method)])
        return table.drop(columns="method").reset_index(drop=True)

    @property
    def mislabel(self) -> dict[str, Any]:
        """How well wrong labels were found, by score; {} if they were not looked for."""
        return dict(self.info.get("mislabel") or {})

    def suspects(self) -> pd.DataFrame:
        """Return every training sample's labels and scores, in their order; empty if not asked.

        train_index, given, true (missing: unknown), predicted, suggested (the most probable other
        class), p_given, contradicted (by confident learning), and a column a score, named as in
        `mislabel["methods"]`; higher is more suspicious.
        """
        if MISLABEL not in self.info["files"]:
            return pd.DataFrame()
        return _read_parquet(self.path / MISLABEL, None)

    def update(self, method: str) -> tuple[np.ndarray | None, np.ndarray]:
        """Return (indices or None for all parameters, delta); theta + delta at scale 1."""
        path = self.folder(method) / UPDATES
        try:
            arrays = load_file(path)
        except (OSError, SafetensorError) as error:
            raise RecordError(f"{path} cannot be read: {error}.") from None
        return arrays.get(f"{method}.indices"), arrays[f"{method}.delta"]

    def samples(self, method: str, step: str = "", split: str = "test") -> pd.DataFrame:
        """Return index, label, predicted, p_label, loss of one split.

        `method` "before" is the unedited model, "retrained" one that `step` "seed-1", … names;
        otherwise `step` is "natural" or "searched".
        """
        folder = self.path if method in (BEFORE, RETRAINED) else self.folder(method)
        wanted = [("split", "=", split), ("method", "=", method), ("step", "=", step)]
        table = _read_parquet(folder / SAMPLES, wanted)
        return table.drop(columns=["split", "method", "step"]).reset_index(drop=True)

    def curves(self, method: str) -> pd.DataFrame:
        """Return curve, query, x, value of all curves.

        `residual`: x = iteration, query -1 = the update, others by `curve_query`. The others:
        x = scale, on the validation split: `score` and what it is made of (`self` and `retain`
        where a class is removed).
        """
        table = _read_parquet(self.folder(method) / CURVES, [("method", "=", method)])
        return table.drop(columns="method").reset_index(drop=True)

    @property
    def fastif(self) -> dict[str, Any]:
        """What FastIF was measured with, and the seconds of every way; {} if it was not."""
        return dict(self.info.get("fastif") or {})

    def recall(self, method: str) -> pd.DataFrame:
        """Return way, predictions, criterion, m, k, queries, kept, found, control; one row a mean.

        `kept` of the exact top m are among the k candidates, `found` are in the top m by the way's
        own scores among them, `control` by the gradient alone. Empty if FastIF was not measured.
        """
        return self._measured(RECALL, method)

    def speed(self, method: str) -> pd.DataFrame:
        """Return way, k, query, spearman, helpful, harmful, largest, smallest, cosine, error.

        A row for each query: the rank correlation with the exact ranking among the k candidates,
        recall@depth of all samples by criterion, and how near s is to the exact one (NaN: it has
        none). Empty if FastIF was not measured.
        """
        return self._measured(SPEED, method)

    def _measured(self, name: str, method: str) -> pd.DataFrame:
        if name not in self.info["files"]:
            return pd.DataFrame()
        table = _read_parquet(self.path / name, [("method", "=", method)])
        return table.drop(columns="method").reset_index(drop=True)

    def units(self) -> pd.DataFrame:
        """Return layer, unit, place (0 = most), train_index, activation; empty if not there.

        The training samples of the largest mean output of every unit of the unedited model.
        """
        if UNITS not in self.info["files"]:
            return pd.DataFrame()
        return _read_parquet(self.path / UNITS, None)

    def train(self, method: str = "", step: str = "") -> pd.DataFrame | None:
        """Return train_index, predicted, p_label, loss [nats] of every training sample, in order.

        `method` "" is the unedited model; else `step` names its step, "searched". None where the
        record does not say, as older ones do not.
        """
        paths = [self.path / TRAIN] if TRAIN in self.info["files"] else []
        if method in self.info["methods"]:  # rows shared with a sibling are in its folder
            shared = self.folder(method) / TRAIN
            paths += [shared] if self.folder(method) != self.path.resolve() else []
        wanted = [("method", "=", method), ("step", "=", step)]
        for path in paths:
            table = _read_parquet(path, wanted) if path.exists() else pd.DataFrame()
            if len(table):
                return table.drop(columns=["method", "step"]).reset_index(drop=True)
        return None

    def thumbnails(self) -> dict[str, np.ndarray]:
        """Return {"train.index", "train.images", "test.index", "test.images"}, {} if none."""
        path = self.path / THUMBNAILS
        if not path.exists():
            return {}
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)

    def sketch(self) -> Sketch | None:
        """Return the sketch of this record, None if it has none.

        Raises:
            GifError: it is missing, not the one that was written, or of another model or data.
        """
        if SKETCH not in self.info["files"]:
            return None
        _verify(self.path, SKETCH, self.info["files"][SKETCH])
        model, data = (self.info[what]["hash"] for what in ("model", "data"))
        return preview.load(self.path / SKETCH, model=model, data=data)


def curve_query(query: int) -> int:
    """Return a query's number in curves, where -1 is the update: groups come behind it."""
    return query if query >= 0 else query - 1


def _row_groups(file: pq.ParquetFile) -> dict[tuple[int, str], int]:
    """Return {(query, method): its row group}; a row group is one ranking."""
    groups = {}
    for g in range(file.num_row_groups):
        query, method = (file.metadata.row_group(g).column(c).statistics.min for c in (0, 1))
        groups[query, method] = g
    return groups


def products(entry: dict[str, Any]) -> int:
    """Return the Hessian products one method of record.json spent in all, checks included.

    Every certificate counts the probes of its preconditioner, as if it had been alone; they are
    shared by all solves with one curvature and count once here.
    """
    certificates = list(entry.get("query_certificates", {}).values())
    certificates += [entry["certificate"]] if "certificate" in entry else []
    probes: dict[str, int] = {}
    total = entry.get("spread", {}).get("hvps", 0)  # of updates on other draws
    for certificate in certificates:
        spent = (certificate["preconditioner"] or {}).get("products", 0)
        probes[certificate["curvature_of"]] = spent
        total += certificate["hvps"] + certificate["check_hvps"] - spent
    return total + sum(probes.values())


_KINDS = {
    "status": str,
    "hash": str,
    "title": str,
    "methods": dict,
    "queries": list,
    "files": dict,
}


def read_info(path: Path) -> dict[str, Any]:
    """Return record.json, checked to be one that this version reads.

    Raises:
        RecordError: it is not there, not readable, or of another schema.
    """
    try:
        info = json.loads((path / RECORD).read_text(encoding="utf-8"))
        if not isinstance(info, dict):
            raise TypeError("it is not a JSON object")
        if info["schema"] != SCHEMA:
            raise RecordError(
                f"{path.name}: written by schema {info['schema']}, this version reads {SCHEMA}; "
                "run its study.toml again."
            )
        for key, kind in _KINDS.items():
            if not isinstance(info[key], kind):
                raise TypeError(f"{key} is not {kind.__name__}")
        for entry in info["methods"].values():
            entry["key"]
        for entry in info["files"].values():
            entry["bytes"], entry["sha256"]
    except FileNotFoundError:
        raise RecordError(f"{path}: no record here (no {RECORD}).") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise foreign(path, error) from None
    return info


def foreign(path: Path, error: Exception) -> RecordError:
    """Return the sentence for a record.json that cannot be what was written."""
    why = str(error)
    if isinstance(error, KeyError):
        why = f"it has no '{error.args[0]}'"
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        why = "it is not JSON"
    return RecordError(
        f"{path.name}: damaged or foreign {RECORD} ({why}); remove the folder, or run its study "
        "again."
    )


def _verify(path: Path, name: str, entry: dict[str, Any]) -> None:
    file = path / name
    if "/" in name or not file.is_file():
        raise RecordError(f"{path.name}: damaged, {name} is missing.")
    if file.stat().st_size != entry["bytes"] or sha256(file) != entry["sha256"]:
        raise RecordError(f"{path.name}: damaged, {name} is not the file that was written.")


def _read_parquet(path: Path, filters: list[tuple[str, str, Any]] | None) -> pd.DataFrame:
    try:
        return pq.read_table(path, filters=filters).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise RecordError(f"{path} cannot be read: {error}.") from None

"""A record: the folder a finished study leaves behind, written whole or not at all.

    study.toml           the study, re-runnable as it is
    record.json          what was computed, from what, at what cost, how far to trust it;
                         written last: a folder without it is not a result
    scores.parquet       query, method, train_index, influence [nats], rank (0 = most helpful);
                         one row group per query and method; query -1, -2, … are groups
    self_influence.parquet  method, train_index, value [nats]; one row group per method (optional)
    mislabel.parquet     train_index, given, true, predicted, suggested, p_given, contradicted, and
                         one column a score (optional)
    samples.parquet      split, index, label, method, step, predicted, p_label, loss [nats]
    updates.safetensors  "<method>.delta" (k,) and "<method>.indices" (k,); without indices: all p
    curves.parquet       method, curve, query, x, value
    thumbnails.npz       images of queries and top-ranked training samples (optional)
    units.parquet        layer, unit, place, train_index, activation: what excites a unit (optional)
    recall.parquet       method, way, predictions, criterion, m, k, queries, kept, found, control
    speed.parquet        method, way, k, query, spearman, four recalls, cosine, error
    sketch.npz           approximate rankings of every test image (optional); see `preview`

Nothing here imports torch: the dashboard draws records with this module.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file

from gifcore import preview
from gifcore.errors import GifError
from gifcore.preview import Sketch
from gifcore.run_state import RUN, read_state

SCHEMA = 1
RECORD, STUDY = "record.json", "study.toml"
SCORES, SAMPLES, UPDATES, CURVES, THUMBNAILS = (
    "scores.parquet",
    "samples.parquet",
    "updates.safetensors",
    "curves.parquet",
    "thumbnails.npz",
)
SELF_INFLUENCE = "self_influence.parquet"
LOSS = {"name": "loss", "unit": "nats", "better_high": False}  # the target where none is stated
MISLABEL = "mislabel.parquet"  # where a study looks for wrong labels
UNITS = "units.parquet"
SKETCH = "sketch.npz"
DEFERRED = (SKETCH,)  # verified when it is read: a record is a result without it
RECALL, SPEED = "recall.parquet", "speed.parquet"  # where a study measures FastIF
INDEX = "neighbors.faiss"  # beside such a record: made again if it is gone, so not listed in it
BEFORE = "before"  # the method name under which samples.parquet holds the unedited model
RETRAINED = "retrained"  # that of retrained models; the step is then "seed-1", …
NATURAL, SEARCHED = "natural", "searched"  # the two steps of an edit


Content = bytes | Callable[[BinaryIO], None]  # of a file, or what writes it part by part


class RecordError(GifError):
    """The folder is no record, or no longer the one that was written."""


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
        info = _read_info(path)
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


def _read_info(path: Path) -> dict[str, Any]:
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


def sha256(path: Path) -> str:
    """Return the hash of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- writing ------------------------------------------------------------------------------------


def write_atomically(path: Path, content: Content) -> None:
    """Write beside `path`, flush to the disk, then rename: `path` is old or new, never half.

    Raises:
        GifError: the disk is full or not writable, said in one sentence; `path` is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise GifError(
            f"Cannot write {path.name} to {path.parent}: {error.strerror}; free some space or "
            "choose another folder. What was there before is untouched."
        ) from None


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write JSON atomically; NaN is refused."""
    write_atomically(path, json.dumps(values, indent=1, allow_nan=False).encode() + b"\n")


def parquet_bytes(tables: Iterable[pa.Table]) -> bytes:
    """Return a parquet file with one row group per table."""
    buffer = io.BytesIO()
    write_parquet(buffer, tables)
    return buffer.getvalue()


def write_parquet(file: BinaryIO, tables: Iterable[pa.Table]) -> None:
    """Write one row group per table, one table in memory; floats split by byte, zstd."""
    tables = iter(tables)
    first = next(tables)
    schema = first.schema
    floats = [f.name for f in schema if pa.types.is_floating(f.type)]
    encoding = {name: "BYTE_STREAM_SPLIT" for name in floats}
    encoding |= {f.name: "DELTA_BINARY_PACKED" for f in schema if pa.types.is_integer(f.type)}
    with pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        compression_level=9,
        use_dictionary=[f.name for f in schema if pa.types.is_string(f.type)],
        column_encoding=encoding,
    ) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table, row_group_size=max(len(table), 1))


def listing(content: bytes) -> dict[str, Any]:
    """Return what record.json says of a file."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write_record(path: Path, info: dict[str, Any], files: Mapping[str, Content]) -> None:
    """Write the files, then record.json naming each with its size and hash."""
    listed = {}
    for name, content in files.items():
        write_atomically(path / name, content)
        written = path / name
        listed[name] = (
            listing(content)
            if isinstance(content, bytes)
            else {"bytes": written.stat().st_size, "sha256": sha256(written)}
        )
    write_json(path / RECORD, {"schema": SCHEMA} | info | {"files": listed})


# --- a workspace: a folder of records ------------------------------------------------------------


@dataclass(frozen=True)
class Listed:
    """One folder of a workspace: a record, a run on its way, or what is wrong with it."""

    path: Path
    status: str  # finished, waiting, running, cancelled, failed, interrupted, damaged
    title: str
    hash: str
    message: str  # one sentence where the status is not finished
    info: dict[str, Any]  # record.json if finished, else run.json, else {}


def list_workspace(workspace: Path) -> list[Listed]:
    """Return every study folder of a workspace, newest first; a damaged one says so."""
    if not workspace.is_dir():
        return []
    entries = [_listed(folder) for folder in _study_folders(workspace)]
    return sorted(entries, key=lambda e: str(e.info.get("created", "")), reverse=True)


def _study_folders(workspace: Path) -> Iterator[Path]:
    for folder in sorted(workspace.iterdir()):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        if any((folder / name).exists() for name in (RECORD, RUN, STUDY)):
            yield folder


def _listed(folder: Path) -> Listed:
    state = read_state(folder)
    if state is not None and state["status"] != "finished":
        return Listed(
            folder, state["status"], state["title"], state["hash"], state["message"], state
        )
    try:
        info = _read_info(folder)
        for name, entry in info["files"].items():
            if name not in DEFERRED and (folder / name).stat().st_size != entry["bytes"]:
                raise RecordError(f"{folder.name}: damaged, {name} was cut short.")
    except RecordError as error:
        return Listed(folder, "damaged", folder.name, "", str(error), {})
    except OSError as error:
        return Listed(folder, "damaged", folder.name, "", f"{folder.name}: damaged, {error}.", {})
    return Listed(folder, info["status"], info["title"], info["hash"], "", info)


def addition_folder(workspace: Path, record_hash: str, query: int) -> Path:
    """Where a later ranked test image of a record lives: a record of its own, kept out of lists."""
    return workspace / ".additions" / record_hash[:16] / f"test-{query}"


def additions(workspace: Path, record: Record) -> dict[int, Record]:
    """Return the finished later rankings of a record, by test image; damaged ones are left out."""
    found = {}
    folder = workspace / ".additions" / record.hash[:16]
    for path in sorted(folder.glob("test-*")):
        try:
            found[int(path.name.removeprefix("test-"))] = Record.open(path)
        except (RecordError, ValueError):
            continue
    return found

"""All caching of the dashboard: what is read from a record is read once and kept bounded.

Keys are a path with the size and time of its record.json, or a content hash; the cached objects
are shared between sessions and must not be changed (frames are copies and may be).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from dashboard import jobs, settings
from gifcore import data as datasets
from gifcore import record as records
from gifcore.data import Data
from gifcore.data.backdoor import Backdoor
from gifcore.data.noise import Noise
from gifcore.errors import GifError
from gifcore.models import bundled as bundled_weights
from gifcore.models.bundle import checkpoints_beside
from gifcore.preview import Sketch
from gifcore.record import Listed, Record, RecordError
from gifcore.runner import prepare
from gifcore.study import Study, dumps, read

Stamp = tuple[int, int]  # time of change [ns] and size of a file, (0, 0) if it is not there


def _stamp(folder: Path) -> Stamp:
    return _file_stamp(folder / records.RECORD)


def _file_stamp(path: Path) -> Stamp:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return (stat.st_mtime_ns, stat.st_size)


# --- records ------------------------------------------------------------------------------------


def open_record(path: str | Path) -> Record:
    """Return the verified record; a record.json that changed is read and verified again.

    Raises:
        RecordError: what is wrong with the folder, in one sentence.
    """
    path = Path(path).resolve()
    return _open(str(path), _stamp(path))


@st.cache_resource(max_entries=64, show_spinner=False)
def _open(path: str, stamp: Stamp) -> Record:  # noqa: ARG001 - the stamp is part of the key
    return Record.open(path)


def bundled() -> list[Listed]:
    """Return the records of the demo; they do not change while the server runs."""
    folder = settings.demo_folder()
    return _listing(str(folder), folder.stat().st_mtime_ns) if folder.is_dir() else []


@st.cache_resource(max_entries=2, show_spinner=False)
def _listing(folder: str, stamp: int) -> list[Listed]:  # noqa: ARG001
    return records.list_workspace(Path(folder))


def additions(record: Record) -> dict[int, Record]:
    """Return the test images of a record that were ranked later, each as its own record."""
    folder = records.addition_folder(settings.workspace(), record.hash, 0).parent
    stamps = tuple((path.name, *_stamp(path)) for path in sorted(folder.glob("test-*")))
    return _additions(str(settings.workspace()), str(record.path), stamps, record)


@st.cache_resource(max_entries=64, show_spinner=False)
def _additions(
    workspace: str,
    path: str,  # noqa: ARG001 - part of the key
    stamps: tuple[Any, ...],  # noqa: ARG001
    _record: Record,
) -> dict[int, Record]:
    return records.additions(Path(workspace), _record)


def queries(record: Record) -> list[dict[str, Any]]:
    """Return every ranked test image: index, label, predicted, p_label, loss.

    Also `added` (ranked later) and `certificates`, {method: how far its ranking can be trusted}.
    """
    own = [_with_certificates(query, record, added=False) for query in record.queries]
    known = {query["index"] for query in own}
    later = [
        _with_certificates(query, addition, added=True)
        for index, addition in sorted(additions(record).items())
        for query in addition.queries
        if index not in known and query["index"] == index
    ]
    return own + later


def _with_certificates(query: dict[str, Any], record: Record, *, added: bool) -> dict[str, Any]:
    certificates = {
        method: entry.get("query_certificates", {}).get(str(query["index"]))
        for method, entry in record.info["methods"].items()
    }
    found = {method: value for method, value in certificates.items() if value is not None}
    return query | {"added": added, "certificates": found}


# --- tables of a record -------------------------------------------------------------------------


def scores(record_path: str | Path, method: str, query: int) -> pd.DataFrame:
    """Return train_index, influence [nats], rank (0 = most helpful), in order of rank.

    The test image may have been ranked with the record or later.

    Raises:
        RecordError: it is not ranked by this method.
    """
    record = open_record(record_path)
    if query not in {entry["index"] for entry in record.queries}:
        record = additions(record).get(query, record)
    return _scores(str(record.path), _stamp(record.path), method, query)


@st.cache_data(max_entries=128, show_spinner=False)
def _scores(path: str, stamp: Stamp, method: str, query: int) -> pd.DataFrame:
    return _open(path, stamp).scores(method, query)


def influence(record_path: str | Path, method: str, query: int) -> np.ndarray:
    """Return (n,) influences [nats] in the order of the training samples; not to be changed."""
    frame = scores(record_path, method, query)
    values = np.empty(len(frame))
    values[frame["train_index"].to_numpy()] = frame["influence"].to_numpy()
    return values


def update(record_path: str | Path, method: str) -> tuple[np.ndarray | None, np.ndarray]:
    """Return (selected indices or None for all, delta); shared, not to be changed."""
    path = open_record(record_path).path
    return _update(str(path), _stamp(path), method)


@st.cache_resource(max_entries=32, show_spinner=False)
def _update(path: str, stamp: Stamp, method: str) -> tuple[np.ndarray | None, np.ndarray]:
    return _open(path, stamp).update(method)


def samples(
    record_path: str | Path, method: str, step: str = "", split: str = "test"
) -> pd.DataFrame:
    """Return index, label, predicted, p_label, loss [nats] of one split (see Record.samples)."""
    path = open_record(record_path).path
    return _samples(str(path), _stamp(path), method, step, split)


@st.cache_data(max_entries=64, show_spinner=False)
def _samples(path: str, stamp: Stamp, method: str, step: str, split: str) -> pd.DataFrame:
    return _open(path, stamp).samples(method, step, split)


def test_image(record_path: str | Path, index: int) -> dict[str, Any]:
    """Return index, label, predicted, p_label and loss [nats] of any test image, unedited model."""
    row = samples(record_path, records.BEFORE).iloc[index]
    whole = {key: int(row[key]) for key in ("index", "label", "predicted")}
    return whole | {key: float(row[key]) for key in ("p_label", "loss")}


def curves(record_path: str | Path, method: str) -> pd.DataFrame:
    """Return curve, query, x, value (see Record.curves)."""
    path = open_record(record_path).path
    return _curves(str(path), _stamp(path), method)


@st.cache_data(max_entries=64, show_spinner=False)
def _curves(path: str, stamp: Stamp, method: str) -> pd.DataFrame:
    return _open(path, stamp).curves(method)


def fastif(record_path: str | Path, method: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return recall and quality of every way to a ranking (see Record.recall and Record.speed)."""
    path = open_record(record_path).path
    return _fastif(str(path), _stamp(path), method)


@st.cache_data(max_entries=32, show_spinner=False)
def _fastif(path: str, stamp: Stamp, method: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    record = _open(path, stamp)
    return record.recall(method), record.speed(method)


def units(record_path: str | Path) -> pd.DataFrame:
    """Return what excites each unit (see Record.units); empty if the record does not say."""
    path = open_record(record_path).path
    return _units(str(path), _stamp(path))


@st.cache_data(max_entries=32, show_spinner=False)
def _units(path: str, stamp: Stamp) -> pd.DataFrame:
    return _open(path, stamp).units()


def weights(record_path: str | Path) -> np.ndarray | None:
    """Return the unedited parameters, (p,), None if their file is gone or another one now.

    Shared, not to be changed. Only safetensors can be read without torch.
    """
    record = open_record(record_path)
    asked = study(record.path)
    file = weights_file(asked) if asked else None
    if asked is None or file is None:
        return None
    return _weights(str(record.path), _stamp(record.path), _file_stamp(file), asked)


@st.cache_resource(max_entries=32, show_spinner=False)
def _weights(path: str, stamp: Stamp, own: Stamp, _study: Study) -> np.ndarray | None:  # noqa: ARG001
    info = _open(path, stamp).info["model"]
    try:
        prepared = prepare(_study)
        if prepared.weights_hash != info["hash"] or prepared.weights.suffix != ".safetensors":
            return None
        arrays = load_file(prepared.weights)
        parts = [np.asarray(arrays[x["name"]], np.float32).ravel() for x in info["layers"]]
        return np.concatenate(parts)
    except (GifError, OSError, SafetensorError, KeyError, ValueError):
        return None


def suspects(record_path: str | Path) -> pd.DataFrame:
    """Return labels and scores of every training sample (see Record.suspects); empty if none."""
    path = open_record(record_path).path
    return _suspects(str(path), _stamp(path))


@st.cache_data(max_entries=16, show_spinner=False)
def _suspects(path: str, stamp: Stamp) -> pd.DataFrame:
    return _open(path, stamp).suspects()


def self_influence(record_path: str | Path, method: str) -> pd.DataFrame:
    """Return train_index and value [nats] (see Record.self_influence); empty if not computed."""
    path = open_record(record_path).path
    return _self_influence(str(path), _stamp(path), method)


@st.cache_data(max_entries=64, show_spinner=False)
def _self_influence(path: str, stamp: Stamp, method: str) -> pd.DataFrame:
    return _open(path, stamp).self_influence(method)


def thumbnails(record_path: str | Path) -> dict[str, np.ndarray]:
    """Return the images kept in the record (see Record.thumbnails); not to be changed."""
    path = open_record(record_path).path
    return _thumbnails(str(path), _stamp(path))


@st.cache_resource(max_entries=32, show_spinner=False)
def _thumbnails(path: str, stamp: Stamp) -> dict[str, np.ndarray]:
    return _open(path, stamp).thumbnails()


def sketch(record_path: str | Path) -> Sketch | None:
    """Return the sketch of a record, None if it has none; read once for all sessions.

    Raises:
        GifError: it is missing, damaged, or of another model or other data.
    """
    path = open_record(record_path).path
    return _sketch(str(path), _stamp(path), _file_stamp(path / records.SKETCH))


@st.cache_resource(max_entries=4, show_spinner=False)
def _sketch(path: str, stamp: Stamp, own: Stamp) -> Sketch | None:  # noqa: ARG001
    return _open(path, stamp).sketch()


def previewed(record_path: str | Path, method: str, query: int) -> np.ndarray:
    """Return (n,) approximate influences [nats] in the order of the training samples.

    Shared, not to be changed. The record has a sketch that holds this method and test image.
    """
    path = open_record(record_path).path
    return _previewed(str(path), _stamp(path), _file_stamp(path / records.SKETCH), method, query)


@st.cache_resource(max_entries=64, show_spinner=False)
def _previewed(path: str, stamp: Stamp, own: Stamp, method: str, query: int) -> np.ndarray:
    found = _sketch(path, stamp, own)
    assert found is not None
    values = np.empty(len(found.positions))
    values[found.positions] = found.scores(query, method)
    return values


def study(record_path: str | Path) -> Study | None:
    """Return the study a record was made of, None if this version cannot read it."""
    path = open_record(record_path).path
    return _study(str(path), _stamp(path))


@st.cache_data(max_entries=64, show_spinner=False)
def _study(path: str, stamp: Stamp) -> Study | None:  # noqa: ARG001
    try:
        return read(Path(path) / records.STUDY)
    except GifError:
        return None


# --- what the engine says of a study before it runs ----------------------------------------------


def doctor(study: Study) -> dict[str, Any]:
    """Return the engine's check of a study; asked once for equal contents of study and files.

    Raises:
        GifError: the engine did not answer (that is not kept).
    """
    plain = study.model_copy(update={"title": "check"})
    weights = weights_file(study)
    files = [Path(study.data.source)]
    files += [weights, checkpoints_beside(weights)] if weights else []
    return _doctor(dumps(plain), tuple(_file_stamp(path) for path in files), plain)


def weights_file(study: Study) -> Path | None:
    """Return the checkpoint a study names, or the bundled one; None if there is none."""
    if study.model.weights:
        return Path(study.model.weights)
    suffix = "-backdoor" if study.change.kind == "backdoor" else ""
    suffix = "-noise" if study.mislabel.noise else suffix
    return bundled_weights(study.model.name, study.data.source + suffix)


@st.cache_data(max_entries=64, show_spinner=False)
def _doctor(content: str, stamps: tuple[Stamp, ...], _study: Study) -> dict[str, Any]:  # noqa: ARG001
    return jobs.doctor(_study, workspace=settings.workspace())


# --- data and images ----------------------------------------------------------------------------


def class_names(source: str) -> list[str] | None:
    """Return the classes of a data set that is quick to load, None if that must be asked first."""
    if source == "fashion-mnist":  # the same ten, without unpacking 70,000 images
        source = "fashion-mnist-mini"
    if source not in ("fashion-mnist-mini", "digits"):
        return None
    return list(_data(source, "").classes)


def data(source: str, expected_hash: str) -> Data | None:
    """Return the data set a record was made from, or None if it is gone or another one now.

    The page then says so and draws the thumbnails kept in the record.
    """
    try:
        found = _data(source, expected_hash)
    except (GifError, OSError):
        return None
    return found if found.hash == expected_hash else None


def poisoned(source: str, expected_hash: str, planted: Backdoor | Noise) -> Data | None:
    """Return the data set with what a study planted in its training split, None as `data`."""
    found = data(source, expected_hash)
    return None if found is None else _poisoned(source, expected_hash, planted)


@st.cache_resource(max_entries=4, show_spinner=False)
def _poisoned(source: str, expected_hash: str, planted: Backdoor | Noise) -> Data:
    return planted.plant(_data(source, expected_hash))[0]


@st.cache_resource(max_entries=3, show_spinner=False)
def _data(source: str, expected_hash: str) -> Data:  # noqa: ARG001 - part of the key
    return datasets.load(source)


def png(image: np.ndarray, side: int = 112) -> bytes:
    """Return a uint8 image, (H, W), (C, H, W) or (H, W, C), as PNG.

    It is enlarged, nearest neighbour, by the largest whole factor that fits into `side` pixels.
    """
    array = np.ascontiguousarray(image)
    return _png(array.tobytes(), array.shape, str(array.dtype), side)


@st.cache_data(max_entries=2048, show_spinner=False)
def _png(content: bytes, shape: tuple[int, ...], dtype: str, side: int) -> bytes:
    array = np.frombuffer(content, dtype=dtype).reshape(shape)
    if array.dtype != np.uint8:
        array = (np.clip(array, 0, 1) * 255).round().astype(np.uint8)
    if array.ndim == 3 and array.shape[0] in (1, 3):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    factor = max(1, side // max(array.shape[:2]))
    enlarged = array.repeat(factor, axis=0).repeat(factor, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(enlarged).save(buffer, format="PNG")
    return buffer.getvalue()


__all__ = [
    "RecordError",
    "additions",
    "bundled",
    "class_names",
    "curves",
    "data",
    "doctor",
    "fastif",
    "influence",
    "open_record",
    "png",
    "poisoned",
    "previewed",
    "queries",
    "samples",
    "scores",
    "self_influence",
    "sketch",
    "study",
    "suspects",
    "test_image",
    "thumbnails",
    "units",
    "update",
    "weights",
    "weights_file",
]

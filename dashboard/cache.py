"""All caching of the dashboard: what is read from a record is read once and kept bounded.

Keys are a path with the size and time of its record.json, or a content hash; the cached objects
are shared between sessions and must not be changed (frames are copies and may be).
Records, studies and images are cached next door; pages ask here for all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.cached_images import class_names, data, png, poisoned, small
from dashboard.cached_records import (
    Stamp,
    additions,
    bundled,
    file_stamp,
    listed,
    open_record,
    opened,
    queries,
    stamp_of,
)
from dashboard.cached_studies import doctor, network, study, weights, weights_file
from dashboard.components.measures import spearman
from gifcore import record as records
from gifcore.preview import Sketch
from gifcore.record import Record, RecordError


def scores(record_path: str | Path, method: str, query: int) -> pd.DataFrame:
    """Return train_index, influence [nats], rank (0 = most helpful), in order of rank.

    The test image may have been ranked with the record or later.

    Raises:
        RecordError: it is not ranked by this method.
    """
    record = _ranked_in(record_path, query)
    return _scores(str(record.path), stamp_of(record.path), method, query)


def _ranked_in(record_path: str | Path, query: int) -> Record:
    """Return what ranks a test image: the record itself, or what was ranked later."""
    record = open_record(record_path)
    if any(entry["index"] == query for entry in record.info["queries"]):
        return record
    return additions(record).get(query, record)


@st.cache_data(max_entries=32, show_spinner=False)
def _scores(path: str, stamp: Stamp, method: str, query: int) -> pd.DataFrame:
    return opened(path, stamp).scores(method, query)


def influence(record_path: str | Path, method: str, query: int) -> np.ndarray:
    """Return (n,) influences [nats] in the order of the training samples; shared, read-only."""
    record = _ranked_in(record_path, query)
    return _influence(str(record.path), stamp_of(record.path), method, query)


@st.cache_resource(max_entries=128, show_spinner=False)  # 60,000 samples: half a megabyte each
def _influence(path: str, stamp: Stamp, method: str, query: int) -> np.ndarray:
    frame = opened(path, stamp).scores(method, query)
    values = np.empty(len(frame))
    values[frame["train_index"].to_numpy()] = frame["influence"].to_numpy()
    values.flags.writeable = False
    return values


def rank_correlations(
    first: tuple[str | Path, str], second: tuple[str | Path, str], queries: tuple[int, ...]
) -> list[float]:
    """Return Spearman's rho of two rankings (record, method) for each query; nan if one is flat."""
    paths = [open_record(path).path for path, _ in (first, second)]
    views = [(str(path), stamp_of(path)) for path in paths]
    return _rank_correlations((*views[0], first[1]), (*views[1], second[1]), queries)


@st.cache_data(max_entries=64, show_spinner="Comparing the rankings of all test images …")
def _rank_correlations(
    first: tuple[str, Stamp, str], second: tuple[str, Stamp, str], queries: tuple[int, ...]
) -> list[float]:
    sides = ((first[0], first[2]), (second[0], second[2]))
    return [spearman(*(influence(path, method, q) for path, method in sides)) for q in queries]


def update(record_path: str | Path, method: str) -> tuple[np.ndarray | None, np.ndarray]:
    """Return (selected indices or None for all, delta); shared, not to be changed."""
    path = open_record(record_path).path
    return _update(str(path), stamp_of(path), method)


@st.cache_resource(max_entries=32, show_spinner=False)
def _update(path: str, stamp: Stamp, method: str) -> tuple[np.ndarray | None, np.ndarray]:
    return opened(path, stamp).update(method)


def samples(
    record_path: str | Path, method: str, step: str = "", split: str = "test"
) -> pd.DataFrame:
    """Return index, label, predicted, p_label, loss [nats] of one split (see Record.samples)."""
    path = open_record(record_path).path
    return _samples(str(path), stamp_of(path), method, step, split)


@st.cache_data(max_entries=64, show_spinner=False)
def _samples(path: str, stamp: Stamp, method: str, step: str, split: str) -> pd.DataFrame:
    return opened(path, stamp).samples(method, step, split)


def test_image(record_path: str | Path, index: int) -> dict[str, Any]:
    """Return index, label, predicted, p_label and loss [nats] of any test image, unedited model."""
    row = samples(record_path, records.BEFORE).iloc[index]
    whole = {key: int(row[key]) for key in ("index", "label", "predicted")}
    return whole | {key: float(row[key]) for key in ("p_label", "loss")}


def curves(record_path: str | Path, method: str) -> pd.DataFrame:
    """Return curve, query, x, value (see Record.curves)."""
    path = open_record(record_path).path
    return _curves(str(path), stamp_of(path), method)


@st.cache_data(max_entries=64, show_spinner=False)
def _curves(path: str, stamp: Stamp, method: str) -> pd.DataFrame:
    return opened(path, stamp).curves(method)


def fastif(record_path: str | Path, method: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return recall and quality of every way to a ranking (see Record.recall and Record.speed)."""
    path = open_record(record_path).path
    return _fastif(str(path), stamp_of(path), method)


@st.cache_data(max_entries=32, show_spinner=False)
def _fastif(path: str, stamp: Stamp, method: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    record = opened(path, stamp)
    return record.recall(method), record.speed(method)


def train(record_path: str | Path, method: str = "", step: str = "") -> pd.DataFrame | None:
    """Return the opinion of every training sample (see Record.train), None if it is not kept."""
    path = open_record(record_path).path
    return _train(str(path), stamp_of(path), method, step)


@st.cache_data(max_entries=32, show_spinner=False)
def _train(path: str, stamp: Stamp, method: str, step: str) -> pd.DataFrame | None:
    return opened(path, stamp).train(method, step)


def units(record_path: str | Path) -> pd.DataFrame:
    """Return what excites each unit (see Record.units); empty if the record does not say."""
    path = open_record(record_path).path
    return _units(str(path), stamp_of(path))


@st.cache_data(max_entries=32, show_spinner=False)
def _units(path: str, stamp: Stamp) -> pd.DataFrame:
    return opened(path, stamp).units()


def suspects(record_path: str | Path) -> pd.DataFrame:
    """Return labels and scores of every training sample (see Record.suspects); empty if none."""
    path = open_record(record_path).path
    return _suspects(str(path), stamp_of(path))


@st.cache_data(max_entries=16, show_spinner=False)
def _suspects(path: str, stamp: Stamp) -> pd.DataFrame:
    return opened(path, stamp).suspects()


def self_influence(record_path: str | Path, method: str) -> pd.DataFrame:
    """Return train_index and value [nats] (see Record.self_influence); empty if not computed."""
    path = open_record(record_path).path
    return _self_influence(str(path), stamp_of(path), method)


@st.cache_data(max_entries=64, show_spinner=False)
def _self_influence(path: str, stamp: Stamp, method: str) -> pd.DataFrame:
    return opened(path, stamp).self_influence(method)


def thumbnails(record_path: str | Path) -> dict[str, np.ndarray]:
    """Return the images kept in the record (see Record.thumbnails); not to be changed."""
    path = open_record(record_path).path
    return _thumbnails(str(path), stamp_of(path))


@st.cache_resource(max_entries=32, show_spinner=False)
def _thumbnails(path: str, stamp: Stamp) -> dict[str, np.ndarray]:
    return opened(path, stamp).thumbnails()


def sketch(record_path: str | Path) -> Sketch | None:
    """Return the sketch of a record, None if it has none; read once for all sessions.

    Raises:
        GifError: it is missing, damaged, or of another model or other data.
    """
    path = open_record(record_path).path
    return _sketch(str(path), stamp_of(path), file_stamp(path / records.SKETCH))


@st.cache_resource(max_entries=4, show_spinner=False)
def _sketch(path: str, stamp: Stamp, own: Stamp) -> Sketch | None:  # noqa: ARG001
    return opened(path, stamp).sketch()


def previewed(record_path: str | Path, method: str, query: int) -> np.ndarray:
    """Return (n,) approximate influences [nats] in the order of the training samples.

    Shared, not to be changed. The record has a sketch that holds this method and test image.
    """
    path = open_record(record_path).path
    return _previewed(str(path), stamp_of(path), file_stamp(path / records.SKETCH), method, query)


@st.cache_resource(max_entries=64, show_spinner=False)
def _previewed(path: str, stamp: Stamp, own: Stamp, method: str, query: int) -> np.ndarray:
    found = _sketch(path, stamp, own)
    assert found is not None
    values = np.empty(len(found.positions))
    values[found.positions] = found.scores(query, method)
    return values


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
    "listed",
    "network",
    "open_record",
    "png",
    "poisoned",
    "previewed",
    "queries",
    "rank_correlations",
    "samples",
    "scores",
    "self_influence",
    "sketch",
    "small",
    "study",
    "suspects",
    "test_image",
    "thumbnails",
    "train",
    "units",
    "update",
    "weights",
    "weights_file",
]

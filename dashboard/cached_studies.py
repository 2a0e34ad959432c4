"""The study of a record, the weights it names, and what the engine says of one before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from safetensors import SafetensorError
from safetensors.numpy import load_file

from dashboard import jobs, settings
from dashboard.cached_records import Stamp, file_stamp, open_record, opened, stamp_of
from gifcore import record as records
from gifcore.errors import GifError
from gifcore.models import bundled as bundled_weights
from gifcore.models.bundle import checkpoints_beside
from gifcore.quota import Network
from gifcore.quota import network as read_network
from gifcore.runner import prepare
from gifcore.study import Study, dumps, read


def study(record_path: str | Path) -> Study | None:
    """Return the study a record was made of, None if this version cannot read it."""
    path = open_record(record_path).path
    return _study(str(path), stamp_of(path))


@st.cache_data(max_entries=64, show_spinner=False)
def _study(path: str, stamp: Stamp) -> Study | None:  # noqa: ARG001
    try:
        return read(Path(path) / records.STUDY)
    except GifError:
        return None


def weights(record_path: str | Path) -> np.ndarray | None:
    """Return the unedited parameters, (p,), None if their file is gone or another one now.

    Shared, not to be changed. Only safetensors can be read without torch.
    """
    record = open_record(record_path)
    asked = study(record.path)
    file = weights_file(asked) if asked else None
    if asked is None or file is None:
        return None
    return _weights(str(record.path), stamp_of(record.path), file_stamp(file), asked)


@st.cache_resource(max_entries=32, show_spinner=False)
def _weights(path: str, stamp: Stamp, own: Stamp, _study: Study) -> np.ndarray | None:  # noqa: ARG001
    info = opened(path, stamp).info["model"]
    try:
        prepared = prepare(_study)
        if prepared.weights_hash != info["hash"] or prepared.weights.suffix != ".safetensors":
            return None
        arrays = load_file(prepared.weights)
        parts = [np.asarray(arrays[x["name"]], np.float32).ravel() for x in info["layers"]]
        return np.concatenate(parts)
    except (GifError, OSError, SafetensorError, KeyError, ValueError):
        return None


def network(weights: Path) -> Network | None:
    """Return the layers of a checkpoint, None if its header cannot be read without torch."""
    return _network(str(weights), file_stamp(weights))


@st.cache_data(max_entries=64, show_spinner=False)
def _network(path: str, stamp: Stamp) -> Network | None:  # noqa: ARG001
    return read_network(Path(path))


def doctor(study: Study) -> dict[str, Any]:
    """Return the engine's check of a study; asked once for equal contents of study and files.

    Raises:
        GifError: the engine did not answer (that is not kept).
    """
    plain = study.model_copy(update={"title": "check"})
    weights = weights_file(study)
    files = [Path(study.data.source)]
    files += [weights, checkpoints_beside(weights)] if weights else []
    return _doctor(dumps(plain), tuple(file_stamp(path) for path in files), plain)


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

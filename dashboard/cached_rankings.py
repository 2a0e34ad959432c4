"""All rankings of a record together, for what is asked of one training sample over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from dashboard import cache, neighbours
from dashboard.cached_records import Stamp, additions, file_stamp, open_record, opened, stamp_of
from dashboard.neighbours import Near
from gifcore import record as records
from gifcore.errors import GifError

NEAREST = 6  # training samples kept for one


@dataclass(frozen=True, eq=False)
class Rankings:
    """The influence of every training sample on every query that a method ranked.

    Args:
        queries: (m,) test images, or groups of them below 0.
        values: (m, n) in the unit of the record's target; positive = helpful.
    """

    queries: tuple[int, ...]
    values: np.ndarray


def rankings(record_path: str | Path, method: str) -> Rankings:
    """Return what a method ranked, with the record and later; shared, not to be changed.

    Memory: m n float32.
    """
    record = open_record(record_path)
    later = [str(one.path) for _, one in sorted(additions(record).items())]
    places = tuple((path, stamp_of(Path(path))) for path in (str(record.path), *later))
    return _rankings(method, places)


@st.cache_resource(max_entries=4, show_spinner=False)
def _rankings(method: str, places: tuple[tuple[str, Stamp], ...]) -> Rankings:
    found: dict[int, np.ndarray] = {}
    for path, stamp in places:
        record = opened(path, stamp)
        if method in record.methods:
            found = record.influences(method) | found  # the record's own before a later one
    queries = tuple(found)
    return Rankings(queries, np.stack([found[q] for q in queries]) if found else _NONE)


_NONE = np.zeros((0, 0), dtype=np.float32)


def near(record_path: str | Path, methods: tuple[str, ...], sample: int) -> Near | None:
    """Return a training sample's nearest by the sketch, else by these methods' rankings.

    None where the record has neither.
    """
    path = open_record(record_path).path
    known = {m: rankings(path, m) for m in methods}
    ranked = tuple((m, found.queries) for m, found in known.items())
    stamps = (stamp_of(path), file_stamp(path / records.SKETCH))
    return _near(str(path), stamps, ranked, sample, [found.values for found in known.values()])


@st.cache_data(max_entries=256, show_spinner=False)
def _near(
    path: str,
    stamps: tuple[Stamp, Stamp],  # noqa: ARG001 - part of the key
    ranked: tuple[tuple[str, tuple[int, ...]], ...],  # noqa: ARG001
    sample: int,
    _values: list[np.ndarray],
) -> Near | None:
    try:
        sketch = cache.sketch(path)
        if sketch is not None:
            return Near("gradient", *sketch.nearest(sample, NEAREST))
    except GifError:  # damaged, or without this sample: by influence, then
        pass
    return neighbours.by_influence(_values, sample, NEAREST)

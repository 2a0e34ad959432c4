"""Figures that were drawn before are not built again: most of a page's time would go into that.

Of the figures of a page a click changes one or two, and several viewers often look at the same.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, ParamSpec

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard.charts.style import Palette, legible

P = ParamSpec("P")
PLAIN = (str, bytes, int, float, bool, type(None), np.generic)


def kept(build: Callable[P, go.Figure]) -> Callable[P, go.Figure]:
    """Keep what a function draws, by the content of its arguments.

    Its figures are shared by all viewers: whoever changes one takes `go.Figure(figure)` first.
    """
    name = f"{build.__module__}.{build.__qualname__}"

    @functools.wraps(build)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> go.Figure:
        def made() -> go.Figure:
            given = [one for one in (*args, *kwargs.values()) if isinstance(one, Palette)]
            return legible(build(*args, **kwargs), given[0]) if given else build(*args, **kwargs)

        try:
            key = digest([args, kwargs])
        except TypeError:  # of something whose content is not known
            return made()
        return _kept(name, key, made)

    return drawn


@st.cache_resource(max_entries=96, show_spinner=False)
def _kept(name: str, key: bytes, _build: Callable[[], go.Figure]) -> go.Figure:  # noqa: ARG001
    return _build()


def digest(value: Any) -> bytes:  # noqa: ANN401 - any argument of a chart
    """Return a hash of the content of plain values, arrays, tables, and what is made of them.

    Raises:
        TypeError: a part is of another kind.
    """
    found = hashlib.blake2b(digest_size=16)
    _feed(found, value)
    return found.digest()


def _feed(into: hashlib.blake2b, value: Any) -> None:  # noqa: ANN401
    """Add a value, its kind and its length first, so that no two values look the same."""
    kind = type(value)
    if isinstance(value, PLAIN):
        _add(into, kind, repr(value).encode())
    elif isinstance(value, np.ndarray) and value.dtype.kind not in "OUS":
        _add(into, f"{value.dtype.str}{value.shape}", np.ascontiguousarray(value).data)
    elif isinstance(value, np.ndarray):
        _add(into, str(value.shape), b"")
        _feed(into, value.ravel().tolist())
    elif isinstance(value, pd.DataFrame):
        _feed(into, {str(name): column.to_numpy() for name, column in value.items()})
    elif isinstance(value, Mapping):
        _feed(into, [*value.keys()])
        _feed(into, [*value.values()])
    elif is_dataclass(value) and not isinstance(value, type):
        _add(into, kind, b"")
        _feed(into, [getattr(value, field.name) for field in fields(value)])
    elif isinstance(value, Sequence | range) and all(type(one) is str for one in value):
        _add(into, f"{len(value)} texts", "\0".join(map(str, value)).encode())
        _add(into, "long", np.fromiter(map(len, value), np.int64, len(value)).data)
    elif isinstance(value, Sequence):
        _add(into, f"list {len(value)}", b"")
        for one in value:
            _feed(into, one)
    else:
        raise TypeError(f"{kind.__name__} has no content that is known here")


def _add(into: hashlib.blake2b, kind: object, content: bytes | memoryview) -> None:
    into.update(f"{kind}:{memoryview(content).nbytes}:".encode())
    into.update(content)

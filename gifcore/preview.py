"""The instant preview: approximate rankings of all training samples, read from a sketch by NumPy.

A sketch holds r numbers a training sample, a_i = V^T grad l_i, and r numbers a test sample and
method, V^T s_q; V (p, r) has orthonormal columns. One product with a matrix is a ranking:

    I(i, q) = s_q . (grad l_i - gbar) / (n - 1)  is about  V^T s_q . (a_i - abar) / (n - 1)   [nats]

Positive = helpful, as everywhere. Nothing here imports torch; `gifcore.sketch` makes sketches.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gifcore.errors import GifError

SCHEMA = 1
DEPTH = 100  # m of recall@m
BLOCK = 4096  # training samples widened to float32 at a time
CRITERIA = ("largest", "helpful", "harmful")
_ARRAYS = ("train", "lengths", "factors", "mean", "positions")

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sketch:
    """Low-rank coordinates of training gradients and of the adjoint solves of all test samples.

    Args:
        train: (n, r) a_i of every training sample, scaled to length 1.
        lengths: (n,) their lengths.
        factors: (n,) w_i / (W - w_i); without weights 1 / (n - 1).
        mean: (r,) abar, the weighted mean of a_i.
        positions: (n,) which training sample each row is.
        solves: (t, r) V^T s_q of every test sample, scaled to length 1, by method.
        solve_lengths: (t,) their lengths, by method.
        info: what it was made of and how good it is, as plain values: `model` and `data` hashes,
            `held_out` queries, `methods` with the measured recall of each, `rank`, `seed`.
    """

    train: Array
    lengths: Array
    factors: Array
    mean: Array
    positions: Array
    solves: Mapping[str, Array]
    solve_lengths: Mapping[str, Array]
    info: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check that the parts fit and are finite.

        Raises:
            GifError: they do not, or are not.
        """
        n, r = self.train.shape
        t = len(next(iter(self.solves.values()), ()))
        wanted: dict[str, tuple[int, ...]] = {"train": (n, r)}
        wanted |= {"lengths": (n,), "factors": (n,), "mean": (r,), "positions": (n,)}
        parts: dict[str, Array] = {name: getattr(self, name) for name in wanted}
        for method, rows in self.solves.items():
            wanted |= {f"solves by {method}": (t, r), f"lengths of {method}": (t,)}
            parts |= {f"solves by {method}": rows}
            parts |= {f"lengths of {method}": self.solve_lengths[method]}
        for name, array in parts.items():
            if array.shape != wanted[name]:
                raise GifError(
                    f"The sketch's {name} have the shape {array.shape} instead of {wanted[name]}; "
                    "make it again."
                )
            if not bool(np.isfinite(array).all()):
                raise GifError(
                    f"The sketch's {name} hold NaN or infinity; raise `damping` and make it again."
                )

    @property
    def methods(self) -> list[str]:
        return list(self.solves)

    @property
    def nbytes(self) -> int:
        """Size of all arrays, uncompressed."""
        own = sum(int(getattr(self, name).nbytes) for name in _ARRAYS)
        parts = (*self.solves.values(), *self.solve_lengths.values())
        return own + sum(int(array.nbytes) for array in parts)

    @property
    def bytes_per_sample(self) -> int:
        """Size of the numbers of a training sample, or of a test sample and method: r and 1."""
        return self.train.shape[1] * self.train.itemsize + self.lengths.itemsize

    def scores(self, query: int, method: str) -> Array:
        """Return the approximate influence of every training sample on a test sample, (n,) in nats.

        In float32, or in float64 where the sketch was kept so; entry j is of sample positions[j].

        Raises:
            GifError: a test sample or a method that the sketch does not hold.

        Cost: one product with the (n, r) matrix.
        """
        self._refuse(method)
        count = len(self.solves[method])
        if not 0 <= query < count:
            raise GifError(f"There is no test sample {query}; positions are 0 … {count - 1}.")
        wide = np.float64 if self.train.dtype == np.float64 else np.float32
        s = self.solves[method][query].astype(wide) * wide(self.solve_lengths[method][query])
        products = np.empty(len(self.train), dtype=wide)
        for start in range(0, len(products), BLOCK):
            rows = self.train[start : start + BLOCK]
            products[start : start + BLOCK] = rows.astype(wide, copy=False) @ s
        centred = products * self.lengths.astype(wide) - self.mean.astype(wide) @ s
        found: Array = centred * self.factors.astype(wide)
        return found

    def nearest(self, sample: int, count: int) -> tuple[Array, Array]:
        """Return the training samples whose gradients point most the same way, and the cosines.

        cosine = a_i . a_j / (|a_i| |a_j|) of the sketched gradients; the largest first, ties by
        position; the sample itself is left out. Both are empty where it has no gradient.

        Raises:
            GifError: a training sample that the sketch does not hold.

        Cost: one product with the (n, r) matrix.
        """
        rows = np.flatnonzero(self.positions == sample)
        if not len(rows):
            raise GifError(f"The sketch holds no training sample {sample}.")
        own = self.train[rows[0]].astype(np.float32)
        if not self.lengths[rows[0]] or not own.any():
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        cosines = np.empty(len(self.train), dtype=np.float32)
        for start in range(0, len(cosines), BLOCK):
            part = self.train[start : start + BLOCK].astype(np.float32)
            cosines[start : start + BLOCK] = part @ own
        cosines[rows[0]] = -np.inf
        order = np.argsort(-cosines, kind="stable")[: min(count, len(cosines) - 1)]
        return self.positions[order].astype(np.int64), np.clip(cosines[order], -1, 1)

    def recall(self, method: str) -> Mapping[str, Any]:
        """Return the recall that was measured on queries the sketch was not made of.

        `queries` how many, `depth` m of recall@m, and for each of CRITERIA `mean`, `min` and
        `control`, the mean recall of ranking by the query's gradient alone.

        Raises:
            GifError: a method that the sketch does not hold.
        """
        self._refuse(method)
        found: Mapping[str, Any] = self.info["methods"][method]["recall"]
        return found

    def _refuse(self, method: str) -> None:
        if method not in self.solves:
            raise GifError(f"The sketch holds {', '.join(self.solves)}, not '{method}'.")

    @property
    def arrays(self) -> dict[str, Array]:
        """Every array by the name it has in the file."""
        found = {name: getattr(self, name) for name in _ARRAYS}
        for method in self.methods:
            found[f"solves.{method}"] = self.solves[method]
            found[f"lengths.{method}"] = self.solve_lengths[method]
        return found

    @classmethod
    def of(cls, info: Mapping[str, Any], arrays: Mapping[str, Array]) -> Sketch:
        """Return the sketch of this info and the arrays of `arrays`."""
        methods = info["methods"]
        return cls(
            **{name: arrays[name] for name in _ARRAYS},
            solves={method: arrays[f"solves.{method}"] for method in methods},
            solve_lengths={method: arrays[f"lengths.{method}"] for method in methods},
            info=info,
        )

    def content(self, *, compressed: bool = False) -> bytes:
        """Return the sketch as one .npz file without pickles; compressed it is read slower."""
        text = json.dumps({"schema": SCHEMA, **self.info})
        arrays: dict[str, Any] = {"info": np.frombuffer(text.encode(), dtype=np.uint8)}
        arrays |= self.arrays
        buffer = io.BytesIO()
        if compressed:
            np.savez_compressed(buffer, **arrays)
        else:
            np.savez(buffer, **arrays)
        return buffer.getvalue()

    def save(self, path: str | Path, *, compressed: bool = False) -> None:
        """Write `content` to a file."""
        Path(path).write_bytes(self.content(compressed=compressed))


def load(path: str | Path, *, model: str, data: str) -> Sketch:
    """Read a sketch and check that it is of this model and these data.

    Args:
        model: hash of the model, as the sketch was made with.
        data: hash of the data.

    Raises:
        GifError: no sketch, a damaged one, or one of another model or other data.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        info = json.loads(arrays.pop("info").tobytes())
        schema, known = info.pop("schema"), {name: info[name] for name in ("model", "data")}
    except _DAMAGED as error:
        raise GifError(f"{path} is no sketch that can be read ({error}); make it again.") from None
    if schema != SCHEMA:
        raise GifError(f"{path} is a sketch of another version; make it again.")
    for name, wanted in (("model", model), ("data", data)):
        if known[name] != wanted:
            raise GifError(
                f"{path} is a sketch of another {name} ({known[name]:.12} instead of "
                f"{wanted:.12}); make it again."
            )
    try:
        return Sketch.of(info, arrays)
    except _DAMAGED as error:
        raise GifError(f"{path} is no sketch that can be read ({error}); make it again.") from None


_DAMAGED = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


def words(info: Mapping[str, Any]) -> list[str]:
    """Return what record.json says of its preview, a line a method; [] where none was asked for."""
    entry: Mapping[str, Any] = info.get("preview", {})
    labels = {method: one["label"] for method, one in info["methods"].items()}
    lines = []
    if "rank" in entry:
        lines.append(
            f"Previews of every test image: rank {entry['rank']}, "
            f"{entry['bytes_per_sample']:,} bytes a sample, made in "
            f"{sum(entry['seconds'].values()):.0f} s."
        )
    for method, found in entry.get("recall", {}).items():
        lines.append(f"  {labels[method]}: {measured_words(found)}.")
    for method, why in entry.get("left_out", {}).items():
        lines.append(f"  {labels[method]} has no preview: {why}.")
    return lines + [f"  {note}" for note in entry.get("notes", ())]


def measured_words(found: Mapping[str, Any]) -> str:
    """Return a measured recall in words, and whether it is worth anything."""
    largest = found["largest"]
    worth = "" if largest["mean"] > largest["control"] else "; no better than that: raise the rank"
    return (
        f"recall@{found['depth']} {largest['mean']:.2f} measured on {found['queries']} held-out "
        f"images (least {largest['min']:.2f}; by gradients alone {largest['control']:.2f}{worth})"
    )


def recall(exact: Array, approximate: Array, m: int = DEPTH) -> dict[str, float]:
    """Return |top m of exact ∩ top m of approximate| / m, by |influence|, most helpful, harmful.

    Equal scores are taken in the order of their columns.

    Args:
        exact: (n,).
        approximate: (n,).

    Raises:
        GifError: m below 1 or above n, or scores of different shapes.

    >>> recall(np.array([3.0, -4.0, 1.0, 0.0]), np.array([3.0, 0.5, 2.0, -1.0]), 2)
    {'largest': 0.5, 'helpful': 1.0, 'harmful': 1.0}
    """
    if exact.shape != approximate.shape:
        raise GifError(f"Scores of shapes {exact.shape} and {approximate.shape} do not compare.")
    if not 1 <= m <= len(exact):
        raise GifError(f"m is {m}; it must be from 1 to the {len(exact)} training samples.")
    found = {}
    for name in CRITERIA:
        tops = [
            set(np.argsort(_key(scores, name), kind="stable")[:m].tolist())
            for scores in (exact, approximate)
        ]
        found[name] = len(tops[0] & tops[1]) / m
    return found


def _key(scores: Array, criterion: str) -> Array:
    """Return what is smallest for the samples that come first."""
    by_name = {"largest": -np.abs(scores), "helpful": -scores, "harmful": scores}
    return np.asarray(by_name[criterion])

"""IDX files, the format of MNIST and its kin: plain or gzip."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from gifcore.errors import GifError

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def plain_or_gzip(path: Path) -> Path | None:
    """Return the file, or its .gz if that is there; None if neither is."""
    for candidate in (path.with_name(path.name + ".gz"), path):
        if candidate.is_file():
            return candidate
    return None


def read(path: Path) -> np.ndarray:
    """Return the uint8 array: two zero bytes, type 8, rank, sizes (big-endian), values.

    Raises:
        GifError: it is damaged or no such file.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, rank = struct.unpack(">HBB", raw[:4])
        sizes = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
        values = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * rank)
        if zero != 0 or kind != 8:
            raise ValueError("not an IDX file of bytes")
        return values.reshape(sizes).copy()
    except (OSError, EOFError, ValueError, zlib.error, struct.error) as error:
        raise GifError(f"{path} is damaged ({error}); delete it and get it again.") from error

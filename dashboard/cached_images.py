"""Data sets, loaded once and few at a time, and their images as PNG."""

from __future__ import annotations

import io
import struct
import zlib
from zlib import crc32

import numpy as np
import streamlit as st
from PIL import Image

from gifcore import data as datasets
from gifcore.data import Data
from gifcore.data.backdoor import Backdoor
from gifcore.data.noise import Noise
from gifcore.errors import GifError

SMALL = 64 * 64 * 3  # numbers of an image
MANY = 48 * 48 * 3  # of one that may be on a page a hundred times, as it is


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
    A small one is written anew each time: that takes less than finding it in a cache.
    """
    array = np.ascontiguousarray(image)
    if array.size > SMALL:
        return _large(array.tobytes(), array.shape, str(array.dtype), side)
    return _written(_enlarged(array, side))


def small(image: np.ndarray, side: int) -> bytes:
    """Return an image for a page of many: its own pixels as PNG; of a large one a JPEG of `side`.

    So that a hundred of them stay below two megabytes.
    """
    array = np.ascontiguousarray(image)
    if array.size <= MANY:
        return png(array, 1)
    return _jpeg(array.tobytes(), array.shape, str(array.dtype), side)


@st.cache_resource(max_entries=512, show_spinner=False)
def _jpeg(content: bytes, shape: tuple[int, ...], dtype: str, side: int) -> bytes:
    array = np.frombuffer(content, dtype=dtype).reshape(shape)
    shrunk = Image.fromarray(_enlarged(array, 1))
    shrunk.thumbnail((side, side))
    buffer = io.BytesIO()
    shrunk.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


@st.cache_resource(max_entries=256, show_spinner=False)
def _large(content: bytes, shape: tuple[int, ...], dtype: str, side: int) -> bytes:
    array = np.frombuffer(content, dtype=dtype).reshape(shape)
    buffer = io.BytesIO()
    Image.fromarray(_enlarged(array, side)).save(buffer, format="PNG")
    return buffer.getvalue()


def _enlarged(array: np.ndarray, side: int) -> np.ndarray:
    """Return (H, W) or (H, W, 3) uint8, as large as fits."""
    if array.dtype != np.uint8:
        array = (np.clip(array, 0, 1) * 255).round().astype(np.uint8)
    if array.ndim == 3 and array.shape[0] in (1, 3):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    factor = max(1, side // max(array.shape[:2]))
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def _written(pixels: np.ndarray) -> bytes:
    """Return (H, W) or (H, W, 3) uint8 as PNG, each line as it is: of few pixels no larger."""
    high, wide = pixels.shape[:2]
    lines = np.zeros((high, 1 + pixels[0].size), np.uint8)  # each begins with its filter: 0, none
    lines[:, 1:] = pixels.reshape(high, -1)
    colour = 2 if pixels.ndim == 3 else 0
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", wide, high, 8, colour, 0, 0, 0),
        b"IDAT": zlib.compress(lines.tobytes()),
        b"IEND": b"",
    }
    chunks = (
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc32(name + content))
        for name, content in parts.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)

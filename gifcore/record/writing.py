"""Writing a record: every file under a temporary name and renamed, record.json last."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from gifcore.errors import GifError
from gifcore.record.files import RECORD, SCHEMA, Content, sha256


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

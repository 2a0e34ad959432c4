"""A CSV or Parquet table with a label column: every other column is one number of the input.

A column named `split` with train, validation and test in it makes the splits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from gifcore.data import limits
from gifcore.data.foreign import ALL, SPLIT_NAMES, Foreign, Progress, Reading
from gifcore.data.names import apart
from gifcore.errors import GifError

if TYPE_CHECKING:
    import pandas as pd

SPLIT = "split"
GUESSES = ("label", "target", "class", "y")  # the label column, if none is named
SUFFIXES = (".csv", ".parquet")


def read_table(path: Path, reading: Reading, progress: Progress) -> Foreign:
    """Return the rows of a table as float32 inputs (n, 1, 1, columns).

    Raises:
        GifError: naming the column, and the row where it matters.
    """
    progress(0, 1, "reading the table")
    where = path.name
    columns = columns_of(path)
    label = _label(columns, reading.label, where)
    unknown = [name for name in reading.drop if name not in columns]
    if unknown:
        raise GifError(f"{where} has no column '{unknown[0]}' to leave out; {_listed(columns)}.")
    inputs = [name for name in columns if name not in (label, SPLIT, *reading.drop)]
    if not inputs:
        raise GifError(f"{where} has no column beside '{label}'; inputs are needed too.")
    kept = [*inputs, label, *([SPLIT] if SPLIT in columns else [])]
    frame = _read(path, kept)
    if frame.empty:
        raise GifError(f"{where} has no rows.")
    y, names = _labels(frame[label], label, where)
    x = np.empty((len(frame), 1, 1, len(inputs)), dtype=np.float32)
    for at, name in enumerate(inputs):
        x[:, 0, 0, at] = _numbers(frame[name], name, where)
    notes = [f"{len(inputs)} columns are inputs, '{label}' is the label."]
    if reading.drop:
        notes.append(f"Left out: {', '.join(reading.drop)}.")
    if any(name != str(at) for at, name in enumerate(names)):
        notes.append(f"Labels are numbered in order: 0 is '{names[0]}', 1 is '{names[1]}', ….")
    parts = {ALL: (x, y)}
    if SPLIT in columns:
        part = _parts(frame[SPLIT], where)
        parts = {name: (x[part == name], y[part == name]) for name in sorted(set(part.tolist()))}
    return Foreign(parts, apart(names), tuple(notes))


# --- files ---------------------------------------------------------------------------------------


def columns_of(path: Path) -> list[str]:
    """Return the names of the columns; refuse what is too large from the header alone.

    Raises:
        GifError: it is no table that can be read, or too large.
    """
    columns = _parquet_columns(path) if path.suffix.lower() == ".parquet" else _csv_columns(path)
    if len(columns) > limits.MAX_COLUMNS:
        raise GifError(
            f"{path.name} has {len(columns):,} columns; at most {limits.MAX_COLUMNS:,} are read."
        )
    twice = {name for name in columns if columns.count(name) > 1} if len(columns) < 5000 else set()
    if twice:
        raise GifError(f"{path.name} has the column '{sorted(twice)[0]}' twice; rename one.")
    return columns


def _csv_columns(path: Path) -> list[str]:
    import csv

    if path.stat().st_size > limits.MAX_BYTES:
        raise GifError(
            f"{path.name} has {path.stat().st_size / 1e9:.1f} GB; the limit is "
            f"{limits.MAX_BYTES / 1e9:.0f} GB."
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(_header(file, path.name)), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GifError(
            f"{path.name} is not a CSV file in UTF-8 that can be read; save it again with commas "
            "and a header line."
        ) from error


def _header(file: TextIO, where: str) -> Iterator[str]:
    """Yield the lines of a file until they are too long to be a header."""
    left = limits.MAX_HEADER
    while line := file.readline(left + 1):
        left -= len(line)
        if left < 0:
            raise GifError(
                f"The header line of {where} is longer than {limits.MAX_HEADER:,} characters; name "
                "the columns in its first line, and end that line."
            )
        yield line


def _parquet_columns(path: Path) -> list[str]:
    """Return the columns of a Parquet file of plain numbers and text that is small unpacked."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        _refuse_long_footer(path)
        with pq.ParquetFile(path) as file:
            about, schema = file.metadata, file.schema_arrow
    except (OSError, ValueError, pa.ArrowException) as error:
        raise GifError(f"{path.name} is not a Parquet file that can be read.") from error
    needed = max(
        about.num_rows * about.num_columns * 8,
        sum(about.row_group(g).total_byte_size for g in range(about.num_row_groups)),
    )
    if needed > limits.MAX_BYTES:
        raise GifError(
            f"{path.name} would take {needed / 1e9:.1f} GB in memory; the limit is "
            f"{limits.MAX_BYTES / 1e9:.0f} GB."
        )
    for field in schema:
        kind = field.type
        plain = (
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_boolean(kind)
            or pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
            or pa.types.is_dictionary(kind)
        )
        if not plain:
            raise GifError(
                f"{path.name}: column '{field.name}' is of type {kind}; only numbers and text are "
                "read: remove or convert it."
            )
    return list(schema.names)


def _refuse_long_footer(path: Path) -> None:
    """Refuse a Parquet file whose list of columns and their parts takes seconds to read."""
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
    if length > limits.MAX_FOOTER:
        raise GifError(
            f"The footer of {path.name} has {length / 1e6:,.0f} MB, at most "
            f"{limits.MAX_FOOTER / 1e6:.0f} MB are read; save it with fewer columns or row groups."
        )


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix.lower() == ".parquet":
            text = [f.name for f in pq.read_schema(path) if "string" in str(f.type)]
            # text stays a dictionary: a long word that is repeated is held once
            table = pq.read_table(path, columns=columns, read_dictionary=text)
            return table.to_pandas(ignore_metadata=True)
        return pd.read_csv(
            path, usecols=columns, compression=None, encoding="utf-8-sig", low_memory=False
        )
    except (OSError, ValueError, pa.ArrowException, pd.errors.ParserError) as error:
        raise GifError(
            f"{path.name} cannot be read as a table "
            f"({(str(error).splitlines() or ['damaged'])[0].rstrip('.')[:120]}); save it again."
        ) from error


# --- columns -------------------------------------------------------------------------------------


def _label(columns: list[str], asked: str, where: str) -> str:
    if asked and asked in columns:
        return asked
    if asked:
        raise GifError(f"{where} has no column '{asked}'; {_listed(columns)}.")
    found = guessed(columns)
    if found is None:
        raise GifError(f"Name the label column of {where}; {_listed(columns)}.")
    return found


def guessed(columns: list[str]) -> str | None:
    """Return the column whose name says that it is the label, None if there is none."""
    return next(
        (name for guess in GUESSES for name in columns if name.strip().lower() == guess), None
    )


def _listed(columns: list[str]) -> str:
    shown = ", ".join(f"'{name[:60]}'" for name in columns[:12])
    return f"its columns are {shown}{' …' if len(columns) > 12 else ''}"


def _numbers(column: pd.Series, name: str, where: str) -> np.ndarray:
    """Return a column of finite numbers as float32."""
    if column.dtype.kind not in "iufb":
        wrong = _first_text(column)
        raise GifError(
            f"{where}: column '{name}' holds text ({wrong}); turn it into numbers, or leave it out."
        )
    with np.errstate(over="ignore"):
        values = column.to_numpy().astype(np.float32)
    fine = np.isfinite(values)
    if not fine.all():
        raise GifError(
            f"{where}: column '{name}' has no finite number in row {int(fine.argmin()) + 1}; fill "
            "or remove that row, or leave the column out."
        )
    return values


def _first_text(column: pd.Series) -> str:
    import pandas as pd

    missing = pd.to_numeric(column.astype(object), errors="coerce").isna()
    row = int(missing.to_numpy().argmax())
    return f"'{str(column.iloc[row])[:40]}' in row {row + 1}"


def _labels(column: pd.Series, name: str, where: str) -> tuple[np.ndarray, list[str]]:
    """Return (n,) labels from 0 and the value that each stands for, in order."""
    if column.isna().any():
        row = int(column.isna().to_numpy().argmax()) + 1
        raise GifError(
            f"{where}: the label column '{name}' is empty in row {row}; fill or remove it."
        )
    values = column.to_numpy()
    if values.dtype.kind == "f":
        whole = np.mod(values, 1) == 0
        if not whole.all():
            row = int(whole.argmin())
            raise GifError(
                f"{where}: the label column '{name}' has {values[row]:g} in row {row + 1}; a label "
                "is a whole number or a word. Only classes can be explained, not quantities."
            )
        values = values.astype(np.int64)
    if values.dtype.kind not in "iub":
        values = column.astype(str).to_numpy().astype(object)
    known, y = np.unique(values, return_inverse=True)
    if not 2 <= len(known) <= limits.MAX_CLASSES or len(known) > len(y) // 2 + 1:
        raise GifError(
            f"{where}: the label column '{name}' has {len(known):,} different values in "
            f"{len(y):,} rows; a label has 2 or more, each in several rows."
        )
    return y.astype(np.int64), [str(value) for value in known]


def _parts(column: pd.Series, where: str) -> np.ndarray:
    said = column.astype(str).str.strip().str.lower()
    part = said.map(SPLIT_NAMES)
    if part.isna().any():
        row = int(part.isna().to_numpy().argmax())
        raise GifError(
            f"{where}: column '{SPLIT}' has '{str(column.iloc[row])[:40]}' in row {row + 1}; it "
            "may hold train, validation and test."
        )
    return part.to_numpy(dtype=str)

"""Tables with a label column: what becomes of them, and which column does not fit."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gifcore.data import limits, load
from gifcore.data.foreign import Reading
from gifcore.data.own import as_npz
from gifcore.data.survey import survey
from gifcore.data.table import columns_of
from gifcore.errors import GifError

ROWS = 20


def unheard(done: int, total: int, note: str) -> None: ...


def table(**columns: Any) -> pd.DataFrame:
    base = {
        "height": np.arange(ROWS) / 4,
        "old": np.arange(ROWS) % 3 == 0,
        "label": ["no", "yes"] * (ROWS // 2),
    }
    return pd.DataFrame({k: v for k, v in (base | columns).items() if v is not None})


def write(folder: Path, frame: pd.DataFrame, kind: str) -> Path:
    path = folder / f"people{kind}"
    frame.to_csv(path, index=False) if kind == ".csv" else frame.to_parquet(path, index=False)
    return path


def read(folder: Path, frame: pd.DataFrame, kind: str = ".csv", **reading: Any) -> Any:
    path = as_npz(write(folder, frame, kind), folder / "runs", Reading(**reading), unheard)
    return load(str(path))


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_columns_become_inputs_and_words_become_classes(tmp_path: Path, kind: str) -> None:
    data = read(tmp_path, table(), kind)
    assert data.classes == ("no", "yes")
    assert data.shape == (1, 1, 2)
    assert [len(data.split(n)) for n in ("train", "validation", "test")] == [14, 3, 3]
    rows = np.concatenate([data.split(n).x[:, 0, 0] for n in ("train", "validation", "test")])
    labels = np.concatenate([data.split(n).y for n in ("train", "validation", "test")])
    number = (4 * rows[:, 0]).astype(int)
    assert sorted(number) == list(range(ROWS))
    assert (labels == number % 2).all()
    assert (rows[:, 1] == (number % 3 == 0)).all()
    assert "2 columns are inputs, 'label' is the label" in data.note
    assert "0 is 'no', 1 is 'yes'" in data.note


def test_a_column_named_split_makes_the_splits(tmp_path: Path) -> None:
    split = ["train"] * 12 + ["val"] * 4 + ["Test"] * 4
    data = read(tmp_path, table(split=split))
    assert [len(data.split(n)) for n in ("train", "validation", "test")] == [12, 4, 4]
    assert (data.test.x[:, 0, 0, 0] >= 4).all()


def test_numbers_as_labels_keep_their_order(tmp_path: Path) -> None:
    data = read(tmp_path, table(label=None, y=[10, 2] * 10), label="y", drop=("old",))
    assert data.classes == ("2", "10")
    assert data.shape == (1, 1, 1)
    assert "Left out: old" in data.note


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "text": ({"city": ["Ulm"] * ROWS}, {}, "column 'city' holds text ('Ulm' in row 1)"),
    "late text": ({"city": ["1"] * 19 + ["x"]}, {}, "column 'city' holds text ('x' in row 20)"),
    "missing": ({"height": [1.0] * 9 + [None] * 11}, {}, "'height' has no finite number in row 10"),
    "infinite": ({"height": [np.inf] + [1.0] * 19}, {}, "no finite number in row 1"),
    "no label": ({}, {"label": "kind"}, "no column 'kind'; its columns are 'height', 'old', 'la"),
    "unnamed label": ({"label": None}, {}, "Name the label column of people"),
    "quantity": ({}, {"label": "height"}, "the label column 'height' has 0.25 in row 2"),
    "identity": ({"label": [f"a{i}" for i in range(ROWS)]}, {}, "has 20 different values in 20 r"),
    "one class": ({"label": ["a"] * ROWS}, {}, "has 1 different values"),
    "empty label": ({"label": ["a", None] * 10}, {}, "'label' is empty in row 2"),
    "split": ({"split": ["train"] * 19 + ["tset"]}, {}, "column 'split' has 'tset' in row 20"),
    "no train": ({"split": ["test"] * ROWS}, {}, "has test but no train"),
    "drop": ({}, {"drop": ("age",)}, "has no column 'age' to leave out"),
    "nothing left": ({}, {"drop": ("old", "height")}, "has no column beside 'label'"),
}


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named(tmp_path: Path, case: str, kind: str) -> None:
    columns, reading, sentence = REFUSED[case]
    with pytest.raises(GifError) as caught:
        read(tmp_path, table(**columns), kind, **reading)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"a,b\n1", b"\x00\xff\xfe", b"label\n1\n2,3,4\n"])
@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_damaged_tables(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / f"people{kind}"
    path.write_bytes(content)
    with pytest.raises(GifError):
        as_npz(path, tmp_path / "runs", Reading(), unheard)


def test_a_packed_csv_is_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(GifError, match=r"expected \.npz, \.zip, \.csv, \.parquet"):
        as_npz(tmp_path / "a.csv.gz", tmp_path, Reading(), unheard)


def test_a_parquet_file_that_unpacks_to_much_is_refused_by_its_footer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million equal numbers are a few hundred bytes of Parquet."""
    rows = 1_000_000
    path = tmp_path / "people.parquet"
    ones = pa.array(np.ones(rows, dtype=np.int8))
    pq.write_table(pa.table({"a": ones, "label": ones}), path)
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(limits, "MAX_BYTES", rows)
    monkeypatch.setattr(pq, "read_table", lambda *_, **__: pytest.fail("was read"))
    with pytest.raises(GifError, match="would take"):
        as_npz(path, tmp_path, Reading(), unheard)


def test_a_csv_that_is_too_large_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_BYTES", 100)
    monkeypatch.setattr(pd, "read_csv", lambda *_, **__: pytest.fail("was read"))
    with pytest.raises(GifError, match="the limit is"):
        read(tmp_path, table())


@pytest.mark.parametrize("start", ["ab,", '"ab\n",'])
def test_a_header_that_is_too_long_is_refused_before_all_of_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    monkeypatch.setattr(limits, "MAX_HEADER", 10_000)
    path = tmp_path / "people.csv"
    path.write_text(start * (1_000_000 // len(start)) + "\n1\n", newline="")
    tracemalloc.start()
    with pytest.raises(
        GifError, match="header line of people.csv is longer than 10,000 characters"
    ):
        columns_of(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000  # bytes; the line has a million characters


def test_a_header_may_be_as_long_as_the_limit_and_break_inside_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_HEADER", len('a,"b\nc",d\n'))
    path = tmp_path / "people.csv"
    path.write_text('a,"b\nc",d\n' + "1,2,3\n" * 100)
    assert columns_of(path) == ["a", "b\nc", "d"]
    path.write_text('a,"b\nc",dd\n' + "1,2,3\n" * 100)
    with pytest.raises(GifError, match="longer than"):
        columns_of(path)


def test_a_parquet_footer_that_is_too_long_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, table(), ".parquet")
    monkeypatch.setattr(limits, "MAX_FOOTER", 100)
    monkeypatch.setattr(pq, "ParquetFile", lambda *_, **__: pytest.fail("was read"))
    with pytest.raises(GifError, match=r"footer of people.parquet has .* fewer columns"):
        columns_of(path)


def test_columns_of_other_types_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(pa.table({"a": [[1], [2]], "label": [0, 1]}), path)
    with pytest.raises(GifError, match=r"column 'a' is of type list"):
        as_npz(path, tmp_path, Reading(), unheard)


def test_the_survey_counts_classes_and_duplicates(tmp_path: Path) -> None:
    frame = table(
        height=[0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0, 1, 0, 30],
        old=[0] * 20,
        label=["no", "no", "yes", "yes"] * 5,
        split=["train"] * 12 + ["val"] * 4 + ["test"] * 4,
    )
    found = survey(read(tmp_path, frame))
    assert found["counts"] == {"train": [6, 6], "validation": [2, 2], "test": [2, 2]}
    assert found["duplicates"] == {
        "train and validation": 0,
        "train and test": 3,
        "validation and test": 0,
        "train itself": 2,
    }
    assert found["most_frequent"] == 0.5
    said = " ".join(found["warnings"])
    assert "3 of 4 test samples are training samples too" in said
    assert "3 training samples occur with two different labels" in said

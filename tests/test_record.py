"""Records: what was written is what is read; what is damaged, foreign or half-written is none."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gifcore.errors import GifError
from gifcore.record import (
    BEFORE,
    CURVES,
    RECORD,
    SCHEMA,
    SCORES,
    STUDY,
    UPDATES,
    Content,
    Record,
    RecordError,
    addition_folder,
    additions,
    list_workspace,
    write_atomically,
    write_json,
    write_record,
)
from gifcore.tables import MethodResult, curve_frame, record_files

N, QUERIES = 7, (4, 1)
STEPS = ("natural", "searched")


def frame(method: str, step: str, split: str, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "split": split,
            "method": method,
            "step": step,
            "index": np.arange(5, dtype=np.int32),
            "label": np.arange(5, dtype=np.int32) % 3,
            "predicted": generator.integers(0, 3, 5).astype(np.int32),
            "p_label": generator.random(5).astype(np.float32),
            "loss": generator.random(5).astype(np.float32),
        }
    )


def result(method: str, seed: int) -> MethodResult:
    generator = np.random.default_rng(seed)
    found = MethodResult(method, {"steps": {step: {} for step in STEPS}})
    found.scores = {q: generator.normal(size=N).astype(np.float32) for q in QUERIES}
    found.delta = generator.normal(size=3).astype(np.float32)
    found.indices = None if method == "if" else np.array([0, 5, 9], dtype=np.int32)
    found.samples = [
        frame(method, step, split, seed) for step in STEPS for split in ("validation", "test")
    ]
    found.curves = [curve_frame("residual", [0, 1], [1.0, 0.25]), curve_frame("self", [2], [0.5])]
    return found


def write(path: Path, *, key: str = "k", links: dict[str, str] | None = None) -> None:
    """A record of two methods; those of `links` live in another folder."""
    links = links or {}
    results = {m: result(m, seed) for seed, m in enumerate(("if", "gif"))}
    files = record_files(
        [r for m, r in results.items() if m not in links],
        [frame(BEFORE, "", split, 9) for split in ("validation", "test")],
    )
    files[STUDY] = b'title = "T"\n'
    methods = {
        m: r.info | {"key": f"{m}-{key}", "folder": links.get(m, ".")} for m, r in results.items()
    }
    info: dict[str, Any] = {"status": "finished", "hash": f"h-{path.name}", "title": "T"}
    info |= {"methods": methods, "queries": [{"index": q} for q in QUERIES], "created": path.name}
    write_record(path, info, files)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    write(tmp_path / "r")
    return tmp_path / "r"


# --- round trip ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["if", "gif"])
def test_round_trip(record: Path, method: str) -> None:
    expected = result(method, ["if", "gif"].index(method))
    opened = Record.open(record)
    assert opened.methods == ["if", "gif"]
    for query, scores in expected.scores.items():
        table = opened.scores(method, query)
        assert table["rank"].tolist() == list(range(N))
        assert table["influence"].is_monotonic_decreasing  # the most helpful first
        assert (scores[table["train_index"]] == table["influence"]).all()
    indices, delta = opened.update(method)
    assert (delta == expected.delta).all()
    assert indices is None if method == "if" else indices.tolist() == [0, 5, 9]
    for i, (step, split) in enumerate((s, p) for s in STEPS for p in ("validation", "test")):
        wanted = expected.samples[i].drop(columns=["split", "method", "step"])
        pd.testing.assert_frame_equal(opened.samples(method, step, split), wanted)
    assert opened.curves(method)["value"].tolist() == [1.0, 0.25, 0.5]
    assert len(opened.samples(BEFORE)) == 5
    assert opened.thumbnails() == {}


def written(content: Content) -> bytes:
    """What a file of a record holds, whether it is at hand or written part by part."""
    if isinstance(content, bytes):
        return content
    buffer = io.BytesIO()
    content(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("method", ["if", "gif"])
def test_a_method_taken_from_a_record_writes_the_same_bytes(record: Path, method: str) -> None:
    taken = MethodResult.taken_from(Record.open(record), method)
    original = result(method, ["if", "gif"].index(method))
    one, other = (
        record_files([given], [frame(BEFORE, "", "test", 9)]) for given in (taken, original)
    )
    assert {name: written(c) for name, c in one.items()} == {
        name: written(c) for name, c in other.items()
    }


def test_a_query_that_was_not_ranked(record: Path) -> None:
    with pytest.raises(RecordError, match="test image 3 is not ranked by gif"):
        Record.open(record).scores("gif", 3)


# --- damage --------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flip, empty, Path.unlink])
@pytest.mark.parametrize("name", [SCORES, UPDATES, CURVES, STUDY])
def test_a_file_that_is_not_the_one_written(
    record: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(record / name)
    with pytest.raises(RecordError, match=rf"r: damaged, {name} is"):
        Record.open(record)
    if damage is not flip:  # the list looks at sizes alone: it is drawn at every visit
        (entry,) = list_workspace(record.parent)
        assert entry.status == "damaged"
        assert "\n" not in entry.message


def edited(record: Path, **values: Any) -> None:
    info = json.loads((record / RECORD).read_text())
    (record / RECORD).write_text(json.dumps(info | values))


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '"text"', "{}", '{"schema": 1}', '{"schema": 1, "status": "finished"}'],
)
def test_a_record_json_that_is_none(record: Path, content: str) -> None:
    (record / RECORD).write_text(content)
    with pytest.raises(RecordError, match=r"r: damaged or foreign record\.json"):
        Record.open(record)
    (entry,) = list_workspace(record.parent)
    assert entry.status == "damaged"


@pytest.mark.parametrize(
    "values",
    [{"files": []}, {"files": {"a": 3}}, {"files": {"a": {"bytes": 1}}}, {"methods": ["gif"]},
     {"methods": {"gif": 3}}, {"methods": {"gif": {}}}, {"queries": {}}, {"status": None},
     {"hash": 3}, {"title": None}],
    ids=str,
)  # fmt: skip
def test_a_foreign_record_json(record: Path, values: dict[str, Any]) -> None:
    edited(record, **values)
    with pytest.raises(RecordError, match="damaged or foreign"):
        Record.open(record)
    (entry,) = list_workspace(record.parent)
    assert entry.status == "damaged"


@pytest.mark.parametrize("schema", [SCHEMA + 1, 0, "1", None])
def test_another_schema(record: Path, schema: Any) -> None:
    edited(record, schema=schema)
    with pytest.raises(RecordError, match=f"written by schema {schema}, this version reads 1"):
        Record.open(record)


def test_files_outside_the_folder_are_not_read(record: Path) -> None:
    entry = {"bytes": 0, "sha256": ""}
    edited(record, files={"../outside": entry})
    with pytest.raises(RecordError, match="damaged, ../outside is missing"):
        Record.open(record)


def test_no_record(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(RecordError, match="no record here"):
            Record.open(path)


def test_a_cancelled_study_has_no_result(record: Path) -> None:
    edited(record, status="cancelled")
    with pytest.raises(RecordError, match="this study was cancelled; it has no result"):
        Record.open(record)


# --- links to siblings ---------------------------------------------------------------------------


def test_a_linked_method_is_read_from_its_sibling(record: Path) -> None:
    linked = record.with_name("linked")
    write(linked, links={"if": "../r"})
    opened = Record.open(linked)
    assert opened.folder("if") == record.resolve()
    pd.testing.assert_frame_equal(opened.scores("if", 4), Record.open(record).scores("if", 4))
    assert opened.folder("gif") == linked.resolve()


def test_a_sibling_that_changed_is_noticed(record: Path) -> None:
    linked = record.with_name("linked")
    write(linked, links={"if": "../r"})
    write(record, key="other")
    with pytest.raises(RecordError, match="linked: its if results are in r, which now holds ano"):
        Record.open(linked)
    flip(record / SCORES)
    with pytest.raises(RecordError, match=r"r: damaged"):
        Record.open(linked)
    shutil.rmtree(record)
    with pytest.raises(RecordError, match="no record here"):
        Record.open(linked)


def test_records_that_link_in_a_circle(record: Path) -> None:
    other = record.with_name("other")
    write(other, links={"if": "../r"})
    write(record, links={"if": "../other"})
    with pytest.raises(RecordError, match="results are in"):
        Record.open(record)


def test_a_relative_path_and_a_link_are_the_same_record(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.with_name("link").symlink_to(record)
    monkeypatch.chdir(record.parent)
    for path in ("r", "link", "./r"):
        assert Record.open(path).hash == "h-r"
        assert len(Record.open(path).scores("gif", 4)) == N


# --- the workspace -------------------------------------------------------------------------------


def test_a_workspace_lists_the_newest_first_and_skips_what_is_no_study(record: Path) -> None:
    write(record.with_name("s"))
    (record.parent / ".hidden").mkdir()
    (record.parent / "photos").mkdir()
    (record.parent / "file.txt").write_text("")
    entries = list_workspace(record.parent)
    assert [(e.path.name, e.status) for e in entries] == [("s", "finished"), ("r", "finished")]
    assert list_workspace(record.parent / "none") == []


def test_additions_are_found_and_damaged_ones_left_out(record: Path) -> None:
    opened = Record.open(record)
    folder = addition_folder(record.parent, opened.hash, 12)
    write(folder)
    write(addition_folder(record.parent, opened.hash, 13))
    cut(addition_folder(record.parent, opened.hash, 13) / SCORES)
    assert list(additions(record.parent, opened)) == [12]
    assert [e.path.name for e in list_workspace(record.parent)] == ["r"]


# --- writing -------------------------------------------------------------------------------------


def test_a_write_replaces_whole_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GifError, match="Cannot write x to .*file: File exists; free"):
        write_atomically(tmp_path / "file" / "x", b"1")


def test_nan_is_never_written_as_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / RECORD, {"residual": float("nan")})
    assert not (tmp_path / RECORD).exists()


FULL_DISK = """
import resource, sys
from pathlib import Path
from gifcore.errors import GifError
import numpy as np
import pyarrow as pa
from gifcore.record import write_atomically, write_parquet, write_record
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    {call}
except GifError as error:
    print(error)
"""


def on_a_full_disk(call: str, folder: Path) -> str:
    """What a process prints that cannot write files beyond 1000 bytes."""
    answer = subprocess.run(
        [sys.executable, "-c", FULL_DISK.format(call=call), str(folder)],
        capture_output=True, text=True, check=True, env={**os.environ},
    )  # fmt: skip
    return answer.stdout


def test_a_full_disk_is_one_sentence_and_the_earlier_file_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"earlier")
    said = on_a_full_disk("write_atomically(Path(sys.argv[1]) / 'file', b'x' * 5000)", tmp_path)
    assert said.startswith("Cannot write file to ")
    assert "File too large; free some space or choose another folder" in said
    assert (tmp_path / "file").read_bytes() == b"earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_table_that_is_written_part_by_part_onto_a_full_disk(tmp_path: Path) -> None:
    call = (
        "write_atomically(Path(sys.argv[1]) / 'scores.parquet', lambda file: write_parquet(file, "
        "[pa.table({'value': np.random.default_rng(i).random(500)}) for i in range(3)]))"
    )
    assert "Cannot write scores.parquet to" in on_a_full_disk(call, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_record_on_a_full_disk_is_no_record(tmp_path: Path) -> None:
    call = (
        "write_record(Path(sys.argv[1]), {'status': 'finished', 'hash': 'h', 'title': 'T', "
        "'methods': {}, 'queries': []}, {'small': b'1', 'large': b'x' * 5000})"
    )
    assert "Cannot write large" in on_a_full_disk(call, tmp_path / "r")
    with pytest.raises(RecordError, match="no record here"):
        Record.open(tmp_path / "r")
    assert not any(path.name.endswith(".tmp") for path in (tmp_path / "r").iterdir())

"""The command line: list, show, doctor and train, in words and as JSON, and exit codes."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from gifcore.cli import app
from gifcore.record import RECORD, Record
from gifcore.study import dumps, parse
from tests.test_runner import TINY, run, tiny


def gif(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("cli") / "runs"
    run(tiny(title="Zero [/b] [red]brackets"), workspace, "first")
    return workspace


@pytest.fixture
def workspace(shared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared, tmp_path / "runs"))


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "study.toml"
    path.write_text(dumps(parse(TINY | changes)), encoding="utf-8")
    return path


def refused(answer: Result, *words: str) -> None:
    assert answer.exit_code == 1
    assert isinstance(answer.exception, SystemExit)
    said = " ".join(answer.stderr.split())
    assert "Error: " in said
    assert "Traceback" not in said
    assert all(word in said for word in words), said


def test_list_shows_every_folder_with_its_state(workspace: Path) -> None:
    (workspace / "broken").mkdir()
    (workspace / "broken" / RECORD).write_text("{")
    answer = gif("list", "--workspace", workspace)
    assert answer.exit_code == 0
    for word in ("first", "finished", "Zero [/b] [red]brackets", "20 %", "broken", "damaged"):
        assert word in answer.stdout


def test_list_of_nothing(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        answer = gif("list", "--workspace", place)
        assert answer.exit_code == 0
        assert "No study in" in answer.stdout


def test_show_prints_the_numbers_of_the_record(workspace: Path) -> None:
    answer = gif("show", workspace / "first")
    assert answer.exit_code == 0
    said = " ".join(answer.stdout.split())
    info = Record.open(workspace / "first").info
    assert "Zero [/b] [red]brackets: logistic on digits, remove class 8" in said
    for method in info["methods"].values():
        for entry in method["steps"].values():
            assert f"{entry['test']['self']:.1%}" in said
            assert f"{entry['test']['retain']:.1%}" in said
        assert f"{method['certificate']['iterations']} it" in said
    assert f"{info['selection']['k']:,} of 650 parameters" in said


def test_show_says_how_a_run_without_a_result_ended(tmp_path: Path) -> None:
    state = {"status": "failed", "title": "t", "hash": "h", "message": "No space left.",
             "pid": 1, "pid_started": None, "created": "", "stages": []}  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(state))
    refused(gif("show", tmp_path), "failed. No space left.")


def test_show_of_what_is_no_record(workspace: Path, tmp_path: Path) -> None:
    refused(gif("show", tmp_path / "none"), "no record here")
    refused(gif("show", tmp_path / "[/red] odd"), "[/red] odd")
    (workspace / "first" / "scores.parquet").write_bytes(b"")
    refused(gif("show", workspace / "first"), "damaged, scores.parquet")
    info = json.loads((workspace / "first" / RECORD).read_text())
    (workspace / "first" / RECORD).write_text(json.dumps(info | {"files": {}, "selection": 3}))
    refused(gif("show", workspace / "first"))


def test_doctor_of_this_machine() -> None:
    answer = gif("doctor", "--json")
    assert answer.exit_code == 0
    found = json.loads(answer.stdout)
    assert found["ok"] is True
    assert found["threads"] >= 1
    assert found["memory_gb"] > 0
    assert "torch: " in gif("doctor").stdout


def test_doctor_says_what_a_study_would_take(tmp_path: Path) -> None:
    answer = gif("doctor", written(tmp_path), "--json")
    assert answer.exit_code == 0
    found = json.loads(answer.stdout)
    assert found["data"]["sizes"] == {"train": 1000, "validation": 397, "test": 400}
    assert found["model"]["parameters"] == 650
    assert 0.9 < found["accuracy"]["test"] <= 1
    assert found["estimate"]["seconds"] == pytest.approx(
        sum(found["estimate"]["stages"].values()), rel=0.01
    )
    assert found["estimate"]["memory_mb"] > 50
    assert not (tmp_path / "runs").exists()  # nothing was run


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"change": {"label": 99}}, "No training sample has class 99"),
        ({"ranking": {"queries": [100_000]}}, "no test image 100000"),
        ({"model": {"name": "gpt"}}, "no model 'gpt'"),
    ],
)
def test_doctor_refuses_as_a_run_would(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    path = written(tmp_path, **changes)
    refused(gif("doctor", path), sentence)
    answer = gif("doctor", path, "--json")
    assert answer.exit_code == 1
    assert json.loads(answer.stdout)["ok"] is False
    assert sentence in json.loads(answer.stdout)["error"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[selection]\n"[/red]" = 1', ("unknown key 'selection.[/red]'", "allowed here")),
        ("ratio = = 1", ("is not a TOML file",)),
        ("[selection]\nratio = 0", ("selection.ratio = 0 is not possible",)),
    ],
)
def test_run_of_what_is_no_study(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text)
    refused(gif("run", path, "--workspace", tmp_path / "runs"), *words)
    assert not (tmp_path / "runs").exists()


def test_run_without_out_goes_to_a_folder_of_its_title_and_hash(tmp_path: Path) -> None:
    path = written(tmp_path, title="Forget: über 8!", ranking={"count": 0})
    answer = gif("run", path, "--workspace", tmp_path / "runs")
    assert answer.exit_code == 0, answer.stderr
    (folder,) = [p for p in (tmp_path / "runs").iterdir() if not p.name.startswith(".")]
    record = Record.open(folder)
    assert folder.name == f"forget-über-8-{record.hash[:8]}"
    assert record.queries == []
    again = gif("run", path, "--workspace", tmp_path / "runs")
    assert again.stdout.startswith("Already computed: ")


def test_train_writes_a_checkpoint_a_study_can_use(tmp_path: Path) -> None:
    out = tmp_path / "own.safetensors"
    words = ("--data", "digits", "--model", "logistic", "--epochs", 2, "--lr", 0.1, "--out", out)
    answer = gif("train", *map(str, words))
    assert answer.exit_code == 0, answer.stderr
    assert "accuracy train" in answer.stdout
    study = tiny(model={"name": "logistic", "weights": str(out)}, methods=["gradient"])
    record = run(study, tmp_path / "runs", "x")
    card = json.loads(out.with_suffix(".json").read_text())
    assert record.info["before"]["test"]["accuracy"] == pytest.approx(card["accuracy"]["test"])
    assert record.info["model"]["weight_decay"] == card["weight_decay"] == 5e-4


def test_train_of_unknown_names() -> None:
    refused(gif("train", "--data", "cats", "--model", "fcn"), "no data set 'cats'")
    refused(gif("train", "--data", "digits", "--model", "gpt"), "no model 'gpt'")


def test_no_arguments_explain_themselves() -> None:
    answer = gif()
    for command in ("train", "run", "list", "show", "doctor"):
        assert command in answer.output
    assert os.environ.get("GOMP_SPINCOUNT")  # threads that wait do not spin for long

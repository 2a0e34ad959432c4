"""What is understood of a model and data of one's own, and `own` on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from gifcore import data as datasets
from gifcore import runner, study
from gifcore.cli import app
from gifcore.errors import GifError
from gifcore.models import build, bundled
from gifcore.models.plugins import VARIABLE
from gifcore.understood import reading_of, study_lines, understand, unheard


def test_the_bundled_digits_and_their_model(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    found = understand(
        "digits", workspace=tmp_path, model="fcn", progress=lambda *now: seen.append(now)
    )
    assert found["ok"]
    assert found["model"]["parameters"] == 17_226
    assert found["accuracy"]["test"] == pytest.approx(0.9625, abs=0.005)
    counts = np.array(found["data"]["counts"]["test"])
    assert (counts * found["right"]).sum() / counts.sum() == pytest.approx(
        found["accuracy"]["test"]
    )
    assert not found["model"]["warnings"]
    assert seen[-1][0] == seen[-1][1] == 1797
    assert all(one[2] for one in seen)


def test_a_table_a_model_and_a_study_of_them(tmp_path: Path) -> None:
    """From a CSV to a study that can be prepared, by the lines that are printed."""
    data = datasets.load("digits")
    rows = data.train.inputs().reshape(len(data.train), -1)[:200]
    columns = ",".join(f"p{i}" for i in range(64))
    table = tmp_path / "digits.csv"
    lines = [",".join(map(str, row)) + f",{y}" for row, y in zip(rows, data.train.y, strict=False)]
    table.write_text("\n".join([f"{columns},label", *lines]))
    weights = bundled("logistic", "digits")
    assert weights is not None
    own = tmp_path / "mine.pt"
    from safetensors.torch import load_file

    torch.save({"model": load_file(weights)}, own)
    found = understand(
        str(table), workspace=tmp_path / "runs", model="logistic", weights=own, progress=unheard
    )
    assert found["ok"], found
    assert found["data"]["shape"] == [1, 1, 64]
    assert found["accuracy"]["test"] > 0.9
    assert found["model"]["notes"] == ["The weights were taken from 'model' in the file."]
    file = tmp_path / "study.toml"
    file.write_text("\n".join([*study_lines(found), "change.label = 3"]))
    prepared = runner.prepare(study.read(file))
    assert prepared.weights == own
    assert prepared.data_hash == found["data"]["hash"]


def test_what_does_not_fit_is_said_after_what_was_understood(tmp_path: Path) -> None:
    save_file(dict(build("fcn", (1, 8, 8), 4).state_dict()), tmp_path / "w.safetensors")
    found = understand(
        "digits",
        workspace=tmp_path,
        model="fcn",
        weights=tmp_path / "w.safetensors",
        progress=unheard,
    )
    assert (found["ok"], found["step"]) == (False, "model")
    assert found["data"]["sizes"]["train"] == 1000
    assert "tells 4 classes apart, the data have 10" in found["error"]
    found = understand(str(tmp_path / "no.zip"), workspace=tmp_path, progress=unheard)
    assert (found["ok"], found["step"]) == (False, "data")
    assert "There is no file" in found["error"]


def test_a_model_that_knows_nothing_is_warned_of(tmp_path: Path) -> None:
    save_file(dict(build("fcn", (1, 8, 8), 10).state_dict()), tmp_path / "w.safetensors")
    path = tmp_path / "w.safetensors"
    found = understand("digits", workspace=tmp_path, model="lenet", progress=unheard)
    assert "No trained LeNet for digits comes with GIF Studio" in found["error"]
    found = understand("digits", workspace=tmp_path, model="fcn", weights=path, progress=unheard)
    if found["accuracy"]["test"] < found["data"]["most_frequent"] + 0.02:
        assert "prepared as in its training" in found["model"]["warnings"][0]


def test_own_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(app, ["own", "--data", "digits", "--model", "fcn"])
    assert answer.exit_code == 0, answer.stderr
    assert (
        "data: digits: 1,000 train, 397 validation, 400 test samples of 1 x 8 x 8" in answer.stdout
    )
    assert "accuracy: train 100.0%, validation 96.5%, test 96.2%" in answer.stdout
    assert 'a study of these: data.source = "digits"; model.name = "fcn"' in answer.stdout
    answer = CliRunner().invoke(app, ["own", "--data", "x.csv", "--size", "big"])
    assert answer.exit_code == 1
    assert "The size 'big'" in answer.stderr
    answer = CliRunner().invoke(app, ["--plugin", "no name", "models"])
    assert "'no name' is no name of a Python module" in answer.stderr
    answer = CliRunner().invoke(app, ["models"])
    assert answer.stdout.splitlines()[0] == "tinynet"
    assert "torchvision/resnet18" in answer.stdout


def test_readings_from_words() -> None:
    found = reading_of("y", "id, name", "32", 3, "0.5, 0.4,0.3", "1", 7)
    assert (found.size, found.drop, found.mean) == ((32, 32), ("id", "name"), (0.5, 0.4, 0.3))
    with pytest.raises(GifError, match="not all numbers"):
        reading_of("", "", "", None, "a", "", 0)
    with pytest.raises(GifError, match="not two numbers"):
        reading_of("", "", "", None, "", "", 0, "0.1")
    with pytest.raises(GifError, match="both together below 1"):
        reading_of("", "", "", None, "", "", 0, "0.5,0.5")

"""`doctor` in words: a line each of data, classes, model, accuracy, time and memory."""

from pathlib import Path

from typer.testing import CliRunner

from gifcore.cli import app


def test_doctor_speaks_in_words(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text('[data]\nsource = "digits"\n[model]\nname = "fcn"\n[change]\nlabel = 3\n')
    answer = CliRunner().invoke(app, ["doctor", str(study)])
    assert answer.exit_code == 0
    lines = dict(line.split(": ", 1) for line in answer.stdout.splitlines())
    assert lines["data"] == "digits: 1,000 train, 397 validation, 400 test images of 1 x 8 x 8"
    assert lines["classes"] == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert lines["model"].startswith("fcn: 17,226 parameters, fcn-digits.safetensors, weight decay")
    assert lines["accuracy"].startswith("validation 9")
    assert lines["time"].startswith("about ")
    assert lines["memory"].endswith(" MB")
    assert "{" not in answer.stdout

"""Own model and data: from a file to what was understood, and to a study that is filled in."""

from __future__ import annotations

import csv
import io
import json
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from streamlit.testing.v1 import AppTest

from dashboard import jobs, own_checks, settings
from dashboard.components import own_forms, uploads
from dashboard.views import own
from gifcore import data as datasets
from gifcore.errors import GifError
from gifcore.models import bundled
from gifcore.run_state import process_started
from tests.dashboard.opened import go, keys, open_page, said

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def opened(empty_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """A folder that the server opens for picking."""
    root = tmp_path / "opened"
    root.mkdir()
    monkeypatch.setenv(settings.DATA_VARIABLE, str(root))
    return root


def digits_csv(folder: Path, rows: int = 120) -> Path:
    """Digits as a table: p0 … p63, label."""
    data = datasets.load("digits")
    path = folder / "digits.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"p{i}" for i in range(64)), "label"])
        for x, y in zip(data.train.inputs().reshape(-1, 64)[:rows], data.train.y, strict=False):
            writer.writerow([*x, y])
    return path


def wrapped_weights(folder: Path) -> Path:
    """The bundled logistic regression, as DataParallel saves it."""
    weights = bundled("logistic", "digits")
    assert weights is not None
    path = folder / "parallel.safetensors"
    save_file({f"module.{k}": v for k, v in load_file(weights).items()}, path)
    return path


def picked(app: AppTest, kind: str, path: Path) -> AppTest:
    app.segmented_control(key=f"new_{kind}_way").set_value(uploads.PICK).run()
    return app.selectbox(key=f"new_{kind}_path").set_value(str(path)).run()


def asked(app: AppTest, name: str) -> AppTest:
    app.button(key=f"own_ask_{name}").click().run()
    again_until_answered(app, name)
    return app


def again_until_answered(app: AppTest, name: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    key = app.query_params[name]
    key = key[0] if isinstance(key, list) else key
    while (found := own_checks.look(key, settings.workspace())) is None or found.live:
        assert time.monotonic() < end
        time.sleep(0.2)
    app.run()
    assert not app.exception, app.exception


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def test_from_a_table_and_wrapped_weights_to_a_filled_in_study(opened: Path) -> None:
    table, weights = digits_csv(opened), wrapped_weights(opened)
    app = open_page("own")
    assert "Opens when the data are read" in said(app)
    assert app.button(key="own_ask_data").disabled
    picked(app, "own_data", table)
    assert app.selectbox(key=f"own_label_{opened.name}").value == "label"
    asked(app, "data")
    assert not app.error
    shown = metrics(app)
    assert (shown["Training samples"], shown["Test"]) == ("84", "18")
    assert (shown["One input"], shown["Classes"]) == ("1 x 1 x 64", "10")
    assert "stratified draw" in said(app)

    app.selectbox(key="own_model").set_value("logistic")
    picked(app, "own_weights", weights)
    asked(app, "model")
    assert not app.error
    shown = metrics(app)
    assert float(shown["Right on test"].removesuffix(" %")) > 80
    assert shown["Parameters"] == "650"
    assert "The prefix 'module.' of every name (DataParallel)" in said(app).replace("\\", "")

    key = app.query_params["model"]
    again = open_page("own", data=str(one(app.query_params["data"])), model=str(one(key)))
    assert metrics(again) == shown  # a refresh keeps what was understood

    app.button(key="own_start").click().run()
    go(app, "new-study")
    assert app.selectbox(key="new_model").value == "logistic"
    assert app.selectbox(key="new_data").value == own_forms.OWN
    assert "In use: **digits.npz**" in said(app).replace("\\", "")
    assert "In use: **parallel.safetensors**" in said(app).replace("\\", "")
    assert "check" in keys(app)
    assert len(app.selectbox(key="new_label").options) == 10


def one(value: object) -> object:
    return value[0] if isinstance(value, list) else value


def test_what_does_not_fit_is_said_with_its_key_and_shape(opened: Path) -> None:
    fcn = bundled("fcn", "digits")
    assert fcn is not None
    (opened / "fcn.safetensors").write_bytes(fcn.read_bytes())
    app = open_page("own")
    app.selectbox(key="own_source").set_value("digits").run()
    asked(app, "data")
    app.selectbox(key="own_model").set_value("lenet").run()
    picked(app, "own_weights", opened / "fcn.safetensors")
    asked(app, "model")
    sentence = app.error[0].value.replace("\\", "")
    assert "fcn.safetensors" in sentence
    assert "has no weights 'conv1.weight'" in sentence
    assert "own_start" not in keys(app)


def test_a_table_with_text_names_its_column(opened: Path) -> None:
    (opened / "people.csv").write_text("city,label\nUlm,0\nBonn,1\nUlm,0\nBonn,1\n")
    app = picked(open_page("own"), "own_data", opened / "people.csv")
    asked(app, "data")
    assert "column 'city' holds text ('Ulm' in row 1)" in app.error[0].value.replace("\\", "")
    assert "Opens when the data are read" in said(app)


def test_a_column_cannot_be_an_option_of_the_engine(opened: Path, tmp_path: Path) -> None:
    """A column named --plugin=evil would else import a module, and run it."""
    made = tmp_path / "made"
    (opened / "evil.py").write_text(f"open({str(made)!r}, 'w')\nMODELS = {{'a': print}}\n")
    table = opened / "people.csv"
    table.write_text("a,--plugin=evil\n" + "".join(f"{i},{i % 2}\n" for i in range(20)))
    app = picked(open_page("own"), "own_data", table)
    app.selectbox(key=f"own_label_{opened.name}").set_value("--plugin=evil").run()
    asked(app, "data")
    assert not app.error
    assert metrics(app)["Classes"] == "2"
    with pytest.raises(GifError, match="not --name=value"):
        own_checks.ask(("--label", "--plugin=evil"), (), {}, workspace=settings.workspace())
    assert not made.exists()


def test_the_shares_of_splits_that_are_drawn_can_be_chosen(opened: Path) -> None:
    app = picked(open_page("own"), "own_data", digits_csv(opened))
    app.number_input(key="own_share_validation").set_value(30.0)
    app.number_input(key="own_seed").set_value(5).run()
    asked(app, "data")
    shown = metrics(app)
    assert (shown["Training samples"], shown["Test"]) == ("66", "18")  # 120: 55, 30 and 15 %
    assert "seed 5" in said(app)


def test_pictures_with_html_for_class_names(opened: Path) -> None:
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(opened / "pets.zip", "w") as archive:
        for label in (EVIL, "=1+1", "cat"):
            for number in range(10):
                buffer = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(buffer, "PNG")
                archive.writestr(f"{label}/{number}.png", buffer.getvalue())
    app = picked(open_page("own"), "own_data", opened / "pets.zip")
    asked(app, "data")
    assert metrics(app)["One input"] == "1 x 8 x 8"
    assert len(app.get("image")) == 3
    shown = said(app) + str([frame.value.to_csv() for frame in app.dataframe])
    assert "<img" not in shown
    assert "‹img src=x onerror=alert(1)›" in shown
    assert "'=1+1" in shown


@pytest.mark.usefixtures("empty_workspace")
def test_a_demo_server_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.DEMO_VARIABLE, "1")
    app = open_page("own", data="0" * 16)
    assert "takes no uploads" in said(app)
    with pytest.raises(GifError, match="computes nothing"):
        own_checks.ask(("--data=digits",), (), {}, workspace=settings.workspace())
    assert not app.button
    assert not app.selectbox


@pytest.mark.parametrize("key", ["../../etc", "0" * 16, "x", ""])
@pytest.mark.usefixtures("empty_workspace")
def test_an_address_names_only_questions_that_were_asked(key: str) -> None:
    app = open_page("own", data=key)
    assert not app.error
    assert "Opens when the data are read" in said(app)


def test_an_address_cannot_show_a_file_from_elsewhere(empty_workspace: Path) -> None:
    (empty_workspace / ".incoming" / "own").mkdir(parents=True)
    (empty_workspace / "other.json").write_text('{"pid": 1, "pid_started": 0, "asked": {}}')
    (empty_workspace / "other.out").write_text('{"ok": false, "error": "a secret"}')
    assert own_checks.look("../../other", empty_workspace) is None


def test_the_same_question_is_asked_once_and_can_be_cancelled(
    opened: Path, empty_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = digits_csv(opened)
    command, files = (f"--data={table}",), (table,)
    first = own_checks.ask(command, files, {"name": "a"}, workspace=empty_workspace)
    pids = (empty_workspace / ".incoming" / "own" / f"{first}.json").read_text()
    assert own_checks.ask(command, files, {"name": "a"}, workspace=empty_workspace) == first
    assert (empty_workspace / ".incoming" / "own" / f"{first}.json").read_text() == pids
    monkeypatch.setattr(own_checks, "MAX_LIVE", 1)
    with pytest.raises(GifError, match="1 files are being looked at"):
        own_checks.ask(("--data=digits",), (), {}, workspace=empty_workspace)
    own_checks.cancel(first, empty_workspace)
    end = time.monotonic() + 30
    while (found := own_checks.look(first, empty_workspace)) is not None and found.live:
        assert time.monotonic() < end
    assert found is not None
    assert found.answer is None
    assert "Cancelled" in said(open_page("own", data=first))


def test_an_answer_about_a_file_that_is_gone_is_asked_again(
    opened: Path, empty_workspace: Path
) -> None:
    app = asked(picked(open_page("own"), "own_data", digits_csv(opened)), "data")
    key = str(one(app.query_params["data"]))
    assert own_checks.look(key, empty_workspace) is not None
    (made,) = (empty_workspace / "own").glob("*/digits.npz")
    made.unlink()
    assert own_checks.look(key, empty_workspace) is None
    assert "Opens when the data are read" in said(open_page("own", data=key))


def test_answers_that_nobody_looks_at_are_forgotten(
    empty_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = empty_workspace / ".incoming" / "own"
    folder.mkdir(parents=True)
    mine = {"pid": os.getpid(), "pid_started": process_started(os.getpid()), "asked": {}}
    ended = {"pid": 1, "pid_started": "never", "asked": {}}
    long_ago = time.time() - (own_checks.KEPT_DAYS + 1) * 24 * 3600
    for key, launched, out in (
        ("0", ended, '{"ok": true}'),
        ("1", ended, '{"ok": true}'),
        ("2", mine, '{"progress": 0.5, "note": "slow"}'),
        ("3", ended, '{"ok": true}'),
    ):
        for suffix, text in ((".json", json.dumps(launched)), (".out", out), (".err", "")):
            (folder / (16 * key + suffix)).write_text(text)
        if key != "3":
            os.utime(folder / f"{16 * key}.json", (long_ago, long_ago))
    assert own_checks.look(16 * "1", empty_workspace) is not None
    monkeypatch.setattr(jobs, "spawn", lambda *_: mine)
    asked = own_checks.ask(("--data=digits",), (), {}, workspace=empty_workspace)
    left = {path.name for path in folder.iterdir()}
    kept = {16 * key + suffix for key in "123" for suffix in (".json", ".out", ".err")}
    assert left == kept | {f"{asked}.json"}


def test_asking_reads_nothing_of_what_was_answered(
    empty_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = empty_workspace / ".incoming" / "own"
    folder.mkdir(parents=True)
    (folder / f"{16 * '0'}.json").write_text('{"pid": 1, "pid_started": "never", "asked": {}}')
    looked: list[str] = []
    inner = own_checks.look
    monkeypatch.setattr(
        own_checks, "look", lambda key, where: (looked.append(key), inner(key, where))[1]
    )
    monkeypatch.setattr(jobs, "spawn", lambda *_: {"pid": 1, "pid_started": "never"})
    assert own_checks.ask(("--data=digits",), (), {}, workspace=empty_workspace) in looked
    assert len(looked) == 1


def test_the_form_has_the_fields_of_what_was_understood() -> None:
    answer = {
        "data": {"source": "/w/own/0/a.npz"},
        "model": {"name": "fcn", "weights": "/w/b.pt", "bundled": False, "weight_decay": 0.1},
    }
    values = own.fields(answer)
    assert values["new_weights_saved"] == ("b.pt", "/w/b.pt")
    assert values["new_data_saved"] == ("a.npz", "/w/own/0/a.npz")
    assert (values["new_own_weights"], values["new_weight_decay"]) == (True, 0.1)
    assert own.command(answer).splitlines()[-1].strip() == "--weights /w/b.pt"
    mine = {"data": {"source": "digits"}, "model": answer["model"] | {"bundled": True}}
    assert own.fields(mine)["new_data"] == "digits"
    assert "new_weights_saved" not in own.fields(mine)

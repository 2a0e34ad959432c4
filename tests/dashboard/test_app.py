"""The router: pages, the view in the address, missing combinations, errors in one sentence."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dashboard import __main__ as server
from dashboard import jobs, library
from dashboard.picks import PARAMS, parse
from gifcore.record import RECORD, Record
from tests.dashboard.make_record import WEIGHTS_HASH, make_record, make_study
from tests.dashboard.opened import ROOT, go, keys, open_page, said

RECORD_PAGES = ("samples", "parameters", "before-after", "compare", "wrong-labels", "speed")
OTHER_PAGES = ("", "own", "new-study", "studies")


@pytest.mark.parametrize("page", RECORD_PAGES + OTHER_PAGES)
@pytest.mark.usefixtures("workspace")
def test_every_page_draws_with_records(page: str) -> None:
    app = open_page(page)
    assert app.title


@pytest.mark.usefixtures("workspace")
def test_an_address_opens_the_same_view() -> None:
    asked = {"selector": "highest-k-outputs", "ratio": "0.1", "query": "17", "methods": "gif"}
    app = open_page("samples", **asked, k="100")
    assert app.selectbox(key="selector").value == "highest-k-outputs"
    assert app.select_slider(key="ratio").value == 0.1
    assert app.selectbox(key="query").value == 17
    assert app.session_state["context"].methods == ["gif"]
    assert app.session_state["context"].record_path.name == "o10"
    assert app.query_params["k"] == "100"


@pytest.mark.usefixtures("workspace")
def test_an_impossible_address_falls_back_to_the_default_view() -> None:
    app = open_page("samples", study="nothing", selector="worst", ratio="a lot", query="-3", k="x")
    assert app.session_state["context"].record_path.name == "g05"
    assert app.query_params["ratio"] == "0.05"


@pytest.mark.usefixtures("workspace")
def test_picks_survive_pages_without_the_sidebar() -> None:
    app = open_page("samples")
    app.select_slider(key="ratio").set_value(0.1).run()
    assert app.query_params["ratio"] == "0.1"
    app.query_params.clear()  # as the browser does when the page is switched
    go(app, "")
    go(app, "compare")
    assert app.session_state["context"].record_path.name == "g10"
    assert app.query_params["ratio"] == "0.1"


@pytest.mark.usefixtures("workspace")
def test_changing_only_the_selector_changes_the_record() -> None:
    app = open_page("parameters")
    before = app.session_state["context"].record.hash
    app.selectbox(key="selector").set_value("highest-k-outputs").run()
    assert app.session_state["context"].record.hash != before
    assert app.query_params["selector"] == "highest-k-outputs"


@pytest.mark.parametrize("page", RECORD_PAGES)
@pytest.mark.usefixtures("workspace")
def test_a_missing_combination_offers_to_compute_it(page: str) -> None:
    app = open_page(page, ratio="0.25")
    assert "Not computed yet" in said(app)
    assert app.button(key="compute").label.startswith("Compute (about ")


def test_a_combination_of_another_engine_is_a_study_of_its_own(workspace: Path) -> None:
    """Its record is finished but not of this family: no button that would do nothing."""
    study = make_study("highest-k-gradients", 0.25)
    data_hash = Record.open(workspace / "g05").info["data"]["hash"]
    path = make_record(jobs.folder_for(study, data_hash, WEIGHTS_HASH, workspace), study=study)
    info = json.loads((path / RECORD).read_text())
    (path / RECORD).write_text(json.dumps(info | {"family": "f" * 64}))
    app = open_page("samples", study=info["family"][:12], ratio="0.25")
    assert "by another version of the engine" in said(app)
    assert "compute" not in keys(app)


@pytest.mark.usefixtures("workspace")
def test_the_demo_server_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIF_STUDIO_DEMO", "1")
    app = open_page("samples", ratio="0.25")
    assert "only shows the demo" in said(app)
    assert not [button for button in app.button if button.key == "compute"]


def test_a_damaged_record_is_not_offered(workspace: Path) -> None:
    (workspace / "o05" / "scores.parquet").write_bytes(b"short")
    app = open_page("samples")
    assert ("highest-k-outputs", 0.05) not in app.session_state["context"].family


def test_a_record_changed_at_equal_size_is_one_sentence(workspace: Path) -> None:
    file = workspace / "g05" / "scores.parquet"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    app = open_page("samples", refused=True)
    assert "damaged" in app.error[0].value


@pytest.mark.usefixtures("computed")
def test_the_dashboard_does_not_import_torch() -> None:
    script = (
        "import sys; from tests.dashboard.opened import open_page\n"
        f"for page in {RECORD_PAGES + OTHER_PAGES!r}:\n"
        "    open_page(page)\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
        "assert 'dashboard.views.compare' in sys.modules"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr[-2000:]


def test_a_busy_port_is_one_sentence(
    empty_workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert server.main(["--port", str(port), "--workspace", str(empty_workspace)]) == 1
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


def test_a_workspace_that_cannot_be_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert server.main(["--port", "65123", "--workspace", str(file / "runs")]) == 1
    assert "Cannot use the workspace" in capsys.readouterr().err


@pytest.mark.usefixtures("workspace")
def test_address_texts_are_short_and_parsed_back() -> None:
    app = open_page("samples", ratio="0.1", methods="gif,if")
    texts = {key: app.query_params[key] for key in PARAMS if key in app.query_params}
    assert texts["methods"] == "if,gif"  # in the order of the record
    assert parse(texts)["ratio"] == 0.1
    assert len(texts["study"]) == library.FAMILY_DIGITS

"""Studies: every record and run of the workspace in words, with what can be done about it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import jobs, trash
from dashboard.views import studies
from gifcore.errors import GifError
from gifcore.record import discard, empty_trash, list_workspace, restore
from gifcore.run_state import RUN
from gifcore.run_state import process_started as started
from tests.dashboard.opened import keys, open_page, said


def write_run(folder: Path, status: str, message: str = "") -> None:
    folder.mkdir()
    state = {
        "status": status,
        "pid": 1,
        "pid_started": "never",
        "title": "A stopped study",
        "hash": "ff",
        "created": "2026-01-01T00:00:00Z",
        "message": message,
        "stages": [],
    }
    (folder / RUN).write_text(json.dumps(state))


@pytest.mark.usefixtures("workspace")
def test_finished_studies_are_a_table_with_their_numbers() -> None:
    table = open_page("studies").dataframe[0].value
    assert len(table) == 4
    assert set(table["Ratio"]) == {5.0, 10.0}
    assert table["Removed GIF"].max() < 2


def test_a_row_has_the_searched_step_on_test(workspace: Path) -> None:
    entry = next(e for e in list_workspace(workspace) if e.path.name == "g05")
    after = entry.info["methods"]["gif"]["steps"]["searched"]["test"]
    assert studies.row(entry, demo=True)["Others GIF"] == 100 * after["retain"]
    assert studies.row(entry, demo=True)["Study"].endswith("(demo)")


@pytest.mark.parametrize(
    ("status", "words"),
    [("cancelled", "Cancelled"), ("failed", "Failed"), ("running", "Interrupted")],
)
def test_stopped_studies_say_so_and_can_be_run_again(
    workspace: Path, status: str, words: str
) -> None:
    write_run(workspace / "stopped", status, "It was like this.")
    app = open_page("studies")
    assert words in said(app)
    assert "It was like this." in said(app)
    assert app.button(key=f"resume-{workspace.name}-stopped")


def test_a_damaged_record_says_what_is_wrong_and_is_not_a_result(workspace: Path) -> None:
    (workspace / "g10" / "scores.parquet").write_bytes(b"short")
    app = open_page("studies")
    assert "Damaged" in said(app)
    assert "cut short" in said(app)
    assert len(app.dataframe[0].value) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "foreign record.json (it has no 'schema')"),
        ("nothing", "foreign record.json (it is not JSON)"),
        (
            '{"schema": 1, "status": "finished", "hash": "h", "title": "t", "methods": {}, '
            '"queries": [], "files": {}, "family": "f"}',
            "foreign record.json (it has no 'data')",
        ),
    ],
)
def test_a_foreign_record_is_one_sentence_and_no_page_fails(
    workspace: Path, content: str, words: str
) -> None:
    (workspace / "foreign").mkdir()
    (workspace / "foreign" / "record.json").write_text(content)
    for page in ("", "samples", "studies"):
        app = open_page(page)
    assert words in said(app).replace("\\", "")
    assert len(app.dataframe[0].value) == 4


def test_running_again_something_without_a_study_is_one_sentence(workspace: Path) -> None:
    write_run(workspace / "stopped", "cancelled")
    app = open_page("studies")
    app.button(key=f"resume-{workspace.name}-stopped").click().run()
    assert "Cannot read the study" in app.error[0].value


@pytest.mark.usefixtures("empty_workspace")
def test_an_empty_workspace_says_how_to_begin() -> None:
    assert "New study" in said(open_page("studies"))


# --- deleting -------------------------------------------------------------------------------------


def test_a_deleted_study_is_gone_and_can_be_taken_back(workspace: Path) -> None:
    app = open_page("studies")
    before = set(app.dataframe[0].value["Study"])
    app.selectbox(key="studies-delete").set_value("o05").run()
    app.button(key="studies-delete-button").click().run()
    assert not (workspace / "o05").exists()
    assert "Deleted" in said(app)
    assert len(app.dataframe[0].value) == 3
    app.button(key="studies-undo").click().run()
    assert (workspace / "o05").is_dir()
    assert len(app.dataframe[0].value) == 4
    assert set(app.dataframe[0].value["Study"]) == before


def test_what_another_record_needs_is_not_deleted(workspace: Path) -> None:
    with pytest.raises(GifError, match="g05 is needed by g10, o05, o10: delete those first"):
        discard(workspace, workspace / "g05")
    assert (workspace / "g05").is_dir()
    for name in ("g10", "o05", "o10"):
        discard(workspace, workspace / name)
    discard(workspace, workspace / "g05")
    assert list_workspace(workspace) == []


def test_a_run_on_its_way_is_not_deleted_and_nothing_outside(workspace: Path) -> None:
    write_run(workspace / "live", "running")
    path = workspace / "live" / RUN
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"pid": os.getpid(), "pid_started": started(os.getpid())}))
    with pytest.raises(GifError, match="is on its way: cancel it first"):
        discard(workspace, workspace / "live")
    with pytest.raises(GifError, match="is no study of this workspace"):
        discard(workspace, workspace.parent)


def test_two_of_one_name_lie_side_by_side_and_a_taken_place_is_said(workspace: Path) -> None:
    first = discard(workspace, workspace / "o05")
    (workspace / "o05").mkdir()
    with pytest.raises(GifError, match="o05 is there again"):
        restore(workspace, first)
    second = discard(workspace, workspace / "o05")
    assert first != second
    assert restore(workspace, first) == workspace / "o05"
    empty_trash(workspace)
    (workspace / "o05").rename(workspace / "elsewhere")
    with pytest.raises(GifError, match="Cannot take o05 back"):
        restore(workspace, second)


def delete(app: AppTest, name: str) -> AppTest:
    app.selectbox(key="studies-delete").set_value(name).run()
    app.button(key="studies-delete-button").click().run()
    assert not app.exception
    return app


def write_started(workspace: Path, name: str, printed: str, pid: int = 1) -> list[Path]:
    """The files of a run that was started from here: by default one that has ended."""
    folder = workspace / name
    launched = {"pid": pid, "pid_started": started(pid) if pid > 1 else "never"}
    launched |= {"folder": name, "title": "From here", "expected": None}
    files = [jobs.incoming(folder, workspace, suffix) for suffix in jobs.KEPT]
    files[0].parent.mkdir(exist_ok=True)
    for file, text in zip(files, ("asked", printed, json.dumps(launched)), strict=True):
        file.write_text(text)
    return files


def test_a_refusal_costs_nothing_of_what_was_deleted_before(workspace: Path) -> None:
    app = delete(open_page("studies"), "g10")
    delete(app, "g05")
    assert "g05 is needed by o05, o10" in app.error[0].value
    app.button(key="studies-undo").click().run()
    assert (workspace / "g10").is_dir()


def test_only_the_last_deleted_can_be_taken_back(workspace: Path) -> None:
    (workspace / "link").symlink_to(workspace / "g10")
    for name in ("link", "o05", "o10"):
        trash.discard(workspace / name, workspace)
    assert [place.name for place in (workspace / ".trash").glob("[!.]*")] == ["0-o10"]
    assert (workspace / "g10" / "record.json").is_file()


def test_a_study_that_was_started_here_is_deleted_with_what_was_asked_for_it(
    workspace: Path,
) -> None:
    (workspace / "o05" / RUN).unlink(missing_ok=True)
    files = write_started(workspace, "o05", "Record: /a/folder/o05\n")
    app = delete(open_page("studies"), "o05")
    assert not any(file.exists() for file in files)
    assert "Failed" not in said(app)
    assert f"resume-{workspace.name}-o05" not in keys(app)
    app.button(key="studies-undo").click().run()
    assert [file.read_text() for file in files[:2]] == ["asked", "Record: /a/folder/o05\n"]
    assert jobs.status(workspace / "o05", workspace)["status"] == "finished"
    trash.discard(workspace / "o05", workspace)
    trash.discard(workspace / "o10", workspace)
    assert not list((workspace / ".trash").rglob("*o05*"))


def test_a_study_whose_folder_somebody_removed_is_not_a_failure(workspace: Path) -> None:
    write_started(workspace, "removed", "Record: /a/folder/removed\n")
    app = open_page("studies")
    assert "From here" not in said(app)
    write_started(workspace, "removed", "There is no checkpoint\n")
    assert "There is no checkpoint" in said(open_page("studies"))


def test_what_never_began_can_be_deleted_and_taken_back(workspace: Path) -> None:
    write_started(workspace, "refused", "There is no checkpoint\n")
    app = delete(open_page("studies"), "refused")
    assert "There is no checkpoint" not in said(app)
    app.button(key="studies-undo").click().run()
    assert "There is no checkpoint" in said(app)
    assert not (workspace / "refused").exists()


def test_a_link_is_deleted_with_its_own_files_not_those_of_its_target(workspace: Path) -> None:
    (workspace / "link").symlink_to(workspace / "o05")
    kept = write_started(workspace, "o05", "Record: /a/folder/o05\n")
    own = write_started(workspace, "link", "Already computed: /a/folder/link\n")
    app = delete(open_page("studies"), "link")
    assert "Failed" not in said(app)
    assert all(file.exists() for file in kept)
    assert not any(file.exists() for file in own)


def test_a_study_that_somebody_goes_on_with_is_not_deleted(workspace: Path) -> None:
    """Its engine loads: run.json still says what the run before it left there."""
    write_run(workspace / "stopped", "cancelled")
    app = open_page("studies")
    app.selectbox(key="studies-delete").set_value("stopped").run()
    write_started(workspace, "stopped", "", pid=os.getpid())
    assert jobs.status(workspace / "stopped", workspace)["status"] == "starting"
    app.button(key="studies-delete-button").click().run()
    assert "stopped is on its way" in app.error[0].value
    assert (workspace / "stopped").is_dir()


def test_a_study_is_not_taken_back_over_a_run_of_it(workspace: Path) -> None:
    place = trash.discard(workspace / "o05", workspace)
    write_started(workspace, "o05", "", pid=os.getpid())
    with pytest.raises(GifError, match="is on its way"):
        trash.restore(place, workspace)
    assert place.is_dir()

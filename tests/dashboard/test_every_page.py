"""Every page in every situation that a visitor can meet: what it says, and a way on.

A row of the table is one page in one situation, opened from the entry point. What a page does in
its own depth is tested beside it; a missing combination and a busy server: test_app.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import settings
from dashboard.components import saved
from gifcore.assets_path import asset
from tests.dashboard.make_other_data import SHAPES, make_other
from tests.dashboard.make_record import make_record, make_study
from tests.dashboard.opened import TABS, charts, go, keys, open_page, said
from tests.dashboard.test_studies import write_run

RECORD_PAGES = ("samples", "parameters", "before-after", "compare", "wrong-labels", "speed")
OTHER_PAGES = ("", "own", "new-study", "studies")
NOT_YET = "There is no finished study to show yet"

SITUATIONS: dict[str, dict[str, str]] = {  # situation -> page -> what it says
    "demo": {
        "": "Undo a backdoor",
        "samples": "Most helpful",
        "parameters": "To forget class Bag",
        "before-after": "What images of class Bag are taken for",
        "compare": "share",
        "wrong-labels": "This study did not look for wrong labels",
        "speed": "This study did not measure",
        "studies": "Accuracies on the test split",
        "new-study": "New study",
    },
    "empty": {
        **dict.fromkeys(("", *RECORD_PAGES), NOT_YET),
        **dict.fromkeys(("own", "new-study", "studies"), "New study"),
    },
    "damaged": {"": NOT_YET, "samples": NOT_YET, "compare": NOT_YET, "studies": "cut short"},
    "failed": {"": NOT_YET, "before-after": NOT_YET, "studies": "The disk is full."},
    "only ranked": {
        "parameters": "This study only ranked: no parameter was moved.",
        "before-after": "This study only ranked: no edit was made or evaluated.",
        "samples": "Most helpful",
    },
    "one-class": {
        "": "To forget “‹b›two‹/b›”",
        "samples": "Most helpful",
        "parameters": "To forget class",
        "before-after": "not measured, there are no others",
        "compare": "share",
    },
    "grey": {"samples": "Most helpful", "before-after": "What images of class", "compare": "share"},
    "colour": {"samples": "Most helpful", "parameters": "One unit of", "before-after": "changes"},
    "table": {"": "To forget “‹b›two‹/b›”", "samples": "Most helpful", "compare": "share"},
    "lost": {
        "": "To forget “‹b›two‹/b›”",
        "samples": "is not here, or is another one now",
        "before-after": "is not here, or is another one now",
        "compare": "share",
    },
    "presenting": {
        "": "Three stories",
        "samples": "Most helpful",
        "before-after": "What images of class",
        "studies": "GIF Studio",
    },
    "--demo": {
        "": "Undo a backdoor",
        "samples": "Most helpful",
        "own": "only shows the demo",
        "new-study": "only shows the demo",
        "studies": "Accuracies on the test split",
    },
}
ROWS = [(name, page) for name, pages in SITUATIONS.items() for page in pages]


@pytest.fixture(scope="session")
def situations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace for every situation that needs records of its own; only to be read."""
    root = tmp_path_factory.mktemp("situations")
    for name in ("empty", "demo", "--demo"):
        (root / name).mkdir()
    record = make_record(root / "damaged" / "one")
    (record / "scores.parquet").write_bytes(b"short")
    (root / "failed").mkdir()
    write_run(root / "failed" / "stopped", "failed", "The disk is full.")
    alone = make_study("highest-k-gradients", 0.05).model_dump(exclude={"edit"})
    study = type(make_study("random", 0.05)).model_validate(alone | {"edit": {"enabled": False}})
    make_record(root / "only ranked" / "one", study=study)
    make_record(root / "presenting" / "one")
    for kind in SHAPES:
        make_other(root / kind / "runs", kind)
    make_other(root / "lost" / "runs", "grey")
    (root / "lost" / "grey.npz").unlink()
    return root


@pytest.fixture
def situation(
    request: pytest.FixtureRequest, situations: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A server in this situation."""
    name = str(request.param)
    runs = situations / name / "runs"
    workspace = runs if runs.is_dir() else situations / name
    monkeypatch.setenv(settings.WORKSPACE_VARIABLE, str(workspace))
    monkeypatch.delenv(settings.DEMO_VARIABLE, raising=False)
    demo = name in ("demo", "--demo")
    folder = asset("demo") if demo else situations / "no-demo"
    monkeypatch.setattr(settings, "demo_folder", lambda: folder)
    if name == "--demo":
        monkeypatch.setenv(settings.DEMO_VARIABLE, "1")
    return name


def of_tabs(app: AppTest, page: str) -> Iterator[str]:
    """What each tab but the first says, opened one after the other by the same visitor."""
    for tab in TABS.get(page, ())[1:]:
        app.query_params["tab"] = tab
        app.run()
        assert not app.exception, (tab, app.exception)
        assert not app.error, (tab, [error.value for error in app.error])
        yield said(app)


@pytest.mark.parametrize(("situation", "page"), ROWS, indirect=["situation"])
def test_every_page_in_every_situation(situation: str, page: str) -> None:
    """No exception and no error (`open_page` sees to both), the sentence, and a way on."""
    picks = {"present": "1"} if situation == "presenting" else {}
    app = open_page(page, **picks)
    text = said(app) + "".join(of_tabs(app, page))
    text = text.replace("\\", "")
    assert SITUATIONS[situation][page] in text
    ways = [*app.button, *app.selectbox, *app.get("page_link"), *app.get("download_button")]
    assert ways or "New study" in text
    if page in RECORD_PAGES and SITUATIONS[situation][page] == NOT_YET:
        assert "Start one on the page **New study**" in said(app)
        assert charts(app) == 0


@pytest.mark.parametrize("situation", ["presenting"], indirect=True)
@pytest.mark.usefixtures("situation")
def test_an_audience_sees_no_page_that_computes_and_nothing_that_saves() -> None:
    app = open_page("samples", present="1")
    assert {"samples", "compare"} <= set(app.session_state["pages"])
    assert not {"new_study", "own", "studies"} & set(app.session_state["pages"])
    assert not [key for key in keys(app) if key in ("compute", "make-sketch", saved.NAME)]


@pytest.mark.parametrize("situation", ["grey"], indirect=True)
@pytest.mark.parametrize(
    ("page", "address", "words"),
    [
        ("samples", {"filter": "all~label.0~label.1~said.2~by.if~helpful~wrong"}, "No training"),
        ("before-after", {"tab": "flips"}, "nothing of this kind changed"),
    ],
)
@pytest.mark.usefixtures("situation")
def test_filters_that_leave_nothing_say_what_to_do(
    page: str, address: dict[str, str], words: str
) -> None:
    app = open_page(page, **address)
    if page == "before-after":
        app.segmented_control(key="flips-kind").set_value("moved")
        app.selectbox(key="flips-class").set_value("a_b").run()
        assert not app.exception
    assert words in said(app)


@pytest.mark.parametrize("situation", ["colour"], indirect=True)
@pytest.mark.usefixtures("situation")
def test_the_same_visitor_can_walk_through_every_page() -> None:
    app = open_page("")
    for page in (*RECORD_PAGES, *OTHER_PAGES):
        go(app, page)
        assert app.title


def test_the_table_names_every_page() -> None:
    assert {page for _, page in ROWS} == {*RECORD_PAGES, *OTHER_PAGES}

"""Views under a name: the file they are kept in, and saving, opening, deleting them on a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dashboard import saved_views
from dashboard.saved_views import FILE, MOST, delete, read, save
from gifcore.errors import GifError
from gifcore.run_state import locked
from tests.dashboard.opened import go, keys, open_page, open_share, said

KEYS = ("ratio", "query")


def test_a_view_comes_back_as_it_was_saved_and_the_newest_is_first(tmp_path: Path) -> None:
    save(tmp_path, "  Bags,   again ", "samples", {"ratio": "0.1", "present": "1"}, KEYS)
    second = save(tmp_path, "Two", "compare", {"query": "3"}, KEYS)
    found = read(tmp_path)
    assert found[0] == second
    assert (found[1].name, found[1].page, found[1].picks) == (
        "Bags, again",
        "samples",
        {"ratio": "0.1"},
    )
    delete(tmp_path, "Two")
    assert [view.name for view in read(tmp_path)] == ["Bags, again"]
    delete(tmp_path, "Two")


@pytest.mark.parametrize(
    ("name", "words"),
    [("", "needs a name"), (" \t", "needs a name"), ("a\x00b", "needs a name"),
     ("x" * 81, "80 are enough"), ("ONE", "There is a view “ONE” already")],
)  # fmt: skip
def test_a_name_that_cannot_be_is_refused_in_one_sentence(
    tmp_path: Path, name: str, words: str
) -> None:
    save(tmp_path, "One", "samples", {}, KEYS)
    with pytest.raises(GifError, match=words):
        save(tmp_path, name, "samples", {}, KEYS)
    assert len(read(tmp_path)) == 1


def test_there_is_a_most_and_two_at_once_do_not_lose_one(tmp_path: Path) -> None:
    for number in range(MOST):
        save(tmp_path, f"view {number}", "samples", {}, KEYS)
    with pytest.raises(GifError, match="delete one first"):
        save(tmp_path, "one more", "samples", {}, KEYS)
    delete(tmp_path, "view 0")
    with locked(tmp_path / saved_views.LOCK, ""), pytest.raises(GifError, match="Somebody else"):
        save(tmp_path, "one more", "samples", {}, KEYS)
    assert len(read(tmp_path)) == MOST - 1


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"views": 3}', '{"views": [1, {"name": "x"}, {"name": 3, "picks": {}}]}',
     '{"views": [{"name": "' + "x" * 99 + '", "page": "samples", "made": "", "picks": {}}]}',
     '{"views": "' + "x" * saved_views.LARGEST + '"}'],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_file_that_is_no_list_of_views_holds_none(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content, encoding="utf-8")
    assert read(tmp_path) == []
    save(tmp_path, "One", "samples", {"ratio": "0.1"}, KEYS)
    assert [view.name for view in read(tmp_path)] == ["One"]


# --- on the pages ---------------------------------------------------------------------------------


def test_a_saved_view_is_listed_opened_from_another_session_and_deleted(workspace: Path) -> None:
    app = open_share(open_page("samples", ratio="0.1", methods="gif", filter="all~label.3"))
    app.text_input(key="saved-name").set_value("Two *bags* <b>").run()
    app.button(key="saved-save").click().run()
    assert "Saved as “Two \\*bags\\* \\<b\\>”" in said(app)
    kept = json.loads((workspace / FILE).read_text(encoding="utf-8"))["views"][0]
    assert kept["picks"]["ratio"] == "0.1"
    assert "present" not in kept["picks"]
    other = open_page("", filter="all~label.5")
    assert "Saved views" in said(other)
    other.button(key="saved-open-home-0").click().run()
    go(other, "samples")
    assert other.select_slider(key="ratio").value == 0.1
    assert other.session_state["context"].methods == ["gif"]
    assert other.session_state["picked"]["filter"] == "all~label.3"
    listed = open_share(other).button(key="saved-open-share-0")
    assert listed.label == "Two \\*bags\\* \\<b\\> · Samples"
    other.button(key="saved-delete-share-0").click().run()
    assert "saved-open-share-0" not in keys(other)
    assert read(workspace) == []
    assert "Saved views" not in said(open_page(""))


def test_a_taken_name_is_told_and_nothing_is_lost(workspace: Path) -> None:
    save(workspace, "One", "samples", {"ratio": "0.1"}, KEYS)
    app = open_share(open_page("compare"))
    app.text_input(key="saved-name").set_value("one").run()
    app.button(key="saved-save").click()
    app.run()
    assert "There is a view “one” already" in app.error[0].value
    assert [view.picks for view in read(workspace)] == [{"ratio": "0.1"}]


@pytest.mark.parametrize("closed", ["demo", "present"])
def test_nothing_is_saved_or_listed_where_nothing_may_be_kept(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    save(workspace, "One", "samples", {}, KEYS)
    if closed == "demo":
        monkeypatch.setenv("GIF_STUDIO_DEMO", "1")
    picks = {"present": "1"} if closed == "present" else {}
    for page in ("samples", ""):
        app = open_share(open_page(page, **picks))
        assert not any(key.startswith("saved-") for key in keys(app))
        assert "Saved views" not in said(app)

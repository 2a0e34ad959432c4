"""Views under a name: the file they are kept in, and saving, opening, deleting them on a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

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
    ["", "[]", "{", '{"views": 3}', '{"views": [{"name": "One", "pa', "[" * 100_000, b"\xff",
     '{"views": "' + "x" * saved_views.LARGEST + '"}'],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_damaged_file_holds_no_views_and_is_not_written_over(
    tmp_path: Path, content: str | bytes
) -> None:
    there = content if isinstance(content, bytes) else content.encode()
    (tmp_path / FILE).write_bytes(there)
    assert read(tmp_path) == []
    with pytest.raises(GifError, match="cannot be read: saved-views.json in it is damaged"):
        save(tmp_path, "One", "samples", {"ratio": "0.1"}, KEYS)
    with pytest.raises(GifError, match="damaged"):
        delete(tmp_path, "One")
    assert (tmp_path / FILE).read_bytes() == there


def test_what_is_not_a_view_is_passed_over_and_kept(tmp_path: Path) -> None:
    strange = [1, {"name": "x"}, {"name": 3, "picks": {}}]
    strange += [{"name": "x" * 99, "page": "samples", "made": "", "picks": {}}]
    (tmp_path / FILE).write_text(json.dumps({"views": strange}))
    assert read(tmp_path) == []
    save(tmp_path, "One", "samples", {"ratio": "0.1"}, KEYS)
    save(tmp_path, "x", "samples", {}, KEYS)
    delete(tmp_path, "x")
    assert [view.name for view in read(tmp_path)] == ["One"]
    assert json.loads((tmp_path / FILE).read_text())["views"][1:] == strange


def test_the_longest_views_do_not_push_out_the_others(tmp_path: Path) -> None:
    save(tmp_path, "first", "samples", {}, KEYS)
    with pytest.raises(GifError, match="mark or filter less"):
        save(tmp_path, "long", "samples", {"query": "A" * 60_000}, KEYS)
    for number in range(MOST - 1):
        picks = {key: "é" * 4_800 for key in KEYS}
        save(tmp_path, f"{number}" + "x" * 70, "samples", picks, KEYS)
    assert (tmp_path / FILE).stat().st_size > 0.9 * saved_views.LARGEST
    assert (len(read(tmp_path)), read(tmp_path)[-1].name) == (MOST, "first")


def test_a_file_that_is_full_of_what_is_no_view_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"views": ["x" * (saved_views.LARGEST - 100)]}))
    with pytest.raises(GifError, match="full"):
        save(tmp_path, "One", "samples", {"ratio": "0.1"}, KEYS)
    assert (tmp_path / FILE).stat().st_size < saved_views.LARGEST


# --- on the pages ---------------------------------------------------------------------------------


def named(app: AppTest, what: str, name: str) -> str:
    """The key of the button about a view."""
    found = [b.key for b in app.button if b.key.startswith(f"saved-{what}-") and name in b.label]
    assert len(found) == 1
    return str(found[0])


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
    other.button(key=named(other, "open-home", "Two")).click().run()
    go(other, "samples")
    assert other.select_slider(key="ratio").value == 0.1
    assert other.session_state["context"].methods == ["gif"]
    assert other.session_state["picked"]["filter"] == "all~label.3"
    key = named(open_share(other), "open-share", "Two")
    listed = other.button(key=key)
    assert listed.label == "Two \\*bags\\* \\<b\\> · Samples"
    other.button(key=named(other, "delete-share", "Two")).click().run()
    assert key not in keys(other)
    assert read(workspace) == []
    assert "Saved views" not in said(open_page(""))


def test_a_click_opens_the_view_whose_name_it_has_though_another_was_saved_since(
    workspace: Path,
) -> None:
    save(workspace, "mine", "samples", {"ratio": "0.1"}, KEYS)
    save(workspace, "other", "samples", {"ratio": "0.05"}, KEYS)
    app = open_page("")
    button = app.button(key=named(app, "open-home", "mine"))
    save(workspace, "newest", "samples", {"ratio": "0.05"}, KEYS)
    button.click().run()
    assert app.session_state["picked"]["ratio"] == 0.1
    app = open_page("")
    button = app.button(key=named(app, "open-home", "mine"))
    delete(workspace, "mine")
    button.click().run()
    assert app.title[0].value == "GIF Studio"  # still Home: it is gone


def test_a_delete_that_is_not_possible_is_said_on_home(workspace: Path) -> None:
    save(workspace, "One", "samples", {}, KEYS)
    app = open_page("")
    with locked(workspace / saved_views.LOCK, ""):
        app.button(key=named(app, "delete-home", "One")).click().run()
    assert "Somebody else is saving a view just now" in app.error[0].value
    assert not app.run().error
    assert [view.name for view in read(workspace)] == ["One"]


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

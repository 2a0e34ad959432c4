"""One selection on every page: in the address, across pages, after Back, and what is nonsense."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button

from dashboard import library, settings, state
from dashboard.components import tabs
from gifcore.assets_path import asset
from gifcore.record import Record
from tests.dashboard.make_record import make_record, make_study
from tests.dashboard.opened import go, open_also_chosen, open_page

CHOSEN = {"class": "4", "sample": "12", "pin": "900", "layer": "conv2.weight"}
Methods = tuple[str, ...]
PAGES = ("samples", "before-after", "wrong-labels", "speed", "compare", "parameters")


def context(app: AppTest) -> state.Context:
    found: state.Context = app.session_state["context"]
    return found


def navigate(app: AppTest, page: str) -> AppTest:
    """A click on the navigation: the browser leaves the query parameters out."""
    app.query_params.clear()
    return go(app, page)


def back(app: AppTest, page: str, address: dict[str, str]) -> AppTest:
    """The browser's Back: an earlier address, all of it."""
    app.query_params.clear()
    app.query_params.update(address)
    return go(app, page)


def address(app: AppTest) -> dict[str, str]:
    return {key: str(app.query_params[key]) for key in app.query_params}


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("page", ["samples", "speed", "parameters"])
def test_an_address_opens_the_same_selection(page: str) -> None:
    app = open_page(page, **CHOSEN)
    found = context(app)
    assert (found.klass, found.sample, found.pin, found.layer) == (4, 12, 900, "conv2.weight")
    assert {key: app.query_params[key] for key in CHOSEN} == CHOSEN
    fresh = open_page(page, **address(app))
    assert address(fresh) == address(app)
    assert not fresh.warning


@pytest.mark.usefixtures("workspace")
def test_it_survives_every_switch_of_pages() -> None:
    """Also over one that has no such pickers; the address of each page holds all of it."""
    app = open_page("samples", **CHOSEN)
    for page in ("before-after", "", "compare", "parameters", "samples"):
        navigate(app, page)
        assert {key: app.query_params.get(key) for key in CHOSEN} == CHOSEN, page
    assert app.number_input(key="sample").value == 12
    assert app.selectbox(key="class").value == 4


@pytest.mark.usefixtures("workspace")
def test_the_pickers_are_folded_away_until_something_is_chosen() -> None:
    def open_() -> bool:
        return any(field.key == "sample" for field in app.number_input)

    app = open_page("speed")
    assert not open_()
    assert open_page("speed", sample="3").number_input(key="sample").value == 3
    open_also_chosen(app)
    app.number_input(key="sample").set_value(3).run()
    assert open_()
    assert app.query_params["sample"] == "3"
    app.button(key="also-none").click().run()
    assert not open_()
    assert "sample" not in app.query_params
    assert context(app).sample is None


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("sample", "99999999"),
        ("sample", "-1"),
        ("pin", "abc"),
        ("pin", "1000"),  # there are as many
        ("class", "10"),
        ("class", "shoe"),
        ("layer", "gone.weight"),
    ],
)
def test_nonsense_is_said_and_nothing_is_chosen(key: str, text: str) -> None:
    app = open_page("speed", **{key: text})
    (warning,) = app.warning
    assert text in warning.value.replace("\\", "")
    assert key not in app.query_params
    assert [getattr(context(app), k) for k in ("klass", "sample", "pin", "layer")] == [None] * 4


# --- Back -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("workspace")
def test_back_returns_to_the_page_with_what_was_chosen_then() -> None:
    app = open_page("samples", sample="12")
    first = address(app)
    app.number_input(key="sample").set_value(40).run()
    second = address(app)
    navigate(app, "speed")
    app.select_slider(key="ratio").set_value(0.1).run()
    back(app, "samples", second)
    assert (context(app).sample, context(app).ratio) == (40, 0.05)
    back(app, "samples", first)
    assert context(app).sample == 12
    assert address(app) == first
    assert not app.warning


@pytest.mark.usefixtures("workspace")
def test_back_takes_back_what_an_earlier_view_was_without() -> None:
    app = open_also_chosen(open_page("speed"))
    first = address(app)
    app.number_input(key="pin").set_value(7).run()
    app.selectbox(key="class").set_value(3).run()
    back(app, "speed", first)
    assert (context(app).pin, context(app).klass) == (None, None)
    assert address(app) == first


@pytest.mark.usefixtures("workspace")
def test_a_picker_wins_over_an_address_that_is_older() -> None:
    """The browser may send the next click before it has the new address."""
    app = open_also_chosen(open_page("speed"))
    old = address(app)
    app.number_input(key="sample").set_value(12).run()
    app.query_params.clear()
    app.query_params.update(old)
    app.number_input(key="pin").set_value(5).run()
    assert context(app).pin == 5


@pytest.mark.usefixtures("workspace")
def test_a_button_wins_over_an_address_that_is_older() -> None:
    def tile() -> Button:
        start = f"near-{context(app).sample}-"
        return next(button for button in app.button if (button.key or "").startswith(start))

    app = open_page("samples", sample="12")
    old = address(app)
    tile().click().run()
    assert context(app).sample != 12
    app.query_params.clear()
    app.query_params.update(old)
    wanted = int(tile().label.removeprefix("#"))
    tile().click().run()
    assert context(app).sample == wanted


@pytest.mark.usefixtures("workspace")
def test_the_address_is_written_once_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write is a step of the browser's Back."""
    written, write = [], state._write_address

    def counted() -> None:
        written.append(1)
        write()

    monkeypatch.setattr(state, "_write_address", counted)
    app = open_page("parameters")
    assert len(written) == 1
    open_also_chosen(app)
    written.clear()
    app.number_input(key="sample").set_value(12).run()
    assert len(written) == 1


@pytest.mark.usefixtures("workspace")
def test_other_parameters_of_the_address_stay() -> None:
    app = open_also_chosen(open_page("speed", other_tool="x"))
    app.number_input(key="sample").set_value(12).run()
    assert app.query_params["other_tool"] == "x"


# --- which study ----------------------------------------------------------------------------------


@pytest.fixture
def two_data_sets(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> dict[str, str]:
    """The invented digits, a second study of them, and a demo of Fashion-MNIST; keys by name."""
    monkeypatch.setattr(settings, "demo_folder", lambda: tmp_path / "demo")
    shutil.copytree(asset("demo") / "forget-class-retrained", tmp_path / "demo" / "fashion")
    study = make_study("highest-k-gradients", 0.05).model_copy(update={"seed": 1})
    make_record(workspace / "again", study=study)
    found = {family.title: family.key for family in library.families() if family.demo}
    digits = [family.key for family in library.families() if not family.demo]
    assert len(digits) == 2
    return {"fashion": next(iter(found.values())), "digits": digits[0], "again": digits[1]}


def test_what_was_chosen_of_one_data_set_is_forgotten_with_it(
    two_data_sets: dict[str, str],
) -> None:
    app = open_page("speed", study=two_data_sets["digits"], sample="12", **{"class": "4"})
    app.selectbox(key="study").set_value(two_data_sets["again"]).run()
    assert (context(app).sample, context(app).klass) == (12, 4)  # the same images
    digits = address(app)
    app.selectbox(key="study").set_value(two_data_sets["fashion"]).run()
    assert (context(app).sample, context(app).klass) == (None, None)
    assert "sample" not in app.query_params
    back(app, "speed", digits)
    assert (context(app).sample, context(app).klass) == (12, 4)


def test_what_is_shown_of_one_data_set_is_forgotten_with_it(two_data_sets: dict[str, str]) -> None:
    of_data = {"filter": "all~label.8~said.6", "cell": "8-6", "edit": "gif-natural", "preview": "5"}
    app = open_page("samples", study=two_data_sets["digits"], **of_data)
    app.selectbox(key="study").set_value(two_data_sets["again"]).run()
    assert app.query_params["filter"] == of_data["filter"]
    app.selectbox(key="study").set_value(two_data_sets["fashion"]).run()
    assert not set(of_data) & set(app.query_params)
    assert app.number_input(key="preview").value is None


def test_a_link_into_another_data_set_brings_its_own_choice(two_data_sets: dict[str, str]) -> None:
    app = open_page("speed", study=two_data_sets["digits"], sample="12", pin="3")
    back(app, "speed", {"study": two_data_sets["fashion"], "sample": "12"})
    assert (context(app).sample, context(app).pin) == (12, None)


def test_the_study_of_a_first_visit_is_the_demos_main_one_whatever_is_newer(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "demo_folder", lambda: asset("demo"))
    make_record(workspace / "newest", study=make_study("random", 0.25))
    app = open_page("speed")
    assert context(app).demo
    assert context(app).record_path == asset("demo") / "highest-k-gradients-05"
    assert len(context(app).family) == 20


# --- which combination and methods ----------------------------------------------------------------


@pytest.fixture
def studies(empty_workspace: Path) -> dict[str, str]:
    """Studies of the same data: `many` combinations, one at `quarter`, IF alone, and three."""

    def family(
        folder: str, selector: str, ratio: float, methods: tuple[str, ...], seed: int
    ) -> str:
        study = make_study(selector, ratio, methods).model_copy(update={"seed": seed})
        path = make_record(empty_workspace / folder, study=study)
        return str(Record.open(path).info["family"][:12])

    both, three = ("if", "gif"), ("if", "gradient", "gif")
    family("many10", "highest-k-gradients", 0.1, both, 0)
    return {
        "many": family("many05", "highest-k-gradients", 0.05, both, 0),
        "quarter": family("quarter", "random", 0.25, both, 1),
        "alone": family("alone", "highest-k-gradients", 0.05, ("if",), 2),
        "three": family("three", "highest-k-gradients", 0.05, three, 3),
    }


def pick(app: AppTest, study: str) -> AppTest:
    app.selectbox(key="study").set_value(study).run()
    assert not app.exception
    return app


def test_a_study_without_this_combination_is_shown_at_its_own(studies: dict[str, str]) -> None:
    app = open_page("speed", study=studies["many"], ratio="0.1")
    note = "Highest-k gradients at 10 % is not computed for this study: its own is shown."
    pick(app, studies["quarter"])
    shown = context(app)
    assert (shown.selector, shown.ratio, shown.missing) == ("random", 0.25, False)
    assert app.query_params["ratio"] == "0.25"
    assert note in [caption.value for caption in app.caption]
    app.select_slider(key="ratio").set_value(0.1).run()  # asked for: it is offered to be computed
    assert context(app).missing
    assert note not in [caption.value for caption in app.caption]
    pick(app, studies["many"])  # where "random" is as little there: it was asked for
    assert context(app).missing


def test_an_address_of_a_combination_that_is_not_computed_says_so(studies: dict[str, str]) -> None:
    app = open_page("speed", study=studies["many"])
    asked = {"study": studies["quarter"], "selector": "highest-k-gradients", "ratio": "0.05"}
    back(app, "speed", asked)
    assert context(app).missing


def test_methods_come_back_with_a_study_that_has_them(studies: dict[str, str]) -> None:
    app = open_page("speed", study=studies["many"])
    pick(app, studies["alone"])
    assert context(app).methods == ["if"]
    assert app.query_params["methods"] == "if"
    pick(app, studies["many"])
    assert context(app).methods == ["if", "gif"]
    app.pills(key="methods").set_value(["gif"]).run()
    pick(app, studies["alone"])
    assert context(app).methods == ["if"]  # there is no other
    pick(app, studies["three"])
    assert context(app).methods == ["gif"]
    app.pills(key="methods").set_value(["gradient", "gif"]).run()
    pick(app, studies["many"])
    app.pills(key="methods").set_value(["if", "gif"]).run()
    pick(app, studies["three"])
    assert context(app).methods == ["if", "gradient", "gif"]


def test_a_link_out_of_a_study_of_one_method_keeps_those_picked(studies: dict[str, str]) -> None:
    app = open_page("speed", study=studies["many"])
    first = address(app)
    pick(app, studies["alone"])
    second = address(app)
    back(app, "speed", first)
    assert context(app).methods == ["if", "gif"]
    back(app, "speed", second | {"sample": "12"})
    assert context(app).methods == ["if"]
    pick(app, studies["many"])
    assert context(app).methods == ["if", "gif"]


def test_an_address_that_names_methods_wins(studies: dict[str, str]) -> None:
    app = open_page("speed", study=studies["three"])
    back(app, "speed", address(app) | {"methods": "gradient"})
    assert context(app).methods == ["gradient"]
    assert not app.warning
    other = open_page("speed", study=studies["many"], methods="nosuch")
    assert context(other).methods == ["if", "gif"]  # as at a first visit, here and elsewhere
    assert context(pick(other, studies["three"])).methods == ["if", "gif"]


# --- a link to what is not here -------------------------------------------------------------------


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("picks", "words", "left"),
    [
        ({"methods": "nosuch"}, "the method “nosuch”, which is not here", {"methods": "if,gif"}),
        ({"methods": "gif,ekfac"}, "the method “ekfac”, which is", {"methods": "gif"}),
        ({"methods": "a,b"}, "the methods “a, b”, which are not here", {"methods": "if,gif"}),
        ({"tab": "nosuch"}, "the tab “nosuch”, which is not here", {}),
        ({"tab": "nosuch,layer,table"}, "the tab “nosuch”, which is", {"tab": "layer,table"}),
        ({"preview": "99999"}, "test image “99999”, which is not here", {}),
        ({"preview": "five"}, "test image “five”, which is not here", {}),
        ({"tab": "layer"}, "", {"tab": "layer"}),  # of another page
    ],
)
def test_methods_tabs_and_previews_that_are_gone_are_said_like_the_rest(
    picks: dict[str, str], words: str, left: dict[str, str]
) -> None:
    app = open_page("samples", **picks)
    assert [words in warning.value for warning in app.warning] == [True] * bool(words)
    for key in picks:
        assert app.query_params.get(key) == left.get(key)
    app.run()
    assert not app.warning


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("page", tabs.NAMES)
def test_the_names_of_tabs_are_those_of_the_pages(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, opened = [], tabs.opened

    def noted(names: list[str]) -> str:
        drawn.append(list(names))
        return opened(names)

    monkeypatch.setattr(tabs, "opened", noted)
    open_page(page.replace("_", "-"))
    assert drawn
    assert all(names == tabs.NAMES[page] for names in drawn)

"""The router: which pages there are, and what is done for each of them before it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module

import streamlit as st

from dashboard import library, state
from dashboard.components import look, messages, progress, share, sidebar, storyteller
from gifcore.errors import GifError


def _page(name: str) -> Callable[[], None]:
    """Return a page that imports its module when it is opened: a broken one breaks only itself."""

    def draw() -> None:
        import_module(f"dashboard.views.{name}").page()

    draw.__name__ = name
    return draw


PAGES = (  # module, title, icon, is it about one record?
    ("home", "Home", "home", False),
    ("samples", "Samples", "photo_library", True),
    ("parameters", "Parameters", "grid_on", True),
    ("before_after", "Before / after", "compare", True),
    ("compare", "Compare", "scatter_plot", True),
    ("wrong_labels", "Wrong labels", "new_label", True),
    ("speed", "Speed and recall", "speed", True),
    ("own", "Own model and data", "upload_file", False),
    ("new_study", "New study", "add_circle", False),
    ("studies", "Studies", "folder_open", False),
)
WORKSHOP = ("new_study", "own", "studies")  # where one computes: not for an audience


def _pages() -> dict[str, st.Page]:
    """Return the pages that there are; presenter mode has only those that show something."""
    hidden = WORKSHOP if state.presenting() else ()
    return {
        name: st.Page(
            _page(name),
            title=title,
            icon=f":material/{icon}:",
            url_path=name.replace("_", "-"),
            default=name == "home",
        )
        for name, title, icon, _ in PAGES
        if name not in hidden
    }


def _menu(pages: dict[str, st.Page]) -> dict[str, list[st.Page]]:
    """Return the navigation: what shows something in a row, what computes in a menu."""
    menu = {"": [page for name, page in pages.items() if name not in WORKSHOP]}
    workshop = [pages[name] for name in WORKSHOP if name in pages]
    return menu | ({":material/science: Your own": workshop} if workshop else {})


def _draw_record_page(page: st.Page) -> None:
    """Draw a page about a record: the sidebar first, the page only if there is a record."""
    families = library.families()
    if not families:
        messages.nothing_yet()
        return
    context = sidebar.draw(families, page.url_path)
    st.session_state["context"] = context
    if context.missing:
        st.title(page.title)
        progress.missing_combination(context)
    else:
        _run(page)
    with st.sidebar:  # last: the page's own picks belong to the view
        share.draw(context, page.url_path)


def _run(page: st.Page) -> None:
    """Draw a page; where it was not seen just before, a grey block is where more is to come."""
    body, last = st.container(), st.session_state.get("page")
    st.session_state["page"] = page.url_path
    with nullcontext() if last == page.url_path else st.skeleton(height=360), body:
        page.run()


def main() -> None:
    """Draw the page of the address; whatever a study or a record is refused for is one sentence."""
    st.set_page_config(page_title="GIF Studio", page_icon=look.icon(), layout="wide")
    state.begin_run()
    pages = _pages()
    state.register(pages)
    page = st.navigation(_menu(pages), position="top")
    shown = next((name for name, one in pages.items() if one is page), "home")
    gone = st.empty()
    try:
        storyteller.draw(shown)
        if any(name == shown for name, *_, about_record in PAGES if about_record):
            _draw_record_page(page)
        else:
            _run(page)
    except GifError as problem:
        messages.error(problem)
    if words := state.gone():
        gone.warning(messages.plain(words), icon=":material/link_off:")
    state.end_run()


main()

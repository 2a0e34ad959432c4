"""The router: which pages there are, and what is done for each of them before it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import streamlit as st

from dashboard import state
from dashboard.components import messages, progress, sidebar
from gifcore.errors import GifError


def _page(name: str) -> Callable[[], None]:
    """Return a page that imports its module when it is opened: a broken one breaks only itself."""

    def draw() -> None:
        import_module(f"dashboard.views.{name}").page()

    draw.__name__ = name
    return draw


def _pages() -> dict[str, list[st.Page]]:
    return {
        "": [st.Page(_page("home"), title="Home", icon=":material/home:", default=True)],
        "Results": [
            st.Page(
                _page("samples"), title="Samples", icon=":material/photo_library:",
                url_path="samples",
            ),
            st.Page(
                _page("parameters"), title="Parameters", icon=":material/grid_on:",
                url_path="parameters",
            ),
            st.Page(
                _page("before_after"), title="Before / after", icon=":material/compare:",
                url_path="before-after",
            ),
            st.Page(
                _page("compare"), title="Compare", icon=":material/scatter_plot:",
                url_path="compare",
            ),
        ],
        "Work": [
            st.Page(
                _page("new_study"), title="New study", icon=":material/add_circle:",
                url_path="new-study",
            ),
            st.Page(
                _page("studies"), title="Studies", icon=":material/folder_open:",
                url_path="studies",
            ),
        ],
    }


def _draw_record_page(page: st.Page) -> None:
    """Draw a page about a record: the sidebar first, the page only if there is a record."""
    families = state.families()
    if not families:
        messages.nothing_yet()
        return
    context = sidebar.draw(families)
    st.session_state["context"] = context
    if context.missing:
        progress.missing_combination(context)
    else:
        page.run()


def main() -> None:
    """Draw the page of the address; whatever a study or a record is refused for is one sentence."""
    st.set_page_config(page_title="GIF Studio", page_icon=":material/insights:", layout="wide")
    pages = _pages()
    state.register({page.url_path: page for group in pages.values() for page in group})
    page = st.navigation(pages)
    state.begin_run()
    try:
        if page in pages["Results"]:
            _draw_record_page(page)
        else:
            page.run()
    except GifError as problem:
        messages.error(problem)


main()

"""Opening one page of the dashboard headlessly, from the entry point, and reading what it says."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path

from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from dashboard.components import also_chosen, share, tabs

ROOT = Path(__file__).parents[2]
APP = ROOT / "dashboard" / "app.py"

OpenPage = Callable[..., AppTest]
TABS = {page.replace("_", "-"): names for page, names in tabs.NAMES.items()}


def open_page(url_path: str = "", *, refused: bool = False, **address: str) -> AppTest:
    """Open a page by its URL path ("" is Home) in a new session and draw it once."""
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.query_params.update(address)
    return go(app, url_path, refused=refused)


def go(app: AppTest, url_path: str, *, refused: bool = False) -> AppTest:
    """Switch to a page; AppTest.switch_page only knows pages that are files of their own.

    A page that says an error fails the test unless it is to be `refused`.
    """
    app._page_hash = calc_hash(url_path)
    app.run()
    assert not app.exception, app.exception
    assert refused or not app.error, [error.value for error in app.error]
    return app


def open_share(app: AppTest) -> AppTest:
    """Open the popover "Share this view"."""
    app.session_state[share.OPEN] = True
    app.run()
    assert not app.exception, app.exception
    return app


def open_also_chosen(app: AppTest) -> AppTest:
    """Open the panel "Also chosen" of the sidebar."""
    app.session_state[also_chosen.OPEN] = True
    app.run()
    assert not app.exception, app.exception
    return app


def said(app: AppTest) -> str:
    """Everything the page says in words, in one string."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.info)
    kinds += (app.success, app.warning, app.error)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def captions(app: AppTest) -> list[str]:
    """The captions of all pictures: of single ones, then of those of sheets, each in order."""
    alone = [picture.caption for image in app.get("image") for picture in image.proto.imgs]
    return alone + [words(figure) for figure in figures(app)]


def figures(app: AppTest, kind: str = "") -> list[str]:
    """The HTML of every picture of a sheet, in order; of one kind: "Training", "Test"."""
    sheets = "".join(str(sheet.proto.body) for sheet in app.get("html"))
    found = re.findall(r"<figure.*?</figure>", sheets)
    return [figure for figure in found if f'alt="{kind}' in figure] if kind else found


def words(figure: str) -> str:
    """What stands under a picture of a sheet."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", figure)).split())


def charts(app: AppTest) -> int:
    """How many Plotly charts the page draws."""
    return len(app.get("plotly_chart"))


def keys(app: AppTest) -> list[str]:
    """The keys of all buttons that are drawn."""
    return [button.key for button in app.button]


def again_until(app: AppTest, done: Callable[[AppTest], bool], seconds: float = 90) -> None:
    """Draw the page again and again, as its live panel does, until something is there."""
    end = time.monotonic() + seconds
    while not done(app):
        assert time.monotonic() < end, said(app)
        time.sleep(0.3)
        app.run()
        assert not app.exception, app.exception
        assert not app.error, [error.value for error in app.error]

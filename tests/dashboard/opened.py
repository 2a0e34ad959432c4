"""Opening one page of the dashboard headlessly, from the entry point, on a workspace of records."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from dashboard import settings

APP = Path(__file__).parents[2] / "dashboard" / "app.py"


def open_page(
    page: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, **address: str
) -> AppTest:
    """Return the page with this URL path after its first run, without the bundled demo."""
    monkeypatch.setenv(settings.WORKSPACE_VARIABLE, str(workspace))
    monkeypatch.setattr(settings, "demo_folder", lambda: workspace / "no-demo")
    at = AppTest.from_file(str(APP), default_timeout=60)
    for key, value in address.items():
        at.query_params[key] = value
    at.run()
    go(at, page)
    return at


def go(at: AppTest, page: str) -> None:
    """Switch to the page with this URL path; AppTest itself only knows pages that are files."""
    at._page_hash = calc_hash(page)
    at.run()
    assert not at.exception, at.exception
    assert not at.error, [error.value for error in at.error]


def words(at: AppTest) -> str:
    """Return every text of the page that Markdown draws."""
    return "\n".join(element.value for element in (*at.markdown, *at.caption, *at.info))


def charts(at: AppTest) -> int:
    """Return how many Plotly charts the page draws."""
    return len(at.get("plotly_chart"))

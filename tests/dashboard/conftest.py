"""A workspace of invented records, and the app opened on one of its pages."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from dashboard import jobs, settings
from tests.dashboard.make_record import make_workspace

APP = Path(jobs.__file__).with_name("app.py")
ROOT = APP.parents[1]

OpenPage = Callable[..., AppTest]


@pytest.fixture(scope="session")
def four_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("records") / "runs")


@pytest.fixture(autouse=True)
def _no_caches() -> Iterator[None]:
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def empty_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server without studies and without a demo."""
    workspace = tmp_path / "runs"
    workspace.mkdir()
    monkeypatch.setenv(settings.WORKSPACE_VARIABLE, str(workspace))
    monkeypatch.delenv(settings.DEMO_VARIABLE, raising=False)
    monkeypatch.setattr(settings, "demo_folder", lambda: tmp_path / "no-demo")
    return workspace


@pytest.fixture
def workspace(empty_workspace: Path, four_records: Path) -> Path:
    """Two selectors at 5 % and 10 %, one family."""
    shutil.copytree(four_records, empty_workspace, dirs_exist_ok=True)
    return empty_workspace


@pytest.fixture
def open_page() -> OpenPage:
    """Open a page by its address ("" is Home), with query parameters, and run it once."""

    def open_one(url_path: str = "", **query: str) -> AppTest:
        app = AppTest.from_file(str(APP), default_timeout=30)
        app.query_params.update(query)
        return go(app, url_path)

    return open_one


def go(app: AppTest, url_path: str) -> AppTest:
    """Switch to a page; AppTest.switch_page only knows pages that are files of their own."""
    app._page_hash = calc_hash(url_path)
    app.run()
    assert not app.exception
    return app


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of jobs run tests/dashboard/fake_engine.py in place of the engine."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(
        jobs,
        "_command",
        lambda given: [sys.executable, "-m", "tests.dashboard.fake_engine", *given],
    )


def said(app: AppTest) -> str:
    """Everything the page says in words, in one string."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.info, app.error, app.success)
    return "\n".join(str(element.value) for kind in kinds for element in kind)

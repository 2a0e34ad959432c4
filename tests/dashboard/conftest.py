"""Workspaces of records: none, four invented ones, or three that the engine made."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st

from dashboard import settings
from tests.dashboard.make_record import make_workspace


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
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # engines of tests are small and run side by side
    monkeypatch.delenv(settings.DEMO_VARIABLE, raising=False)
    monkeypatch.setattr(settings, "demo_folder", lambda: tmp_path / "no-demo")
    return workspace


@pytest.fixture
def workspace(empty_workspace: Path, four_records: Path) -> Path:
    """Two selectors at 5 % and 10 %, one family, invented numbers."""
    shutil.copytree(four_records, empty_workspace, dirs_exist_ok=True)
    return empty_workspace


@pytest.fixture
def computed(empty_workspace: Path, engine_records: Path) -> Path:
    """Three records of one family that the engine made: g10, g25 and r10."""
    shutil.copytree(engine_records, empty_workspace, dirs_exist_ok=True)
    return empty_workspace

"""A real run in two browsers: shared, kept over a refresh and a restart, cancelled, resumed.

The five tests follow one run; each needs those before it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dashboard import jobs, library
from gifcore import record as records
from gifcore import run_state, runner
from gifcore.study import dumps, read
from tests.browser.site import CHROMIUM, WIDTH, browser, served, settled
from tests.conftest import small_study

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="NO BROWSER: install Debian's package chromium, or the pages go untested",
    ),
]

TIMEOUT = 60_000


@dataclass
class Site:
    """The workspace with its server, which can be started anew, and two people's browsers."""

    workspace: Path
    view: str  # the path of a combination without a record
    address: str
    stack: ExitStack
    first: Any
    second: Any

    def restart(self) -> None:
        self.stack.close()
        self.address = self.stack.enter_context(served(self.workspace))

    @property
    def folder(self) -> Path:
        (folder,) = jobs.started(self.workspace)
        return folder

    @property
    def run(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / run_state.RUN).read_text()))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    workspace = tmp_path_factory.mktemp("workspace")
    view = prepare(workspace)
    with browser() as chromium, ExitStack() as stack:
        pages = [chromium.new_context(viewport={"width": WIDTH, "height": 900}) for _ in range(2)]
        first, second = (context.new_page() for context in pages)
        for page in (first, second):
            page.set_default_timeout(TIMEOUT)
        found = Site(workspace, view, stack.enter_context(served(workspace)), stack, first, second)
        yield found
        for folder in jobs.started(workspace):
            jobs.cancel(folder, workspace)
    until(lambda: not engines(workspace), "a process of the engine is left")


def prepare(workspace: Path) -> str:
    """Compute a small record, then make its settings long: its siblings take minutes.

    Returns:
        The address of such a sibling.
    """
    folder = workspace / "small"
    runner.run(runner.prepare(small_study("highest-k-gradients", 0.1)), folder, workspace=workspace)
    settings = read(folder / records.STUDY)
    solver = settings.solver.model_copy(update={"iterations": 10_000, "tolerance": 0.0})
    curvature = settings.curvature.model_copy(update={"samples": "all"})
    long = settings.model_copy(update={"solver": solver, "curvature": curvature})
    file, info = folder / records.STUDY, json.loads((folder / records.RECORD).read_text())
    file.write_text(dumps(long))
    info["files"][file.name] = {"bytes": file.stat().st_size, "sha256": records.sha256(file)}
    records.write_json(folder / records.RECORD, info)
    family = info["family"][: library.FAMILY_DIGITS]
    return f"/samples?study={family}&selector=random&ratio=0.1"


def engines(workspace: Path) -> list[int]:
    """The processes of this machine that run a study of the workspace."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        alive = run_state.process_started(int(entry.name)) is not None
        if alive and "gifcore" in words and "run" in words and str(workspace) in words:
            found.append(int(entry.name))
    return found


def until(check: Callable[[], Any], wrong: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, wrong
        time.sleep(0.05)


def compute(page: Any) -> Any:
    return page.get_by_role("button", name="Compute (about")


def cancel(page: Any) -> Any:
    return page.get_by_role("button", name="Cancel", exact=True)


def solving(page: Any) -> None:
    """Wait until the page shows the run inside its longest stage, with a bar that says how far."""
    page.get_by_text("Solve the systems").wait_for()
    page.get_by_role("progressbar").first.wait_for()
    cancel(page).wait_for()


def test_two_viewers_who_ask_for_the_same_share_one_run(site: Site) -> None:
    for page in (site.first, site.second):
        page.goto(site.address + site.view)
        compute(page).wait_for()
        settled(page)
    compute(site.first).click()
    solving(site.first)
    assert engines(site.workspace) == [site.run["pid"]]
    pid = site.run["pid"]
    compute(site.second).click()  # it still offers what somebody else has started
    solving(site.second)
    assert engines(site.workspace) == [pid]
    assert len(jobs.started(site.workspace)) == 1


def test_a_refresh_keeps_the_progress(site: Site) -> None:
    pid = site.run["pid"]
    site.first.reload()
    solving(site.first)
    assert site.first.get_by_text("Load model and data").count() == 1
    assert compute(site.first).count() == 0
    assert engines(site.workspace) == [pid]


def test_a_restarted_server_finds_the_run_again(site: Site) -> None:
    pid = site.run["pid"]
    site.restart()
    assert engines(site.workspace) == [pid]
    site.first.goto(site.address + site.view)
    solving(site.first)
    site.second.goto(f"{site.address}/studies")
    solving(site.second)
    assert engines(site.workspace) == [pid]


def test_cancel_ends_the_process(site: Site) -> None:
    pid = site.run["pid"]
    cancel(site.first).click()
    site.first.get_by_text("Cancelled").first.wait_for()
    until(lambda: run_state.process_started(pid) is None, f"process {pid} is still there")
    assert engines(site.workspace) == []
    assert site.run["status"] == "cancelled"
    site.second.get_by_text("Cancelled").first.wait_for()  # who only looks on is told too
    assert not cancel(site.second).is_visible()


def test_a_cancelled_run_is_taken_up_again(site: Site) -> None:
    old = site.run["pid"]
    site.second.get_by_role("button", name="Run again").click()
    solving(site.second)
    assert site.run["status"] == "running"
    assert engines(site.workspace) == [site.run["pid"]] != [old]
    cancel(site.second).click()
    site.second.get_by_role("button", name="Run again").wait_for()
    until(lambda: not engines(site.workspace), "the process is still there")

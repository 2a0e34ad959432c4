"""The wheel: built from a clean copy, installed into an empty environment, complete."""

import ast
import email
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.site import CHROMIUM, browser, served, settled

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("gifcore", "dashboard", "assets", "pyproject.toml", "requirements.txt", "README.md")
OF_A_RUN = (".lock", ".queue.lock", ".stages")  # beside a record that is being computed
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def clean_environment() -> dict[str, str]:
    """This environment without the path that leads to the checkout."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def run(*command: str | Path, cwd: Path) -> str:
    """The output of a command; its errors are in the failure if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, built offline with this environment's setuptools."""
    folder = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", *OF_A_RUN)
    for name in (*COPIED, "LICENSE"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(
        *pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", "out", ".",
        cwd=folder,
    )  # fmt: skip
    (built,) = (folder / "out").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment with the wheel in it; requirements by reference."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    binaries = folder / "env" / "bin"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(binaries / "python", "-c", code, cwd=folder).strip())
    run(
        sys.executable, "-m", "pip", "--disable-pip-version-check",
        "--python", binaries / "python",
        "install", "--no-deps", "--no-index", wheel,
        cwd=folder,
    )  # fmt: skip
    # A plain path line: the packages here are found, but no .pth file (an editable checkout) runs.
    (site / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return binaries


def test_listed_packages_are_those_on_disk() -> None:
    found = {"gifcore.assets"}
    for top in ("gifcore", "dashboard"):
        for file in (ROOT / top).rglob("*.py"):
            found.add(".".join(file.parent.relative_to(ROOT).parts))
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(found)


def test_everything_travels_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    source = wheel.parent.parent
    for top in ("gifcore", "dashboard", "assets"):
        for file in filter(Path.is_file, (source / top).rglob("*")):
            name = file.relative_to(source).as_posix()
            assert (f"gifcore/{name}" if top == "assets" else name) in names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


def test_metadata_has_every_requirement_and_the_commands(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (folder,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    metadata = email.message_from_bytes(archive.read(f"{folder}/METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("gif-studio", "0.1.0")
    needs = [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]
    assert sorted(map(package, needs)) == sorted(map(package, listed))
    commands = archive.read(f"{folder}/entry_points.txt").decode()
    assert "gif = gifcore.cli:main" in commands
    assert "gif-dashboard = dashboard.__main__:main" in commands


def package(requirement: str) -> str:
    """The name at the start of a requirement."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match
    return match[0].lower()


def test_every_requirement_has_a_reason_and_nothing_else_is_imported() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    assert all(" # " in line for line in lines)
    names = {package(line).replace("-", "_") for line in lines}
    allowed = names | {"gifcore", "dashboard"} | set(sys.stdlib_module_names)
    allowed |= {"sklearn", "faiss", "PIL"}  # PIL: streamlit and torchvision both require it
    for top in ("gifcore", "dashboard"):
        for file in (ROOT / top).rglob("*.py"):
            assert imported(file) <= allowed, file


def imported(file: Path) -> set[str]:
    """The top-level modules a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_installed_package_finds_its_assets_outside_the_checkout(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "import gifcore, sys; from gifcore.assets_path import asset;"
        "from gifcore.data import load; from gifcore.models import bundled;"
        "print(asset('data')); print(len(load('fashion-mnist-mini').train));"
        "print(bundled('tinynet', 'fashion-mnist-mini'))"
    )
    output = run(installed / "python", "-c", code, cwd=tmp_path)
    folder, count, checkpoint = output.split()
    assert Path(folder).is_relative_to(installed.parent)
    assert folder.endswith("gifcore/assets/data")
    assert count == "8000"
    assert Path(checkpoint).is_file()


def test_asset_in_the_checkout_is_the_top_level_folder() -> None:
    code = "from gifcore.assets_path import asset; print(asset('data'))"
    assert Path(run(sys.executable, "-c", code, cwd=ROOT).strip()) == ROOT / "assets" / "data"


@pytest.mark.parametrize("command", PROJECT["project"]["scripts"])
def test_commands_start(installed: Path, tmp_path: Path, command: str) -> None:
    assert "usage" in run(installed / command, "--help", cwd=tmp_path).lower()


# --- the dashboard, from an empty folder ----------------------------------------------------------


@pytest.fixture(scope="module")
def demo_served(
    installed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """The address of the installed `gif-dashboard`, started in an empty folder, and the folder."""
    folder = tmp_path_factory.mktemp("empty")
    with served(folder / "runs", cwd=folder, command=[str(installed / "gif-dashboard")]) as address:
        yield address, folder


def test_a_busy_port_is_one_sentence(demo_served: tuple[str, Path], installed: Path) -> None:
    address, folder = demo_served
    port = address.rpartition(":")[2]
    answer = subprocess.run(
        [installed / "gif-dashboard", "--port", port],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 1
    assert not answer.stdout
    assert len(answer.stderr.strip().splitlines()) == 1
    assert f"127.0.0.1:{port}" in answer.stderr


def headlines(installed: Path, folder: Path) -> list[str]:
    """What Home may say of the demo that was installed, by the package itself."""
    code = (
        "import json; from dashboard.views import home; from dashboard import settings;"
        "from gifcore.record import list_workspace;"
        "print(json.dumps([home.headline(e.info, 'gif')"
        " for e in list_workspace(settings.demo_folder())"
        " if e.info.get('methods', {}).get('gif', {}).get('steps')]))"
    )
    lines = run(installed / "python", "-W", "ignore", "-c", code, cwd=folder).splitlines()
    return list(json.loads(lines[-1]))


@pytest.mark.browser
@pytest.mark.skipif(
    CHROMIUM is None,
    reason="NO BROWSER: install Debian's package chromium, or the installed Home goes unseen",
)
def test_home_shows_the_demo_in_a_browser(demo_served: tuple[str, Path], installed: Path) -> None:
    address, folder = demo_served
    known = headlines(installed, folder)
    assert known
    with browser() as chromium:
        page = chromium.new_page()
        page.goto(address)
        settled(page)
        page.get_by_text("The training images behind one prediction").wait_for(timeout=60_000)
        text = page.locator("[data-testid=stMain]").inner_text()
    assert any(headline in text for headline in known)


def test_home_shows_the_demo_from_the_installed_files(installed: Path, tmp_path: Path) -> None:
    code = """
import dashboard, json
from pathlib import Path
from streamlit.testing.v1 import AppTest
app = AppTest.from_file(str(Path(dashboard.__file__).with_name("app.py")), default_timeout=60).run()
assert not app.exception and not app.error
print(json.dumps([dashboard.__file__, *[element.value for element in app.subheader]]))
"""
    file, *said = json.loads(run(installed / "python", "-c", code, cwd=tmp_path).splitlines()[-1])
    assert Path(file).is_relative_to(installed.parent)
    assert set(said) & set(headlines(installed, tmp_path))

"""Uploads and picked files: kept by content, only from allowed folders, refused by a demo."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from dashboard import __main__ as server
from dashboard import jobs, settings
from dashboard.components import own_forms, page, uploads
from gifcore.errors import GifError
from gifcore.models import plugins

NPZ = ("npz",)


def test_an_upload_is_kept_once_under_its_hash(empty_workspace: Path) -> None:
    first = uploads.save("mine.npz", b"content", NPZ)
    assert first.parent.parent == empty_workspace / "uploads"
    assert first.name == "mine.npz"
    assert uploads.save("other name.NPZ", b"content", NPZ) == first
    assert first.read_bytes() == b"content"


@pytest.mark.parametrize("name", ["../../evil.npz", "/etc/evil.npz", "..npz", "a/../b\0.npz"])
def test_a_name_never_leads_out_of_the_uploads(empty_workspace: Path, name: str) -> None:
    kept = uploads.save(name, b"content", NPZ).resolve()
    assert kept.parent.parent == (empty_workspace / "uploads").resolve()


@pytest.mark.usefixtures("empty_workspace")
def test_other_kinds_and_too_much_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine.pkl", "mine.py", "mine.npz.exe", "mine"):
        with pytest.raises(GifError, match=r"kinds taken here: \.npz"):
            uploads.save(name, b"content", NPZ)
    monkeypatch.setattr(uploads, "MAX_MB", 0.000001)
    with pytest.raises(GifError, match="at most"):
        uploads.save("mine.npz", b"content", NPZ)
    monkeypatch.setattr(uploads, "MAX_MB", 200)
    monkeypatch.setattr(uploads, "MAX_FOLDER_MB", 0.000001)
    with pytest.raises(GifError, match="delete some"):
        uploads.save("mine.npz", b"content", NPZ)


def test_a_demo_server_keeps_no_upload(
    empty_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(settings.DEMO_VARIABLE, "1")
    with pytest.raises(GifError, match="takes no uploads"):
        uploads.save("mine.npz", b"content", NPZ)
    assert not list(empty_workspace.iterdir())


@pytest.fixture
def opened(empty_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder opened with --data-root, and files inside, outside and behind links."""
    root = tmp_path / "opened"
    for name in ("a.npz", "deep/b.npz", "deep/.hidden.npz", "c.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    (tmp_path / "secret.npz").write_bytes(b"x")
    os.symlink(tmp_path / "secret.npz", root / "link.npz")
    os.symlink(tmp_path, root / "way-out")
    uploaded = empty_workspace / "uploads" / "0" / "up.npz"
    uploaded.parent.mkdir(parents=True)
    uploaded.write_bytes(b"x")
    monkeypatch.setenv(settings.DATA_VARIABLE, str(root))
    return root


def test_only_what_is_inside_is_offered(opened: Path) -> None:
    names = [name.split(" · ")[0] for _, name in uploads.listed(NPZ)]
    assert names == ["a.npz", "deep/b.npz", "uploads: up.npz"]
    assert [path.name for path, _ in uploads.listed(("txt",))] == ["c.txt"]
    assert opened in uploads.roots()


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("a.npz", ""),
        ("c.txt", "kinds allowed here"),
        ("none.npz", "There is no file none.npz"),
        ("../secret.npz", "not in a folder that this server opens"),
        ("deep/../../secret.npz", "not in a folder"),
        ("link.npz", "not in a folder"),
        ("way-out/secret.npz", "not in a folder"),
        ("/etc/hostname.npz", "not in a folder"),
    ],
)
def test_a_path_must_stay_inside(opened: Path, path: str, problem: str) -> None:
    said = uploads.path_problem(opened / path, NPZ)
    assert problem in said
    assert bool(problem) == bool(said)
    assert "not in a folder" in uploads.path_problem(Path("a.npz"), NPZ)


@pytest.mark.usefixtures("empty_workspace")
def test_without_a_data_root_only_the_workspace_is_open(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"x")
    assert "not in a folder" in uploads.path_problem(tmp_path / "a.npz", NPZ)
    assert uploads.listed(NPZ) == []


def test_formulas_in_a_csv_are_neutral() -> None:
    frame = pd.DataFrame(
        {"=name": ["=1+1", "@x", "-cmd", "-1", "plain", "+2.5"], "score": [-1.5, 2, 3, 4, 5, 6]}
    )
    lines = page.csv(frame).decode().splitlines()
    assert lines == ["'=name,score", "'=1+1,-1.5", "'@x,2.0", "'-cmd,3.0", "-1,4.0", "plain,5.0",
                     "+2.5,6.0"]  # fmt: skip


# --- what the server is started with -------------------------------------------------------------


@pytest.fixture
def started(empty_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first options of a server that is not really served."""
    for name in (settings.DATA_VARIABLE, settings.MODELS_VARIABLE, plugins.VARIABLE):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(server, "_serve", lambda *_: None)
    monkeypatch.setattr(server, "_port_problem", lambda *_: "")
    return ["--workspace", str(empty_workspace)]


def test_a_server_opens_the_folder_it_was_given(started: list[str], tmp_path: Path) -> None:
    assert server.main([*started, "--data-root", str(tmp_path)]) == 0
    assert settings.data_root() == tmp_path.resolve()
    assert settings.plugin_models() == []
    assert server.main(started) == 0
    assert settings.data_root() is None


def test_a_server_says_what_it_cannot_take(
    started: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert server.main([*started, "--data-root", str(tmp_path / "none")]) == 1
    assert "There is no folder" in capsys.readouterr().err
    assert server.main([*started, "--plugin", "not a name"]) == 1
    assert "is no name of a Python module" in capsys.readouterr().err


def test_the_architectures_of_a_plugin_can_be_named_and_are_run_by_the_engine(
    started: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_nets.py").write_text("MODELS = {'small': print}\n")
    monkeypatch.chdir(tmp_path)
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", root)
    assert server.main([*started, "--plugin", "their_nets"]) == 0
    assert settings.plugin_models() == ["their_nets:small"]
    assert "their_nets:small" in own_forms.model_names()
    environment = jobs._environment()
    assert environment[plugins.VARIABLE] == "their_nets"  # engines that are started may too
    assert str(tmp_path) in environment["PYTHONPATH"].split(os.pathsep)

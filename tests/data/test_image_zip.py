"""Zips of class folders: what becomes of them, and what is refused before it is read."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gifcore.data import limits, load
from gifcore.data.foreign import Reading
from gifcore.data.own import as_npz
from gifcore.errors import GifError

Files = dict[str, bytes]


def unheard(done: int, total: int, note: str) -> None: ...


def picture(value: int = 0, size: tuple[int, int] = (5, 4), mode: str = "L") -> bytes:
    """A plain picture of one value, size (H, W)."""
    buffer = io.BytesIO()
    Image.new(mode, (size[1], size[0]), value if mode == "L" else (value,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def folders(count: int = 10, names: tuple[str, ...] = ("cat", "dog"), top: str = "") -> Files:
    return {
        f"{top}{name}/{i:02}.png": picture(10 * at + i)
        for at, name in enumerate(names)
        for i in range(count)
    }


def write(folder: Path, files: Files) -> Path:
    path = folder / "pets.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def npz(folder: Path, files: Files, **reading: object) -> Path:
    return as_npz(write(folder, files), folder / "runs", Reading(**reading), unheard)  # type: ignore[arg-type]


def test_class_folders_become_three_stratified_splits(tmp_path: Path) -> None:
    path = npz(tmp_path, folders() | {"cat/notes.txt": b"-", "__MACOSX/cat/._0.png": b"-"})
    data = load(str(path))
    assert data.classes == ("cat", "dog")
    assert data.shape == (1, 5, 4)
    sizes = [len(data.split(name)) for name in ("train", "validation", "test")]
    assert sizes == [14, 3, 3]
    assert np.bincount(data.train.y).tolist() == [7, 7]
    for name in ("train", "validation", "test"):
        split = data.split(name)
        assert ((split.x[:, 0, 0, 0] >= 10) == split.y).all()  # the picture's own class
    assert "1 files that are no pictures were left out, such as cat/notes.txt" in data.note
    assert "a stratified draw (seed 0)" in data.note


def test_the_draw_follows_its_seed_and_the_file_its_content(tmp_path: Path) -> None:
    first = npz(tmp_path, folders())
    assert npz(tmp_path, folders()) == first
    other = npz(tmp_path, folders(), seed=1)
    assert other != first
    assert not np.array_equal(load(str(first)).test.x, load(str(other)).test.x)
    before = first.stat().st_mtime_ns
    npz(tmp_path, folders())
    assert first.stat().st_mtime_ns == before


def test_folders_of_splits_are_the_files_own(tmp_path: Path) -> None:
    files = (
        folders(4, top="pets/train/") | folders(2, top="pets/val/") | folders(3, top="pets/test/")
    )
    data = load(str(npz(tmp_path, files)))
    assert [len(data.split(n)) for n in ("train", "validation", "test")] == [8, 4, 6]
    assert "the file's own" in data.note
    assert "outer folder pets" in data.note


def test_without_validation_the_test_pictures_are_halved(tmp_path: Path) -> None:
    data = load(str(npz(tmp_path, folders(4, top="train/") | folders(3, top="test/"))))
    assert [len(data.split(n)) for n in ("train", "validation", "test")] == [8, 3, 3]
    assert "has no validation part: a stratified half of its test samples" in data.note


def test_colour_size_and_normalisation(tmp_path: Path) -> None:
    files = folders() | {"cat/x.png": picture(51, (9, 9), "RGB")}
    data = load(str(npz(tmp_path, files, size=(6, 7), mean=(0.5,), std=(0.25, 0.5, 1.0))))
    assert data.shape == (3, 6, 7)
    assert data.train.x.dtype == np.float32
    red, blue = data.test.x[0, 0, 0, 0], data.test.x[0, 2, 0, 0]
    assert red == pytest.approx(4 * blue)
    grey = round(255 * (blue + 0.5))
    assert blue == pytest.approx(grey / 255 - 0.5, abs=1e-6)
    assert "normalised" in data.note
    assert load(str(npz(tmp_path, folders(), channels=3))).shape == (3, 5, 4)


def symlink(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")


def bomb(side: int) -> bytes:
    """A PNG that claims side x side pixels in a few bytes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    lines = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")
    )


REFUSED: dict[str, tuple[Files, str]] = {
    "zip slip": ({"../../evil/0.png": picture()}, "'../../evil/0.png' leads out of the zip"),
    "slip inside": ({"cat/../../0.png": picture()}, "leads out of the zip"),
    "absolute": ({"/etc/cat/0.png": picture()}, "'/etc/cat/0.png' leads out of the zip"),
    "drive": ({"C:/cat/0.png": picture()}, "leads out of the zip"),
    "backslash": ({"cat\\..\\0.png": picture()}, "leads out of the zip"),
    "pixels": ({"cat/big.png": bomb(5000)}, "'cat/big.png' has 5000 x 5000 pixels; at most"),
    "more pixels": ({"cat/big.png": bomb(60_000)}, "'cat/big.png'"),
    "no picture": ({"cat/a.png": b"GIF89a"}, "'cat/a.png' is not a picture of the kinds PNG, JPEG"),
    "cut off": ({"cat/a.png": picture(7)[:45]}, "'cat/a.png' is"),
    "another size": ({"dog/z.png": picture(0, (5, 5))}, "'dog/z.png' is 5 x 5 pixels"),
    "no folder": ({"a.png": picture()}, "'a.png' lies in no class folder"),
    "mixed": ({"train/cat/a.png": picture()}, "'cat' beside a folder train"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named(tmp_path: Path, case: str) -> None:
    more, sentence = REFUSED[case]
    with pytest.raises(GifError) as caught:
        npz(tmp_path, folders() | more)
    assert sentence in str(caught.value)
    assert "pets.zip" in str(caught.value)
    assert not list(tmp_path.glob("runs/**/*.npz"))


def test_pictures_of_other_kinds_are_never_decoded(tmp_path: Path) -> None:
    """A TIFF or EPS named .png reaches no other decoder."""
    buffer = io.BytesIO()
    Image.new("L", (4, 5)).save(buffer, "TIFF")
    with pytest.raises(GifError, match=r"'cat/t\.png' is not a picture of the kinds"):
        npz(tmp_path, folders() | {"cat/t.png": buffer.getvalue()})


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (symlink, "'cat/link.png' is a link"),
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "not a zip of pictures"),
        (lambda path: path.write_bytes(b"PK"), "not a zip of pictures"),
    ],
)
def test_zips_that_are_not_what_they_seem(
    tmp_path: Path, damage: Callable[[Path], object], sentence: str
) -> None:
    path = write(tmp_path, folders())
    damage(path)
    with pytest.raises(GifError, match=sentence):
        as_npz(path, tmp_path / "runs", Reading(), unheard)


@pytest.mark.parametrize(
    ("limit", "value", "sentence"),
    [
        ("MAX_BYTES", 500, "unpacks to"),
        ("MAX_FILE_BYTES", 50, "unpacks to"),
        ("MAX_FILES", 5, "has 20 files; at most 5"),
        ("MAX_CLASSES", 1, "2 class folders"),
    ],
)
def test_limits_are_checked_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, sentence: str
) -> None:
    path = write(tmp_path, folders())
    monkeypatch.setattr(limits, limit, value)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: pytest.fail("was opened"))
    with pytest.raises(GifError, match=sentence):
        as_npz(path, tmp_path / "runs", Reading(), unheard)


def test_a_size_that_takes_too_much_memory_is_refused_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_BYTES", 10**6)
    with pytest.raises(GifError, match=r"20 pictures of 1 x 400 x 400 take 0\.0 GB"):
        npz(tmp_path, folders(), size=(400, 400))


def test_class_names_lose_html_and_formulas(tmp_path: Path) -> None:
    files = folders(names=("<img src=x onerror=alert(1)>", "=HYPERLINK(1)"))
    classes = load(str(npz(tmp_path, files))).classes
    assert classes == ("‹img src=x onerror=alert(1)›", "'=HYPERLINK(1)")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"size": (0, 5)}, "The size is"),
        ({"channels": 2}, "choose 1 or 3"),
        ({"mean": (0.5,)}, "mean and std together"),
        ({"mean": (0.5,), "std": (0.0,)}, "every std above 0"),
        ({"validation": 0.6, "test": 0.5}, "both together below 1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_readings_that_cannot_be(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        Reading(**values)  # type: ignore[arg-type]

"""The NPZ reader: what it accepts, and the one sentence for everything it refuses."""

import io
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gifcore.data import fingerprint, load, npz, read_npz
from gifcore.errors import GifError

Arrays = dict[str, np.ndarray]


def arrays(**changes: np.ndarray | None) -> Arrays:
    """A good file of 12 + 7 images of 5 x 4, two classes; a change of None removes the key."""
    rng = np.random.default_rng(0)
    content: dict[str, np.ndarray | None] = {
        "x_train": rng.integers(0, 256, (12, 5, 4), dtype=np.uint8),
        "y_train": np.arange(12) % 2,
        "x_test": rng.integers(0, 256, (7, 5, 4), dtype=np.uint8),
        "y_test": np.arange(7) % 2,
        **changes,
    }
    return {key: value for key, value in content.items() if value is not None}


def write(folder: Path, content: Arrays) -> Path:
    path = folder / "mine.npz"
    np.savez_compressed(path, **content)
    return path


def test_accepts_the_plain_case_and_leaves_training_untouched(tmp_path: Path) -> None:
    content = arrays()
    data = read_npz(write(tmp_path, content))
    assert data.name == "mine"
    assert data.shape == (1, 5, 4)
    assert data.classes == ("0", "1")
    assert np.array_equal(data.train.x[:, 0], content["x_train"])
    assert np.array_equal(data.train.y, content["y_train"])
    assert (len(data.validation), len(data.test)) == (3, 4)
    assert "half of its test images" in data.note


def test_halves_of_the_test_images_are_disjoint_and_complete(tmp_path: Path) -> None:
    x = np.arange(20, dtype=np.float64).reshape(20, 1)
    content = arrays(x_train=np.zeros((12, 1)), x_test=x, y_test=np.arange(20) % 2)
    data = read_npz(write(tmp_path, content))
    values = np.concatenate([data.validation.x, data.test.x]).reshape(-1)
    assert sorted(values.tolist()) == list(range(20))
    assert np.bincount(data.test.y).tolist() == [5, 5]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((6,), (1, 1, 6)),
        ((5, 4), (1, 5, 4)),
        ((5, 4, 1), (1, 5, 4)),
        ((5, 4, 3), (3, 5, 4)),
        ((3, 5, 4), (3, 5, 4)),
        ((1, 5, 4), (1, 5, 4)),
        ((2, 5, 4), (2, 5, 4)),
    ],
)
def test_image_layouts(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    size = int(np.prod(shape))
    x = np.arange(12 * size, dtype=np.float32).reshape(12, *shape)
    data = read_npz(write(tmp_path, arrays(x_train=x, x_test=x[:7])))
    assert data.shape == expected
    if shape == (5, 4, 3):
        assert np.array_equal(data.train.x[2, 1], x[2, :, :, 1])


def test_bytes_are_divided_by_255_and_floats_are_kept(tmp_path: Path) -> None:
    content = arrays()
    data = read_npz(write(tmp_path, content))
    assert data.train.inputs().dtype == np.float32
    assert np.allclose(data.train.inputs()[:, 0], content["x_train"] / 255)
    floats = arrays(x_train=content["x_train"] * 2.5, x_test=content["x_test"] * 2.5)
    data = read_npz(write(tmp_path, floats))
    assert np.allclose(data.train.inputs()[:, 0], floats["x_train"])


def test_whole_numbers_are_bytes_only_if_every_split_fits(tmp_path: Path) -> None:
    content = arrays()
    wide = content["x_train"].astype(np.int64)
    assert read_npz(write(tmp_path, arrays(x_train=wide))).train.x.dtype == np.uint8
    wide[0, 0, 0] = 256
    data = read_npz(write(tmp_path, arrays(x_train=wide)))
    assert (data.train.x.dtype, data.test.x.dtype) == (np.float32, np.float32)


def test_own_validation_and_class_names(tmp_path: Path) -> None:
    content = arrays(classes=np.array(["cat", "dog"]))
    content |= {"x_validation": content["x_test"][:2], "y_validation": content["y_test"][:2]}
    data = read_npz(write(tmp_path, content))
    assert data.classes == ("cat", "dog")
    assert (len(data.validation), len(data.test)) == (2, 7)


def test_names_and_notes_cannot_be_html(tmp_path: Path) -> None:
    names = np.array(["<script>alert(1)</script>", "=2+5"])
    data = read_npz(write(tmp_path, arrays(classes=names, note=np.array("Made by <b>me</b>."))))
    assert data.classes == ("‹script›alert(1)‹/script›", "'=2+5")
    assert data.note.startswith("Made by ‹b›me‹/b›. The file has no validation split")


def test_hash_is_the_files_and_changes_with_it(tmp_path: Path) -> None:
    path = write(tmp_path, arrays())
    before = load(str(path)).hash
    assert fingerprint(str(path)) == before
    write(tmp_path, arrays(y_test=np.zeros(7, dtype=np.int64)))
    assert fingerprint(str(path)) == load(str(path)).hash != before


REFUSED: list[tuple[str, dict[str, np.ndarray | None], str]] = [
    ("missing key", {"y_test": None}, "has no array y_test: expected x_train, y_train, x_test"),
    ("half a validation", {"x_validation": np.zeros((2, 5, 4))}, "has no array y_validation"),
    ("lengths", {"y_train": np.arange(11) % 2}, "x_train has 12 samples but y_train has 11 labels"),
    ("NaN", {"x_test": np.full((7, 5, 4), np.nan)}, "x_test has a value that is not a finite"),
    ("overflow", {"x_test": np.full((7, 5, 4), 1e300)}, "x_test has a value that is not a finite"),
    ("float labels", {"y_train": np.arange(12) / 2}, "y_train must be whole numbers"),
    ("text labels", {"y_train": np.array(["a", "b"] * 6)}, "y_train must be whole numbers"),
    ("negative", {"y_train": np.arange(12) % 2 - 1}, "y_train has the negative label -1"),
    ("one hot", {"y_train": np.eye(12, dtype=int)}, "y_train must be one label a sample"),
    ("one class", {"y_train": np.ones(12, dtype=int)}, "the training split has only class 1"),
    ("unseen", {"y_test": np.full(7, 5)}, "y_test has label 5, which never occurs in y_train"),
    ("empty", {"x_train": np.zeros((0, 5, 4)), "y_train": np.zeros(0, int)}, "x_train is empty"),
    ("no pixels", {"x_train": np.zeros((12, 0, 4))}, "x_train is empty"),
    ("rank", {"x_train": np.zeros((12, 1, 1, 5, 4))}, "x_train has shape (12, 1, 1, 5, 4)"),
    ("shapes", {"x_test": np.zeros((7, 5, 5))}, "x_test has images of shape (1, 5, 5) (C, H, W)"),
    ("text pixels", {"x_train": np.full((12, 5, 4), "a")}, "x_train must hold numbers"),
    ("objects", {"x_train": np.full((12, 5, 4), None)}, "x_train holds Python objects"),
    ("note", {"note": np.array([1, 2])}, "note must be one text, found shape (2,)"),
    ("few names", {"classes": np.array(["cat"])}, "classes must be a list of at least 2 names"),
    ("big label", {"y_train": np.array([0, 1, 10**7] * 4)}, "label 10000000 would mean 10000001"),
    ("one test image", {"x_test": np.zeros((1, 5, 4)), "y_test": np.zeros(1, int)}, "only 1 test"),
]


@pytest.mark.parametrize(
    ("changes", "sentence"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refusals(tmp_path: Path, changes: dict[str, np.ndarray | None], sentence: str) -> None:
    path = write(tmp_path, arrays(**changes))
    with pytest.raises(GifError) as caught:
        read_npz(path)
    assert sentence in str(caught.value)
    assert_one_sentence(str(caught.value))


def assert_one_sentence(text: str) -> None:
    assert "\n" not in text
    assert text.endswith(".")
    assert "mine.npz" in text


def test_nan_is_located(tmp_path: Path) -> None:
    x = np.zeros((12, 5, 4))
    x[7, 4, 3] = np.nan
    with pytest.raises(GifError, match="in sample 7"):
        read_npz(write(tmp_path, arrays(x_train=x)))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 but damaged"])
def test_not_a_zip(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    with pytest.raises(GifError, match="is not an NPZ file that can be read") as caught:
        read_npz(path)
    assert_one_sentence(str(caught.value))


def test_cut_off_and_flipped_files(tmp_path: Path) -> None:
    path = write(tmp_path, arrays())
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(GifError, match="is not an NPZ file that can be read"):
        read_npz(path)
    middle = good.index(b"x_train.npy") + 150
    path.write_bytes(good[:middle] + bytes(20) + good[middle + 20 :])
    with pytest.raises(GifError, match="is not an NPZ file that can be read"):
        read_npz(path)


def test_too_big_is_refused_from_the_header_alone(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 28, 28)}
    )
    path = write(tmp_path, {key: a for key, a in arrays().items() if key != "x_train"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", header.getvalue())
    with pytest.raises(GifError, match=r"would take 3136\.0 GB in memory; the limit is 2 GB"):
        read_npz(path)


class Attack:
    """Unpickling this would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["x_train.npy", "x_train"])
def test_an_object_behind_a_clean_array_is_never_unpickled(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy prefers an entry without .npy, which is not the one whose header was looked at."""
    objects = np.empty(12, dtype=object)
    objects[:] = Attack(tmp_path / "made")
    hidden = io.BytesIO()
    np.save(hidden, objects, allow_pickle=True)
    path = write(tmp_path, {k: a for k, a in arrays().items() if k + ".npy" != name})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, hidden.getvalue())
    with pytest.raises(GifError, match=r"mine\.npz"):
        read_npz(path)
    assert not (tmp_path / "made").exists()
    monkeypatch.setattr(npz, "_keys", lambda *_: ["x_train", "y_train", "x_test", "y_test"])
    with pytest.raises(GifError, match=r"mine\.npz"):
        read_npz(path)
    assert not (tmp_path / "made").exists()


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, arrays())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train", b"anything")
    with pytest.raises(GifError, match="has two arrays called x_train"):
        read_npz(path)


def test_no_file() -> None:
    with pytest.raises(GifError, match=r"There is no file nowhere\.npz\."):
        load("nowhere.npz")
    with pytest.raises(GifError, match=r"There is no file nowhere\.npz\."):
        read_npz("nowhere.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_damage_is_refused_or_harmless(tmp_path: Path, save: Callable[..., None]) -> None:
    path, choice = tmp_path / "mine.npz", random.Random(0)
    save(path, **arrays())
    good = path.read_bytes()
    refused = 0
    for _ in range(300):
        damaged = bytearray(good)
        for _ in range(choice.choice([1, 2, 5])):
            damaged[choice.randrange(len(damaged))] = choice.randrange(256)
        path.write_bytes(damaged)
        try:
            read_npz(path)
        except GifError as error:
            refused += 1
            assert_one_sentence(str(error))
    assert refused > 100

"""MNIST, SVHN and CIFAR-10 from small files of the published formats, whole and damaged."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from gifcore.data import fingerprint, load, published
from gifcore.data.idx import FILES
from gifcore.errors import GifError

GENERATOR = np.random.default_rng(0)
TRAIN, TEST = 40, 20


def idx_bytes(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def labels(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.uint8) % 10


def mnist(folder: Path) -> np.ndarray:
    parts = [GENERATOR.integers(0, 256, (n, 28, 28), dtype=np.uint8) for n in (TRAIN, TEST)]
    contents = [parts[0], labels(TRAIN), parts[1], labels(TEST)]
    for name, values in zip(FILES, contents, strict=True):
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(values)))
    return parts[0][:, None]


def svhn(folder: Path) -> np.ndarray:
    first = None
    for split, n in (("train", TRAIN), ("test", TEST)):
        x = GENERATOR.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
        y = labels(n).copy()
        y[y == 0] = 10  # as published
        savemat(folder / f"{split}_32x32.mat", {"X": x.transpose(2, 3, 1, 0), "y": y[:, None]})
        first = x if first is None else first
    assert first is not None
    return first


def cifar(folder: Path) -> np.ndarray:
    x = GENERATOR.integers(0, 256, (TRAIN, 3, 32, 32), dtype=np.uint8)
    rows = np.concatenate([labels(TRAIN)[:, None], x.reshape(TRAIN, -1)], axis=1)
    for number in range(5):
        rows[8 * number : 8 * number + 8].tofile(folder / f"data_batch_{number + 1}.bin")
    rows[:TEST].tofile(folder / "test_batch.bin")
    return x


WRITERS = {"mnist": mnist, "svhn": svhn, "cifar-10": cifar}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIF_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("below", [False, True])
def test_images_labels_and_splits_are_those_of_the_files(
    name: str, below: bool, root: Path
) -> None:
    row = next(one for one in published.SETS if one.name == name)
    folder = root / row.folders[0] if below else root
    folder.mkdir(exist_ok=True)
    x = WRITERS[name](folder)
    data = load(name)
    np.testing.assert_array_equal(data.train.x, x)
    np.testing.assert_array_equal(data.train.y, labels(TRAIN))
    assert (len(data.validation), len(data.test)) == (TEST // 2, TEST // 2)
    assert sorted([*data.validation.y, *data.test.y]) == sorted(labels(TEST))
    assert data.hash == fingerprint(name)
    assert len(data.classes) == 10


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_nowhere_is_one_sentence_with_what_to_do(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision

    def offline(*_: object, **__: object) -> None:
        raise RuntimeError("no network")

    for dataset in ("MNIST", "SVHN"):
        monkeypatch.setattr(torchvision.datasets, dataset, offline)
    with pytest.raises(GifError, match=rf"is not on this machine.*: put .* into {root}"):
        load(name)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        ("mnist", f"{FILES[1]}.gz", "is damaged"),
        ("svhn", "train_32x32.mat", "is not a file of SVHN"),
        ("cifar-10", "data_batch_3.bin", "which is no multiple of 3,073"),
    ],
)
def test_a_damaged_file_is_named(name: str, file: str, words: str, root: Path) -> None:
    WRITERS[name](root)
    cut(root / file)
    with pytest.raises(GifError, match=words) as told:
        load(name)
    assert file in str(told.value)


def test_labels_of_another_set_are_refused(root: Path) -> None:
    cifar(root)
    batch = root / "data_batch_1.bin"
    raw = np.fromfile(batch, dtype=np.uint8)
    raw[0] = 77
    raw.tofile(batch)
    with pytest.raises(GifError, match="labels that are not those of CIFAR-10"):
        load("cifar-10")


def test_images_and_labels_of_two_sets_are_refused(root: Path) -> None:
    mnist(root)
    (root / f"{FILES[1]}.gz").write_bytes(gzip.compress(idx_bytes(labels(TRAIN + 1))))
    with pytest.raises(GifError, match="do not fit together"):
        load("mnist")

"""The registry, the bundled set, the digits and the full Fashion-MNIST in its folders."""

import gzip
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torchvision

from gifcore.assets_path import asset
from gifcore.data import DATASETS, Data, Split, fashion, fingerprint, load
from gifcore.data.splits import halves, stratified
from gifcore.errors import GifError


def test_names_are_unique_keys_with_a_line_for_people() -> None:
    names = ["fashion-mnist-mini", "fashion-mnist", "digits", "mnist", "svhn", "cifar-10"]
    assert list(DATASETS) == names
    assert all(row.name == name and row.title and row.text for name, row in DATASETS.items())


@pytest.mark.parametrize("call", [load, fingerprint])
def test_unknown_name_lists_the_known(call: type) -> None:
    with pytest.raises(GifError, match="no data set 'emnist': expected fashion-mnist-mini, fash"):
        call("emnist")
    with pytest.raises(GifError, match="no data set 'aaaa"):
        call("a" * 5000)


@pytest.mark.parametrize(
    ("name", "shape", "sizes"),
    [
        ("fashion-mnist-mini", (1, 28, 28), (8000, 2000, 2000)),
        ("digits", (1, 8, 8), (1000, 397, 400)),
    ],
)
def test_bundled_sets(name: str, shape: tuple[int, int, int], sizes: tuple[int, ...]) -> None:
    data = load(name)
    splits = (data.train, data.validation, data.test)
    assert data.shape == shape
    assert tuple(map(len, splits)) == sizes
    assert data.n_classes == 10
    assert (data.name, data.source) == (name, name)
    assert fingerprint(name) == data.hash
    for split in splits:
        shares = np.bincount(split.y, minlength=10) / len(split)
        assert np.abs(shares - 0.1).max() < 0.01
        assert (split.inputs().min(), split.inputs().max()) == (0, 1)
    images = np.concatenate([split.x for split in splits]).reshape(sum(sizes), -1)
    assert len(np.unique(images, axis=0)) > 0.995 * len(images)  # no image in two splits


def test_mini_is_small_and_its_licence_is_beside_it() -> None:
    assert asset("data", "fashion-mnist-mini.npz").stat().st_size <= 6_000_000
    assert "MIT License" in asset("data", "README.md").read_text(encoding="utf-8")
    assert load("fashion-mnist-mini").classes == fashion.CLASSES


def test_data_do_not_import_torch() -> None:
    code = (
        "import sys; from gifcore.data import load; from gifcore.models import MODELS, bundled;"
        "load('fashion-mnist-mini'); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})


def test_stratified_is_disjoint_exact_and_seeded() -> None:
    labels = np.random.default_rng(0).integers(0, 3, 101)
    parts = stratified(labels, [50, 20, 31], seed=3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(101))
    for part in parts:
        share = np.bincount(labels[part], minlength=3)
        assert np.abs(share - len(part) * np.bincount(labels) / 101).max() < 2
    again = stratified(labels, [50, 20, 31], seed=3)
    other = stratified(labels, [50, 20, 31], seed=4)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    assert not np.array_equal(parts[0], other[0])


def write_idx(folder: Path, *, packed: bool) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for prefix, n in (("train", 30), ("t10k", 20)):
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            raw = head + array.tobytes()
            path = folder / f"{prefix}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(raw) if packed else raw)


@pytest.mark.parametrize("below", [".", "fashion-mnist", "FashionMNIST/raw"])
def test_full_set_from_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    write_idx(tmp_path / "data" / below, packed=True)
    monkeypatch.setenv("GIF_DATA", str(tmp_path / "data"))
    data = load("fashion-mnist")
    assert tuple(map(len, (data.train, data.validation, data.test))) == (30, 10, 10)
    assert np.bincount(data.test.y).tolist() == [1] * 10
    assert fingerprint("fashion-mnist") == data.hash
    assert "stratified half" in data.note


def test_full_set_has_one_hash_packed_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = set()
    for packed in (True, False):
        write_idx(tmp_path / str(packed), packed=packed)
        monkeypatch.setenv("GIF_DATA", str(tmp_path / str(packed)))
        hashes.add(load("fashion-mnist").hash)
    assert len(hashes) == 1


def test_full_set_from_debian_has_its_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    if not fashion.DEBIAN.is_dir():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    monkeypatch.setenv("GIF_DATA", "nowhere")
    data = load("fashion-mnist")
    assert tuple(map(len, (data.train, data.validation, data.test))) == (60_000, 5_000, 5_000)
    mini = load("fashion-mnist-mini")
    full = {image.tobytes() for image in data.train.x}
    assert all(image.tobytes() in full for image in mini.train.x)


def test_full_set_nowhere_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setenv("GIF_DATA", str(tmp_path))
    monkeypatch.setattr(fashion, "DEBIAN", tmp_path / "not-installed")
    monkeypatch.setattr("torchvision.datasets.FashionMNIST", refuse)
    for call in (load, fingerprint):
        with pytest.raises(GifError, match="the download failed: install Debian's dataset-fashion"):
            call("fashion-mnist")


@pytest.mark.parametrize("first", [load, fingerprint])
def test_full_set_is_downloaded_when_it_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: Callable[[str], object]
) -> None:
    """torchvision's own download, from a server on this machine with small files."""
    write_idx(tmp_path / "served", packed=True)
    served = sorted((tmp_path / "served").glob("*.gz"))
    monkeypatch.setenv("GIF_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(fashion, "DEBIAN", tmp_path / "not-installed")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        original = torchvision.datasets.FashionMNIST
        monkeypatch.setattr(original, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        digests = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in served]  # noqa: S324
        monkeypatch.setattr(original, "resources", digests)
        first("fashion-mnist")
        server.shutdown()
    data = load("fashion-mnist")
    assert tuple(map(len, (data.train, data.validation, data.test))) == (30, 10, 10)
    assert fingerprint("fashion-mnist") == data.hash


def test_damaged_idx_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "data", packed=False)
    monkeypatch.setenv("GIF_DATA", str(tmp_path / "data"))
    file = tmp_path / "data" / "t10k-images-idx3-ubyte"
    good = file.read_bytes()
    file.write_bytes(good[:-5])
    with pytest.raises(GifError, match="t10k-images-idx3-ubyte is damaged"):
        load("fashion-mnist")
    file.unlink()
    packed = gzip.compress(good)
    broken = packed[:100] + bytes(40) + packed[140:]
    file.with_name(file.name + ".gz").write_bytes(broken)
    with pytest.raises(GifError, match=r"t10k-images-idx3-ubyte\.gz is damaged"):
        load("fashion-mnist")
    with pytest.raises(GifError, match=r"t10k-images-idx3-ubyte\.gz cannot be read"):
        fingerprint("fashion-mnist")


def data_of(x: np.ndarray) -> Data:
    split = Split(x, np.arange(len(x)) % 2)
    return Data("d", split, split, split, ("a", "b"), "0", "d", "")


def test_images_for_display() -> None:
    grey = np.arange(2 * 6, dtype=np.uint8).reshape(2, 1, 2, 3)
    assert np.array_equal(data_of(grey).images("train", [1]), grey[1:, 0])
    colour = np.arange(2 * 18, dtype=np.uint8).reshape(2, 3, 2, 3)
    shown = data_of(colour).images("test", np.array([0, 1]))
    assert shown.shape == (2, 2, 3, 3)
    assert np.array_equal(shown[1, :, :, 2], colour[1, 2])
    floats = np.array([-2.0, 0.0, 2.0], dtype=np.float32).reshape(3, 1, 1, 1)
    assert data_of(floats).images("train", [0, 1, 2]).reshape(-1).tolist() == [0, 128, 255]
    unit = np.array([0.0, 0.2], dtype=np.float32).reshape(2, 1, 1, 1)
    assert data_of(unit).images("train", [1]).reshape(-1).tolist() == [51]
    assert data_of(np.repeat(grey, 2, axis=1)).images("train", [0]).shape == (1, 2, 3)
    assert data_of(grey).images("train", []).shape == (0, 2, 3)


def test_images_outside_and_unknown_split() -> None:
    data = data_of(np.zeros((2, 1, 2, 3), dtype=np.uint8))
    with pytest.raises(GifError, match="Image 2 does not exist: the test split of d has 2 images"):
        data.images("test", [0, 2])
    with pytest.raises(GifError, match="There is no split 'all'; the splits are train, valid"):
        data.images("all", [0])


def test_halves_are_stratified() -> None:
    y = np.array([0] * 10 + [1] * 10)
    one, two = halves(Split(np.arange(20).reshape(20, 1, 1, 1), y), seed=0)
    assert np.bincount(one.y).tolist() == np.bincount(two.y).tolist() == [5, 5]

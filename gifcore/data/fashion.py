"""Fashion-MNIST: the bundled small part, and the full set from disk, Debian or a download."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from gifcore.assets_path import asset
from gifcore.data.dataset import Data, Split
from gifcore.data.hashing import sha256_of
from gifcore.data.idx import FILES, plain_or_gzip, read
from gifcore.data.npz import read_npz
from gifcore.data.places import data_folder
from gifcore.data.splits import halves
from gifcore.errors import GifError

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where dataset-fashion-mnist installs
HALF_SEED = 0


def load_mini() -> Data:
    """The bundled 8,000 / 2,000 / 2,000 images."""
    data = read_npz(_mini_file())
    note = "Train and validation are drawn from Fashion-MNIST's 60,000, test from its 10,000."
    return replace(data, name="fashion-mnist-mini", source="fashion-mnist-mini", note=note)


def fingerprint_mini() -> str:
    """The hash of the bundled file."""
    return sha256_of([_mini_file()])


def load_full() -> Data:
    """All 60,000 training images; the 10,000 test images halved into validation and test.

    Raises:
        GifError: if the files are nowhere and cannot be downloaded, or are damaged.
    """
    files = find_files() or _download()
    train, test = read_original(files)
    validation, test = halves(test, seed=HALF_SEED)
    return Data(
        name="fashion-mnist",
        train=train,
        validation=validation,
        test=test,
        classes=CLASSES,
        hash=sha256_of(files),
        source="fashion-mnist",
        note=(
            "All 60,000 training images; validation is a stratified half of the 10,000 test"
            f" images (5,000, seed {HALF_SEED}), the other half is the test."
        ),
    )


def fingerprint_full() -> str:
    """The hash of the files, which are downloaded if they are nowhere.

    Raises:
        GifError: if they are nowhere and cannot be downloaded.
    """
    return sha256_of(find_files() or _download())


def find_files() -> tuple[Path, ...] | None:
    """The four IDX files (plain or gzip) of the first folder that has them all, else None.

    Looked for in the data folder ($GIF_DATA, else ./data), its subfolders fashion-mnist and
    FashionMNIST/raw, then where Debian's package puts them.
    """
    root = data_folder()
    for folder in (root, root / "fashion-mnist", root / "FashionMNIST" / "raw", DEBIAN):
        found = [plain_or_gzip(folder / name) for name in FILES]
        if all(found):
            return tuple(path for path in found if path)
    return None


def read_original(files: tuple[Path, ...]) -> tuple[Split, Split]:
    """The original 60,000 and 10,000 from the four IDX files, in the order of FILES."""
    x_train, y_train, x_test, y_test = (read(path) for path in files)
    return _split(x_train, y_train, files[0]), _split(x_test, y_test, files[2])


def _split(x: np.ndarray, y: np.ndarray, path: Path) -> Split:
    if x.ndim != 3 or y.shape != x.shape[:1] or (y.size and y.max() >= len(CLASSES)):
        raise GifError(
            f"{path} and its labels do not fit together (shapes {x.shape} and {y.shape});"
            " delete them and get them again."
        )
    return Split(x[:, None], y.astype(np.int64))


def _mini_file() -> Path:
    return asset("data", "fashion-mnist-mini.npz")


def _download() -> tuple[Path, ...]:
    root = data_folder()
    try:
        from torchvision.datasets import FashionMNIST

        FashionMNIST(str(root), train=True, download=True)
    except (OSError, RuntimeError, ImportError) as error:
        raise GifError(
            "The full Fashion-MNIST is not on this machine and the download failed: install"
            f" Debian's dataset-fashion-mnist or put its four IDX files into {root}."
        ) from error
    files = find_files()
    if files is None:
        raise GifError(f"The download of Fashion-MNIST left no files in {root}; try again.")
    return files

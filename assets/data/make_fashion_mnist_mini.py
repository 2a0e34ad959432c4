"""Make fashion-mnist-mini.npz from the full Fashion-MNIST: stratified, fixed seed, repeatable.

Run from the top of the checkout: python assets/data/make_fashion_mnist_mini.py
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gifcore.data import fashion  # noqa: E402 - the checkout must be on the path first
from gifcore.data.splits import stratified  # noqa: E402

SEED = 2026
TRAIN, VALIDATION, TEST = 8_000, 2_000, 2_000
LIMIT = 6_000_000  # bytes
TARGET = Path(__file__).with_name("fashion-mnist-mini.npz")


def main() -> None:
    """Draw the three splits and write them beside this script."""
    files = fashion.find_files()
    if files is None:
        sys.exit("Fashion-MNIST is not here: install dataset-fashion-mnist or set GIF_DATA.")
    full, test = fashion.read_original(files)
    train_at, validation_at = stratified(full.y, [TRAIN, VALIDATION], seed=SEED)
    (test_at,) = stratified(test.y, [TEST], seed=SEED)
    np.savez_compressed(
        TARGET,
        x_train=full.x[train_at, 0],
        y_train=full.y[train_at].astype(np.uint8),
        x_validation=full.x[validation_at, 0],
        y_validation=full.y[validation_at].astype(np.uint8),
        x_test=test.x[test_at, 0],
        y_test=test.y[test_at].astype(np.uint8),
        classes=np.array(fashion.CLASSES),
    )
    size = TARGET.stat().st_size
    if size > LIMIT:
        sys.exit(f"{TARGET.name} has {size} bytes; the limit is {LIMIT}.")
    sys.stdout.write(f"{TARGET.name}: {size} bytes\n")


if __name__ == "__main__":
    main()

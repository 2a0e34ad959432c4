"""How well wrong labels are found: one in ten training labels wrong, models trained as bundled.

    python -m benchmarks.mislabel [--rows fcn-digits …] [--seeds N] [--folds K] [--selector S]

Each seed draws other wrong labels and trains another model. Printed is the mean over the seeds and
the least: area under the curve, and the share of wrong labels in the first 10 and 20 % inspected.
The aim is 0.95 and 80 % in the first 20 %, with the best score. TracIn is left out where a seed
kept no checkpoint before its best epoch. All methods but IF see the selected 5 % of the parameters
alone: where those belong to few classes, as whole units of a logistic regression do, they miss the
wrong labels of the others; --selector random takes single weights of all.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from gifcore import runner
from gifcore.data import load
from gifcore.data.noise import Noise
from gifcore.mislabel_words import name_of
from gifcore.record import Record
from gifcore.study import SELECTORS, parse
from gifcore.training import Settings, train_with

RATE = 0.1
CHEAP = ["gradient", "datainf", "ekfac"]
GGN = {"kind": "ggn", "samples": 256, "damping": 0.01}
# settings as in assets/models/make_models.py, with checkpoints for TracIn
ROWS: dict[str, dict[str, Any]] = {
    "logistic-digits": {
        "settings": Settings(epochs=300, lr=0.2, weight_decay=1e-3, patience=300, checkpoints=6),
        "methods": ["if", "gif", *CHEAP],
        "curvature": {"samples": "all", "damping": 0.0},
        "solver": {"kind": "dense"},
    },
    "fcn-digits": {
        "settings": Settings(epochs=100, lr=0.1, weight_decay=1e-3, patience=100, checkpoints=6),
        "methods": ["if", "gif", *CHEAP],
        "curvature": GGN,
    },
    "tinynet-fashion-mnist-mini": {
        "settings": Settings(batch_size=64, weight_decay=5e-3, patience=10, checkpoints=6),
        "methods": CHEAP,
        "curvature": GGN,
    },
}


def one(row: str, seed: int, given: Namespace, folder: Path) -> Record:
    """Train with wrong labels of a seed and look for them."""
    model, _, source = row.partition("-")
    asked, noise = ROWS[row], Noise(RATE, seed)
    values = vars(asked["settings"]) | {"seed": seed}
    weights = folder / f"{row}-{seed}.safetensors"
    train_with(load(source), model, Settings(**values), noise=noise, out=weights)
    study = parse(
        {
            "title": f"{row} {seed}",
            "seed": seed,
            "methods": asked["methods"],
            "data": {"source": source},
            "model": {"name": model, "weights": str(weights)},
            "selection": {"selector": given.selector, "ratio": 0.05},
            "curvature": asked["curvature"],
            "solver": asked.get("solver", {}),
            "ranking": {"count": 0},
            "edit": {"enabled": False},
            "mislabel": {"rate": RATE, "seed": seed, "folds": given.folds},
        }
    )
    return runner.run(runner.prepare(study), folder / f"{row}-{seed}", workspace=folder)


def table(row: str, found: list[dict[str, Any]]) -> Table:
    """Return the scores of one row of ROWS, best first: mean over the seeds (least)."""
    printed = Table("score", "AUC", "found in 10 %", "found in 20 %",
                    title=f"{row}, {len(found)} seeds: mean (least)")  # fmt: skip
    methods = [info["methods"] for info in found]
    everywhere = [name for name in methods[0] if all(name in one for one in methods)]
    scores = {name: [one[name] for one in methods] for name in everywhere}
    ranked = sorted(scores, key=lambda n: -np.mean([e["auc"]["value"] for e in scores[n]]))
    for name in ranked:
        entries = scores[name]
        columns = (
            [entry["auc"]["value"] for entry in entries],
            [entry["curve"][10] for entry in entries],
            [entry["found_20"] for entry in entries],
        )
        shown = [f"{np.mean(c):.3f} ({min(c):.3f})" for c in columns]
        printed.add_row(name_of(entries[0]), *shown)
    return printed


def asked() -> Namespace:
    """Return what the command line says."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--selector", choices=list(SELECTORS), default="highest-k-magnitude")
    return parser.parse_args()


def main() -> None:
    """Print a table for each model."""
    given = asked()
    for row in given.rows:
        found = []
        with TemporaryDirectory() as folder:
            for seed in range(given.seeds):
                found.append(one(row, seed, given, Path(folder)).mislabel)
                sys.stderr.write(f"{row}, seed {seed}: done\n")
        Console(width=100).print(table(row, found))


if __name__ == "__main__":
    main()

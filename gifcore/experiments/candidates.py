"""FastIF's recall: what the k nearest training images keep of the exact ranking, over seeds.

Every run is a study with the section [fastif], made by the runner of studies; its record is kept in
the workspace.

Reference: Guo et al. 2021 (arXiv 2012.15781), section 4.2; its settings from the code.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from pydantic import Field, field_validator
from pydantic import model_validator as validated
from safetensors.torch import save
from torch.utils.data import TensorDataset

from gifcore import data as datasets
from gifcore import runner
from gifcore import study as studies
from gifcore.change_section import Section
from gifcore.changing import as_tensors
from gifcore.data.dataset import Data
from gifcore.evaluate import predict
from gifcore.experiments.kind import Column, Kind, Numbers, Place, Run
from gifcore.experiments.removal import TrainingKeys
from gifcore.experiments.spec import Experiment
from gifcore.models import build
from gifcore.neighbors import CRITERIA
from gifcore.problem import Problem
from gifcore.record import Record, write_atomically
from gifcore.retraining import Job, expected_seconds, retrain_all
from gifcore.study import Study

FOLDER = ".experiments"  # of a workspace: weights and records of these studies
METHOD = "if"
PREDICTIONS = ("correct", "wrong")
DEPTHS = (10, 100, 1000)  # m of recall@m, as far as there are so many images
BESIDE = 10  # m at which LiSSA's and the gradient's recall are shown beside
PRODUCT = 6.0  # forward passes in a Hessian product
STEP = 2e-3  # seconds of a step of LiSSA, whatever its batch


class OursKeys(Section):
    """Our protocol: the truth is a converged solve of a positive definite system."""

    kind: Literal["ggn", "fisher"] = "ggn"
    samples: int = Field(128, ge=1)
    damping: float = Field(0.5, gt=0)
    iterations: int = Field(60, ge=1)  # of the exact solves, at most
    tolerance: float = Field(1e-4, ge=0)
    lissa_iterations: int = Field(200, ge=1)  # J of LiSSA beside it, with the same damping
    lissa_batch_size: int = Field(16, ge=1)  # B
    lissa_chains: int = Field(1, ge=1)  # T
    lissa_scale: float = Field(40.0, gt=0)

    @validated(mode="after")
    def _scaled(self) -> OursKeys:
        if not self.damping < self.lissa_scale:
            raise ValueError("lissa_scale must be above damping: damp = damping / scale is below 1")
        return self

    def lissa(self) -> dict[str, Any]:
        """Return LiSSA's settings; damp * scale is the damping of the exact solves."""
        return {
            "iterations": self.lissa_iterations,
            "batch_size": self.lissa_batch_size,
            "chains": self.lissa_chains,
            "damp": self.damping / self.lissa_scale,
            "scale": self.lissa_scale,
        }


class PaperKeys(Section):
    """FastIF's own: the truth is LiSSA too, with larger batches; the damping is damp * scale."""

    iterations: int = Field(1000, ge=1)  # J of both
    truth_batch_size: int = Field(128, ge=1)  # B of what is called the truth
    batch_size: int = Field(1, ge=1)  # B of FastIF
    chains: int = Field(1, ge=1)  # T of FastIF; published: as many as there are devices
    damp: float = Field(5e-3, ge=0, lt=1)
    scale: float = Field(1e4, gt=0)


class Candidates(Experiment):
    """The keys of the recall experiment."""

    label: int = Field(8, ge=0)  # of the change, which no ranking depends on
    queries: int = Field(100, ge=2, le=1000)  # half of them wrongly predicted
    k: tuple[int, ...] = (10, 100, 1000, 10_000)
    train: TrainingKeys = TrainingKeys()
    ours: OursKeys = OursKeys()
    paper: PaperKeys = PaperKeys()

    @field_validator("k")
    @classmethod
    def _each_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) != len(value) or min(value) < 1:
            raise ValueError("name one or more numbers of candidates, each once")
        return tuple(sorted(value))


def runs(spec: Candidates, place: Place) -> Iterator[Run]:
    """Yield the runs: all rows of a seed and protocol are read from one record."""
    bench = Bench(spec, place)
    for protocol in spec.protocols:
        for seed in range(spec.seeds):
            seconds = bench.expected(protocol, seed)
            for criterion in CRITERIA:
                for predictions in PREDICTIONS:
                    for k in spec.k:
                        row = label(criterion, predictions, k)
                        given = (bench, protocol, seed, criterion, predictions, k)
                        yield Run(protocol, seed, row, seconds, partial(_measured, *given))
                        seconds = 0.0


def label(criterion: str, predictions: str, k: int) -> dict[str, str]:
    """Return the words of a row."""
    return {"criterion": criterion, "predictions": predictions, "k": f"{k:,}"}


def _measured(
    bench: Bench, protocol: str, seed: int, criterion: str, predictions: str, k: int
) -> Numbers:
    """Return recall@m of one row; None where there are fewer than m images."""
    recall, info = bench.recall(protocol, seed)
    mine = recall[
        (recall.criterion == criterion) & (recall.predictions == predictions) & (recall.k == k)
    ]
    exact = mine[mine.way == "exact"].set_index("m")
    lissa = mine[mine.way.str.startswith("lissa")].set_index("m")
    numbers: dict[str, float | None] = {
        f"kept_{m}": float(exact.kept[m]) if m in exact.index else None for m in DEPTHS
    }
    there = BESIDE in lissa.index
    return numbers | {
        "found": float(lissa.found[BESIDE]) if there else None,
        "gradient": float(lissa.control[BESIDE]) if there else None,
        "trusted": info["trusted"],
        "queries": float(exact.queries.iloc[0]) if len(exact) else None,
    }


class Bench:
    """A seed's model, its study and the recall in the record; records of all seeds are kept."""

    def __init__(self, spec: Candidates, place: Place) -> None:
        self.spec, self.place = spec, place
        self._recall: dict[tuple[str, int], tuple[pd.DataFrame, dict[str, float]]] = {}

    @property
    def folder(self) -> Path:
        return self.place.cache.parent / FOLDER

    @cached_property
    def data(self) -> Data:
        return datasets.load(self.spec.data)

    @cached_property
    def blank(self) -> Problem:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = build(self.spec.model, self.data.shape, self.data.n_classes)
        train = as_tensors(self.data.train)
        return Problem(model, train, weight_decay=self.spec.train.weight_decay)

    def weights(self, seed: int) -> Path:
        """Return the checkpoint of a seed's model, trained if it is not there."""
        found = retrain_all(
            self.blank,
            [Job(None, seed)],
            self.spec.train.recipe(),
            cache=self.place.cache,
            progress=lambda done, total, _: self.place.listen(
                f"training, {100 * done / max(total, 1):.0f} %"
            ),
        )[0]
        path = self.folder / f"{found.key}.safetensors"
        if not path.is_file():
            state = found.problem(self.blank).model.state_dict()
            tensors = {name: tensor.detach().contiguous() for name, tensor in state.items()}
            write_atomically(path, save(tensors))
        return path

    def study(self, protocol: str, seed: int, weights: Path) -> Study:
        """Return the study of a run."""
        spec, n = self.spec, len(self.data.train)
        fastif: dict[str, Any] = {
            "k": [k for k in spec.k if k <= n],
            "depths": [m for m in DEPTHS if m < n],
            "loop": 0,
        }
        if protocol == "ours":
            ours = spec.ours
            curvature: dict[str, Any] = {
                "kind": ours.kind,
                "samples": min(ours.samples, n),
                "batch_size": min(ours.samples, n),
                "damping": ours.damping,
            }
            solver: dict[str, Any] = {"iterations": 1, "tolerance": ours.tolerance}
            fastif |= {"iterations": ours.iterations, "solves": [ours.lissa()]}
        else:
            paper = spec.paper
            shared = {"iterations": paper.iterations, "damp": paper.damp, "scale": paper.scale}
            curvature = {"kind": "hessian", "samples": "all"}
            solver = shared | {"kind": "lissa", "batch_size": min(paper.truth_batch_size, n)}
            mine = {"batch_size": paper.batch_size, "chains": paper.chains}
            fastif |= {"solves": [shared | mine]}
        values = {
            "title": f"FastIF's recall, {protocol}, seed {seed}",
            "seed": seed,
            "methods": [METHOD],
            "data": {"source": spec.data},
            "model": {
                "name": spec.model,
                "weights": str(weights),
                "weight_decay": spec.train.weight_decay,
            },
            "change": {"kind": "remove-class", "label": spec.label},
            "curvature": curvature,
            "solver": solver,
            "ranking": {"count": spec.queries},
            "edit": {"enabled": False},
            "fastif": fastif,
        }
        return studies.parse(values)

    def recall(self, protocol: str, seed: int) -> tuple[pd.DataFrame, dict[str, float]]:
        """Return the recall of a run's record, and how many of its exact solves converged."""
        if (protocol, seed) not in self._recall:
            prepared = runner.prepare(self.study(protocol, seed, self.weights(seed)))
            out = self.folder / prepared.hash[:16]
            record = runner.finished(out, prepared, self.folder)
            if record is None:
                record = runner.run(prepared, out, workspace=self.folder, listen=self._heard)
            self._recall[protocol, seed] = _read(record)
        return self._recall[protocol, seed]

    def _heard(self, state: dict[str, Any]) -> None:
        running = [stage for stage in state["stages"] if stage["state"] == "running"]
        for stage in running[:1]:
            self.place.listen(f"{stage['name']}, {100 * stage['done'] / stage['total']:.0f} %")

    def expected(self, protocol: str, seed: int) -> float:
        """Return about how long a seed takes: the model, the solves, the sweeps."""
        spec, forward = self.spec, self.forward
        job = [Job(None, seed)]
        training = 0.0
        if protocol == spec.protocols[0]:  # the other protocol finds it in the cache
            recipe = spec.train.recipe()
            training = expected_seconds(self.blank, job, recipe, cache=self.place.cache)
        ours, paper = spec.ours, spec.paper
        if protocol == "ours":
            walks = [(ours.lissa_iterations * ours.lissa_chains, ours.lissa_batch_size)]
            products = ours.iterations * ours.samples
        else:
            truth = (paper.iterations, paper.truth_batch_size)  # ranked by it and measured with it
            walks = [truth, truth, (paper.iterations * paper.chains, paper.batch_size)]
            products = 0
        steps = sum(count * (STEP + PRODUCT * forward * batch) for count, batch in walks)
        sweeps = 4 * PRODUCT * forward * len(self.data.train)
        return training + spec.queries * (steps + PRODUCT * forward * products) + sweeps

    @cached_property
    def forward(self) -> float:
        """Seconds of a forward pass for one image."""
        few = TensorDataset(*as_tensors(self.data.test)[:250])
        predict(self.blank, few)
        began = time.perf_counter()
        predict(self.blank, few)
        return (time.perf_counter() - began) / len(few)


def _read(record: Record) -> tuple[pd.DataFrame, dict[str, float]]:
    ways = record.fastif["methods"][METHOD]["ways"]
    exact = ways["exact"]
    return record.recall(METHOD), {"trusted": exact["trusted"] / sum(exact["statuses"].values())}


COLUMNS = (
    *(Column(f"kept_{m}", f"kept@{m}", ".3f") for m in DEPTHS),
    Column("found", f"LiSSA's @{BESIDE}", ".3f"),
    Column("gradient", f"gradient's @{BESIDE}", ".3f"),
    Column("trusted", "truth converged", ".0%"),
)
NOTES = {
    "ours": (
        "Each seed is a model of its own, test images of its own (half of them wrongly predicted) "
        "and draws of its own. `kept@m`: share of the first m of the exact ranking that is among "
        "the k nearest training images, which is FastIF's recall; the exact ranking is by solves "
        "of the Gauss-Newton matrix with its damping, converged in the share `truth converged`. "
        "`LiSSA's` and `gradient's`: share of the exact first that stand first among the "
        "candidates by LiSSA with the same damping, and by gradients without any solve."
    ),
    "paper": (
        "FastIF's own: what is called the truth is LiSSA too (J steps of 128 images, no "
        "certificate: `truth converged` says what is known of it), so that `kept` measures the "
        "candidates alone, and damp * scale = {damping} is the damping of both, of the Hessian of "
        "all samples: where eigenvalues are small beside it the ranking is that of gradient dot "
        "products. The published recall is a figure without numbers, of MNLI and BERT: there are "
        "none to print beside. Its queries are 50 right and 50 wrong predictions, its k up to "
        "100,000."
    ).format(damping="50 at the defaults"),
}
KIND = Kind(Candidates, COLUMNS, "kept_100", runs, NOTES)

"""What predictions are held against: base models, and models retrained without some samples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from gifcore import data as datasets
from gifcore.change import RemoveSamples
from gifcore.problem import Problem
from gifcore.retraining import (
    Job,
    Minimise,
    Recipe,
    Retrained,
    Sgd,
    expected_seconds,
    newton_scaling,
    retrain_all,
)
from gifcore.stages import tensors
from gifcore.training import Settings

FOLDER = Path("runs/bench/truth")
SEED = 0
DECAY = 1e-3
EXACT = 1e-9  # gradient norm of base models trained to convergence
EPOCHS, BATCH, RATE = 40, 100, 0.1  # of the two-layer network


@dataclass(frozen=True)
class Runner:
    """Where retrained models are kept, how many are trained side by side, and who is told."""

    processes: int
    console: Console
    folder: Path = FOLDER

    def trained(self, problem: Problem, jobs: Sequence[Job], recipe: Recipe) -> list[Retrained]:
        """Return the model of every job, from the cache if it is there."""
        cache = self.folder / "models"
        most = expected_seconds(problem, jobs, recipe, cache=cache, processes=self.processes)
        if most > 0:
            kind = "at most " if isinstance(recipe, Minimise) else ""
            self.console.print(f"{len(jobs)} models to retrain, expected: {kind}{most:,.0f} s.")
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as shown:
            task = shown.add_task("retraining", total=None)

            def report(done: int, total: int, note: str) -> None:
                shown.update(task, completed=done, total=total, description=note)

            found = retrain_all(
                problem, jobs, recipe, cache=cache, processes=self.processes, progress=report
            )
        self.console.print(convergence(found))
        return found


def convergence(models: Sequence[Retrained]) -> str:
    """Return the gradient norms that trainings ended at, as a sentence."""
    norms = [model.gradient_norm for model in models]
    reached = [model.converged for model in models]
    tail = "" if None in reached else f"; {sum(map(bool, reached))} reached the tolerance"
    seconds = sum(model.seconds for model in models)
    return (
        f"{len(models)} models: gradient norm {np.median(norms):.1e} at the median, "
        f"{max(norms):.1e} at most{tail}; {seconds:,.0f} s of training in all."
    )


@dataclass(frozen=True, eq=False)
class Base:
    """A trained model with its test samples, and R in which retrainings near it are short."""

    name: str
    problem: Problem
    test: TensorDataset
    recipe: Recipe  # from its own parameters, or as it was trained itself
    checkpoints: tuple[Tensor, ...] = ()  # parameters on its way, for tracin

    def losses(self, theta: Tensor, queries: Sequence[int]) -> Tensor:
        """Return the loss of each query, (m,), at these parameters."""
        x, y = self.test.tensors
        at = torch.as_tensor(queries)
        with torch.no_grad():
            return self.problem.losses(self.problem.space.unflatten(theta), (x[at], y[at]))


@dataclass(frozen=True)
class Source:
    """A data set: its first n training samples, images pooled by means of pool x pool pixels."""

    name: str
    n: int | None = None
    pool: int = 1

    def splits(self, dtype: torch.dtype) -> tuple[TensorDataset, TensorDataset]:
        """Return the training and test samples."""
        data = datasets.load(self.name)
        found = []
        for split, count in (("train", self.n), ("test", None)):
            x, y = tensors(data, split).tensors
            x = nn.functional.avg_pool2d(x[:count].to(dtype), self.pool)
            found.append(TensorDataset(x, y[:count]))
        return found[0], found[1]


def logistic(pixels: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 10))


def mlp(pixels: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.Tanh(), nn.Linear(hidden, 10))


def converged(
    runner: Runner, name: str, net: nn.Module, source: Source, decay: float = DECAY
) -> Base:
    """Return a model at a minimum: L-BFGS from fresh parameters, then in Newton's coordinates."""
    train, test = source.splits(torch.float64)
    problem = Problem(net.double(), train, weight_decay=decay)
    cold = Minimise("cold", 1e-7, 4000)
    (first,) = runner.trained(problem, [Job(None, SEED)], cold)
    problem = first.problem(problem)
    polish = Minimise("warm", EXACT, 500, scaling_of(runner, name, problem))
    (last,) = runner.trained(problem, [Job(None, SEED)], polish)
    problem = last.problem(problem)
    recipe = Minimise("warm", EXACT, 2000, scaling_of(runner, name, problem))
    return Base(name, problem, test, recipe)


def scaling_of(runner: Runner, name: str, problem: Problem) -> Tensor:
    """Return R, kept as a file: the keys of kept models hold its bits."""
    file = runner.folder / "scalings" / f"{name}-{hash_of(problem.theta)}.safetensors"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"R": newton_scaling(problem).contiguous()}, file)
    return load_file(file)["R"]


def hash_of(theta: Tensor) -> str:
    return hashlib.sha256(theta.numpy().tobytes()).hexdigest()[:12]


def on_the_way(runner: Runner, base: Base) -> Base:
    """Return the base with iterates of its own training, for tracin: L-BFGS stopped early."""
    found = []
    for evaluations in (10, 30, 100, 300, 1000):
        recipe = Minimise("cold", 1e-7, evaluations)
        found += runner.trained(base.problem, [Job(None, SEED)], recipe)
    return replace(base, checkpoints=tuple(model.theta for model in found))


def by_sgd(runner: Runner, name: str, net: nn.Module, source: Source) -> Base:
    """Return a model trained by SGD, with shorter trainings of its seed as checkpoints."""
    train, test = source.splits(torch.float32)
    problem = Problem(net, train, weight_decay=DECAY)
    settings = Settings(SEED, EPOCHS, BATCH, RATE, 0.9, DECAY)
    thetas = []
    for share in (1, 2, 3, 4):
        recipe = Sgd(replace(settings, epochs=EPOCHS * share // 4))
        thetas += [m.theta for m in runner.trained(problem, [Job(None, SEED)], recipe)]
    nn.utils.vector_to_parameters(thetas[-1], net.parameters())
    problem = Problem(net, train, weight_decay=DECAY)
    return Base(name, problem, test, Sgd(settings), tuple(thetas))


# --- what is left out -----------------------------------------------------------------------------


def halves(n: int, count: int) -> Tensor:
    """Return what random halves of n samples leave out, (count, n) of bool, one seed a half."""
    out = torch.ones(count, n, dtype=torch.bool)
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        out[seed, torch.randperm(n, generator=generator)[: n // 2]] = False
    return out


def without(positions: Tensor, seed: int = SEED) -> Job:
    return Job(RemoveSamples(positions.flatten().tolist()), seed)


def table_of(
    base: Base, models: Sequence[Retrained], queries: Sequence[int]
) -> np.ndarray[Any, Any]:
    """Return the loss of each query at each model, (m, s)."""
    return torch.stack([base.losses(m.theta, queries) for m in models], dim=1).double().numpy()

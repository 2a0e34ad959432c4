"""`python -m benchmarks.truth [part …] [--processes N]`: predictions against retrained models.

    loo             removing one sample from logistic regression, on digits and on
                    fashion-mnist-mini with as many parameters as samples
    loo-wide        the same on all of fashion-mnist-mini: an hour where the others take minutes
    lds-logistic    60 halves of digits, logistic regression trained to convergence
    lds-mlp         60 halves of digits, tanh MLP 64-24-10, fresh and continued trainings
    damping         the same halves at every damping, beside the automatic one
    lds-two-layer   50 halves, a two-layer MLP trained by SGD, beside kronfluence's EK-FAC
    brittleness     how many of the highest ranked samples must go to flip a prediction
    all             all of them but loo-wide (the default)

Tables go to runs/bench/truth; retrained models and scores are kept there, so that a run that was
stopped goes on where it was. Nothing here looks at retrained models before it predicts.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # keys of kept models hold numbers of this run

import csv
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import truth_damping, truth_flips, truth_peer
from benchmarks.truth_bases import (
    DECAY,
    Base,
    Runner,
    Source,
    by_sgd,
    converged,
    halves,
    logistic,
    mlp,
    on_the_way,
    table_of,
    without,
)
from benchmarks.truth_leverage import mean_leverage
from benchmarks.truth_methods import ALL, FEW, Array, Row, scores, settings_of, summed
from gifcore.evaluate.agreement import (
    CORRELATIONS,
    Interval,
    bootstrap,
    lds,
    lds_difference,
)
from gifcore.queries import Queries
from gifcore.retraining import Minimise, Recipe, Retrained
from gifcore.scoring import rank
from gifcore.version import ENGINE_VERSION

DIGITS = Source("digits")
POINTS = 128  # removed one by one
FEW_POINTS = 48  # of loo-wide
DRAWS = 300  # of the bootstrap where a draw is slow
POOLED, HIDDEN = 7, 32  # side of the images and units of the two-layer network
SEEDS = 2  # trainings of each half by SGD


@dataclass
class Report:
    """A table on the screen, as CSV and as markdown."""

    runner: Runner
    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        self.rows.append(cells)

    def write(self) -> None:
        """Print the table and write it."""
        table = Table(*self.columns, title=self.title)
        for row in self.rows:
            table.add_row(*row)
        self.runner.console.print(table)
        for note in self.notes:
            self.runner.console.print(note)
        folder = self.runner.folder
        with (folder / f"{self.name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([self.columns, *self.rows])
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        notes = "\n\n".join(self.notes)
        content = f"### {self.title}\n\n{text}\n\n{notes}\n"
        (folder / f"{self.name}.md").write_text(content, encoding="utf-8")


def shown(found: Interval, digits: int = 3) -> str:
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


# --- leave one out --------------------------------------------------------------------------------


def loo(runner: Runner) -> None:
    """Removing one sample: predicted by `if`, and done."""
    columns = ("data", "figure", "median over queries", "all pairs together")
    report = Report(runner, "loo", "Leave-one-out, logistic regression", columns)
    digits = converged(runner, "digits-logistic", logistic(64), DIGITS)
    one_by_one(report, digits, POINTS, 50)
    report.write()
    pooled = Source("fashion-mnist-mini", 2000, pool=2)
    fashion = converged(runner, "fashion-logistic-14x14", logistic(196), pooled)
    one_by_one(report, fashion, POINTS, 50)
    report.write()


def loo_wide(runner: Runner) -> None:
    """The same with about as many parameters, 7,850, as samples, 8,000."""
    columns = ("data", "figure", "median over queries", "all pairs together")
    report = Report(runner, "loo-wide", "Leave-one-out, logistic regression", columns)
    base = converged(runner, "fashion-logistic", logistic(784), Source("fashion-mnist-mini"))
    one_by_one(report, base, FEW_POINTS, 16)
    report.write()


def one_by_one(report: Report, base: Base, count: int, asked: int) -> None:
    """Add the rows of one data set."""
    problem, queries = base.problem, range(asked)
    order = torch.randperm(problem.n, generator=torch.Generator().manual_seed(0))[:count]
    groups = Queries(base.test, [[q] for q in queries])
    found = rank(problem, groups, **settings_of(problem, "if"))
    assert found.values is not None
    models = report.runner.trained(problem, [without(i) for i in order], base.recipe)
    before = base.losses(problem.theta, queries).double().numpy()[:, None]
    predicted = found.values[:, order].double().numpy()
    actual = table_of(base, models, queries) - before
    for name, measure in CORRELATIONS.items():
        each = bootstrap(_median(measure), predicted.T, actual.T, draws=DRAWS)
        pooled = bootstrap(_pooled(measure), predicted.T, actual.T, draws=DRAWS)
        report.add(base.name, name, shown(each), shown(pooled))
    signs = float((np.sign(predicted) == np.sign(actual)).mean())
    report.add(base.name, "same sign", "", f"{signs:.3f}")
    residual = max(s.residual for s in found.solutions)
    report.notes.append(
        f"{base.name}: {problem.space.size:,} parameters, {problem.n:,} samples, weight decay "
        f"{DECAY:g}; {count} samples drawn (seed 0) x {asked} test samples; residual of the solves "
        f"{residual:.1e} at most. Mean leverage tr((H - wd I) H^-1) / n = "
        f"{mean_leverage(problem):.3f}. {_trained(models)} Intervals resample the removed samples."
    )


def _median(measure: Callable[[Array, Array], float]) -> Callable[..., float]:
    def value(one: Array, other: Array) -> float:
        return float(np.nanmedian([measure(a, b) for a, b in zip(one.T, other.T, strict=True)]))

    return value


def _pooled(measure: Callable[[Array, Array], float]) -> Callable[..., float]:
    return lambda one, other: measure(one.ravel(), other.ravel())


def _trained(models: Sequence[Retrained]) -> str:
    norms = [model.gradient_norm for model in models]
    text = f"Gradient norm of the retrained models {np.median(norms):.1e}, {max(norms):.1e} at most"
    if models[0].converged is None:
        return f"{text} (SGD)."
    return f"{text}; {sum(bool(m.converged) for m in models)} of {len(models)} at the tolerance."


# --- halves ---------------------------------------------------------------------------------------


def lds_logistic(runner: Runner) -> None:
    """LDS of a convex model."""
    base = converged(runner, "digits-logistic", logistic(64), DIGITS)
    base = on_the_way(runner, base)
    recipe = base.recipe
    assert isinstance(recipe, Minimise)
    recipe = Minimise("warm", 1e-7, recipe.evaluations, recipe.scaling)
    report = against(runner, "lds-logistic", base, 60, 100, {"halves": recipe}, ALL)
    report.write()


def lds_mlp(runner: Runner) -> None:
    """LDS of a small network at a minimum; trained afresh, and from the trained parameters."""
    base, recipes = small_network(runner)
    against(runner, "lds-mlp", on_the_way(runner, base), 60, 100, recipes, ALL).write()


def damping(runner: Runner) -> None:
    """The same halves at every damping, after the automatic one was chosen."""
    base, recipes = small_network(runner)
    queries, out = range(100), halves(base.problem.n, 60)
    truth = {
        label: table_of(base, halved(runner, base, out, recipe), queries)
        for label, recipe in recipes.items()
    }
    columns = ("damping", *(f"LDS, {label}" for label in recipes))
    report = Report(runner, "damping", f"{base.name}: `if` at every damping", columns)
    truth_damping.fill(report, base, queries, truth)
    report.write()


def small_network(runner: Runner) -> tuple[Base, dict[str, Minimise]]:
    """Return a tanh MLP 64-24-10 at a minimum, and how its halves are trained."""
    torch.manual_seed(0)
    base = converged(runner, "digits-mlp", mlp(64, 24), DIGITS)
    assert isinstance(base.recipe, Minimise)
    return base, {
        "trained afresh": Minimise("cold", 1e-6, 2500),
        "trained on": Minimise("warm", 1e-6, 2500, base.recipe.scaling),
    }


def halved(runner: Runner, base: Base, out: Tensor, recipe: Recipe) -> list[Retrained]:
    return runner.trained(base.problem, [without(o.nonzero()) for o in out], recipe)


def against(
    runner: Runner,
    name: str,
    base: Base,
    count: int,
    asked: int,
    recipes: dict[str, Minimise],
    rows: Sequence[Row],
) -> Report:
    """Return LDS of every method against models trained on halves, a column a recipe."""
    queries, out = range(asked), halves(base.problem.n, count)
    predicted = dict(scores(base, queries, rows, runner))
    columns = ("method", *(f"LDS, {label}" for label in recipes), "solves", "seconds")
    title = f"{base.name}: {count} halves, {asked} queries"
    report = Report(runner, name, title, columns)
    actual = {}
    for label, recipe in recipes.items():
        models = halved(runner, base, out, recipe)
        actual[label] = table_of(base, models, queries)
        report.notes.append(f"{label}: {_trained(models)}")
    for method, found in predicted.items():
        sums = summed(found.values, out)
        cells = [shown(lds(sums, truth)) for truth in actual.values()]
        report.add(method, *cells, found.how, f"{found.seconds:.0f}")
    noise = np.random.default_rng(0).normal(size=(asked, base.problem.n))
    cells = [shown(lds(summed(noise, out), truth)) for truth in actual.values()]
    report.add("random", *cells, "", "")
    return report


def lds_two_layer(runner: Runner) -> None:
    """LDS of a network trained by SGD, all methods beside kronfluence on the same models."""
    torch.manual_seed(0)
    source = Source("fashion-mnist-mini", 2000, pool=28 // POOLED)
    base = by_sgd(runner, "fashion-two-layer", mlp(POOLED**2, HIDDEN), source)
    n = base.problem.n
    queries, out = range(50), halves(n, 50)
    predicted = dict(scores(base, queries, ALL, runner))
    predicted |= truth_peer.scores(base, queries, runner)
    jobs = [without(o.nonzero(), seed) for seed in range(SEEDS) for o in out]
    models = runner.trained(base.problem, jobs, base.recipe)
    every = table_of(base, models, queries).reshape(len(queries), SEEDS, len(out))
    one, mean = every[:, 0], every.mean(axis=1)
    sums = {name: summed(found.values, out) for name, found in predicted.items()}
    theirs = [name for name in sums if name.startswith("kronfluence")]
    peer = max(theirs, key=lambda name: lds(sums[name], mean).value) if theirs else None
    columns = (
        "method", "LDS, one training a half", f"LDS, mean of {SEEDS}",
        "minus kronfluence's best (paired)", "solves", "seconds",
    )  # fmt: skip
    title = f"{base.name}: 50 halves of {n:,}, {len(queries)} queries, MLP {POOLED**2}-{HIDDEN}-10"
    report = Report(runner, "lds-two-layer", title, columns)
    for name, found in predicted.items():
        difference = (
            "" if peer in (None, name) else shown(lds_difference(sums[name], sums[peer], mean))
        )
        cells = (shown(lds(sums[name], one)), shown(lds(sums[name], mean)), difference)
        report.add(name, *cells, found.how, f"{found.seconds:.0f}")
    report.notes.append(_trained(models))
    again = lds(every[:, 1], one)
    report.notes.append(
        f"How well one training of each half orders the halves as another: {shown(again)}."
    )
    report.write()


def brittleness(runner: Runner) -> None:
    """How many samples must go, by each ranking and at random."""
    base = converged(runner, "digits-logistic", logistic(64), DIGITS)
    columns = ("ranking", "flipped", "median k", "k of each query", "retrained models")
    report = Report(runner, "brittleness", "Brittleness, logistic regression on digits", columns)
    truth_flips.fill(report, base, runner, FEW)
    report.write()


PARTS: dict[str, Callable[[Runner], None]] = {
    "loo": loo,
    "loo-wide": loo_wide,
    "lds-logistic": lds_logistic,
    "lds-mlp": lds_mlp,
    "damping": damping,
    "lds-two-layer": lds_two_layer,
    "brittleness": brittleness,
}


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "all"], default=["all"])
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=160)
    runner = Runner(asked.processes, console)
    runner.folder.mkdir(parents=True, exist_ok=True)
    console.print(f"engine {ENGINE_VERSION}, torch {torch.__version__}, one thread a process")
    for name, part in PARTS.items():
        if name in asked.parts or ("all" in asked.parts and name != "loo-wide"):
            part(runner)


if __name__ == "__main__":
    main()

"""Pairwise scores by EK-FAC, ours against kronfluence's (`pip install '.[bench]'`).

Both fit their factors first, which is not timed; then the gradients of the queries, their solves
and the products with every training gradient are.
"""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from benchmarks.rounds import ratio
from gifcore.curved import curvature
from gifcore.gradient_products import gradient_products
from gifcore.problem import Problem
from gifcore.queries import Queries
from gifcore.scoring import adjoints

FITTED = 1_000  # training images the factors are fitted on
BATCH = 256  # images kronfluence takes at a time
DAMPING = 1e-3


def compare(problem: Problem, queries: Queries, table: Table) -> None:
    """Add the row; skip with a message where kronfluence is not installed."""
    name = f"{len(queries.groups)} queries x {problem.n:,}, EK-FAC: ours / kronfluence 1.0.1"
    try:
        theirs = pairwise_stage(problem, queries)
    except ImportError:
        table.add_row(name, "-", "skipped: pip install '.[bench]'")
        return
    curved = curvature(problem, samples=FITTED, damping=DAMPING)
    curved.approximation("ekfac")

    def ours() -> Tensor:
        solutions = adjoints(
            problem,
            queries,
            method="ekfac",
            selected=None,
            curvature=curved,
            samples=None,
            solver=None,
            damping=0.0,  # the curvature has its own
            seed=0,
            progress=lambda *_: None,
        )
        return gradient_products(problem, torch.stack([found.value for found in solutions]))

    value, top, bottom = ratio(ours, theirs, rounds=1)
    both = torch.stack([ours().flatten(), theirs().flatten()])
    agreement = float(torch.corrcoef(both)[0, 1])
    table.add_row(name, f"{value:.2f}", f"{top:.2f} / {bottom:.2f} s, correlation {agreement:.2f}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep its reports and its warnings of deprecated calls out of the table."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", FutureWarning)
        yield


def pairwise_stage(
    problem: Problem, queries: Queries, fitted: int = FITTED, damping: float | None = DAMPING
) -> Any:
    """Return kronfluence's pairwise stage as a function, its factors fitted.

    Args:
        damping: None: a tenth of the mean eigenvalue of each layer.
    """
    from kronfluence.analyzer import Analyzer, prepare_model  # an optional dependency
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task
    from torch.utils.data import Subset

    class Losses(Task):
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            inputs, labels = batch
            outputs = model(inputs)
            if sample:
                with torch.no_grad():
                    probabilities = torch.softmax(outputs.detach(), dim=-1)
                    labels = torch.multinomial(probabilities, num_samples=1).flatten()
            return nn.functional.cross_entropy(outputs, labels, reduction="sum")

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            return self.compute_train_loss(batch, model)

    task = Losses()
    model = prepare_model(copy.deepcopy(problem.model).eval(), task)
    folder = tempfile.TemporaryDirectory()
    train = Subset(problem.train, problem.positions.tolist())
    asked = Subset(queries.data, [group[0] for group in queries.groups])
    analyzer = Analyzer(
        "scoring", model, task, cpu=True, disable_tqdm=True, output_dir=folder.name, log_level=40
    )
    with _quiet():
        analyzer.fit_all_factors(
            "ekfac",
            Subset(train, range(min(fitted, len(train)))),
            per_device_batch_size=BATCH,
            factor_args=FactorArguments(strategy="ekfac"),
            overwrite_output_dir=True,
        )

    def pairwise() -> Tensor:
        assert folder.name  # the folder lives as long as this function
        with _quiet():
            analyzer.compute_pairwise_scores(
                "pairwise",
                "ekfac",
                asked,
                train,
                per_device_query_batch_size=len(asked),
                per_device_train_batch_size=BATCH,
                score_args=ScoreArguments(damping_factor=damping),
                overwrite_output_dir=True,
            )
        found: Tensor = analyzer.load_pairwise_scores("pairwise")["all_modules"]
        return found

    return pairwise

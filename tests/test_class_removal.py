"""Class removal as an experiment: both protocols against their definitions, and end to end."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from gifcore.cli import app
from gifcore.edit import StepSearch
from gifcore.errors import GifError
from gifcore.experiments import by_ours, by_paper
from gifcore.experiments.by_paper import WALKS, Scene, Walk, walk
from gifcore.experiments.histogram import Histogram
from gifcore.experiments.kind import Place
from gifcore.experiments.points import epochs_of, points_of
from gifcore.experiments.removal import Bench
from gifcore.experiments.spec import checked
from gifcore.retraining import Job
from gifcore.selection import select

LABEL = 8
VALUES: dict[str, Any] = {
    "experiment": "histogram",
    "data": "digits",
    "model": "logistic",
    "label": LABEL,
    "train": {"epochs": 6, "batch_size": 32, "lr": 0.2, "weight_decay": 1e-3},
    "ours": {"samples": 128, "iterations": 6, "evaluations": 9},
    "paper": {"samples": 60, "target_samples": 40, "iterations": 12, "step": 3, "norm": 0.2},
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("retrained")


@pytest.fixture
def bench(cache: Path) -> Bench:
    spec = checked(VALUES, Histogram, "test")
    return Bench(spec, Place(cache, lambda _note: None))


# --- our protocol ---------------------------------------------------------------------------------


def values_of(own: float, retain: float) -> dict[str, float]:
    a = 1 - own
    return {"self": own, "retain": retain, "score": 2 * a * retain / (a + retain)}


def test_the_least_step_is_within_one_standard_error() -> None:
    searched = StepSearch(
        (1.0, 2.0, 3.0, 4.0),
        (values_of(0.3, 0.9), values_of(0.03, 0.9), values_of(0.0, 0.9), values_of(0.0, 0.88)),
        2,
    )
    # b alone varies: dF/db = 2 / 1.9^2, sd of b = sqrt(0.09 / others)
    error = {n: 2 / 1.9**2 * math.sqrt(0.09 / n) for n in (100, 10_000)}
    gap = values_of(0.0, 0.9)["score"] - values_of(0.03, 0.9)["score"]
    assert error[10_000] < gap < error[100]
    assert by_ours.least_step(searched, 50, 10_000) == 3.0
    assert by_ours.least_step(searched, 50, 100) == 2.0
    # and a alone: dF/da = 2 * 0.81 / 1.9^2 at b = 0.9 and self = 0
    exact = StepSearch((1.0, 2.0), (values_of(0.1, 1.0), values_of(0.08, 1.0)), 1)
    gap = exact.values[1]["score"] - exact.values[0]["score"]
    slope = 2 / 1.92**2
    own = round((slope / gap) ** 2 * 0.08 * 0.92)  # images at which the gap is one error
    assert by_ours.least_step(exact, own - 10, 100) == 1.0
    assert by_ours.least_step(exact, own + 10, 100) == 2.0


def test_an_edit_is_judged_against_the_retrained_model_of_its_seed(bench: Bench) -> None:
    found = by_ours.edited(bench, 1, "gif", "highest-k-gradients", 0.3, tuple)
    shares = np.array([found[f"class_{c}"] for c in range(10)], dtype=float)
    inputs, labels = bench.splits["test"].tensors
    retrained = bench.trained(Job(bench.change, 1))
    named = bench.blank.space.unflatten(retrained.theta)
    outputs = inputs.flatten(1) @ named["linear.weight"].T + named["linear.bias"]
    predicted = outputs.argmax(1)[labels == LABEL]
    true = torch.bincount(predicted, minlength=10).numpy() / len(predicted)
    assert true[LABEL] == 0  # it never saw the class
    assert found["total_variation"] == pytest.approx(0.5 * np.abs(shares - true).sum())
    assert found["self"] == pytest.approx(shares[LABEL])
    before = bench.measured(bench.tested(bench.base(1).problem), None)
    assert before["class_8"] == before["self"]  # of images of the class, not of all
    assert before["class_8"] is not None
    assert before["class_8"] > 0.5
    assert found["f1"] is not None
    assert found["f1_natural"] is not None
    assert found["f1"] > 0.8 > found["f1_natural"]  # the step was searched


def test_checkpoints_are_those_of_the_training(bench: Bench) -> None:
    assert epochs_of(4, 2) == [2, 4]
    assert points_of(bench, 0, 3, "gif") == ()
    points = points_of(bench, 0, 3, "tracin")
    assert torch.equal(points[-1].theta, bench.base(0).problem.theta)
    assert not torch.equal(points[0].theta, points[1].theta)
    steps = math.ceil(len(bench.splits["train"]) / 32)
    assert [point.steps for point in points] == [2 * steps] * 3
    falling = [(1 + math.cos(math.pi * (epoch - 1) / 6)) / 2 for epoch in (2, 4, 6)]
    assert [point.rate for point in points] == pytest.approx([0.2 * f / 0.1 for f in falling])


# --- the published protocol -----------------------------------------------------------------------


def dense_problem(bench: Bench, target: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return theta, g of the target samples and H of the first test images, by autograd."""
    scene = Scene(bench, 0, target)
    base = bench.base(0).problem
    size, shapes = base.space.size, [(b.name, b.shape) for b in base.space.blocks]
    assert [name for name, _ in shapes] == ["linear.weight", "linear.bias"]

    def loss(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        weight, bias = theta[:-10].reshape(10, -1), theta[-10:]
        return nn.functional.cross_entropy(x.flatten(1).double() @ weight.T + bias, y)

    x, y = bench.splits["test"].tensors
    first, kept = x[:60], y[:60] != LABEL
    own = scene.problem.train[: scene.count]  # type: ignore[index]
    theta = base.theta.double().requires_grad_()
    (g,) = torch.autograd.grad(loss(theta, *own), theta)
    H = torch.autograd.functional.hessian(lambda t: loss(t, first[kept], y[:60][kept]), theta)
    assert H.shape == (size, size)
    return theta.detach(), g, H


def series(H: Tensor, g: Tensor, keys: dict[str, Any]) -> Tensor:
    """The published iteration as it is written: c grows by `step` whenever it diverges."""
    c = 1.0
    while True:
        v = H.T @ g / c**2
        x, before, diverged = v, math.inf, False
        for k in range(1, keys["iterations"] + 1):
            moved = v + x - H.T @ (H @ x) / c**2
            size = float((moved - x).norm())
            x = moved
            if k % 2 == 0:
                if size > before:
                    diverged = True
                    break
                before = size
        if not diverged:
            return x
        c += keys["step"]


@pytest.mark.parametrize("method", ["gif", "freeze", "projected", "if", "gradient"])
def test_the_published_direction_is_its_definition(bench: Bench, method: str) -> None:
    _, g, H = dense_problem(bench, "test")
    scene = Scene(bench, 0, "test")
    selected = select(scene.problem, scene.change, ratio=0.3)
    J = selected.indices
    expected = {
        "gif": lambda: series(H[:, J], g, VALUES["paper"]),
        "freeze": lambda: series(H[J][:, J], g[J], VALUES["paper"]),
        "projected": lambda: series(H, g, VALUES["paper"])[J],
        "if": lambda: series(H, g, VALUES["paper"]),
        "gradient": lambda: g[J],
    }[method]()
    found = by_paper.direction(scene, method, selected, ())[0].delta.double()
    cosine = float(found @ expected / found.norm() / expected.norm())
    assert cosine == pytest.approx(1, abs=1e-4)


def test_second_order_knows_the_share_of_the_class(bench: Bench) -> None:
    """The weights of the small training set make c = r / (n - r) that of the training data."""
    scene = Scene(bench, 0, "test")
    labels = bench.splits["train"].tensors[1]
    gone = float(scene.problem.shares()[: scene.count].sum())
    assert gone == pytest.approx(float((labels == LABEL).double().mean()))


def test_the_published_edit_is_the_best_of_fixed_norm_steps_on_test_images(bench: Bench) -> None:
    theta, g, _ = dense_problem(bench, "test")
    scene = Scene(bench, 0, "test")
    J = select(scene.problem, scene.change, ratio=0.3).indices
    ray = torch.zeros_like(g).index_copy(0, J, g[J])
    ray = ray / ray.norm()
    x, y = bench.splits["test"].tensors
    own = y == LABEL
    best, gone, fine = (0.0, 0.0), 0.0, False
    for _ in range(200):
        gone += 0.2 / (3 if fine else 1)
        moved = theta + gone * ray
        outputs = x.flatten(1).double() @ moved[:-10].reshape(10, -1).T + moved[-10:]
        right = (outputs.argmax(1) == y).double()
        forgot, retain = 1 - float(right[own].mean()), float(right[~own].mean())
        f1 = 2 * forgot * retain / (forgot + retain) if forgot + retain else 0.0
        best = max(best, (f1, gone), key=lambda pair: pair[0])
        fine = fine or f1 >= 0.85
        if forgot > 1 - 1e-4 or retain < 0.8:
            break
    found = by_paper.edited(bench, 0, "table-2", "gradient", "highest-k-gradients", 0.3, tuple)
    assert found["f1"] == pytest.approx(best[0], abs=1e-6)
    assert found["length"] == pytest.approx(best[1], rel=1e-5)


def path_of(own: Callable[[float], float], retain: Callable[[float], float]) -> Any:
    """What is measured at a distance, and where it was asked."""
    asked: list[float] = []

    def measure(gone: float) -> tuple[float, float, float]:
        asked.append(gone)
        found = values_of(own(gone), retain(gone))
        return found["self"], found["retain"], found["score"]

    return measure, asked


def test_the_walk_of_table_1() -> None:
    """Steps of one norm to the first self-accuracy below 0.1 %, the best of those below 0.5 %."""
    measure, asked = path_of(lambda s: max(1 - s, 0.0), lambda s: 0.9 - 0.1 * s)
    found = walk(measure, WALKS["table-1"], 0.25, 200)
    assert asked == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert (found.length, found.steps) == (1.0, 4)
    # after 20 steps without an F1 of 0.2 steps are five times as long, not 25 at the next
    measure, asked = path_of(lambda s: 1.0 if s < 4 else 0.0, lambda _: 0.9)
    walk(measure, WALKS["table-1"], 0.1, 200)
    assert np.diff(asked) == pytest.approx([0.1] * 19 + [0.5] * 4)


def test_the_walk_of_table_2() -> None:
    """A third of the step from F1 0.85 on; it ends where others are forgotten too."""
    measure, asked = path_of(lambda s: max(0.5 - s, 0.05), lambda s: min(0.95, 1.25 - s))
    found = walk(measure, WALKS["table-2"], 0.3, 200)
    assert np.diff(asked)[:2] == pytest.approx([0.1, 0.1])  # F1 at 0.3 is 0.86
    assert asked[-1] == pytest.approx(0.5)  # retain is 0.75 there
    assert found.length == pytest.approx(0.4)  # 0.85 of retain, but self 0.1
    assert found.steps == len(asked)


def test_a_walk_without_a_step_to_report_has_failed() -> None:
    measure, _ = path_of(lambda _: 0.3, lambda _: 0.9)
    with pytest.raises(GifError, match="no step of 7 brought self-accuracy to 0.5% or below"):
        walk(measure, WALKS["table-1"], 0.1, 7)
    assert walk(measure, Walk(1.0, 0.0, 0.0, 1.0), 0.1, 7).length == 0.1


# --- end to end -----------------------------------------------------------------------------------

FILE = """
experiment = "{kind}"
title = "Small"
data = "digits"
model = "logistic"
label = 8
{more}
[train]
epochs = 6
batch_size = 32
lr = 0.2
weight_decay = 1e-3
[ours]
samples = 128
iterations = 4
evaluations = 6
[paper]
samples = 60
target_samples = 40
iterations = 6
step = 3
norm = 0.2
steps = {steps}
[quick]
seeds = 2
"""


def reproduce(folder: Path, kind: str, *words: str, more: str = "", steps: int = 40) -> Result:
    path = folder / f"{kind}.toml"
    path.write_text(FILE.format(kind=kind, more=more, steps=steps), encoding="utf-8")
    asked = ["reproduce", str(path), "--workspace", str(folder / "runs"), *words]
    return CliRunner().invoke(app, asked)


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


METHODS = 'methods = ["gradient", "second-order", "tracin", "gif"]\nratios = [0.3]'


def test_methods_end_to_end(tmp_path: Path) -> None:
    answer = reproduce(tmp_path, "methods", more=METHODS)
    assert answer.exit_code == 0, answer.output
    folder = tmp_path / "runs" / "experiments" / "methods-quick"
    assert (folder / "table.md").read_text(encoding="utf-8") == answer.stdout
    for words in ("By our protocol", "By the published protocol", "leaks test", "change places"):
        assert words in " ".join(answer.stdout.split())
    runs = lines_of(folder / "raw.csv")
    assert len(runs) == 2 * 6 + 2 + 2 * 4  # ours: six rows; published: one model, four methods
    for run in runs:
        own, retain = float(run["self"]), float(run["retain"])
        assert float(run["f1"]) == pytest.approx(values_of(own, retain)["score"])
        assert run["failed"] == ""
    retrained = [run for run in runs if run["method"] == "retrained"]
    assert {float(run["self"]) for run in retrained} == {0.0}
    assert [run["total_variation"] != "" for run in retrained] == [False, True, False]
    cells = lines_of(folder / "table.csv")
    (cell,) = [
        c for c in cells if (c["protocol"], c["method"], c["column"]) == ("ours", "GIF", "f1")
    ]
    mine = [float(r["f1"]) for r in runs if (r["protocol"], r["method"]) == ("ours", "GIF")]
    assert float(cell["mean"]) == pytest.approx(np.mean(mine))
    assert float(cell["sd"]) == pytest.approx(np.std(mine, ddof=1))
    # again: all of it is kept; one seed more is added to it, and one method less asked for
    before = {path.name: path.read_bytes() for path in (folder / "runs").iterdir()}
    again = reproduce(tmp_path, "methods", "--protocol", "ours", more=METHODS)
    assert "12 runs, 12 of them finished before" in " ".join(again.stderr.split())
    fewer = METHODS.replace('"second-order", ', "")
    more = reproduce(tmp_path, "methods", "--protocol", "ours", "--seeds", "3", more=fewer)
    assert "15 runs, 10 of them finished before" in " ".join(more.stderr.split())
    assert "Second-order" not in more.stdout
    after = {path.name: path.read_bytes() for path in (folder / "runs").iterdir()}
    assert {name: after[name] for name in before} == before


def test_selectors_show_runs_that_failed(tmp_path: Path) -> None:
    asked = 'selectors = ["highest-k-gradients"]\nratios = [0.3]'
    answer = reproduce(tmp_path, "selectors", "--protocol", "paper", more=asked, steps=1)
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.count("| 0 of 2 (2 failed) |") == 2  # 30 % and 100 %
    assert "Failed: highest-k-gradients 30 %, seed 1: no step of 1 brought" in answer.stdout
    runs = lines_of(tmp_path / "runs" / "experiments" / "selectors-quick" / "raw.csv")
    assert sum(run["failed"] != "" for run in runs) == 4


def test_the_histogram_sums_to_one(tmp_path: Path) -> None:
    answer = reproduce(tmp_path, "histogram", "--protocol", "ours", "--seeds", "1")
    assert answer.exit_code == 0, answer.output
    (run,) = [
        run
        for run in lines_of(tmp_path / "runs" / "experiments" / "histogram-quick" / "raw.csv")
        if run["model"] == "GIF"
    ]
    shares = [float(run[f"class_{c}"]) for c in range(10)]
    assert sum(shares) == pytest.approx(1)
    assert "| as 9 |" in answer.stdout


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("label = 12\n", "no class of digits"),
        ('methods = ["gifs"]', "methods.0 = 'gifs' is not possible"),
        ("selector_ratio = 1", "unknown key 'selector_ratio'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(tmp_path: Path, more: str, words: str) -> None:
    path = tmp_path / "x.toml"
    text = FILE.format(kind="histogram", more=more, steps=3)
    path.write_text(text.replace("label = 8\n", "") if "label" in more else text, "utf-8")
    answer = CliRunner().invoke(app, ["reproduce", str(path), "--workspace", str(tmp_path)])
    assert answer.exit_code == 1
    said = " ".join(answer.stderr.split())
    assert "Error:" in said
    assert words in said


@pytest.mark.parametrize(
    ("retain", "floor"), [(0.95, 0.8), (0.915, 0.8), (0.8, 0.685), (0.05, 0.0)]
)
def test_a_weaker_model_may_walk_too(retain: float, floor: float) -> None:
    assert WALKS["table-2"].of(retain).stop_retain == pytest.approx(floor)
    assert WALKS["table-1"].of(retain).stop_retain == 0.0

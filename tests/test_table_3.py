"""Table 3: steps of both protocols by hand, published names that meet rows, a run end to end."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from gifcore.assets_path import asset
from gifcore.change import Relabel
from gifcore.curvature import Hessian
from gifcore.data.backdoor import Backdoor
from gifcore.experiments import command, poisoned, registry, relabelling
from gifcore.experiments.kind import Place
from gifcore.experiments.published import compared
from gifcore.operators import Matrix
from gifcore.problem import Problem
from gifcore.retraining import Minimise
from gifcore.solvers import MINRES

TINY = """
experiment = "backdoor"
data = "digits"
model = "logistic"
seeds = 1
count = 100
strength = 0.5
methods = ["if", "second-order", "gif"]
train.epochs = 4
train.lr = 0.5
ours.samples = 64
ours.iterations = 4
ours.evaluations = 4
paper.samples = 64
paper.target_samples = 50
paper.iterations = 4
paper.second_order_iterations = 3
paper.steps = 4
"""


def test_second_order_is_the_first_order_of_the_change() -> None:
    generator = torch.Generator().manual_seed(0)
    A, B = (torch.randn(6, 6, generator=generator).double() for _ in range(2))
    H, D = A @ A.T + 6 * torch.eye(6), B + B.T
    g = torch.randn(6, generator=generator).double()
    errors = []
    for size in (1e-2, 5e-3):
        found, solves = poisoned.second_order(
            lambda b: MINRES(50, 1e-14).solve(Matrix(H), b), Matrix(size * D), g
        )
        exact = torch.linalg.solve(H + size * D, g)
        errors.append(float((found - exact).norm()))
        assert len(solves) == 2
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)  # what is left is of second order


def test_the_difference_of_a_repair_is_that_of_the_hessians() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Linear(3, 3).double()
        x, y = torch.randn(12, 3).double(), torch.arange(12) % 3
        model = nn.Sequential(model, nn.Tanh(), nn.Linear(3, 3).double())
    problem = Problem(model, TensorDataset(x, y), weight_decay=0.1)
    change = Relabel([1, 4, 5, 9], [2, 0, 1, 1])
    wanted = (
        Hessian(change.apply(problem), problem.positions).dense()
        - Hessian(problem, problem.positions).dense()
    )
    found = poisoned.difference(problem, change, samples=100, seed=0).dense()
    assert wanted.norm() > 1e-3
    assert torch.allclose(found, wanted, atol=1e-12)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> poisoned.Bench:
    place = Place(tmp_path_factory.mktemp("cache"), lambda _: None)
    backdoor = Backdoor(4, 100, None, 0.5)
    return poisoned.Bench("digits", "logistic", backdoor, Minimise("cold", 1e-3, 60), 1e-2, place)


def test_the_published_target_loss_by_hand(bench: poisoned.Bench) -> None:
    keys = relabelling.PaperKeys(target_samples=1000, samples=50)
    scene = relabelling.Scene(bench, keys, seed=0)
    own = bench.poisoned.indices
    net = bench.trained(0, repaired=False).model
    x = torch.from_numpy(bench.data.train.inputs()[own])
    wanted = (torch.full((100,), 4), torch.from_numpy(bench.poisoned.labels))
    net.requires_grad_(True)
    old, new = (nn.functional.cross_entropy(net(x), y) for y in wanted)
    share = 100 / (len(bench.data.train) - 100)
    parts = torch.autograd.grad(share * (old - new), tuple(net.parameters()))
    by_hand = torch.cat([part.reshape(-1) for part in parts])
    assert torch.allclose(scene.gradient, by_hand, atol=1e-6)


def test_models_are_measured_on_the_right_images(bench: poisoned.Bench) -> None:
    before, after = (bench.trained(0, repaired=repaired) for repaired in (False, True))
    trained = bench.measured(bench.seen(before, "train"), None)
    assert trained["corrupt"] > 0.9  # the backdoor is learnt
    retrained = bench.seen(after, "test")
    found = bench.measured(retrained, retrained)
    assert found["corrupt"] < 0.3
    assert found["agreement"] == 1
    triggered, clean = bench.images["train"]
    assert (len(triggered), len(clean)) == (100, len(bench.data.train) - 100)
    assert np.array_equal(triggered.tensors[1].numpy(), bench.poisoned.labels)


def test_the_experiment_end_to_end(tmp_path: Path) -> None:
    file = tmp_path / "table-3.toml"
    file.write_text(TINY)
    text = command.reproduce(
        file, command.Asked(), tmp_path / "out", tmp_path,
        listen=lambda *_: None, say=lambda _: None,
    )  # fmt: skip
    assert "Failed" not in text
    assert "F1, published" in text
    for row in ("| original |  |", "| retrained |  |", "| gif | 5 % |", "| second-order | 100 % |"):
        assert text.count(row) == 2  # a row of each protocol
    assert "0.9680 ± 0.0038" in text
    assert "Against the published numbers (table 3, MNIST), 5 rows" in text


def test_every_published_name_is_a_row_of_the_shipped_file(tmp_path: Path) -> None:
    spec, kind = registry.read(asset("studies", "table-3.toml"), "quick", {"seeds": 1})
    place = Place(tmp_path, lambda _: None)
    rows = [" ".join(w for w in run.row.values() if w) for run in kind.runs(spec, place)]
    names = {row for row in rows if not row.endswith(" it")}
    assert {name for name, _ in kind.published} == names
    assert "gif 5 %, 30 it" in rows  # solved further, with nothing published beside
    assert kind.published["gif 5 %", "clean"].mean == pytest.approx(0.9826)
    assert kind.published["if 100 %", "relabel"].mean == pytest.approx(0.9325)
    assert compared([], kind) == ""


def test_the_full_preset_is_what_was_published() -> None:
    spec, _ = registry.read(asset("studies", "table-3.toml"), "full")
    assert isinstance(spec, relabelling.Relabelling)
    paper = spec.paper
    assert (spec.seeds, spec.count, spec.label, spec.strength) == (10, 6000, 4, 16 / 255)
    assert (paper.target_samples, paper.samples, paper.iterations) == (4096, 2048, 1000)
    assert (paper.norm, paper.step, paper.steps, paper.patience) == (0.3, 5.0, 300, 10)

"""Figure 3: Hessian, Lanczos and counts against dense ones; what is published is labelled right."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from gifcore import data as datasets
from gifcore.data.dataset import Split
from gifcore.errors import GifError
from gifcore.experiments import command, eigenvalues, spectra
from gifcore.operators import Matrix

INPUTS, CLASSES, IMAGES = 6, 3, 40


def _split(seed: int = 0) -> Split:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((IMAGES, 1, 1, INPUTS)).astype(np.float32)
    return Split(x, generator.integers(0, CLASSES, IMAGES))


def _net(activation: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return spectra.net(INPUTS, CLASSES, activation).double()


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("loss", ["MSE", "CE"])
def test_the_hessian_is_that_of_the_trained_objective(loss: str, squared: bool) -> None:
    model, split = _net("relu"), _split()
    asked = spectra.Training(loss, 0.3, squared)
    H = spectra.hessian(model, split, asked, count=IMAGES, dtype=torch.float64)
    named = dict(model.named_parameters())
    shapes = {name: (p.shape, p.numel()) for name, p in named.items()}
    x, y = torch.from_numpy(split.inputs()).double(), torch.from_numpy(split.y)

    def objective(theta: torch.Tensor) -> torch.Tensor:
        parts = torch.split(theta, [n for _, n in shapes.values()])
        values = {k: v.view(s) for (k, (s, _)), v in zip(shapes.items(), parts, strict=True)}
        outputs = torch.func.functional_call(model, values, (x,))
        if loss == "CE":
            data = nn.functional.cross_entropy(outputs, y)
        else:
            data = nn.MSELoss()(outputs, nn.functional.one_hot(y, CLASSES).double())
        return data + 0.15 * (theta @ theta if squared else theta.norm())

    theta = parameters_to_vector(model.parameters()).detach()
    wanted = torch.autograd.functional.hessian(objective, theta)
    assert torch.allclose(spectra.matrix_of(H), wanted, atol=1e-9)


@pytest.mark.parametrize("loss", ["MSE", "CE"])
def test_lanczos_finds_what_the_dense_spectrum_has(loss: str) -> None:
    H = spectra.hessian(
        _net("none"), _split(), spectra.Training(loss, 0.01, False), count=IMAGES,
        dtype=torch.float64,
    )  # fmt: skip
    values = spectra.spectrum(spectra.matrix_of(H))
    found = spectra.largest(H, 40, dtype=torch.float64, seed=0)
    exact = spectra.top(values, 40)
    assert np.allclose(np.sort(found), np.sort(exact), atol=1e-8)
    assert spectra.rate(found, 40) == spectra.rate(exact, 40) > 0
    assert np.abs(exact).min() >= np.sort(np.abs(values))[-40]


def test_counts() -> None:
    values = np.array([-3.0, 1.0, -1e-9, 2.0, -0.5])
    assert spectra.rate(values, 5) == 0.4  # -1e-9 is rounding, as published
    assert sorted(spectra.top(values, 2)) == [-3.0, 2.0]
    with pytest.raises(GifError, match="5 eigenvalues of 5"):
        spectra.largest(Matrix(torch.eye(5)), 5, dtype=torch.float64, seed=0)


def test_the_published_net_is_linear_and_ours_is_not() -> None:
    x = torch.randn(4, 1, 1, INPUTS, generator=torch.Generator().manual_seed(0)).double()
    for activation, linear in (("none", True), ("relu", False)):
        f = _net(activation)
        zero = f(torch.zeros_like(x))
        assert torch.allclose(f(3 * x) - zero, 3 * (f(x) - zero), atol=1e-12) == linear
    sizes = [tuple(p.shape) for p in spectra.net(784, 10, "none").parameters()]
    assert sizes == [(8, 784), (8,), (8, 8), (8,), (10, 8), (10,)]


def test_published_rates_have_their_right_labels() -> None:
    published = eigenvalues.PUBLISHED
    assert published["MSE none 0", "rate"].mean == pytest.approx(0.0459)
    assert published["CE none 0", "rate"].mean == pytest.approx(0.184)
    assert published["CE none 0.25", "rate"].mean == pytest.approx(0.1088)
    assert len(published) == 20


def test_images_are_averaged() -> None:
    data = eigenvalues.pooled(datasets.load("digits"), 2)
    assert data.shape == (1, 4, 4)
    whole = datasets.load("digits").train.inputs()[3, 0]
    assert data.train.inputs()[3, 0, 1, 2] == pytest.approx(whole[2:4, 4:6].mean())


def test_the_experiment_end_to_end(tmp_path: Path) -> None:
    file = tmp_path / "figure-3.toml"
    file.write_text(
        'experiment = "eigenvalues"\ndata = "digits"\nseeds = 1\nalphas = [0, 0.25]\nepochs = 2\n'
        'eigenvalues = 30\nimages = 64\npool = 2\nactivations = ["none"]\n'
    )
    text = command.reproduce(
        file, command.Asked(), tmp_path / "out", tmp_path,
        listen=lambda *_: None, say=lambda _: None,
    )  # fmt: skip
    assert "negative of the largest, published" in text
    assert "| CE | none | 0 |" in text
    assert "18.40%" in text
    assert "labels of its curves swapped" in text
    raw = (tmp_path / "out" / "raw.csv").read_text().splitlines()
    head = raw[0].split(",")
    ours = [dict(zip(head, line.split(","), strict=True)) for line in raw[1:5]]
    assert all(row["rate"] == row["lanczos"] and float(row["gap"]) < 1e-6 for row in ours)

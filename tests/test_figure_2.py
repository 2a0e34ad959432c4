"""Figure 2: every truth is what it says, every method exact for its own; the published steps."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from gifcore.assets_path import asset
from gifcore.errors import GifError
from gifcore.experiments import command, registry, regression, toy
from gifcore.experiments.regression import FREE, METHODS, OWN_TRUTH

J = list(FREE)


@pytest.fixture(scope="module")
def small() -> regression.Toy:
    return regression.toy(3, samples=400, toxic=60)


def test_seed_0_is_the_published_data() -> None:
    data = regression.toy(0)
    raw = np.random.RandomState(0).rand(4000, 5)  # noqa: NPY002
    assert data.x.shape == (4000, 5)
    assert data.toxic == 500
    assert np.allclose(data.x[:, :2], raw[:, :2])  # the mix adds to the other columns alone
    assert np.allclose(data.x[7, 2], 6 * raw[7, 0] - 2 * raw[7, 1] + raw[7, 2])
    assert np.allclose(data.y[:500], -5 * raw[:500].sum(axis=1))
    assert np.allclose(data.y[500:], raw[500:].sum(axis=1))


def test_gradient_and_refit_are_those_of_the_loss(small: regression.Toy) -> None:
    theta = np.linspace(-1, 1, 6)
    step = 1e-6 * np.eye(6)
    numeric = [
        (regression.loss_at(small, 20, theta + e) - regression.loss_at(small, 20, theta - e)) / 2e-6
        for e in step
    ]
    assert np.allclose(regression.gradient_at(small, 20, theta), numeric, rtol=1e-6, atol=1e-6)
    least = regression.refit(small, 20)
    assert np.abs(regression.gradient_at(small, 20, least)).max() < 1e-10


def test_each_truth_is_the_least_of_what_it_says(small: regression.Toy) -> None:
    theta = regression.refit(small)
    wanted = regression.truths(small, 60, theta)

    def loss(free: np.ndarray, base: np.ndarray = theta) -> float:
        return regression.loss_at(small, 60, _with(base, free))

    def slope(free: np.ndarray) -> float:
        return float(np.linalg.norm(regression.gradient_at(small, 60, _with(theta, free))))

    for move in 1e-3 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]):
        assert loss(wanted["free"] + move) > loss(wanted["free"])
        assert slope(wanted["gradient"] + move) > slope(wanted["gradient"])
    assert np.allclose(wanted["all"], regression.refit(small, 60)[J])
    assert np.linalg.norm(wanted["free"] - wanted["gradient"]) > 1e-3  # three truths, not one
    assert np.linalg.norm(wanted["free"] - wanted["all"]) > 1e-1


@pytest.mark.parametrize("method", METHODS)
def test_each_method_is_exact_for_its_own_truth_alone(small: regression.Toy, method: str) -> None:
    moved = regression.path(small, "ours", method, steps=3, seed=0)
    assert moved.shape == (4, 6)
    assert np.allclose(moved[0], regression.refit(small))
    found = regression.figures(small, moved, method)
    assert found["reached_own"] == pytest.approx(1, abs=1e-9)
    others = {"free", "all", "gradient"} - {OWN_TRUTH[method]}
    assert all(found[f"reached_{name}"] < 0.99 for name in others)
    if method == "if":
        assert found["gradient"] < 1e-9
    else:
        assert np.allclose(moved[-1][2:], moved[0][2:])  # the others stay


def test_the_published_step_by_hand(small: regression.Toy) -> None:
    paths = {m: regression.published_path(small, m, steps=6, seed=2) for m in METHODS}
    for method, moved in paths.items():
        start, size, n = moved[0], 10, 400
        assert np.allclose(start[:5], regression.refit(small)[:5])
        X, y = small.features, small.y
        g = 2 * X[:size].T @ (X[:size] @ start - y[:size]) / size
        H = 2 * X[size:].T @ X[size:] / (n - size)
        factor = size / (1.04 * n)
        step = (moved[1] - start) / factor
        if method == "gif":
            wanted = np.linalg.inv(H[:, J].T @ H[:, J]) @ H[:, J].T @ g
        elif method == "freeze":
            wanted = np.linalg.inv(H[np.ix_(J, J)]) @ g[J]
        else:
            wanted = np.linalg.inv(H) @ g / (10 if method == "projected" else 1)
            assert np.allclose(step[:5], wanted[:5])
            assert step[5] == 0  # weights alone
            continue
        assert np.allclose(step[J], wanted)
        assert np.allclose(step[2:], 0)
    assert len({round(moved[0][5], 9) for moved in paths.values()}) == 4  # the bias is not copied


def test_the_experiment_prints_both_tables_and_the_figure(tmp_path: Path) -> None:
    file = tmp_path / "figure-2.toml"
    file.write_text('experiment = "toy"\nseeds = 2\nsamples = 300\ntoxic = 40\nsteps = 4\n')
    text = command.reproduce(
        file, command.Asked(), tmp_path / "out", tmp_path, listen=_deaf, say=lambda _: None
    )
    assert "| gif | least gradient | 1.000 ± 0.000 |" in text
    assert "## By the published protocol" in text
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "figure.csv").read_text())))
    assert len(rows) == 2 * 2 * 4 * 5  # protocols, seeds, methods, 0 … 4 removals
    assert {int(row["removed"]) for row in rows} == {0, 10, 20, 30, 40}
    data = regression.toy(1, samples=300, toxic=40)
    last = next(
        row for row in rows
        if (row["protocol"], row["method"], row["seed"], row["removed"])
        == ("ours", "freeze", "1", "40")
    )  # fmt: skip
    wanted = regression.truths(data, 40, regression.refit(data))["free"]
    assert [float(last["theta_1"]), float(last["theta_2"])] == pytest.approx(wanted)


def test_steps_that_do_not_divide_the_toxic_samples_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "figure-2.toml"
    file.write_text('experiment = "toy"\ntoxic = 40\nsteps = 3\n')
    with pytest.raises(GifError, match="multiple of steps"):
        registry.read(file, "quick")


def test_the_shipped_file_has_the_published_numbers() -> None:
    spec, kind = registry.read(asset("studies", "figure-2.toml"), "full")
    assert isinstance(spec, toy.Toy)
    assert (spec.samples, spec.toxic, spec.steps) == (4000, 500, 50)
    assert kind is toy.KIND


def _with(theta: np.ndarray, free: np.ndarray) -> np.ndarray:
    moved = theta.copy()
    moved[J] = free
    return moved


def _deaf(done: float, total: float, note: str) -> None:
    del done, total, note

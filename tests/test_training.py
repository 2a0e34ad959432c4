"""Training: deterministic, stops early, keeps the best, says what is wrong, leaves no halves."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from gifcore.checkpoints import read_checkpoints
from gifcore.data import Data, Split, load
from gifcore.errors import GifError
from gifcore.models import build, load_weights
from gifcore.problem import Problem
from gifcore.training import TrainingResult, train


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


def short(data: Data, out: Path, *, seed: int = 0) -> TrainingResult:
    return train(data, "logistic", seed=seed, epochs=3, lr=0.1, out=out)


def test_same_seed_same_weights_and_no_global_state(digits: Data, tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = short(digits, tmp_path / "a.safetensors")
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(6)
    again = short(digits, tmp_path / "b.safetensors")
    other = short(digits, tmp_path / "c.safetensors", seed=1)
    assert first.checkpoint.read_bytes() == again.checkpoint.read_bytes()
    assert first.checkpoint.read_bytes() != other.checkpoint.read_bytes()


def test_card_says_what_the_checkpoint_does(digits: Data, tmp_path: Path) -> None:
    result = train(digits, "fcn", epochs=4, lr=0.1, weight_decay=0.002, seed=3, out=tmp_path / "x")
    assert result.checkpoint == tmp_path / "x.safetensors"
    card = json.loads((tmp_path / "x.json").read_text())
    assert card == result.card
    assert card["data"] == {"name": "digits", "hash": digits.hash}
    assert card["weight_decay"] == card["settings"]["weight_decay"] == 0.002
    assert (card["settings"]["seed"], card["epochs"]) == (3, 4)
    assert card["versions"]["torch"] == torch.__version__
    net = build("fcn", digits.shape, 10)
    load_weights(net, result.checkpoint)
    for name in ("train", "validation", "test"):
        split = digits.split(name)
        with torch.no_grad():
            guess = net(torch.from_numpy(split.inputs())).argmax(1).numpy()
        assert (guess == split.y).mean() == pytest.approx(card["accuracy"][name], abs=0.003)
    assert card["accuracy"]["test"] > 0.6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.json", "x.safetensors"]


def test_the_objective_is_mean_loss_plus_half_decay(tmp_path: Path) -> None:
    """A logistic model trained to the end is stationary for exactly the objective of the engine."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 1, 1, 3)).astype(np.float32)
    split = Split(x, (x[:, 0, 0, 0] > 0).astype(np.int64))
    data = Data("tiny", split, split, split, ("a", "b"), "0", "tiny", "")
    decay = 0.05
    result = train(
        data,
        "logistic",
        epochs=200,
        batch_size=40,
        lr=0.5,
        momentum=0.0,  # no overshoot: the loss falls all the way
        weight_decay=decay,
        patience=200,
        out=tmp_path / "t",
    )
    net = build("logistic", data.shape, 2)
    load_weights(net, result.checkpoint)
    weights = list(net.parameters())
    loss = torch.nn.functional.cross_entropy(
        net(torch.from_numpy(split.x)), torch.from_numpy(split.y)
    )
    objective = loss + decay / 2 * sum((w**2).sum() for w in weights)
    assert all(g.abs().max() < 1e-3 for g in torch.autograd.grad(objective, weights))


def test_early_stopping_keeps_the_best_epoch(digits: Data, tmp_path: Path) -> None:
    notes: list[tuple[int, int, str]] = []
    result = train(
        digits,
        "logistic",
        epochs=200,
        lr=0.2,
        patience=3,
        out=tmp_path / "e",
        progress=lambda *now: notes.append(now),
    )
    assert result.epochs == result.best_epoch + 3 < 200
    assert [done for done, _, _ in notes] == list(range(1, result.epochs + 1))
    losses = [float(note.split("loss ")[1].split(",")[0]) for _, _, note in notes]
    assert losses[result.best_epoch - 1] == min(losses)
    shown = notes[result.best_epoch - 1][2].split("accuracy ")[1].rstrip("%")
    assert result.accuracy["validation"] * 100 == pytest.approx(float(shown), abs=0.051)


def test_diverging_loss_is_a_sentence_and_writes_nothing(digits: Data, tmp_path: Path) -> None:
    with pytest.raises(GifError, match="no longer a finite number in epoch 1: lower the learning"):
        train(digits, "fcn", epochs=3, lr=1e9, out=tmp_path / "n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("epochs", 0, "epochs must be 1 or more, found 0"),
        ("batch_size", 0, "batch_size must be 1 or more, found 0"),
        ("patience", -1, "patience must be 1 or more, found -1"),
        ("lr", 0.0, "lr must be a positive number, found 0.0"),
        ("lr", float("nan"), "lr must be a positive number, found nan"),
        ("momentum", 1.0, "momentum must be from 0 to below 1, found 1.0"),
        ("weight_decay", -0.1, "weight_decay must be 0 or more, found -0.1"),
    ],
)
def test_impossible_settings(
    digits: Data, tmp_path: Path, setting: str, value: float, sentence: str
) -> None:
    options = {setting: value}
    with pytest.raises(GifError, match=sentence):
        train(digits, "logistic", out=tmp_path / "s", **options)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_written(digits: Data, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GifError, match="The checkpoint could not be written to"):
        short(digits, tmp_path / "file" / "x")


def test_unknown_model(digits: Data, tmp_path: Path) -> None:
    with pytest.raises(GifError, match="no model 'net'"):
        train(digits, "net", out=tmp_path / "x")


def test_checkpoints_are_kept_up_to_the_best_epoch_and_read_back(tmp_path: Path) -> None:
    data = load("digits")
    found = train(data, "logistic", epochs=6, checkpoints=3, lr=0.1, patience=6, out=tmp_path / "m")
    problem = Problem(
        build("logistic", data.shape, data.n_classes),
        TensorDataset(torch.from_numpy(data.train.inputs()), torch.from_numpy(data.train.y)),
    )
    points = read_checkpoints(found.checkpoint, problem.space)
    assert len(points) == found.card["checkpoints"] == found.best_epoch // 2
    batches = math.ceil(len(data.train) / 128)
    assert [point.steps for point in points] == [2 * batches] * len(points)
    rates = [0.1 * (1 + math.cos(math.pi * epoch / 6)) / 2 / (1 - 0.9) for epoch in (1, 3, 5)]
    assert [point.rate for point in points] == pytest.approx(rates[: len(points)])
    if found.best_epoch == 6:
        load_weights(problem.model, found.checkpoint)
        last = torch.nn.utils.parameters_to_vector(problem.model.parameters())
        assert torch.equal(points[-1].theta, last)
    train(data, "logistic", epochs=1, out=tmp_path / "m")
    with pytest.raises(GifError, match=r"tracin needs checkpoints .* no m.checkpoints.safetensors"):
        read_checkpoints(found.checkpoint, problem.space)
    (tmp_path / "m.checkpoints.safetensors").write_bytes(b"nothing")
    with pytest.raises(GifError, match="is no checkpoints file"):
        read_checkpoints(found.checkpoint, problem.space)

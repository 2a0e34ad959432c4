"""Many retrained models: what makes two trainings the same, the cache, processes, a cancel."""

from __future__ import annotations

import copy
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from gifcore.change import AddSamples, Change, Relabel, RemoveClass, RemoveSamples, Reweight
from gifcore.errors import Cancelled, GifError
from gifcore.problem import Problem, cross_entropy
from gifcore.retraining import (
    Job,
    Minimise,
    Proximal,
    Recipe,
    Retrained,
    Sgd,
    expected_seconds,
    identity,
    retrain,
    retrain_all,
    retrain_each,
    service,
)
from gifcore.retraining.identity import Identity
from gifcore.training import Settings
from tests import cases
from tests.deadly import Deadly

X, Y = cases.features((5,), 40, seed=1)
SGD = Sgd(Settings(epochs=2, batch_size=16, lr=0.05))
CUT = RemoveSamples([1, 2])


def network(act: type[nn.Module] = nn.Tanh, width: int = 6, norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(5, width), act(), nn.Linear(width, cases.CLASSES)]
    if norm:
        layers.insert(1, nn.BatchNorm1d(width))
    return nn.Sequential(*layers).double()


def problem_of(
    model: nn.Module | None = None, x: Tensor = X, y: Tensor = Y, **more: Any
) -> Problem:
    return Problem(model or network(), TensorDataset(x, y), **({"weight_decay": 0.01} | more))


def moved(problem: Problem) -> Problem:
    """The same problem at other trained parameters."""
    model = copy.deepcopy(problem.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    return replace(problem, model=model)


def scaled(by: float) -> Callable[[Tensor, Any], Tensor]:
    def loss(outputs: Tensor, batch: Any) -> Tensor:
        return by * cross_entropy(outputs, batch)

    return loss


class Scaled(nn.Module):
    """A module whose factor its text does not show."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by, self.inner = by, network()

    def forward(self, x: Tensor) -> Tensor:
        return self.by * self.inner(x)


class Named(nn.Module):
    """A model of dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.inner(batch["input"])


def key(
    problem: Problem | None = None,
    change: Change | None = CUT,
    seed: int = 0,
    recipe: Recipe = SGD,
) -> str:
    return Identity(problem or problem_of(), recipe).key(change, seed)


def with_one(values: Tensor, row: int, value: float) -> Tensor:
    changed = values.clone()
    changed[row] = value
    return changed


def plain(place: int, label: int) -> Any:
    """A list of samples, too long to be printed whole."""
    data = [(X[i % len(X)], Y[i % len(Y)]) for i in range(1200)]
    data[place] = (data[place][0], torch.tensor(label))
    return data


BUFFERED = network(norm=True)
MISSES: dict[str, tuple[Callable[[], str], Callable[[], str]]] = {
    "an input": (key, lambda: key(problem_of(x=with_one(X, 5, 0.25)))),
    "a label": (
        lambda: key(problem_of(y=with_one(Y, 5, 0))),
        lambda: key(problem_of(y=with_one(Y, 5, 1))),
    ),
    "a label in the middle of a plain data set": (
        lambda: key(replace(problem_of(), train=plain(600, 0))),
        lambda: key(replace(problem_of(), train=plain(600, 1))),
    ),
    "a weight": (
        lambda: key(change=Reweight([3], [2.0])),
        lambda: key(change=Reweight([3], [2.5])),
    ),
    "which samples count": (key, lambda: key(change=RemoveSamples([1, 3]))),
    "no change": (key, lambda: key(change=None)),
    "a new label": (
        lambda: key(change=Relabel([3], [(int(Y[3]) + 1) % cases.CLASSES])),
        lambda: key(change=Relabel([3], [(int(Y[3]) + 2) % cases.CLASSES])),
    ),
    "an added sample": (
        lambda: key(change=AddSamples(TensorDataset(X[:2], Y[:2]))),
        lambda: key(change=AddSamples(TensorDataset(X[2:4], Y[:2]))),
    ),
    "weight decay": (key, lambda: key(problem_of(weight_decay=0.02))),
    "another loss": (key, lambda: key(problem_of(loss=scaled(1.0)))),
    "what a loss holds": (
        lambda: key(problem_of(loss=scaled(1.0))),
        lambda: key(problem_of(loss=scaled(2.0))),
    ),
    "the activation": (key, lambda: key(problem_of(network(nn.ReLU)))),
    "shapes": (key, lambda: key(problem_of(network(width=7)))),
    "what a module holds": (
        lambda: key(problem_of(Scaled(1.0))),
        lambda: key(problem_of(Scaled(2.0))),
    ),
    "the type of numbers": (key, lambda: key(problem_of(network().float(), X.float()))),
    "the seed": (key, lambda: key(seed=1)),
    "the kind of recipe": (key, lambda: key(recipe=Minimise("cold"))),
    "a setting": (key, lambda: key(recipe=Sgd(replace(SGD.settings, momentum=0.8)))),
    "the epoch it stops at": (key, lambda: key(recipe=replace(SGD, stop=1))),
    "the start": (key, lambda: key(recipe=replace(SGD, start="warm"))),
    "trained parameters of a warm start": (
        lambda: key(recipe=Minimise("warm")),
        lambda: key(moved(problem_of()), recipe=Minimise("warm")),
    ),
    "trained parameters of a proximal answer": (
        lambda: key(recipe=Proximal()),
        lambda: key(moved(problem_of()), recipe=Proximal()),
    ),
    "the objective a proximal answer comes from": (  # the same after the change, not before it
        lambda: key(recipe=Proximal()),
        lambda: key(problem_of(x=with_one(X, 1, 0.25)), recipe=Proximal()),
    ),
    "statistics where they are used": (
        lambda: key(problem_of(BUFFERED), recipe=Minimise("cold")),
        lambda: key(problem_of(with_statistics(0.5)), recipe=Minimise("cold")),
    ),
}
HITS: dict[str, tuple[Callable[[], str], Callable[[], str]]] = {
    "the same samples in a list": (
        key,
        lambda: key(replace(problem_of(), train=list(zip(X, Y, strict=True)))),
    ),
    "a copy": (key, lambda: key(problem_of(copy.deepcopy(network()), X.clone(), Y.clone()))),
    "trained parameters of a cold start": (key, lambda: key(moved(problem_of()))),
    "the same samples by another change": (
        lambda: key(change=RemoveClass(2)),
        lambda: key(change=RemoveSamples((Y == 2).nonzero().flatten().tolist())),
    ),
    "a removed sample's content": (key, lambda: key(problem_of(x=with_one(X, 1, 0.25)))),
    "the seed of what draws nothing": (
        lambda: key(recipe=Minimise("warm")),
        lambda: key(recipe=Minimise("warm"), seed=3),
    ),
    "statistics that are learnt anew": (
        lambda: key(problem_of(BUFFERED)),
        lambda: key(problem_of(with_statistics(0.5))),
    ),
}


def with_statistics(mean: float) -> nn.Module:
    model = copy.deepcopy(BUFFERED)
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    norm.running_mean.fill_(mean)
    return model


@pytest.mark.parametrize("what", MISSES)
def test_another_training_has_another_key(what: str) -> None:
    one, other = MISSES[what]
    assert one() == one()
    assert one() != other()


@pytest.mark.parametrize("what", HITS)
def test_the_same_training_has_the_same_key(what: str) -> None:
    one, other = HITS[what]
    assert one() == other()


def test_another_engine_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    monkeypatch.setattr(identity, "ENGINE_VERSION", "0.0.0")
    assert key() != before


def test_labels_in_dicts_are_hashed_as_labels() -> None:
    def data(value: int) -> Any:
        return [{"input": X[i], "labels": torch.tensor(value if i == 7 else 0)} for i in range(9)]

    keys = {
        Identity(Problem(Named(), data(value)), Minimise("cold")).key(change, 0)
        for value, change in ((0, None), (1, None), (0, Relabel([7], [1])))
    }
    assert len(keys) == 2  # the relabelled data are those with that label


def test_a_loss_that_cannot_be_read_is_named() -> None:
    class Odd:
        def __call__(self, outputs: Tensor, batch: Any) -> Tensor:
            return cross_entropy(outputs, batch)

    with pytest.raises(GifError, match="use a function at the top level of a module as loss"):
        key(problem_of(loss=Odd()))


# --- the cache --------------------------------------------------------------------------------


JOBS = [Job(None, 0), Job(CUT, 0), Job(CUT, 1)]


def test_a_kept_model_is_read_not_trained_and_is_the_same(tmp_path: Path) -> None:
    problem = problem_of(BUFFERED)
    first = retrain_all(problem, JOBS, SGD, cache=tmp_path)
    again = retrain_all(problem, [*JOBS, Job(CUT, 2)], SGD, cache=tmp_path)
    alone = retrain(problem, CUT, SGD, seed=1)
    assert [one.cached for one in first] == [False] * 3
    assert [one.cached for one in again] == [True, True, True, False]
    for one, other in zip(first, again, strict=False):
        assert torch.equal(one.theta, other.theta)
        assert all(torch.equal(one.buffers[name], other.buffers[name]) for name in one.buffers)
        assert (one.gradient_norm, one.steps, one.seconds) == (
            other.gradient_norm,
            other.steps,
            other.seconds,
        )
        assert (tmp_path / f"{one.key}.safetensors").is_file()
    assert torch.equal(alone.theta, first[2].theta)
    assert "1.running_mean" in first[0].buffers


def test_equal_trainings_of_one_call_are_done_once(tmp_path: Path) -> None:
    heard: list[str] = []
    jobs = [Job(CUT, 0), Job(RemoveSamples([2, 1]), 0)]
    retrain_all(
        problem_of(), jobs, SGD, cache=tmp_path, progress=lambda *said: heard.append(said[2])
    )
    assert len(list(tmp_path.iterdir())) == 1
    assert heard[-1] == "1 of 1 models retrained"


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def with_a_bit_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def of_another(path: Path) -> None:
    other = next(p for p in path.parent.iterdir() if p != path)
    path.write_bytes(other.read_bytes())


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut_short, with_a_bit_flipped, of_another, emptied])
def test_a_damaged_file_is_trained_again_and_said(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    problem = problem_of()
    first = retrain_all(problem, JOBS, SGD, cache=tmp_path)
    damage(tmp_path / f"{first[1].key}.safetensors")
    again = retrain_all(problem, JOBS, SGD, cache=tmp_path)
    assert [one.cached for one in again] == [True, False, True]
    assert "It was trained again." in again[1].note
    assert torch.equal(again[1].theta, first[1].theta)
    assert retrain_all(problem, JOBS, SGD, cache=tmp_path)[1].cached


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GifError, match="A retrained model cannot be written to"):
        retrain_all(problem_of(), JOBS[:1], SGD, cache=tmp_path / "file" / "inside")


# --- stopped, failed, lost ------------------------------------------------------------------------


def stopping_at(step: int, heard: list[tuple[int, int, str]]) -> Callable[[int, int, str], None]:
    def progress(*said: Any) -> None:
        heard.append(said)
        if len(heard) == step:
            raise Cancelled("enough")

    return progress


def test_a_stopped_call_ends_within_a_step_and_goes_on_where_it_was(tmp_path: Path) -> None:
    problem, heard = problem_of(), []  # type: tuple[Problem, list[tuple[int, int, str]]]
    steps = SGD.steps(problem)  # of the first model; one report each, and one at its end
    with pytest.raises(Cancelled):
        retrain_all(problem, JOBS, SGD, cache=tmp_path, progress=stopping_at(steps + 3, heard))
    assert len(heard) == steps + 3
    assert len(list(tmp_path.iterdir())) == 1
    again = retrain_all(problem, JOBS, SGD, cache=tmp_path)
    assert [one.cached for one in again] == [True, False, False]


def test_progress_counts_up_to_its_total() -> None:
    heard: list[tuple[int, int, str]] = []
    retrain_all(problem_of(), JOBS, SGD, progress=lambda *said: heard.append(said))
    done = [said[0] for said in heard]
    assert done == sorted(done)
    assert done[-1] == heard[-1][1] == 3 * service.PARTS
    assert heard[-1][2] == "3 of 3 models retrained"


def test_a_training_that_diverges_costs_only_itself(tmp_path: Path) -> None:
    bad = AddSamples(TensorDataset(torch.full((1, 5), 1e300, dtype=torch.float64), Y[:1]))
    jobs = [JOBS[0], Job(bad, 0), JOBS[1]]
    found = retrain_each(problem_of(network(nn.ReLU)), jobs, SGD, cache=tmp_path)
    assert [type(one) for one in found] == [Retrained, GifError, Retrained]
    assert "Retraining diverged: lower the learning rate" in str(found[1])
    with pytest.raises(GifError, match="diverged"):
        retrain_all(problem_of(network(nn.ReLU)), [jobs[1], *JOBS], SGD, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3  # what came after it is kept


def test_processes_train_the_same_models_and_a_lost_one_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    problem = problem_of(BUFFERED)
    here = retrain_all(problem, JOBS, SGD)
    deadly = replace(problem, train=Deadly(problem.train, 1))  # only the first job meets it
    apart = retrain_all(deadly, JOBS, SGD, processes=2, cache=tmp_path)
    for one, other in zip(here, apart, strict=True):
        torch.testing.assert_close(one.theta, other.theta, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(one.buffers, other.buffers, rtol=1e-9, atol=1e-11)
    assert [bool(one.note) for one in apart] == [True, False, False]
    assert apart[0].note.startswith("Trained again in the main process: its process was killed by")
    assert "killed by signal 9" in caplog.text
    assert all(one.cached for one in retrain_all(problem, JOBS, SGD, cache=tmp_path))


def test_a_cancel_ends_the_processes() -> None:
    forever = Sgd(Settings(epochs=10**7, batch_size=16, lr=1e-3))
    with pytest.raises(Cancelled):
        retrain_all(problem_of(), JOBS, forever, processes=2, progress=stopping_at(2, []))
    assert multiprocessing.active_children() == []


def test_what_cannot_travel_is_named() -> None:
    with pytest.raises(GifError, match="or set processes=1"):
        retrain_all(problem_of(loss=scaled(1.0)), JOBS, SGD, processes=2)
    with pytest.raises(GifError, match="processes is 0; give 1 or more"):
        retrain_all(problem_of(), JOBS, SGD, processes=0)


# --- what a model is ------------------------------------------------------------------------------


def test_batch_norm_starts_afresh_and_comes_with_the_model() -> None:
    problem = problem_of(BUFFERED)
    one, other = (
        retrain(replace(problem, model=with_statistics(mean)), None, SGD) for mean in (0.0, 5.0)
    )
    assert torch.equal(one.buffers["1.running_mean"], other.buffers["1.running_mean"])
    there = one.problem(problem)
    assert torch.equal(there.theta, one.theta)
    assert torch.equal(there.buffers["1.running_mean"], one.buffers["1.running_mean"])
    assert not torch.equal(problem.buffers["1.running_mean"], there.buffers["1.running_mean"])


def test_a_training_stops_where_an_early_stopping_did() -> None:
    problem = problem_of()
    whole, stopped = (replace(SGD, stop=stop) for stop in (None, 1))
    assert (whole.steps(problem), stopped.steps(problem)) == (6, 3)
    assert retrain(problem, None, stopped).steps == 3
    once = Sgd(replace(SGD.settings, epochs=1))  # its rate is already at its end
    assert torch.equal(retrain(problem, None, stopped).theta, retrain(problem, None, once).theta)


def test_what_is_kept_costs_nothing_more(tmp_path: Path) -> None:
    problem = problem_of()
    assert expected_seconds(problem, JOBS, SGD, cache=tmp_path) > 0
    retrain_all(problem, JOBS, SGD, cache=tmp_path)
    assert expected_seconds(problem, JOBS, SGD, cache=tmp_path) == 0
    assert expected_seconds(problem, JOBS, Minimise("cold", evaluations=3), cache=tmp_path) > 0
    passes = [service.passes(recipe) for recipe in (SGD, replace(SGD, stop=1), Proximal())]
    assert passes == [2, 1, 3 * Proximal().evaluations]

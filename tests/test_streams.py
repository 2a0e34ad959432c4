"""Scores that are not kept: extremes while they stream, the score file, a disk that is full."""

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import TensorDataset

from gifcore.checkpoints import Checkpoint
from gifcore.errors import Cancelled, GifError
from gifcore.problem import Problem
from gifcore.queries import Queries
from gifcore.scoring import rank
from gifcore.solvers import LSMR
from gifcore.streams import Extremes, ScoreFileError, Scores
from tests import cases, oracles
from tests.test_influence import chosen

N = 203


def wide(*, weighted: bool = False) -> tuple[Problem, Queries]:
    """More training samples than extremes are kept, and three queries, one of them a group."""
    x, y = cases.features((3,), N, seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = cases.perceptron().double()
    weights = None
    if weighted:
        generator = torch.Generator().manual_seed(1)
        weights = 0.2 + torch.rand(N, generator=generator, dtype=torch.float64)
    problem = Problem(model, TensorDataset(x, y), weight_decay=0.1, weights=weights)
    return problem, Queries(cases.queries("perceptron"), [[0], [3], [1, 2, 4]])


def ranked(
    method: str, problem: Problem, queries: Queries, *, keep: bool = True, top: int = 50,
    out: Path | None = None, progress: Callable[[int, int, str], None] = lambda *_: None,
) -> Scores:  # fmt: skip
    theta = problem.theta
    points = [Checkpoint(theta, 0.1, 3), Checkpoint(0.9 * theta, 0.05, 2)]
    return rank(
        problem, queries, method=method, selected=chosen(problem), solver=LSMR(6, 0),
        checkpoints=points if method == "tracin" else (), batch_size=32, keep=keep, top=top,
        out=out, progress=progress,
    )  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("method", ["gradient", "gif", "tracin"])
def test_extremes_are_those_of_all_scores(method: str, weighted: bool) -> None:
    problem, queries = wide(weighted=weighted)
    whole = ranked(method, problem, queries)
    few = ranked(method, problem, queries, keep=False, top=60)
    assert few.values is None
    for row in range(3):
        values = whole.values[row].numpy()
        orders = {
            "helpful": np.argsort(-values, kind="stable"),
            "harmful": np.argsort(values, kind="stable"),
            "top": np.argsort(-np.abs(values), kind="stable"),
        }
        for name, order in orders.items():
            for scores in (whole, few):
                found = getattr(scores, name)(row, 60)
                assert [i for i, _ in found] == order[:60].tolist()
                np.testing.assert_allclose([v for _, v in found], values[order[:60]], rtol=1e-9)
    stable = [found.rank_stability for found in whole.solutions]
    assert [found.rank_stability for found in few.solutions] == stable
    with pytest.raises(GifError, match="60 most extreme scores .* not 61"):
        few.helpful(0, 61)
    assert len(whole.helpful(0, 1000)) == N


def test_ties_go_to_the_earlier_sample() -> None:
    rows = torch.tensor([[1.0, -2.0, 1.0, 2.0, -2.0, 1.0, 0.0], [0.0] * 7])
    kept = Extremes(3)
    for first in (0, 2, 5):
        kept.take(rows[:, first : {0: 2, 2: 5, 5: 7}[first]], first)
    assert kept.side(0, "largest") == ([3, 0, 2], [2.0, 1.0, 1.0])
    assert kept.side(0, "smallest") == ([1, 4, 6], [-2.0, -2.0, 0.0])
    assert kept.side(0, "magnitude") == ([1, 3, 4], [-2.0, 2.0, -2.0])
    assert kept.side(1, "largest")[0] == kept.side(1, "smallest")[0] == [0, 1, 2]
    kept.finish(torch.tensor([-1.0, 0.0]), 0.5)  # then 2 is larger than -2: 1.5 against -0.5
    assert kept.side(0, "magnitude") == ([3, 0, 2], [1.5, 1.0, 1.0])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("method", ["gif", "tracin"])
def test_the_score_file_holds_the_scores(method: str, weighted: bool, tmp_path: Path) -> None:
    problem, queries = wide(weighted=weighted)
    out = tmp_path / "scores.npy"
    whole = ranked(method, problem, queries)
    few = ranked(method, problem, queries, keep=False, out=out)
    assert few.file == out
    assert [path.name for path in tmp_path.iterdir()] == ["scores.npy"]
    mapped = np.load(out, mmap_mode="r")
    assert mapped.shape == (3, N)
    assert mapped.dtype == np.float32
    np.testing.assert_allclose(mapped, whole.values, rtol=2e-5, atol=1e-9)


class Largest(TorchDispatchMode):
    """Watches how many numbers the largest tensor has that any operation returns."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204, ARG002
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return found


@pytest.mark.parametrize("keep", [True, False])
def test_no_tensor_of_all_scores_is_made_unless_they_are_kept(keep: bool, tmp_path: Path) -> None:
    problem, _ = wide()
    data = cases.queries("perceptron", n=40)
    queries = Queries(data, [[i] for i in range(40)])
    with Largest() as watched:
        rank(problem, queries, method="gradient", batch_size=8, keep=keep, out=tmp_path / "s.npy")
    assert (watched.numbers >= 40 * N) is keep
    if not keep:
        assert watched.numbers <= 40 * 2 * 58  # of a stack: extremes of both sides and a batch


def limited(size: int) -> None:
    """Let no file of this process grow beyond so many bytes: a real error of the system."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_file_without_room_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    problem, queries = wide()
    said: list[str] = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limited(1024)
    try:
        with pytest.raises(GifError, match=r"score file .* of 0\.00232 MB: .*free some space"):
            ranked("gif", problem, queries, out=tmp_path / "s.npy",
                   progress=lambda *now: said.append(now[2]))  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not said
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_during_the_sweep_leaves_what_was_found(tmp_path: Path) -> None:
    problem, queries = wide()
    whole = ranked("gif", problem, queries)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(done: int, _total: int, note: str) -> None:
        if note == "scores" and done > 32:
            limited(512)

    try:
        with pytest.raises(ScoreFileError, match="File too large.*kept in this error") as caught:
            ranked("gif", problem, queries, keep=False, out=tmp_path / "s.npy", progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept = caught.value.scores
    assert kept is not None
    assert kept.file is None
    for row in range(3):
        assert [i for i, _ in kept.top(row, 50)] == [i for i, _ in whole.top(row, 50)]
    assert all(found.hvps for found in kept.solutions)
    assert not list(tmp_path.iterdir())


def test_a_cancel_leaves_no_half_file(tmp_path: Path) -> None:
    problem, queries = wide()

    def cancel(done: int, _total: int, note: str) -> None:
        if note == "scores" and done > 64:
            raise Cancelled

    with pytest.raises(Cancelled):
        ranked("gif", problem, queries, out=tmp_path / "s.npy", progress=cancel)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "words"), [("scores.csv", "ends in .npy"), ("no/where.npy", "No such file")]
)
def test_names_of_score_files(out: str, words: str, tmp_path: Path) -> None:
    problem, queries = wide()
    with pytest.raises(GifError, match=words):
        ranked("gradient", problem, queries, out=tmp_path / out)


def test_extremes_of_none_are_refused() -> None:
    problem, queries = wide()
    with pytest.raises(GifError, match="top is 0"):
        ranked("gradient", problem, queries, keep=False, top=0)


def test_weighted_scores_are_centred_and_scaled_by_the_weights() -> None:
    """w_i / (W - w_i) s . (grad l_i - gbar), gbar the weighted mean: from single gradients."""
    problem, queries = wide(weighted=True)
    found = ranked("gif", problem, queries)
    gradients, w = oracles.train_gradients(problem), problem.weights.numpy()
    for row in range(3):
        products = (gradients - w @ gradients / w.sum()) @ found.solutions[row].value.numpy()
        np.testing.assert_allclose(found.values[row], products * w / (w.sum() - w), rtol=1e-9)

"""Brittleness against enumeration, on convex problems small enough to retrain for every k."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from gifcore.change import RemoveSamples
from gifcore.errors import GifError
from gifcore.evaluate import brittleness as module
from gifcore.evaluate.brittleness import Brittleness, brittleness
from gifcore.problem import Problem
from gifcore.queries import Queries
from gifcore.retraining import Minimise, retrain
from gifcore.scoring import rank
from gifcore.solvers import Dense

RECIPE = Minimise("warm", 1e-6)
N, QUERIES = 24, [0, 1, 2, 3]


@cache
def convex() -> tuple[Problem, TensorDataset]:
    """Softmax regression of two overlapping clouds, at its minimum; queries between them."""
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(N) % 2
    x = torch.randn(N, 2, generator=generator, dtype=torch.float64) + 0.9 * (2 * y[:, None] - 1)
    problem = Problem(nn.Linear(2, 2).double(), TensorDataset(x, y), weight_decay=0.05)
    problem = retrain(problem, None, RECIPE).problem(problem)
    asked = torch.tensor([[0.3, 0.2], [-0.2, -0.4], [0.7, 0.1], [2.5, 2.5]], dtype=torch.float64)
    with torch.no_grad():
        return problem, TensorDataset(asked, problem.model(asked).argmax(dim=1))


@cache
def rankings() -> list[list[int]]:
    problem, asked = convex()
    found = rank(problem, Queries(asked, [[q] for q in QUERIES]), method="if", solver=Dense())
    assert found.values is not None
    return [torch.argsort(-row).tolist() for row in found.values]


@cache
def flips(query: int, ranking: tuple[int, ...], most: int) -> list[bool]:
    """Does the prediction flip without the first k, for every k = 1 … most: retrained here."""
    problem, asked = convex()
    x, y = asked.tensors
    found = []
    for k in range(1, most + 1):
        model = retrain(problem, RemoveSamples(list(ranking[:k])), RECIPE).problem(problem).model
        with torch.no_grad():
            found.append(bool(model(x[query][None]).argmax() != y[query]))
    return found


def least(found: list[bool]) -> int | None:
    return found.index(True) + 1 if True in found else None


def test_the_search_finds_the_least_k_where_flips_do_not_come_and_go() -> None:
    problem, asked = convex()
    found = brittleness(problem, asked, QUERIES, rankings(), RECIPE, most=12)
    answers = [least(flips(q, tuple(rankings()[q]), 12)) for q in QUERIES]
    assert [one.k for one in found] == answers
    assert len({k for k in answers if k is not None and k > 2}) >= 2  # the search had to search
    assert None in answers  # and one does not flip
    for one, answer in zip(found, answers, strict=True):
        tried = {model.k: model.flipped for model in one.tried}
        assert len(tried) <= 8  # not all 12
        if answer is not None and answer > 1:
            assert tried[answer]
            assert not tried[answer - 1]
        else:
            assert set(tried) == {1, 2, 4, 8, 12} or answer == 1


def test_each_model_tried_was_retrained_and_its_margin_is_of_its_class() -> None:
    problem, asked = convex()
    (found,) = brittleness(problem, asked, [0], rankings()[:1], RECIPE, most=12)
    x, y = asked.tensors
    for one in found.tried:
        change = RemoveSamples(rankings()[0][: one.k])
        model = retrain(problem, change, RECIPE).problem(problem).model
        with torch.no_grad():
            shares = model(x[:1]).softmax(dim=1)[0]
        assert one.margin == pytest.approx(float(2 * shares[y[0]] - 1), abs=1e-3)
        assert one.flipped == (one.margin < 0)
        assert one.converged
        assert one.gradient_norm <= 1e-6


def test_the_most_helpful_go_before_a_random_order() -> None:
    problem, asked = convex()
    generator = np.random.default_rng(0)
    orders = [generator.permutation(N).tolist() for _ in QUERIES[:3]]
    ours = brittleness(problem, asked, QUERIES[:3], rankings()[:3], RECIPE, most=16)
    control = brittleness(problem, asked, QUERIES[:3], orders, RECIPE, most=16)
    assert sum(one.k or 17 for one in ours) * 2 < sum(one.k or 17 for one in control)


# --- flips that come and go, without a training: the search alone ---------------------------------

PATTERNS = {
    "at once": "1" * 20,
    "never": "0" * 20,
    "late": "0" * 19 + "1",
    "comes and goes": "0010000000011111" + "1" * 4,
    "gone again at the end": "00001111110000000000",
}


@pytest.mark.parametrize("checks", [0, 3, 30])
@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_flip_was_seen_and_one_less_did_not_flip(pattern: str, every: bool, checks: int) -> None:
    truth = [sign == "1" for sign in PATTERNS[pattern]]
    search = module._Search(20, checks, every)
    while search.wanted:
        for k in list(search.wanted):
            search.take(module.Tried(k, truth[k - 1], 0.0, 0.0, True))
    found: Brittleness = search.found()
    tried = {one.k: one.flipped for one in found.tried}
    if found.k is not None:
        assert truth[found.k - 1]
        assert found.k == 1 or (tried[found.k - 1] is False)
        assert not any(flipped for k, flipped in tried.items() if k < found.k)
    if every or checks == 30 or "come" not in pattern:
        assert found.k == least(truth) or (pattern.startswith("gone") and not every)
    if every:
        assert len(tried) == 20
        assert found.monotone == (pattern not in ("comes and goes", "gone again at the end"))
    seen = [tried[k] for k in sorted(tried)]
    assert found.monotone == (seen == sorted(seen))


def test_checks_see_what_the_search_alone_does_not() -> None:
    truth = [sign == "1" for sign in PATTERNS["comes and goes"]]
    once = [k == 4 for k in range(1, 21)]  # gone again above

    def run(checks: int, truth: list[bool] = truth) -> Brittleness:
        search = module._Search(20, checks, every=False)
        while search.wanted:
            for k in list(search.wanted):
                search.take(module.Tried(k, truth[k - 1], 0.0, 0.0, True))
        return search.found()

    assert (run(0).k, run(0).monotone) == (12, True)
    assert (run(30).k, run(30).monotone) == (3, False)
    assert (run(0, once).k, run(0, once).monotone) == (4, True)
    assert (run(3, once).k, run(3, once).monotone) == (4, False)


def test_models_are_kept_and_read_again(tmp_path: Path) -> None:
    problem, asked = convex()
    given: dict[str, Any] = {"most": 4, "cache": tmp_path}
    first = brittleness(problem, asked, [0], rankings()[:1], RECIPE, **given)
    kept = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(kept) == len(first[0].tried)
    assert brittleness(problem, asked, [0], rankings()[:1], RECIPE, **given) == first
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == kept


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rankings": [[0], [1]]}, "got 2 for 1 queries"),
        ({"rankings": [[]]}, "needs a ranking of one or more"),
        ({"rankings": [[0]], "most": 0}, "most is 0; allow the removal of 1"),
    ],
)
def test_what_cannot_be_searched_is_refused(given: dict[str, Any], words: str) -> None:
    problem, asked = convex()
    with pytest.raises(GifError, match=words):
        brittleness(problem, asked, [0], recipe=RECIPE, **given)

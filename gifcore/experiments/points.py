"""Checkpoints of a base model's training, for tracin: its epochs, trained again and cached."""

from __future__ import annotations

import math
from dataclasses import replace

from gifcore.checkpoints import Checkpoint
from gifcore.experiments.removal import Bench
from gifcore.methods import METHODS
from gifcore.retraining import Job


def points_of(bench: Bench, seed: int, count: int, method: str) -> tuple[Checkpoint, ...]:
    """Return `count` evenly spaced checkpoints of a base model; none for a method without.

    As in `training`: the rate is that of the epoch it ends, steps are those since the one before.

    Cost: the epochs before each checkpoint but the last, the first time; then they are cached.
    """
    if not METHODS[method].checkpoints:
        return ()
    recipe = bench.spec.train.recipe()
    asked, found, before = recipe.settings, [], 0
    for epoch in epochs_of(asked.epochs, count):
        whole = epoch == asked.epochs  # the base model itself
        model = bench.trained(Job(None, seed), recipe if whole else replace(recipe, stop=epoch))
        falling = (1 + math.cos(math.pi * (epoch - 1) / asked.epochs)) / 2
        rate = asked.lr * falling / (1 - asked.momentum)
        steps = (epoch - before) * math.ceil(bench.blank.n / asked.batch_size)
        found.append(Checkpoint(model.theta, rate, steps))
        before = epoch
    return tuple(found)


def epochs_of(epochs: int, count: int) -> list[int]:
    """Return the epochs whose ends are kept.

    >>> epochs_of(4, 2), epochs_of(3, 8)
    ([2, 4], [1, 2, 3])
    """
    return sorted({max(1, round((i + 1) * epochs / count)) for i in range(count)})


def seconds_of(bench: Bench, seed: int, count: int, method: str) -> float:
    """Return how long it takes to have them."""
    if not METHODS[method].checkpoints:
        return 0.0
    recipe = bench.spec.train.recipe()
    parts = (replace(recipe, stop=epoch) for epoch in epochs_of(recipe.settings.epochs, count)[:-1])
    return sum(bench.expected(Job(None, seed), recipe=part) for part in parts)

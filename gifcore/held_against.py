"""The retrained models of a record: mean and spread of every figure, and who is left out; no torch.

`record.json["retrained"]` is written by the stage retrain. A model whose training went astray would
widen the spread until everything fell within it: it is named and left out.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gifcore.outcome import Figure, outcome

WITHIN = 2.0  # standard deviations of the retrained models that still count as their spread
APART = 0.2  # of accuracy below the best retrained model: its training went astray
RECIPES = {
    "sgd": "SGD",
    "minimise": "the minimum by L-BFGS",
    "proximal": "proximal (PBRF)",
}
SHORT = 0.05  # of accuracy that retraining may lose on the rest before its recipe is doubted


@dataclass(frozen=True)
class Spread:
    """One figure over the retrained models.

    Args:
        std: with n - 1 in the denominator; None for one value, which has no spread.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def margin(self, count: int) -> float:
        """Return how far from the mean a share of `count` images is still within the spread.

        2 standard deviations, at least one image; one image where the spread is not known.
        """
        return max(WITHIN * (self.std or 0.0), 1 / max(count, 1)) + 1e-9

    def holds(self, value: float, count: int) -> bool | None:
        """Is `value` within the spread? None: one retrained model has none."""
        return None if self.std is None else abs(value - self.mean) <= self.margin(count)


@dataclass(frozen=True)
class Truth:
    """What the retrained models of one record say.

    Args:
        models: entries of record.json that count, `at` their positions there.
        apart: entries that are left out, because their training went astray.
    """

    entry: dict[str, Any]
    models: tuple[dict[str, Any], ...]
    at: tuple[int, ...]
    apart: tuple[dict[str, Any], ...]

    def metric(self, key: str) -> Spread | None:
        """Return a metric of the test split over the models; None where it was not measured."""
        return _spread([model["test"].get(key) for model in self.models])

    def agreement(self, method: str, step: str, figure: str) -> Spread | None:
        """Return a figure of an edit against each of the models."""
        found = self.entry.get("agreement", {}).get(method, {}).get(step, {})
        return self._each(found.get(figure))

    def before(self, figure: str) -> Spread | None:
        """Return a figure of the unedited model against each of the models."""
        return self._each((self.entry.get("before") or {}).get(figure))

    def between(self, figure: str) -> Spread | None:
        """Return a figure between pairs of the models: how well they agree with each other."""
        found = (self.entry.get("between") or {}).get(figure)
        if found is None:
            return None
        values, pairs = found["values"], list(itertools.combinations(range(self._all), 2))
        if len(values) == len(pairs):
            values = [v for v, pair in zip(values, pairs, strict=True) if set(pair) <= set(self.at)]
        elif self.apart:
            return None  # whose value it is cannot be told
        return _spread(values)

    def _each(self, found: Any) -> Spread | None:
        if found is None:
            return None
        values = found["values"]
        if len(values) == self._all:
            values = [values[i] for i in self.at]
        return _spread(values)

    @property
    def _all(self) -> int:
        return len(self.models) + len(self.apart)


def truth(info: dict[str, Any]) -> Truth | None:
    """Return the retrained models of a record.json, None if it has none that can be used."""
    entry = info.get("retrained")
    if not entry or not entry.get("models"):
        return None
    rest = outcome(info["change"]).rest
    reached = [_share(model, rest) for model in entry["models"]]
    known = [share for share in reached if share is not None]
    if not known:
        return None  # all of them failed
    low = max(known) - APART
    sound = [i for i, share in enumerate(reached) if share is not None and share >= low]
    models = entry["models"]
    return Truth(
        entry,
        tuple(models[i] for i in sound),
        tuple(sound),
        tuple(model for i, model in enumerate(models) if i not in sound),
    )


def remarks(info: dict[str, Any]) -> list[str]:
    """Return what must be known of the retrained models of a record before they are believed."""
    found, rest = truth(info), outcome(info["change"]).rest
    if found is None:
        models = (info.get("retrained") or {}).get("models") or []
        return [_left_out(model, rest) for model in models]
    lines = [_left_out(model, rest) for model in found.apart]
    lines += [f"Seed {m['seed']}: {m['note']}" for m in found.models if m.get("note")]
    if len(found.models) == 1:
        recipe = found.entry.get("recipe") or {}
        fixed = recipe.get("kind") in ("minimise", "proximal") and recipe.get("start") == "warm"
        why = "its recipe draws nothing" if fixed else "what another seed would do is not known"
        lines.append(f"One retrained model has no spread: {why}.")
    open_ = [model["seed"] for model in found.models if model.get("converged") is False]
    if open_:
        lines.append(
            f"Retraining did not reach its tolerance for seed{'s' * (len(open_) > 1)} "
            f"{', '.join(map(str, open_))}: a part of the difference may be left to train."
        )
    before, after = info["before"]["test"].get(rest.key), found.metric(rest.key)
    if after is not None and before is not None and rest.count(info["before"]["test"]):
        lost = before - after.mean
        if lost > SHORT:
            lines.append(
                f"Retrained models reach {percent(after.mean)} on {rest.images}, the unedited "
                f"model {percent(before)}: their recipe may be short of what it was trained with."
            )
    return lines


def recipe_words(entry: dict[str, Any]) -> str:
    """Return how the models were trained: "SGD from a cold start, 30 epochs"."""
    recipe = entry.get("recipe") or {}
    kind, start = str(recipe.get("kind", "recipe not said")), recipe.get("start")
    words = [RECIPES.get(kind, kind) + (f" from a {start} start" if start else "")]
    said = {
        "epochs": "{:g} epochs",
        "batch_size": "batches of {:g}",
        "lr": "learning rate {:g}",
        "momentum": "momentum {:g}",
        "damping": "damping {:g}",
        "tolerance": "tolerance {:g}",
    }
    words += [form.format(recipe[n]) for n, form in said.items() if recipe.get(n) is not None]
    return ", ".join(words)


def _left_out(model: dict[str, Any], rest: Figure) -> str:
    if model.get("failed"):
        return f"Retraining with seed {model['seed']} failed and is left out: {model['failed']}"
    share = _share(model, rest)
    if share is None:
        return f"The model retrained with seed {model['seed']} has no accuracy and is left out."
    return (
        f"The model retrained with seed {model['seed']} ended at {percent(share)} on "
        f"{rest.images}, more than {100 * APART:.0f} points below the best: its training went "
        "astray and it is left out."
    )


def _share(model: dict[str, Any], rest: Figure) -> float | None:
    metrics = model.get("test") or {}
    value = metrics.get(rest.key)
    return None if value is None else float(value)


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = tuple(float(value) for value in values if value is not None)
    return Spread(known) if known else None


def percent(share: float | None) -> str:
    """Return "96.5 %"; "not measured" for None.

    >>> percent(0.004), percent(None)
    ('0.4 %', 'not measured')
    """
    return "not measured" if share is None else f"{100 * share:.1f} %"


def with_spread(found: Spread) -> str:
    """Return mean ± standard deviation in percent, the mean alone for one value.

    >>> with_spread(Spread((0.90, 0.92))), with_spread(Spread((0.9,)))
    ('91.0 ± 1.4 %', '90.0 %')
    """
    if found.std is None:
        return percent(found.mean)
    return f"{100 * found.mean:.1f} ± {100 * found.std:.1f} %"

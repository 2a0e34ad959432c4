"""The verdict on a study: one plain line a method, made of what record.json measured; no torch.

Nothing is called reached or kept that was not measured, and no edit is called as good as retraining
without retrained models. What counts as a difference is fixed here and said in `rules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gifcore import held_against
from gifcore.change_section import REMOVALS
from gifcore.held_against import Spread, Truth, percent, truth, with_spread
from gifcore.outcome import Figure, Outcome, outcome
from gifcore.record import NATURAL, SEARCHED
from gifcore.solve_words import STABLE, stabilities, trust
from gifcore.study import METHOD_LABELS, USES_SELECTION

REACHED, PART = 0.95, 0.05  # of the way from the unedited model to the aim
KEPT = 0.02  # of accuracy that an edit may lose on the rest and still keep it
MARGIN = 0.01  # of F1 and of agreement: below it two methods are not told apart
SAME, OWN = "same_predictions", "same_predictions_own"
CONTROL = "gradient"


@dataclass(frozen=True)
class Clause:
    """Words and the numbers behind them: "forgets class 8", "0.4 % left, 96.0 % before"."""

    words: str
    numbers: str = ""

    def __str__(self) -> str:
        return f"{self.words} ({self.numbers})" if self.numbers else self.words


@dataclass(frozen=True)
class Verdict:
    """The line of one method.

    Args:
        name: "GIF at 5 %", "IF (all parameters)".
        edit: the step it is about, with its scale.
        does: what the edit does to what the change is about, then to the rest.
        held: how its predictions agree with retrained models.
        control: better or worse than the gradient; "" where there is nothing to compare.
        natural: what the natural step does; "" where it is the one above.
        trust: how the solve ended, and how stable the ranking is.
    """

    method: str
    name: str
    edit: str
    does: tuple[Clause, ...]
    held: str
    control: str
    natural: str
    trust: str

    @property
    def parts(self) -> list[str]:
        """Everything behind the first clause."""
        return [part for part in (self.held, self.control, self.natural, self.trust) if part]

    @property
    def text(self) -> str:
        """The line as a whole."""
        does = ", ".join(map(str, self.does))
        return f"{self.name}, {self.edit}: {'; '.join([does, *self.parts])}."


def verdicts(info: dict[str, Any], methods: Sequence[str] | None = None) -> list[Verdict]:
    """Return the verdict on each method of a record.json, in its order."""
    wanted = info["methods"] if methods is None else methods
    return [_verdict(info, method) for method in wanted]


def rules(info: dict[str, Any]) -> list[str]:
    """Return what holds for all lines: how to hold them against retrained models, what counts."""
    edited = any(entry.get("steps") for entry in info["methods"].values())
    if not edited:
        return []
    lines = held_against.remarks(info)
    if truth(info) is None:
        lines.append(
            "Not held against retrained models: set `seeds` in the section [retrain] of the study "
            "(Retrained models under New study) to 3 or more and run it again."
        )
    counted = (
        f"“In part” is less than {100 * REACHED:.0f} % of the way from the unedited model to the "
        f"aim, “keeps” at most {100 * KEPT:.0f} points lost"
    )
    found = truth(info)
    if found is not None and len(found.models) > 1:
        counted += (
            f", ± the standard deviation over retrained models, “their spread” "
            f"{held_against.WITHIN:.0f} of them and at least one image"
        )
    counted += "."
    if CONTROL in info["methods"] and len(info["methods"]) > 1:
        counted += f" Against the gradient, a difference counts from {MARGIN:g} of F1"
        counted += f" or {100 * MARGIN:g} point of agreement on."
    if any(stabilities(entry) for entry in info["methods"].values()):
        counted += (
            f" A ranking is stable where at least {STABLE:g} of its top is there at half the "
            "solver’s budget; given is the least over test images."
        )
    return [*lines, counted]


def _verdict(info: dict[str, Any], method: str) -> Verdict:
    entry = info["methods"][method]
    steps = entry.get("steps") or {}
    name, trusted = called(info, method), trust(entry)
    if not steps:
        return Verdict(method, name, "no edit", (Clause("only ranked"),), "", "", "", trusted)
    judged, found = outcome(info["change"]), truth(info)
    step = SEARCHED if SEARCHED in steps else NATURAL
    return Verdict(
        method,
        name,
        f"{step} step ({_times(steps[step]['scale'])})",
        (
            _own(info, steps[step]["test"], judged, found),
            _rest(info, steps[step]["test"], judged, found),
        ),
        _held(info, method, step, found),
        _against_control(info, method, step, found),
        _natural(info, method, judged, found) if step == SEARCHED else "",
        trusted,
    )


def called(info: dict[str, Any], method: str) -> str:
    """Return a method and what it may move: "GIF at 5 %", "IF (all parameters)"."""
    label = METHOD_LABELS.get(method, method)
    if not USES_SELECTION.get(method, True):
        return f"{label} (all parameters)"
    return f"{label} at {100 * info['selection']['ratio']:g} %"


# --- what the edit does ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Aim:
    """The number that says how far the aim is reached.

    Args:
        key: of the metrics; `name` before its value or `unit` behind it.
        target: its value at the aim without retrained models.
    """

    key: str
    name: str
    unit: str
    target: float

    def write(self, value: str) -> str:
        return f"{self.name}{value}{self.unit}"


def _aim(info: dict[str, Any]) -> _Aim:
    change = info["change"]
    match change.get("judged_by", "class"):
        case "samples":
            return _Aim("reached", "change reached ", "", 1.0)
        case "backdoor":
            words = f" of images with the trigger taken for {change['class_name']}"
            return _Aim("corrupt", "", words, info["before"]["test"]["corrupt_expected"])
        case _:
            return _Aim("self", "", " left", 0.0)


def _own(
    info: dict[str, Any], after: dict[str, Any], judged: Outcome, found: Truth | None
) -> Clause:
    """Return how far the aim is reached, in a verb and its numbers."""
    infinitive = f"forget {judged.own.noun}" if judged.task == "class" else judged.aim
    count = judged.own.count(after)
    aim = _aim(info)
    if count == 0 or after.get(aim.key) is None:
        return Clause(f"to {infinitive}: not measured, there are no {judged.own.images}")
    value, start = after[aim.key], info["before"]["test"][aim.key]
    spread = None if found is None else found.metric(aim.key)
    target = aim.target if spread is None else spread.mean
    numbers = [aim.write(percent(value)), f"{percent(start)} before"]
    if judged.task == "samples":
        figure = judged.own
        numbers.append(f"{figure.noun} {percent(after[figure.key])}")
    numbers += _truths(spread, value, count)
    return Clause(_verb(infinitive, start, value, target, spread, count), ", ".join(numbers))


def _verb(
    infinitive: str, start: float, value: float, target: float, spread: Spread | None, count: int
) -> str:
    """Return the verb for a way from `start` to `value` where `target` is the aim."""
    way, small = target - start, max(MARGIN, 1 / count)
    if abs(way) <= small:
        whose = "the aim" if spread is None else "what retrained models do"
        if abs(value - target) <= small:
            return f"has nothing to do to {infinitive}: the unedited model is at {whose} already"
        return f"moves away from {whose} to {infinitive}"
    done = (value - start) / way
    if done < PART:
        return f"does not {infinitive}"
    if spread is not None and done > 1 and abs(value - target) > max(spread.margin(count), KEPT):
        return f"{_third(infinitive)}, more than retrained models do"
    return _third(infinitive) + (" in part" if done < REACHED else "")


def _third(infinitive: str) -> str:
    """Return the third person.

    >>> _third("take up the change")
    'takes up the change'
    """
    verb, _, rest = infinitive.partition(" ")
    return f"{verb}s {rest}"


REST = {"class": "the rest", "samples": "the test images", "backdoor": "images without trigger"}


def _rest(
    info: dict[str, Any], after: dict[str, Any], judged: Outcome, found: Truth | None
) -> Clause:
    """Return whether the rest is kept, in a verb and its numbers."""
    figure, name = judged.rest, REST[judged.task]
    count = figure.count(after)
    if count == 0 or after.get(figure.key) is None:
        return Clause(f"{name}: not measured, there are no {figure.images}")
    value, start = after[figure.key], info["before"]["test"][figure.key]
    spread = None if found is None else found.metric(figure.key)
    lost = (start if spread is None else spread.mean) - value
    numbers = [percent(value), *_truths(spread, value, count)]
    if spread is None:
        numbers.append(f"{percent(start)} before")
    within = None if spread is None else spread.holds(value, count)
    kept = within is True or lost <= KEPT + 1e-9
    if kept and within is False:
        numbers[-1] += f", {100 * abs(lost):.1f} points {'below' if lost > 0 else 'above'} them"
    verb = f"keeps {name}" if kept else f"loses {100 * lost:.1f} points on {name}"
    return Clause(verb, ", ".join(numbers))


def _truths(spread: Spread | None, value: float, count: int) -> list[str]:
    """Return what retrained models do, and whether `value` is within their spread."""
    if spread is None:
        return []
    words = f"{_who(len(spread.values))} {with_spread(spread)}"
    return [words + (": within their spread" if spread.holds(value, count) else "")]


def _who(models: int) -> str:
    return "one retrained model" if models == 1 else "retrained models"


# --- retrained models and the control -------------------------------------------------------------


def _held(info: dict[str, Any], method: str, step: str, found: Truth | None) -> str:
    """Return how the predictions agree with retrained models, beside floor and unedited model."""
    same = None if found is None else found.agreement(method, step, SAME)
    if found is None or same is None:
        return "not held against retrained models"
    among = _among(found, SAME, "retrained models with each other", "the unedited model")
    before = found.before(SAME)
    if before is not None:
        gain = nearer(same, before, info["data"]["sizes"]["test"])
        word = "no nearer to" if gain == 0 else "farther from"
        among += [f"so {word} them than the unedited model"] if gain < 1 else []
    whom = "the one retrained model" if len(same.values) == 1 else "retrained models"
    words = f"its predictions agree with {whom} on {percent(same.mean)} of test images"
    words += f" ({', '.join(among)})" if among else ""
    own = found.agreement(method, step, OWN)
    if own is None:
        return words
    few = _among(found, OWN, "with each other", "unedited")
    images = outcome(info["change"]).own.images
    words += f" and on {percent(own.mean)} of {images}"
    return words + (f" ({', '.join(few)})" if few else "")


def _among(found: Truth, figure: str, floor: str, unedited: str) -> list[str]:
    """Return what a figure is between retrained models, and of the unedited model."""
    both = ((floor, found.between(figure)), (unedited, found.before(figure)))
    return [f"{words} {percent(spread.mean)}" for words, spread in both if spread is not None]


def nearer(one: Spread, other: Spread, images: int) -> int:
    """Return 1 if `one` agrees more with the retrained models than `other`, -1 if less, else 0.

    Model by model: the mean gain must exceed one image and 2 standard deviations of the gains.
    """
    gains = Spread(tuple(a - b for a, b in zip(one.values, other.values, strict=True)))
    if abs(gains.mean) <= gains.margin(images):
        return 0
    return 1 if gains.mean > 0 else -1


def _against_control(info: dict[str, Any], method: str, step: str, found: Truth | None) -> str:
    """Return whether the gradient alone does better, by the score and by agreement."""
    theirs = (info["methods"].get(CONTROL, {}).get("steps") or {}).get(step)
    if method == CONTROL or theirs is None:
        return ""
    mine = info["methods"][method]["steps"][step]
    rows: list[tuple[str, float, float, bool]] = []
    scores = mine["test"].get("score"), theirs["test"].get("score")
    if scores[0] is not None and scores[1] is not None:
        rows.append(("F1", scores[0], scores[1], False))
    if found is not None:
        pair = [found.agreement(name, step, SAME) for name in (method, CONTROL)]
        if pair[0] is not None and pair[1] is not None:
            rows.append(("agreement with retrained models", pair[0].mean, pair[1].mean, True))
    removes = info["change"]["kind"] in REMOVALS
    return _compared(rows, "gradient ascent" if removes else "the gradient step")


def _compared(rows: list[tuple[str, float, float, bool]], control: str) -> str:
    """Return "worse than gradient ascent by F1 (0.93, gradient ascent 0.96)" and so on."""
    groups: dict[str, list[str]] = {"worse": [], "better": [], "same": []}
    for name, mine, theirs, share in rows:
        gain = mine - theirs
        word = "same" if abs(gain) < MARGIN - 1e-9 else "better" if gain > 0 else "worse"
        values = [f"{100 * v:.1f} %" if share else f"{v:.3f}" for v in (mine, theirs)]
        groups[word].append(f"{name} ({values[0]} against {values[1]})")
    parts = [
        f"{word} than {control} by {' and '.join(groups[word])}"
        for word in ("worse", "better")
        if groups[word]
    ]
    if groups["same"]:
        parts.append(f"no different from {control} by {' and '.join(groups['same'])}")
    return ", ".join(parts)


def _natural(info: dict[str, Any], method: str, judged: Outcome, found: Truth | None) -> str:
    """Return the numbers of the natural step, which no search chose."""
    steps = info["methods"][method]["steps"]
    metrics = steps[NATURAL]["test"]
    if metrics == steps[SEARCHED]["test"]:
        return "the natural step (× 1) does the same"
    aim = _aim(info)
    parts = [aim.write(percent(metrics.get(aim.key))), _of(judged.rest, metrics, judged.task)]
    same = None if found is None else found.agreement(method, NATURAL, SAME)
    if same is not None:
        parts.append(f"agrees on {percent(same.mean)}")
    return f"its natural step (× 1): {', '.join(parts)}"


def _of(figure: Figure, metrics: dict[str, Any], task: str) -> str:
    share = metrics.get(figure.key) if figure.count(metrics) else None
    return f"{REST[task]} {percent(share)}"


def _times(scale: float) -> str:
    return f"× {scale:,.0f}" if scale >= 100 else f"× {scale:.3g}"

"""What the numbers of an edit are called and which way is good, for every kind of change; no torch.

The numbers themselves: `gifcore.evaluate.judges`. Records without `judged_by` are of class removal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Want = Literal["lower", "higher", ""]  # "": neither is good by itself


@dataclass(frozen=True)
class Figure:
    """One accuracy of the metrics of record.json, as pages name it.

    Args:
        key: in the metrics.
        counts: keys of the metrics whose sum is how many images it is over.
        short: a heading of one word.
        tile: over a number that stands alone: "On Bag".
        panel: a heading of a chart.
        noun: in a sentence: "brings {noun} from 90 % to 3 %".
        images: what it is over: "test images of the class to forget".
    """

    key: str
    counts: tuple[str, ...]
    short: str
    tile: str
    panel: str
    noun: str
    images: str
    want: Want

    def count(self, metrics: dict[str, Any]) -> int:
        return sum(int(metrics[key]) for key in self.counts)


@dataclass(frozen=True)
class Outcome:
    """How an edit is judged, in words.

    Args:
        what: the change, in the imperative: "remove class Bag (600 samples)".
        aim: what the edit is for: "forget “Bag”".
        own, rest: what the change is about, and what must not suffer; more: further accuracies.
        losses: (key, heading) of mean losses in nats; numbers: of other numbers, 0 to 1.
        score: what the score is the F1 of.
        reading: how to read the accuracies, one or two sentences.
        label: the class that stands out in a chart, None if none does.
    """

    task: str
    what: str
    aim: str
    own: Figure
    rest: Figure
    more: tuple[Figure, ...]
    losses: tuple[tuple[str, str], ...]
    numbers: tuple[tuple[str, str], ...]
    score: str
    reading: str
    label: int | None

    @property
    def figures(self) -> tuple[Figure, ...]:
        return (self.own, self.rest, *self.more)

    @property
    def curves(self) -> tuple[tuple[str, str], ...]:
        """(key, name) of the curves of the step search, the score last."""
        if self.task == "class":
            shown = [("self", "Removed class (self)"), ("retain", "Other classes (retain)")]
        else:
            shown = [(figure.key, figure.panel) for figure in self.figures]
            shown += [("reached", "Change reached")] if self.task == "samples" else []
        return (*shown, ("score", "Score F1 that chooses"))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the metrics that a table of numbers holds."""
        counts = dict.fromkeys(key for figure in self.figures for key in figure.counts)
        named = [key for key, _ in (*self.numbers, *self.losses)]
        return (*(figure.key for figure in self.figures), "score", *named, *counts)


def outcome(change: dict[str, Any]) -> Outcome:
    """Return the words for `change` of a record.json."""
    match change.get("judged_by", "class"):
        case "samples":
            return _samples(change)
        case "backdoor":
            return _backdoor(change)
        case _:
            return _class(change)


def _class(change: dict[str, Any]) -> Outcome:
    name = change["class_name"]
    return Outcome(
        task="class",
        what=f"remove class {name} ({change['removed']:,} samples)",
        aim=f"forget “{name}”",
        own=Figure(
            "self", ("self_n",), "Removed", f"On {name}", f"{name} (self)", f"class {name}",
            "images of the removed class", "lower",
        ),
        rest=Figure(
            "retain", ("retain_n",), "Others", "On the others", "Others (retain)",
            "the other classes", "others", "higher",
        ),
        more=(
            Figure(
                "accuracy", ("self_n", "retain_n"), "All", "On all", "All",
                "accuracy on all images", "images", "higher",
            ),
        ),
        losses=(("self_loss", "loss, removed"), ("retain_loss", "loss, others")),
        numbers=(),
        score="(1 − accuracy on the class to forget) and the accuracy on the others: 100 % is a "
        "class forgotten with nothing else lost",
        reading=f"Lower is better on {name}, higher on the others.",
        label=change["label"],
    )  # fmt: skip


_VERBS = {
    "remove-samples": ("remove", "removed", "forget"),
    "relabel": ("relabel", "relabelled", "learn the new labels of"),
    "reweight": ("reweight", "reweighted", "weigh anew"),
    "add-samples": ("add", "added", "learn"),
    "union": ("change", "changed", "take up the change of"),
}
_WANTS: dict[str, Want] = {"relabel": "higher", "add-samples": "higher"}


def _samples(change: dict[str, Any]) -> Outcome:
    verb, done, aim = _VERBS[change["kind"]]
    n = change["touched"]
    samples = f"{n:,} training sample" + ("s" if n != 1 else "")
    kinds = f" ({', '.join(change['kinds'])})" if "kinds" in change else ""
    return Outcome(
        task="samples",
        what=f"{verb} {samples}{kinds}",
        aim=f"{aim} {samples}",
        own=Figure(
            "touched_accuracy", ("touched_n",), "Touched", f"On the {done} samples",
            f"{done.capitalize()} (touched)",
            f"accuracy on the {done} training samples", f"{done} training samples",
            _WANTS.get(change["kind"], ""),
        ),
        rest=Figure(
            "accuracy", ("n",), "All test", "On all test images", "Test images (accuracy)",
            "accuracy on all test images", "test images", "higher",
        ),
        more=(),
        losses=(("touched_loss", "loss, touched"), ("loss", "loss, test")),
        numbers=(("reached", "change reached"),),
        score="how far the change is reached (samples to learn that get their label; samples to "
        "forget whose loss is that of unseen images) and the accuracy",
        reading="The touched samples are of the training split, by their labels after the change; "
        "removed ones need only be as uncertain as images the model never saw.",
        label=None,
    )  # fmt: skip


def _backdoor(change: dict[str, Any]) -> Outcome:
    name = change["class_name"]
    counts = ("triggered_n",)
    return Outcome(
        task="backdoor",
        what=f"take back the backdoor for class {name} ({change['touched']:,} samples relabelled)",
        aim=f"take back the backdoor for “{name}”",
        own=Figure(
            "corrupt", counts, "Triggered", f"Trigger taken for {name}",
            f"Taken for {name} (corrupt)",
            f"the share of triggered images taken for {name}", "images with the trigger", "lower",
        ),
        rest=Figure(
            "clean", ("clean_n",), "Clean", "On clean images", "Without trigger (clean)",
            "accuracy on clean images", "images without it", "higher",
        ),
        more=(
            Figure(
                "relabel", counts, "Relabel", "On triggered images", "With trigger (relabel)",
                "accuracy on triggered images", "images with the trigger", "higher",
            ),
        ),
        losses=(("loss", "loss, clean"),),
        numbers=(("corrupt_expected", "corrupt without backdoor"),),
        score="the accuracies on images with the trigger and without it",
        reading=f"Corrupt: the share of images with the trigger taken for {name}, lower is better "
        "down to the share that truly is; relabel and clean: accuracy with and without the "
        "trigger, higher is better.",
        label=change["label"],
    )  # fmt: skip

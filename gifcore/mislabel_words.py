"""What is said of the search for wrong labels, by `show` and by the page; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SELF, BASELINE = "self-influence", "baseline"  # the kinds of score
WITHIN = 0.2  # share of the training samples that are inspected first


@dataclass(frozen=True)
class Baseline:
    """A score that needs the model's probabilities alone."""

    label: str
    unit: str
    what: str  # one sentence


BASELINES = {
    "loss": Baseline("Loss", "nats", "The trained model's loss on the label the sample has."),
    "confidence": Baseline(
        "1 − p(label)", "", "One less the probability of the label: the order of the loss."
    ),
    "confident": Baseline(
        "Confident learning",
        "",
        "How far another class is above its threshold, less the same of the label; a threshold is "
        "the mean probability of a class over the samples that bear it.",
    ),
    "held_loss": Baseline(
        "Loss, held out", "nats", "The loss of a model that was trained without the sample."
    ),
    "held_confident": Baseline(
        "Confident learning, held out",
        "",
        "Confident learning by the probabilities of models trained without the sample.",
    ),
}


def best(info: dict[str, Any], *, kind: str | None = None) -> str | None:
    """Return the score with the highest AUC, of one kind if given; None where none was measured."""
    known = {
        name: entry["auc"]["value"]
        for name, entry in info["methods"].items()
        if "auc" in entry and (kind is None or entry["kind"] == kind)
    }
    return max(known, key=lambda name: known[name]) if known else None


def labels_of(info: dict[str, Any]) -> str:
    """Return what the labels are: as they are, or with wrong ones planted."""
    if not info["rate"]:
        return f"{info['n']:,} training labels as they are: which are wrong is not known"
    return (
        f"{info['wrong']:,} of {info['n']:,} training labels were made wrong before the training "
        f"(seed {info['seed']})"
    )


def contradicted(info: dict[str, Any]) -> str:
    """Return how many labels confident learning contradicts, and how many of them are wrong."""
    found = info["contradicted"]
    words = f"Confident learning contradicts {found['count']:,} labels"
    if found["wrong"] is None or not found["count"]:
        return words
    return f"{words}, {found['wrong']:,} of them wrong"


def name_of(entry: dict[str, Any]) -> str:
    """Return what a score is called: "Self-influence by IF", "Loss"."""
    return f"Self-influence by {entry['label']}" if entry["kind"] == SELF else str(entry["label"])


def rows(info: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return score, AUC with its interval, and shares of wrong labels found within 10 and 20 %.

    Best first; [] where the wrong labels are not known.
    """
    known = [entry for entry in info["methods"].values() if "auc" in entry]
    return [
        (
            name_of(entry),
            "{value:.3f} ({low:.3f} to {high:.3f})".format(**entry["auc"]),
            f"{entry['curve'][10]:.1%}",
            f"{entry['found_20']:.1%}",
        )
        for entry in sorted(known, key=lambda entry: -entry["auc"]["value"])
    ]


HEADINGS = ("score", "AUC (95 % interval)", "found in 10 %", "in 20 %")

"""Guided tours for who has not read the papers: which pages, with which words; no Streamlit.

The words are Markdown files in `texts/`, one section a step; every number in them is filled in from
the record that the story is told on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dashboard.components import weights
from dashboard.components.measures import percent
from dashboard.texts import text
from gifcore import data, mislabel_words
from gifcore.assets_path import asset
from gifcore.change_section import BackdoorSection
from gifcore.held_against import truth
from gifcore.record import SEARCHED, STUDY, Record
from gifcore.study import read

Facts = Callable[[Record], dict[str, str]]


@dataclass(frozen=True, eq=False)
class Step:
    """One stop: a page, what is picked on it, and where on it the eye should go."""

    page: str
    picks: dict[str, Any] = field(default_factory=dict)
    folder: str | None = None  # of the demo; None: the record of the story


@dataclass(frozen=True, eq=False)
class Story:
    """One tour: its name in the address, its words and the record it is told on."""

    key: str
    title: str
    line: str
    icon: str
    folder: str  # of the demo
    steps: tuple[Step, ...]
    facts: Facts

    @property
    def path(self) -> Path:
        return asset("demo") / self.folder

    def path_of(self, step: Step) -> Path:
        """Return the record that a step is about."""
        return asset("demo") / (step.folder or self.folder)

    def told(self, record: Record) -> list[tuple[str, str]]:
        """Return heading and words of every step, with the record's own numbers in them."""
        parts = re.split(r"^## ", text(f"story_{self.key}"), flags=re.MULTILINE)[1:]
        facts = {name: _plain(value) for name, value in self.facts(record).items()}
        found = []
        for part in parts:
            heading, _, words = part.partition("\n")
            found.append((heading.strip(), words.strip().format_map(facts)))
        return found


def _plain(words: str) -> str:
    """Return words of a record, such as a class name, so that Markdown shows them as they are."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>#$|" else c for c in words)


# --- the numbers of each --------------------------------------------------------------------------


def _of_edit(record: Record) -> dict[str, str]:
    info = record.info
    entry = info["methods"]["gif"]
    return {
        "name": str(info["change"]["class_name"]),
        "p": f"{info['selection']['p']:,}",
        "moved": f"{entry['k']:,}",
        "share": percent(entry["k"] / info["selection"]["p"], 0),
        "sure": _sure(info),
    }


def _sure(info: dict[str, Any]) -> str:
    """Return in plain words how far the solves got."""
    entry = info["methods"]["gif"]
    done = entry["certificate"]["status"] == "converged"
    stable = [
        found["rank_stability"]
        for found in entry.get("query_certificates", {}).values()
        if found.get("rank_stability") is not None
    ]
    words = (
        "The sums behind it were carried to their end."
        if done
        else "The sums behind it were stopped before their end, as is usual for a model of this "
        "size, and the panel shows how much was left."
    )
    if stable:
        words += (
            f" With half the work, {percent(min(stable), 0)} or more of the fifty strongest "
            "pictures were the same."
        )
    return words


def _forget(record: Record) -> dict[str, str]:
    info = record.info
    before = info["before"]["test"]
    after = info["methods"]["gif"]["steps"][SEARCHED]["test"]
    classes = info["data"]["classes"]
    query = next(q for q in record.queries if q["index"] == FORGET_QUERY)
    return (
        _of_edit(record)
        | {
            "classes": str(len(classes)),
            "true": classes[query["label"]],
            "said": classes[query["predicted"]],
            "removed": f"{info['change']['removed']:,}",
            "own_before": percent(before["self"]),
            "own_after": percent(after["self"]),
            "rest_before": percent(before["retain"]),
            "rest_after": percent(after["retain"]),
        }
        | _truth(Record.open(asset("demo") / RETRAINED))
    )


def _truth(record: Record) -> dict[str, str]:
    """Return how the same edit compares with models that were trained again."""
    found = truth(record.info)
    assert found is not None
    spreads = {
        "true_own": found.metric("self"),
        "true_rest": found.metric("retain"),
        "same": found.agreement("gif", SEARCHED, "same_predictions"),
        "pairs": found.between("same_predictions"),
    }
    after = record.info["methods"]["gif"]["steps"][SEARCHED]["test"]
    return {
        "models": str(len(found.models)),
        "gif_own": percent(after["self"]),
        "gif_rest": percent(after["retain"]),
    } | {key: percent(spread.mean) for key, spread in spreads.items() if spread is not None}


def _backdoor(record: Record) -> dict[str, str]:
    info = record.info
    before = info["before"]["test"]
    after = info["methods"]["gif"]["steps"][SEARCHED]["test"]
    facts = {"poisoned": f"{info['change']['touched']:,}"}
    for key in ("corrupt", "relabel", "clean"):
        facts[f"{key}_before"] = percent(before[key])
        facts[f"{key}_after"] = percent(after[key])
    facts["corrupt_expected"] = percent(after["corrupt_expected"])
    gradient = info["methods"]["gradient"]["steps"][SEARCHED]["test"]
    facts |= {f"gradient_{key}": percent(gradient[key]) for key in ("corrupt", "clean")}
    top, excited = _doctored(record)
    return _of_edit(record) | facts | {"top": str(top), "excited": str(excited)}


def _doctored(record: Record) -> tuple[int, int]:
    """Return how many images are known to excite the furthest moved unit, and the doctored ones."""
    change = read(record.path / STUDY).change
    assert isinstance(change, BackdoorSection)
    _, planted = change.backdoor.plant(data.load(record.info["data"]["source"]))[:2]
    rows, move = record.info["model"]["layers"], record.update("gif")
    layer = rows[int(weights.layer_table(rows, *move)["norm"].to_numpy().argmax())]
    strength = weights.unit_strength(weights.layer_values(layer, *move))
    table = record.units()
    own = table[
        (table["layer"] == layer["module"]) & (table["unit"] == int(np.nanargmax(strength)))
    ]
    return len(own), int(own["train_index"].isin(planted.indices).sum())


def _labels(record: Record) -> dict[str, str]:
    info, found = record.info, record.mislabel
    best = mislabel_words.best(found)
    assert best is not None
    return {
        "n": f"{info['data']['sizes']['train']:,}",
        "wrong": f"{found['wrong']:,}",
        "within": percent(mislabel_words.WITHIN, 0),
        "found": percent(found["methods"][best]["found_20"], 0),
        "best": mislabel_words.name_of(found["methods"][best]),
    }


# --- the stories ----------------------------------------------------------------------------------

FORGET_QUERY = 6  # a pullover taken for a shirt
RETRAINED = "forget-class-retrained"  # the same wish, held against models trained again

STORIES = {
    story.key: story
    for story in (
        Story(
            "forget",
            "Forget a class",
            "A model forgets one kind of picture and keeps the rest.",
            "ink_eraser",
            "highest-k-gradients-05",
            (
                Step("samples", {"query": FORGET_QUERY}),
                Step("parameters", {"layer": None, "unit": None}),
                Step("before_after"),
                Step("compare", {"query": FORGET_QUERY}),
                Step("before_after", {"tab": ["retrained"]}, folder=RETRAINED),
            ),
            _forget,
        ),
        Story(
            "backdoor",
            "Undo a backdoor",
            "A poisoned model is healed without being trained again.",
            "door_open",
            "backdoor",
            (
                Step("before_after"),
                Step("parameters", {"layer": None, "unit": None, "tab": ["unit"]}),
                Step("before_after"),
                Step("compare", {"tab": ["edits"], "other": ":::gradient:gif"}),
            ),
            _backdoor,
        ),
        Story(
            "labels",
            "Find wrong labels",
            "Pictures with a wrong label are found by looking at a few.",
            "label_off",
            "wrong-labels",
            (
                Step("wrong_labels"),
                Step("wrong_labels"),
                Step("wrong_labels"),
                Step("samples"),
            ),
            _labels,
        ),
    )
}

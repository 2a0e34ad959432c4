"""Presets of the form New study: named values of some options; no Streamlit.

The first three say how much is spent, and set the same options, so that one takes the place of the
other. The last three ask a question more and leave everything else as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gifcore.estimate import estimate
from gifcore.study import Study, parse


@dataclass(frozen=True)
class Preset:
    """What one button sets, by the path of the option, and what it says of it."""

    title: str
    icon: str
    sets: str  # one line
    costs: str  # one line, for where nothing was measured yet
    values: dict[str, Any] = field(default_factory=dict)
    subject: dict[str, Any] = field(default_factory=dict)  # sections that it replaces as a whole


PRESETS: dict[str, Preset] = {
    "quick": Preset(
        "Quick look",
        ":material/bolt:",
        "128 curvature samples, 8 iterations, 2 test images.",
        "About a tenth of Balanced; good for a first look, residuals stay high.",
        {
            "curvature.samples": 128,
            "curvature.draws": 1,
            "solver.iterations": 8,
            "ranking.queries": (),
            "ranking.count": 2,
            "preview.rank": 0,
            "retrain.seeds": 0,
        },
    ),
    "balanced": Preset(
        "Balanced",
        ":material/balance:",
        "512 curvature samples, 20 iterations, 2 test images: the defaults.",
        "A minute or two for a small model.",
        {
            "curvature.samples": 512,
            "curvature.draws": 1,
            "solver.iterations": 20,
            "ranking.queries": (),
            "ranking.count": 2,
            "preview.rank": 0,
            "retrain.seeds": 0,
        },
    ),
    "thorough": Preset(
        "Thorough",
        ":material/search_check:",
        "2,048 curvature samples drawn twice, 60 iterations, 8 test images, previews of all, 3 "
        "retrained models.",
        "Thirty times Balanced and more, and three trainings.",
        {
            "curvature.samples": 2048,
            "curvature.draws": 2,
            "solver.iterations": 60,
            "ranking.queries": (),
            "ranking.count": 8,
            "preview.rank": 384,
            "retrain.seeds": 3,
        },
    ),
    "fastif": Preset(
        "Measure FastIF",
        ":material/speed:",
        "Candidates 10, 100 and 1,000 against the exact ranking of 8 test images.",
        "The exact solves of 8 images, three sweeps and an index.",
        {"fastif.k": (10, 100, 1000), "ranking.queries": (), "ranking.count": 8},
    ),
    "labels": Preset(
        "Find wrong labels",
        ":material/label_off:",
        "Lists the training images to inspect first.",
        "The influence of every training image on itself.",
        subject={"mislabel": {"rate": 0.0}},
    ),
    "backdoor": Preset(
        "Undo a backdoor",
        ":material/door_open:",
        "The poisoned digits that come along, Gauss-Newton of 512 samples, a quarter of the "
        "parameters.",
        "Some seconds.",
        subject={
            "data": {"source": "digits"},
            "model": {"name": "fcn"},
            "change": {"kind": "backdoor", "label": 4, "count": 100, "strength": 0.25},
            "selection": {"selector": "highest-k-outputs", "ratio": 0.25},
            "curvature": {"kind": "ggn", "damping": 0.01},
        },
    ),
}


def applied(preset: Preset, study: Study) -> Study:
    """Return a study with what a preset sets; all else stays as it is."""
    values = study.model_dump(by_alias=True) | preset.subject
    for path, value in preset.values.items():
        section, _, name = path.partition(".")
        values[section] = values[section] | {name: value}
    return parse(values, origin="This preset")


def seconds(study: Study, sizes: dict[str, int], costs: dict[str, float]) -> float:
    """Return how long a study takes, by what such work cost before."""
    return float(estimate(study, sizes, costs)["seconds"])

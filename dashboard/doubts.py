"""What would make a figure wrong: concrete sentences, chosen by what the record says.

The sentences stand in texts/doubts.md under a name, `doubt_rules` says when each is true; here is
in which order a kind of figure asks for them. Nothing is drawn or read here.
"""

from __future__ import annotations

from dashboard.doubt_rules import RULES, Facts
from dashboard.texts import sections

MOST = 4  # sentences a figure

FIGURES: dict[str, tuple[str, ...]] = {
    "samples": (
        "group", "certain", "unstable", "unsolved", "open-ranking", "negative", "few-samples",
        "closed", "gradient", "unknown-stability", "damping", "stationary", "one-model",
    ),
    "preview": ("preview", "preview-few", "certain", "stationary", "one-model"),
    "compare": (
        "same-draw", "unstable", "unsolved", "open-ranking", "negative", "few-samples", "closed",
        "gradient", "chance", "damping", "one-model",
    ),
    "edits": (
        "no-images", "unchecked", "one-retrained", "small", "retrained-apart", "unsolved",
        "open-update", "far", "searched", "one-model",
    ),
    "parameters": (
        "selector", "natural", "unsolved", "open-update", "negative", "draws", "layers",
        "few-samples", "damping", "one-model",
    ),
    "layer": (
        "clip", "selector", "unsolved", "open-update", "draws", "negative", "few-samples",
        "one-model",
    ),
    "unit": ("symmetry", "excite", "unsolved", "open-update", "draws", "negative", "one-model"),
    "before-after": (
        "no-images", "small", "unchecked", "one-retrained", "retrained-apart", "edge",
        "unsolved", "open-update", "draws", "far", "seeds", "searched", "one-model",
    ),
    "confusion": ("row", "no-images", "small", "unchecked", "seeds", "searched", "one-model"),
    "histogram": (
        "one-retrained", "no-images", "small", "seeds", "retrained-apart", "unchecked", "one-model",
    ),
    "step-search": ("edge", "no-images", "searched", "far", "small", "one-model"),
    "flips": ("flips-retrained", "unchecked", "border", "small", "searched", "one-model"),
    "labels": ("memorised", "rare", "partial-view", "systematic"),
    "speed": ("exact-open", "few-queries", "features", "machine"),
}  # fmt: skip


def of(facts: Facts, figure: str) -> list[str]:
    """Return up to four sentences in Markdown for a figure of FIGURES, the weightiest first."""
    texts, found = sections("doubts"), []
    for name in FIGURES[figure]:
        values = RULES[name](facts)
        if values is not None:
            found.append(texts[name].format(**values))
    return found[:MOST]

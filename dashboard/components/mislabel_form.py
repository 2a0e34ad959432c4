"""The fields of a study's section [mislabel]: are wrong labels looked for, which were planted?"""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.study_options import field
from gifcore.data.noise import Noise
from gifcore.mislabel_section import MislabelSection

LABELS, RATE, SEED, LOOK, FOLDS = (
    f"new_mislabel{name}" for name in ("", "_rate", "_seed", "_look", "_folds")
)
AS_THEY_ARE, PLANTED = "As they are", "Some made wrong before the training"
WHAT = (
    "Wrong labels that were planted before the training must be what the weights were trained with "
    "(`python -m gifcore train --noise …`); then it can be measured how well they are found."
)
PLANTED_HERE = Noise(0.1, 0)  # that of the weights that come with GIF Studio


def planted() -> bool:
    """Were the weights trained with planted wrong labels, as the form says now?"""
    return bool(st.session_state.get(LABELS) == PLANTED)


def fields() -> dict[str, Any]:
    """Draw the fields and return the section; {} where labels are as they are and not judged."""
    labels = st.segmented_control(
        "Training labels",
        [AS_THEY_ARE, PLANTED],
        default=AS_THEY_ARE,
        required=True,
        key=LABELS,
        help=WHAT,
        wrap=True,
        persist_state="session",
    )
    values: dict[str, Any] = {"rate": 0.0}
    if labels == PLANTED:
        values = {
            "rate": st.number_input(
                "Share of wrong labels",
                min_value=0.001,
                max_value=0.999,
                value=PLANTED_HERE.rate,
                step=0.01,
                format="%g",
                key=RATE,
                help=field("mislabel.rate").help,
                persist_state="session",
            ),
            "seed": _whole(SEED, "Seed of the wrong labels", PLANTED_HERE.seed, 2**31 - 1, "seed"),
        }
    look = st.toggle(
        "Look for wrong labels",
        key=LOOK,
        help=field("mislabel.measured").help,
        persist_state="session",
    )
    if look:
        folds = _whole(FOLDS, "Models of held-out parts (0: none)", 0, 20, "folds")
        return values | {"folds": folds}
    return values | {"measured": False} if labels == PLANTED else {}


def values(section: MislabelSection) -> dict[str, Any]:
    """Return the fields as a section has them."""
    noise = section.noise
    found: dict[str, Any] = {LABELS: PLANTED if noise else AS_THEY_ARE, LOOK: section.enabled}
    return found | ({RATE: noise.rate, SEED: noise.seed} if noise else {}) | {FOLDS: section.folds}


def planted_section() -> dict[str, Any]:
    """Return the planted wrong labels as a section, before the fields are drawn; {} if none."""
    if not planted():
        return {}
    rate, seed = (st.session_state.get(key) for key in (RATE, SEED))
    return {
        "rate": PLANTED_HERE.rate if rate is None else rate,
        "seed": PLANTED_HERE.seed if seed is None else seed,
        "measured": False,
    }


def _whole(key: str, label: str, value: int, most: int, of: str) -> int:
    return st.number_input(
        label,
        min_value=0,
        max_value=most,
        value=value,
        key=key,
        help=field(f"mislabel.{of}").help,
        persist_state="session",
    )

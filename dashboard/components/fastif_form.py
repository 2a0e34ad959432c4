"""The fields of a study's section [fastif]: which candidates and which LiSSA are measured."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.components.change_form import positions
from dashboard.texts.options import HELP


def fields(methods: list[str]) -> dict[str, Any]:
    """Draw the fields and return the section; {} where nothing is to be measured.

    Raises:
        GifError: candidates that are no whole numbers.
    """
    listed = st.text_input(
        "Measure FastIF with so many candidates",
        key="new_fastif_k",
        placeholder="none; or 10, 100, 1000",
        help=HELP["fastif_k"],
        persist_state="session",
    )
    k = positions(listed, "Candidates")
    if not k:
        return {}
    values: dict[str, Any] = {"k": k}
    if longer := _whole("fastif_iterations", "Iterations of the exact solves (0: as above)", 0):
        values["iterations"] = longer
    if rank := _whole("fastif_preview", "Rank of a preview to compare with (0: none)", 0):
        values["previews"] = (rank,)
    if {"if", "projected"} & set(methods) and st.toggle(
        "LiSSA beside the exact solves",
        key="new_fastif_lissa",
        help=HELP["fastif_lissa"],
        persist_state="session",
    ):
        values["solves"] = [_lissa()]
    return values


def _lissa() -> dict[str, Any]:
    solve = {
        "iterations": _whole("fastif_J", "Steps (J)", 200, help_of="lissa_iterations"),
        "batch_size": _whole("fastif_B", "Batch size (B)", 16, help_of="batch_size"),
        "chains": _whole("fastif_T", "Chains (T)", 1, help_of="chains"),
        "damp": _real("fastif_damp", "Damp", 0.01, 0.999, help_of="damp"),
        "scale": _real("fastif_scale", "Scale", 100.0, 1e12, help_of="scale"),
    }
    st.caption(f"Effective damping: damp × scale = {solve['damp'] * solve['scale']:g}.")
    return solve


def _whole(name: str, label: str, value: int, *, help_of: str | None = None) -> int:
    return st.number_input(
        label,
        min_value=min(value, 1),
        max_value=100_000,
        value=value,
        key=f"new_{name}",
        help=HELP[help_of or name],
        persist_state="session",
    )


def _real(name: str, label: str, value: float, most: float, *, help_of: str) -> float:
    return st.number_input(
        label,
        min_value=0.0,
        max_value=most,
        value=value,
        step=0.001,
        format="%g",
        key=f"new_{name}",
        help=HELP[help_of],
        persist_state="session",
    )

"""The fields of a study's section [retrain]: how many models are trained again, and how."""

from __future__ import annotations

from typing import Any, Literal

import streamlit as st

from dashboard.components.controls import one_of
from dashboard.texts.options import HELP, RECIPES
from gifcore.retrain_section import RetrainSection

STARTS: dict[Literal["cold", "warm"], str] = {"cold": "Cold", "warm": "Warm"}


def fields() -> dict[str, Any]:
    """Draw the fields and return the section; {} where nothing is retrained."""
    left, middle, right = st.columns([1, 2, 1], gap="large")
    with left:
        seeds = _whole("retrain", "Models to retrain (0: none)", 0, 0, 100)
    if not seeds:
        with middle:
            st.caption(
                "Off: the verdict will say what the edit does to accuracies, and that it was not "
                "held against retrained models. 3 give a mean and a spread."
            )
        return {}
    with middle:
        recipe = st.selectbox(
            "How they are trained",
            list(RECIPES),
            format_func=lambda name: RECIPES[name][0],
            key="new_retrain_recipe",
            help=HELP["retrain_recipe"],
            persist_state="session",
        )
        st.caption(RECIPES[recipe][1])
    with right:
        start = _start(recipe)
    epochs = 0
    if recipe == "sgd":
        with left:
            epochs = _whole("retrain_epochs", "Epochs (0: as the card says)", 0, 0, 100_000)
    if not RetrainSection(recipe=recipe, start=start).draws and seeds > 1:
        st.caption(":orange[Trained so, every seed gives the same model: one is trained.]")
        seeds = 1
    values: dict[str, Any] = {"seeds": seeds, "recipe": recipe, "start": start}
    return values | ({"epochs": epochs} if epochs else {})


def _start(recipe: str) -> Literal["cold", "warm"]:
    """Draw from where the training starts; the proximal one has one start, which says nothing."""
    if recipe == "proximal":
        return "cold"
    start = one_of("Start", STARTS, "cold", "new_retrain_start")
    st.caption(HELP["retrain_start"])
    return start


def _whole(name: str, label: str, value: int, least: int, most: int) -> int:
    return st.number_input(
        label,
        min_value=least,
        max_value=most,
        value=value,
        key=f"new_{name}",
        help=HELP[name],
        persist_state="session",
    )

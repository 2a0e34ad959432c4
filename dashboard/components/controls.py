"""A choice of one in a row of buttons, remembered while the session lasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import streamlit as st

Name = TypeVar("Name", bound=str)


def one_of(heading: str, names: Mapping[Name, str], default: Name, key: str) -> Name:
    """Draw the choices with their words and return the chosen one; it is always one of them."""
    options = list(names)
    forget_if_gone(key, options)
    return st.segmented_control(
        heading,
        options,
        default=default,
        required=True,
        format_func=lambda name: names[name],
        key=key,
        wrap=True,
        persist_state="session",
    )


def forget_if_gone(key: str, options: Sequence[object]) -> None:
    """Drop a remembered choice that another record had and this one does not."""
    if key in st.session_state and st.session_state[key] not in options:
        del st.session_state[key]

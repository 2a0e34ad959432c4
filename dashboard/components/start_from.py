"""A form filled from a study file: uploaded, pasted, or the one of a record."""

from __future__ import annotations

import tomllib
from pathlib import Path

import streamlit as st

from dashboard.components import messages, study_fill
from gifcore.errors import GifError
from gifcore.study import Study, parse, read

FILE, TEXT = "start_file", "start_text"
MOST = 200_000  # characters of a study file
PROBLEMS = "new_problems"  # sentences to be said once on the page


def draw() -> None:
    """Draw the file picker and the field to paste into."""
    with st.expander("Start from a study file", icon=":material/upload_file:"):
        st.write(
            "The `study.toml` of a record, of a report, or of a colleague fills every field below; "
            "nothing runs before you say so."
        )
        left, right = st.columns(2, gap="large")
        with left:
            st.file_uploader("Study file", type=["toml"], key=FILE, max_upload_size=1)
        with right:
            st.text_area("… or its text", key=TEXT, placeholder='[data]\nsource = "digits"')
        st.button("Fill in the form", key="start_fill", icon=":material/edit_note:", on_click=_fill)


def say_problems() -> None:
    """Say once what was wrong with the last file."""
    for problem in st.session_state.pop(PROBLEMS, []):
        messages.error(GifError(problem))


def parsed(text: str, name: str) -> Study:
    """Return the study of a file's text.

    Raises:
        GifError: it is too long, no TOML, or no study.
    """
    if len(text) > MOST:
        raise GifError(f"{name} has {len(text):,} characters; a study file has a few hundred.")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise GifError(f"{name} is not a TOML file: {error}.") from None
    return parse(values, origin=name)


def from_study_file(file: Path, title: str) -> bool:
    """Fill the form with the study of a run of this workspace, or of the demo; False if it fails.

    What it names was read by this server before.
    """
    try:
        study = read(file)
    except GifError as problem:
        st.session_state[PROBLEMS] = [str(problem)]
        return False
    st.session_state[PROBLEMS] = study_fill.put(study, f"the study {title}", trusted=True)
    return True


def _fill() -> None:
    """Fill the form with what was uploaded or pasted, as it is at the click."""
    file, pasted = st.session_state.get(FILE), st.session_state.get(TEXT, "")
    name = file.name if file is not None else "the pasted file"
    text = file.getvalue().decode("utf-8", errors="replace") if file is not None else pasted
    try:
        if not text.strip():
            raise GifError(
                "There is nothing to fill in yet: choose a study file or paste its text."
            )
        study = parsed(text, name)
    except GifError as problem:
        st.session_state[PROBLEMS] = [str(problem)]
        return
    st.session_state[PROBLEMS] = study_fill.put(study, name, trusted=False)

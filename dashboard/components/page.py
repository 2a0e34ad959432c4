"""The head and the foot of a record page: the answer in one sentence, and the downloads."""

from __future__ import annotations

import io
from collections.abc import Callable

import pandas as pd
import streamlit as st

from gifcore.data.names import neutral


def head(title: str, answer: str) -> None:
    """Draw the title and, under it, the answer in plain words."""
    st.title(title)
    st.markdown(answer)


def downloads(stem: str, build: Callable[[], pd.DataFrame], what: str) -> None:
    """Offer a table as CSV and Parquet; it is built when a button is pressed."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            f"{what} as CSV",
            data=lambda: csv(build()),
            file_name=f"{stem}.csv",
            mime="text/csv",
            key=f"csv-{stem}",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            f"{what} as Parquet",
            data=lambda: parquet(build()),
            file_name=f"{stem}.parquet",
            mime="application/vnd.apache.parquet",
            key=f"parquet-{stem}",
            icon=":material/download:",
            on_click="ignore",
        )


def csv(frame: pd.DataFrame) -> bytes:
    """Return the table as CSV, every digit kept; no text in it is a formula to a spreadsheet."""
    safe = frame.rename(columns=lambda name: neutral(str(name)))
    for column in safe.select_dtypes(exclude="number"):
        safe[column] = safe[column].map(
            lambda cell: neutral(cell) if isinstance(cell, str) else cell
        )
    return safe.to_csv(index=False).encode()


def parquet(frame: pd.DataFrame) -> bytes:
    """Return the table as a Parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()

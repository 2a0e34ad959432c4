"""The head and the foot of a record page: the answer in one sentence, and the downloads."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.components.messages import bare
from gifcore.data.names import neutral

_PARQUET = "application/vnd.apache.parquet"


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
            mime=_PARQUET,
            key=f"parquet-{stem}",
            icon=":material/download:",
            on_click="ignore",
        )


def table(frame: pd.DataFrame, name: str, alt: str, **options: Any) -> None:
    """Draw a table over the full width, with CSV and Parquet under it.

    Args:
        name: of its files and its key.
        options: of `st.dataframe`.
    """
    st.dataframe(frame, width="stretch", hide_index=True, alt=alt, key=f"table-{name}", **options)
    take(name, lambda: frame)


def still(frame: pd.DataFrame, name: str, alt: str) -> None:
    """Draw a table whose row names are words and whose texts are Markdown, its files under it."""
    st.table(frame, border="horizontal", alt=alt)
    take(
        name,
        lambda: frame.reset_index(names="").map(
            lambda cell: bare(cell) if isinstance(cell, str) else cell
        ),
    )


def take(name: str, build: Callable[[], pd.DataFrame]) -> None:
    """Offer the table above as CSV and Parquet, in one quiet line."""
    kinds = (("CSV", "csv", csv, "text/csv"), ("Parquet", "parquet", parquet, _PARQUET))
    with st.container(horizontal=True, horizontal_alignment="right", gap="small"):
        for shown, suffix, write, mime in kinds:
            st.download_button(
                shown,
                data=partial(_written, write, build),
                file_name=f"{name}.{suffix}",
                mime=mime,
                key=f"{suffix}-{name}",
                help=f"The table above as {shown}",
                icon=":material/download:",
                type="tertiary",
                on_click="ignore",
            )


def _written(write: Callable[[pd.DataFrame], bytes], build: Callable[[], pd.DataFrame]) -> bytes:
    return write(build())


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

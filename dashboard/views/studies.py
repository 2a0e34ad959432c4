"""Studies: what is running, what stopped, and every record of the workspace and the demo."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cache, jobs, library, settings, state, trash
from dashboard.charts.style import label
from dashboard.components import messages, progress, start_from
from dashboard.components import page as frame
from dashboard.components.study_form import ORDER
from dashboard.measured import share as measured
from gifcore import record as records
from gifcore.errors import GifError
from gifcore.outcome import Figure, outcome
from gifcore.record import SEARCHED, Listed

PERCENT = ("Removed", "Others", "Touched", "All test", "Triggered", "Clean")
OTHER_KINDS = (
    "*Touched* is the accuracy on the training samples of the change, by their labels after it, "
    "*all test* that on every test image; *triggered* is the share of images with a trigger that "
    "get the backdoor's label (lower is better), *clean* the accuracy without it. "
)
SHOWN = 20  # stopped studies


def page() -> None:
    """Draw the page; a click on Open leads to Samples with that record."""
    if st.session_state.pop("open_samples", False):
        st.switch_page(st.session_state["pages"]["samples"])
    if st.session_state.pop("open_new_study", False):
        st.switch_page(st.session_state["pages"]["new_study"])
    st.title("Studies")
    _undo()
    start_from.say_problems()
    listed = library.listed()
    running = [one.folder for one in jobs.queue(settings.workspace())]
    if running:
        st.subheader("On their way")
        if len(running) > 1:
            st.caption("One computes at a time; the others wait in line.")
        for folder in running:
            _running_one(folder)
    ended = [e for e in listed if e.path not in running]
    never_began = _never_began(listed, running)
    _stopped(ended + never_began)
    finished = [(e, False) for e in listed if e.status == "finished"]
    _finished(finished + [(e, True) for e in cache.bundled() if e.status == "finished"])
    if not state.closed():
        _again([e for e, _ in finished] + [e for e in cache.bundled() if e.status == "finished"])
        _delete(ended + [e for e in never_began if e.path.parent == settings.workspace()])


# --- on their way -------------------------------------------------------------------------------


def _running_one(folder: Path) -> None:
    run = jobs.status(folder, settings.workspace())
    st.markdown(f"**{messages.plain(run['title'])}** · {messages.plain(folder.name)}")
    progress.job_panel(folder)


# --- stopped and damaged ------------------------------------------------------------------------


def _never_began(listed: list[Listed], running: list[Path]) -> list[Listed]:
    """Runs whose process ended before it wrote anything into its folder."""
    known = {entry.path for entry in listed} | set(running)
    found = []
    for folder in jobs.started(settings.workspace()):
        run = jobs.status(folder, settings.workspace())
        if folder not in known and run["status"] in jobs.STOPPED:
            found.append(Listed(folder, run["status"], run["title"], "", run["message"], {}))
    return found


def _stopped(entries: list[Listed]) -> None:
    stopped = [entry for entry in entries if entry.status in (*jobs.STOPPED, "damaged")]
    if not stopped:
        return
    st.subheader("Stopped or damaged")
    for entry in stopped[:SHOWN]:
        with st.container(border=True):
            left, right = st.columns([5, 1], vertical_alignment="center")
            words = f"{messages.STATUS_ICONS[entry.status]} {messages.STATUS_WORDS[entry.status]}"
            left.markdown(f"**{messages.plain(entry.title)}** · {words}")
            left.caption(messages.plain(entry.message))
            if entry.status in jobs.STOPPED and not state.closed():
                progress.resume_button(right, entry.path)
                right.button(
                    "Change …",
                    key=f"change-{entry.path.parent.name}-{entry.path.name}",
                    icon=":material/edit:",
                    help="Fills the form New study with this study's settings.",
                    on_click=_fill_in,
                    args=(jobs.asked(entry.path, settings.workspace()), entry.title),
                )
            if entry.status in ("failed", "interrupted"):
                progress.detail(entry.path)
    if len(stopped) > SHOWN:
        st.caption(
            f"… and {len(stopped) - SHOWN} more in {messages.plain(str(settings.workspace()))}"
        )


# --- finished -----------------------------------------------------------------------------------


def _finished(entries: list[tuple[Listed, bool]]) -> None:
    st.subheader("Finished")
    if not entries:
        messages.nothing_yet()
        return
    table = pd.DataFrame([row(entry, demo=demo) for entry, demo in entries])
    st.session_state["studies_shown"] = [entry.info for entry, _ in entries]
    st.dataframe(
        table,
        hide_index=True,
        key="finished",
        height="auto" if len(table) < 15 else 560,
        column_config=_columns(list(table.columns)),
        placeholder="–",
        alt="Finished studies with their accuracies before and after.",
    )
    frame.take("studies", lambda: table)
    st.caption(
        "Accuracies on the test split with the searched step. *Removed* is the class to be "
        "forgotten (lower is better), *others* all other classes (higher is better). "
        + (OTHER_KINDS if any(map(_other_kind, entries)) else "")
        + "The natural step is on the page *Before / after*."
    )


def row(entry: Listed, *, demo: bool) -> dict[str, Any]:
    """Return one row of the table of finished studies; percentages as numbers.

    The methods come last, in one order, each with what its searched step leaves.
    """
    info = entry.info
    before, judged = info["before"]["test"], outcome(info["change"])
    own, rest = judged.own, judged.rest
    values: dict[str, Any] = {
        "Open": "Open",
        "Study": f"{entry.title} (demo)" if demo else entry.title,
        "Selector": state.selector_label(info["selection"]["selector"]),
        "Ratio": 100 * info["selection"]["ratio"],
        "When": pd.Timestamp(info["created"]),
        "Took": info["seconds"],
        "Change": judged.what[:1].upper() + judged.what[1:],
        f"{own.short} before": _percent(before, own),
        f"{rest.short} before": _percent(before, rest),
    }
    for method in ORDER:
        steps = info["methods"].get(method, {}).get("steps")
        if steps:
            after, name = steps[SEARCHED]["test"], label(method)
            values |= {f"{own.short} {name}": _percent(after, own)}
            values |= {f"{rest.short} {name}": _percent(after, rest)}
    return values


def _percent(metrics: dict[str, Any], figure: Figure) -> float:
    """Return an accuracy [%]; NaN, an empty cell, where there were no such images."""
    found = measured(metrics, figure)
    return math.nan if found is None else 100 * found


def _other_kind(entry: tuple[Listed, bool]) -> bool:
    return outcome(entry[0].info["change"]).task != "class"


def _columns(names: list[str]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "Open": st.column_config.ButtonColumn(
            "", width=60, pinned=True, type="tertiary", key="open_study", on_click=_open
        ),
        "Study": st.column_config.TextColumn(width=200),
        "Ratio": st.column_config.NumberColumn(format="%g %%"),
        "Took": st.column_config.NumberColumn(format="%.0f s"),
        "When": st.column_config.DatetimeColumn(format="YYYY-MM-DD"),
    }
    for name in names:
        if name.startswith(PERCENT):
            config[name] = st.column_config.NumberColumn(format="%.1f %%")
    return config


def _open() -> None:
    """Show the record of the clicked row; the page then leads to Samples."""
    shown = st.session_state["studies_shown"]
    state.show(**state.picks_of(shown[st.session_state["open_study"]["row"]]))
    st.session_state["open_samples"] = True


# --- again ----------------------------------------------------------------------------------------


def _again(entries: list[Listed]) -> None:
    if not entries:
        return
    with st.expander("Run a study again, or change it first", icon=":material/replay:"):
        by_path = {str(entry.path): entry for entry in entries}
        left, right = st.columns([5, 1], vertical_alignment="bottom")
        path = left.selectbox(
            "Study",
            list(by_path),
            format_func=lambda path: f"{by_path[path].title} · {Path(path).name}",
            key="studies-again",
        )
        right.button(
            "Fill in the form",
            key="studies-again-button",
            icon=":material/edit_note:",
            on_click=_fill_in,
            args=(by_path[path].path / records.STUDY, by_path[path].title),
            width="stretch",
        )
        st.caption("Opens New study with all its settings. Unchanged, it leads to its result.")


def _fill_in(file: Path, title: str) -> None:
    if start_from.from_study_file(file, title):
        st.session_state["open_new_study"] = True


# --- deleting -------------------------------------------------------------------------------------


def _delete(entries: list[Listed]) -> None:
    if not entries:
        return
    with st.expander("Delete a study", icon=":material/delete:"):
        by_name = {entry.path.name: entry for entry in entries}
        left, right = st.columns([5, 1], vertical_alignment="bottom")
        name = left.selectbox(
            "Study",
            list(by_name),
            format_func=lambda name: f"{by_name[name].title} · {name}",
            key="studies-delete",
        )
        right.button(
            "Delete",
            key="studies-delete-button",
            icon=":material/delete:",
            on_click=_discard,
            args=(by_name[name].path, by_name[name].title),
            width="stretch",
        )
        st.caption("It can be taken back until the next one is deleted.")


def _discard(folder: Path, title: str) -> None:
    try:
        place = trash.discard(folder, settings.workspace())
    except GifError as problem:
        st.session_state["studies-problem"] = str(problem)
    else:
        st.session_state["studies-deleted"] = (place, title)


def _undo() -> None:
    """Say what was just deleted and offer to take it back, or why that was not possible."""
    if problem := st.session_state.pop("studies-problem", None):
        messages.error(GifError(problem))
    place, title = st.session_state.get("studies-deleted", (None, ""))
    if place is None or not (place.exists() or place.is_symlink()):
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":material/delete: Deleted: **{messages.plain(title)}**", width="content")
        st.button("Undo", key="studies-undo", icon=":material/undo:", on_click=_restore)


def _restore() -> None:
    place, _ = st.session_state.pop("studies-deleted")
    try:
        trash.restore(place, settings.workspace())
    except GifError as problem:
        st.session_state["studies-problem"] = str(problem)

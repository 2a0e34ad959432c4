"""A run on its way: its stages, the time left, Cancel; and a combination not computed yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import cache, jobs, settings, state
from dashboard.components import messages, possible
from dashboard.state import Context
from gifcore import record as records
from gifcore.errors import GifError
from gifcore.record import Record
from gifcore.study import Study, read

STAGE_WORDS = {
    "load": "Load model and data",
    "select": "Select parameters",
    "solve": "Solve the systems",
    "rank": "Rank training samples",
    "mislabel": "Look for wrong labels",
    "preview": "Make the sketch for previews",
    "fastif": "Measure FastIF",
    "edit": "Edit and search the step",
    "evaluate": "Evaluate before and after",
    "opinions": "Judge every training sample",
    "retrain": "Retrain for comparison",
}
MARKS = {
    "todo": ":material/radio_button_unchecked:",
    "running": ":material/progress_activity:",
    "done": ":material/check_circle:",
    "kept": ":material/check_circle:",
}


def job_panel(folder: Path) -> bool:
    """Draw a run's progress, live while it goes on; True while it does.

    When it ends the whole page is drawn again, once, so that it shows the result.
    """
    live = jobs.status(folder, settings.workspace())["status"] in jobs.LIVE
    if live:
        st.fragment(_live_panel, run_every=1.0)(str(folder))
    else:
        _ended(folder)
    return live


def _live_panel(folder: str) -> None:
    run = jobs.status(Path(folder), settings.workspace())
    if run["status"] not in jobs.LIVE:
        st.rerun()
    with st.container(border=True, gap="xsmall"):
        with st.container(
            horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"
        ):
            st.markdown(_headline(run) + _place(Path(folder), run), width="content")
            st.button(
                "Cancel",
                key=f"cancel-{Path(folder).name}",
                icon=":material/stop_circle:",
                disabled=bool(state.closed()),
                on_click=_cancel,
                args=(Path(folder),),
            )
        if run["status"] != "waiting":  # before its turn it does not know which stages it has
            _stages(run)


def _cancel(folder: Path) -> None:
    jobs.cancel(folder, settings.workspace())


def _headline(run: dict[str, Any]) -> str:
    words = messages.STATUS_WORDS[run["status"]]
    eta = run.get("eta_seconds")
    if _loading(run):  # what things cost is measured there
        eta = None
    left = f", about {messages.duration(eta)} left" if eta is not None else ""
    said = "" if run["status"] == "running" else f" {messages.plain(run['message'])}"
    return f"**{words}{left}.**{said}"


def _place(folder: Path, run: dict[str, Any]) -> str:
    """Return where a run that waits stands in the queue, and when its turn comes."""
    if run["status"] == "running":
        return ""
    for one in jobs.queue(settings.workspace()):
        if one.folder == folder:
            return " " + in_line(one.place, one.begins_in)
    return ""


def in_line(place: int, begins_in: float | None) -> str:
    """Return a place in the queue in words.

    >>> in_line(1, 75.0), in_line(3, None)
    ('Next in line, begins in about 1 min 15 s.', 'Number 3 in line.')
    """
    words = "Next in line" if place == 1 else f"Number {place} in line"
    when = f", begins in about {messages.duration(begins_in)}" if begins_in else ""
    return f"{words}{when}."


def _loading(run: dict[str, Any]) -> bool:
    return any(s["name"] == "load" and s["state"] in ("todo", "running") for s in run["stages"])


def _stages(run: dict[str, Any]) -> None:
    for stage in run["stages"]:
        if stage["state"] == "skipped":
            continue
        name, fraction = STAGE_WORDS.get(stage["name"], stage["name"]), _fraction(stage)
        if stage["state"] == "running":
            note = f" · {stage['note']}" if stage.get("note") else ""
            st.progress(fraction, text=f"{MARKS['running']} {name}{messages.plain(note)}")
        else:
            seconds = stage.get("seconds")
            took = f" · {messages.duration(seconds)}" if seconds and seconds >= 1 else ""
            kept = " · kept from before" if stage["state"] == "kept" else took
            st.caption(f"{MARKS.get(stage['state'], '')} {name}{kept}")


def _fraction(stage: dict[str, Any]) -> float:
    total = stage.get("total") or 0
    return min(1.0, stage.get("done", 0) / total) if total else 0.0


def _ended(folder: Path) -> None:
    run = jobs.status(folder, settings.workspace())
    if run["status"] in ("none", "finished"):
        return
    words = messages.STATUS_WORDS[run["status"]]
    draw = st.warning if run["status"] == "cancelled" else st.error
    draw(
        f"**{words}.** {messages.plain(run['message'])}", icon=messages.STATUS_ICONS[run["status"]]
    )
    if run["status"] != "cancelled":
        detail(folder)


def detail(folder: Path) -> None:
    """Draw what is known of a run that failed, to be copied; presenter mode shows none of it."""
    if state.closed():
        return
    with st.expander("Details to copy", icon=":material/content_copy:"):
        st.code(jobs.detail(folder, settings.workspace()), language=None, wrap_lines=True)


def resume_button(slot: DeltaGenerator, folder: Path) -> None:
    """Draw the button that goes on with a stopped study; finished stages are kept."""
    key = f"resume-{folder.parent.name}-{folder.name}"
    if slot.button("Run again", key=key, icon=":material/replay:"):
        try:
            jobs.resume(folder, workspace=settings.workspace())
        except GifError as problem:
            messages.error(problem)
        else:
            st.rerun()


def result_link(folder: Path) -> None:
    """Draw the link that opens the result pages on the record of a folder."""
    record = cache.open_record(folder)
    label, icon = "**See the result**", ":material/arrow_forward:"
    state.link("samples", label, icon=icon, **state.picks_of(record.info))


# --- a combination of selector and ratio without a record ---------------------------------------


def missing_combination(ctx: Context) -> None:
    """Say that the picked combination is not computed, and offer to compute it in place."""
    st.subheader("Not computed yet")
    st.write(
        f"**{messages.plain(ctx.title)}** has no record for "
        f"**{state.selector_label(ctx.selector)}** at **{100 * ctx.ratio:g} %** of the parameters."
    )
    _computed(ctx)
    if why := state.closed():
        st.info(why)
        return
    sibling = _sibling(ctx)
    study = _study(sibling, ctx)
    folder = jobs.folder_for(
        study, sibling.info["data"]["hash"], sibling.info["model"]["hash"], settings.workspace()
    )
    if job_panel(folder):
        st.caption("You can leave this page; the run goes on and is listed under Studies.")
    elif jobs.status(folder, settings.workspace())["status"] == "finished":
        st.info("It is computed, by another version of the engine: a study of its own.")
        result_link(folder)
    elif problem := possible.refusal(study, sibling.info["selection"]["p"]):
        st.warning(problem, icon=":material/block:")
    else:
        _compute_button(study, folder, sibling)


def _computed(ctx: Context) -> None:
    ratios = sorted(ratio for selector, ratio in ctx.family if selector == ctx.selector)
    if ratios:
        listed = ", ".join(f"{100 * ratio:g} %" for ratio in ratios)
        st.caption(f"Computed for this selector: {listed}.")


def _sibling(ctx: Context) -> Record:
    """A record of the family, by preference with the same selector."""
    same = [path for (selector, _), path in ctx.family.items() if selector == ctx.selector]
    return cache.open_record((same or list(ctx.family.values()))[0])


def _study(sibling: Record, ctx: Context) -> Study:
    study = read(sibling.path / records.STUDY)
    selection = study.selection.model_copy(update={"selector": ctx.selector, "ratio": ctx.ratio})
    return study.model_copy(update={"selection": selection})


def _compute_button(study: Study, folder: Path, sibling: Record) -> None:
    about = messages.duration(seconds_for(study, sibling, reuse=True))
    clicked = st.button(
        f"Compute (about {about})", key="compute", type="primary", icon=":material/play_arrow:"
    )
    if clicked:
        try:
            jobs.start(study, folder, workspace=settings.workspace(), reuse=sibling.path)
        except GifError as problem:
            messages.error(problem)
        else:
            st.rerun()


def seconds_for(study: Study, record: Record, *, reuse: bool = False) -> float:
    """Return the estimated time of a study [s], from what such work cost in a record.

    With `reuse` the classic influence function costs nothing: the sibling's is taken over.
    """
    from gifcore.estimate import estimate

    methods = tuple(m for m in study.methods if m != "if" or not reuse) or study.methods
    asked = study.model_copy(update={"methods": methods})
    return float(estimate(asked, record.info["data"]["sizes"], record.info["costs"])["seconds"])

"""New study: describe it, have it checked and estimated, run it, watch it, see its result."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import cache, jobs, library, settings, state
from dashboard.components import (
    messages,
    possible,
    preset_buttons,
    progress,
    start_from,
    study_form,
)
from dashboard.components.measures import percent
from gifcore import record as records
from gifcore.change_section import RemoveClassSection
from gifcore.errors import GifError
from gifcore.estimate import estimate
from gifcore.record import Listed
from gifcore.study import Study, dumps, study_hash

RUN = "run"  # the query parameter that names the run being watched, so that a refresh keeps it


def page() -> None:
    """Draw the page: runs on their way first, then the form, the check, and Run."""
    st.title("New study")
    if settings.demo_only():
        st.info(
            "This server only shows the demo: new studies and uploads are switched off. "
            "Selector and ratio can still be changed on the result pages.",
            icon=":material/lock:",
        )
        state.link("samples", "See the demo", icon=":material/photo_library:")
        return
    st.write(
        "Change what a model was trained on: remove a class or single images, correct labels, take "
        "back a backdoor. Which parameters have to move, how far, and what does the model still "
        "know afterwards? Every setting below has a usable default."
    )
    if _watched():
        if st.button("Set up another study", key="another", icon=":material/add_circle:"):
            del st.query_params[RUN]
            st.rerun()
        return
    start_from.say_problems()
    top = st.expander("Presets: how much to spend, or what to ask", expanded=True)
    start_from.draw()
    slot = st.container()
    study, problem = _drawn()
    with top:  # what a preset costs depends on the form
        preset_buttons.draw([*cache.bundled(), *library.listed()])
    if problem is not None:
        messages.error(problem)
        return
    if study is not None:
        with slot:
            preset_buttons.differs(study)
    if study is None:
        st.info(
            "Choose the files above, or name the training images; then the study can be checked.",
            icon=":material/upload:",
        )
        return
    _check_and_run(study)
    _as_file(study)


def _drawn() -> tuple[Study | None, GifError | None]:
    """Draw the form; return its study, None while it is not whole, or what is wrong."""
    try:
        return study_form.draw(), None
    except GifError as problem:
        return None, problem


def _as_file(study: Study) -> None:
    """Offer the study as the file that the command line runs."""
    with st.expander("The same in a terminal", icon=":material/terminal:"):
        st.code(f"python -m gifcore run study.toml --out runs/{jobs.slug(study.title)}", None)
        st.download_button(
            "study.toml",
            dumps(study),
            "study.toml",
            "application/toml",
            key="study_file",
            icon=":material/download:",
            on_click="ignore",
        )


# --- the run that was started here --------------------------------------------------------------


def _watched() -> bool:
    """Draw the run that the address names, if any; the form waits until it is put aside."""
    name = st.query_params.get(RUN, "")
    workspace = settings.workspace()
    folder = workspace / name
    if not name or folder.parent != workspace or name.startswith("."):
        return False
    if not os.path.isdir(folder) and folder not in jobs.started(workspace):  # noqa: PTH112
        return False  # what is no name of a folder at all is none either
    run = jobs.status(folder, workspace)
    if run["status"] == "none":
        return False
    st.subheader(messages.plain(_title(folder, run)))
    if progress.job_panel(folder):
        st.caption(
            "You can leave this page or close the browser: the run goes on and is listed under "
            "Studies. A second study waits until this one is done."
        )
    elif run["status"] == "finished":
        with st.container(border=True):
            st.markdown(f"{messages.STATUS_ICONS['finished']} **Finished.**")
            progress.result_link(folder)
    else:
        progress.resume_button(st.container(), folder)
    return True


def _title(folder: Path, run: dict[str, Any]) -> str:
    if run["status"] == "finished":
        return cache.open_record(folder).title
    return run["title"]


# --- check, then run ----------------------------------------------------------------------------


def _check_and_run(study: Study) -> None:
    left, right = st.columns([1, 4], vertical_alignment="center")
    if left.button("Check", key="check", icon=":material/fact_check:", width="stretch"):
        st.session_state["new_checked"] = study
    checked = st.session_state.get("new_checked")
    if checked is None or _facts_of(checked) != _facts_of(study):
        right.caption(
            "Loads the model and the data once, without computing anything: shapes, classes, "
            "accuracy, and how long the study will take. About ten seconds."
        )
        return
    right.caption(study_form.said(study))
    try:
        with st.spinner("Checking the model and the data …"):
            answer = cache.doctor(checked)
    except GifError as problem:
        st.session_state.pop("new_checked", None)
        messages.error(problem)
        return
    if not answer.get("ok"):
        st.error(messages.plain(str(answer.get("error"))), icon=":material/error:")
        return
    if _new_names(study, answer):
        st.rerun()
    expected = estimate(study, answer["data"]["sizes"], answer["costs"])
    _facts(answer, expected["seconds"])
    if study.retrain.enabled:
        st.caption(retraining(study.retrain.seeds, expected["stages"]["retrain"]))
    _run(study, answer, expected["seconds"])


def _facts_of(study: Study) -> Study:
    """Return the study without what a check does not depend on; only the time follows from that."""
    free = ("title", "selection", "solver")
    default = {name: Study.model_fields[name].default for name in free}
    with_checkpoints = tuple(m for m in study.methods if m == "tracin")
    one = study.retrain.model_copy(update={"seeds": min(study.retrain.seeds, 1)})
    return study.model_copy(update=default | {"methods": with_checkpoints, "retrain": one})


def retraining(seeds: int, seconds: float) -> str:
    """Return what retraining adds to the time."""
    models = "one retrained model" if seeds == 1 else f"{seeds} retrained models"
    return (
        f"Of this time about {messages.duration(seconds)} are for {models}; those that another "
        "study of this workspace left are not trained again."
    )


def _new_names(study: Study, answer: dict[str, Any]) -> bool:
    """Remember the class names of a data set of one's own, for the picker of the class."""
    known = st.session_state.setdefault("new_classes", {})
    names = [str(name) for name in answer["data"]["classes"]]
    if cache.class_names(study.data.source) or known.get(study.data.source) == names:
        return False
    known[study.data.source] = names
    if isinstance(study.change, RemoveClassSection):
        st.session_state["new_label"] = min(study.change.label, len(names) - 1)
    return True


def _facts(answer: dict[str, Any], seconds: float) -> None:
    data, model = answer["data"], answer["model"]
    with st.container(border=True):
        cells = st.columns(5)
        cells[0].metric("Accuracy on test", percent(answer["accuracy"]["test"]))
        cells[1].metric("Parameters", f"{model['parameters']:,}")
        cells[2].metric("Training images", f"{data['sizes']['train']:,}")
        cells[3].metric("Time, about", messages.duration(seconds))
        cells[4].metric("Memory, about", f"{answer['estimate']['memory_mb']:,.0f} MB")
        shape = " x ".join(str(side) for side in data["shape"])
        st.caption(
            messages.plain(
                f"{data['name']}: images {shape} (channels x height x width), "
                f"{data['sizes']['validation']:,} validation and {data['sizes']['test']:,} test "
                f"images, {len(data['classes'])} classes ({_listed(data['classes'])}). "
                f"Accuracy on validation {percent(answer['accuracy']['validation'])}. "
                f"Weight decay {model['weight_decay']:g}. {data.get('note') or ''}"
            )
        )


def _listed(classes: list[str]) -> str:
    shown = ", ".join(str(name) for name in classes[:12])
    return shown + (" …" if len(classes) > 12 else "")


def _run(study: Study, answer: dict[str, Any], seconds: float) -> None:
    model = answer["model"]
    hashes = answer["data"]["hash"], model["hash"] + model["training"]
    own = study_hash(study, *hashes)
    done = computed(own)
    if done is not None:
        st.success(
            f"Already computed, as “{messages.plain(done.title)}”.", icon=":material/check_circle:"
        )
        progress.result_link(done.path)
        return
    if reason := possible.refusal(study, answer["model"]["parameters"]):
        st.warning(reason, icon=":material/block:")
        return
    workspace = settings.workspace()
    live = jobs.live_of(own, workspace)  # of the same question, whoever asked and however called
    folder = live or jobs.folder_for(study, *hashes, workspace)
    before = len(jobs.queue(workspace))
    label = "On its way already: show its progress" if live else "Run"
    if before and not live:
        studies = "one study that is" if before == 1 else f"{before} studies that are"
        st.caption(f"It will wait for {studies} on their way.".replace("is on their", "is on its"))
    if st.button(label, key="run", type="primary", icon=":material/play_arrow:"):
        try:
            jobs.start(study, folder, workspace=workspace, expected=seconds)
        except GifError as problem:
            messages.error(problem)
            return
        st.query_params[RUN] = folder.name
        st.rerun()


def computed(study_hash_: str) -> Listed | None:
    """Return the finished record of a study, of workspace or demo, None if there is none."""
    listed = [*records.list_workspace(settings.workspace()), *cache.bundled()]
    return next((e for e in listed if e.status == "finished" and e.hash == study_hash_), None)

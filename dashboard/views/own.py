"""Own model and data: load them in two steps, see what was understood, start a study with them."""

from __future__ import annotations

import shlex
from typing import Any

import streamlit as st

from dashboard import own_checks, settings, state
from dashboard.components import messages, own_forms, own_shown, uploads
from dashboard.components.own_forms import Question
from dashboard.texts import text
from gifcore.data import DATASETS
from gifcore.errors import GifError

KEYS = ("data", "model")  # query parameters: the questions this page shows the answers of


def page() -> None:
    """Draw the page: each step opens when the one before it was understood."""
    if st.session_state.pop("open_new_study", False):
        st.switch_page(st.session_state["pages"]["new_study"])
    st.title("Own model and data")
    if settings.demo_only():
        st.info(
            "This server only shows the demo: it takes no uploads and computes nothing. Start "
            "your own with `python -m dashboard` to load a model and data.",
            icon=":material/lock:",
        )
        state.link("samples", "See the demo", icon=":material/photo_library:")
        return
    st.write(text("own_intro"))
    data = _data_step()
    model = _model_step(data)
    _start_step(model)


# --- the three steps -----------------------------------------------------------------------------


def _data_step() -> dict[str, Any] | None:
    with st.container(border=True):
        st.subheader("1 · Data")
        question = own_forms.data_question()
        what = "Shapes, class balance, and what occurs twice; a minute for many pictures."
        _ask_button("data", question, "Read the data", what)
        answer = _answer("data", question)
        if answer is None or "data" not in answer:
            return None
        own_shown.data(answer["data"])
        return dict(answer["data"]) if answer["ok"] else None


def _model_step(data: dict[str, Any] | None) -> dict[str, Any] | None:
    with st.container(border=True):
        st.subheader("2 · Model")
        if data is None:
            st.caption("Opens when the data are read: the model is built for their shape.")
            return None
        question = own_forms.model_question(data)
        what = "Compares every name and shape, then measures how often it is right."
        _ask_button("model", question, "Load the model", what)
        answer = _answer("model", question)
        if answer is None or not answer["ok"] or answer["data"]["hash"] != data["hash"]:
            return None
        own_shown.model(answer)
        return answer


def _start_step(answer: dict[str, Any] | None) -> None:
    with st.container(border=True):
        st.subheader("3 · Study")
        if answer is None:
            st.caption("Opens when the model is loaded.")
            return
        data, model = answer["data"], answer["model"]
        st.write(
            f"**{messages.plain(model['title'])}** on **{messages.plain(data['name'])}**, right on "
            f"{answer['accuracy']['test']:.1%} of {data['sizes']['test']:,} test samples."
        )
        st.button(
            "Start a study with these",
            key="own_start",
            type="primary",
            icon=":material/arrow_forward:",
            on_click=_fill_in,
            args=(answer,),
        )
        st.caption("Opens New study with both filled in; nothing is computed before you say Run.")
        with st.expander("The same in a terminal"):
            st.code(command(answer), language=None)


def command(answer: dict[str, Any]) -> str:
    """Return the command line that says the same of this model and these data."""
    model = answer["model"]
    words = ["python -m gifcore own", f"--data {shlex.quote(answer['data']['source'])}"]
    words.append(f"--model {shlex.quote(model['name'])}")
    words += [] if model["bundled"] else [f"--weights {shlex.quote(model['weights'])}"]
    return " \\\n  ".join(words)


def fields(answer: dict[str, Any]) -> dict[str, object]:
    """Return the values of the form New study for a model and data that were understood."""
    data, model = answer["data"], answer["model"]
    own = data["source"] not in DATASETS
    values: dict[str, object] = {
        "new_model": model["name"],
        "new_data": own_forms.OWN if own else data["source"],
        "new_own_weights": not model["bundled"],
        "new_weight_decay": model["weight_decay"],
        "new_title": "",
    }
    if own:
        values |= uploads.fields("data", data["source"])
    if not model["bundled"]:
        values |= uploads.fields("weights", model["weights"])
    return values


def _fill_in(answer: dict[str, Any]) -> None:
    known = st.session_state.setdefault("new_classes", {})
    known[answer["data"]["source"]] = list(answer["data"]["classes"])
    st.session_state.update(fields(answer))
    st.session_state["open_new_study"] = True


# --- asking the engine ---------------------------------------------------------------------------


def _ask_button(name: str, question: Question | None, label: str, what: str) -> None:
    left, right = st.columns([1, 4], vertical_alignment="center")
    clicked = left.button(
        label,
        key=f"own_ask_{name}",
        icon=":material/fact_check:",
        width="stretch",
        disabled=question is None,
    )
    right.caption(what if question is not None else "Choose a file first.")
    if not clicked or question is None:
        return
    try:
        key = own_checks.ask(
            question.arguments, question.files, question.asked, workspace=settings.workspace()
        )
    except GifError as problem:
        messages.error(problem)
        return
    st.query_params[name] = key
    if name == "data":
        st.query_params.pop("model", None)


def _answer(name: str, question: Question | None) -> dict[str, Any] | None:
    """Draw how far the question of the address has come; return the answer when it is there."""
    key = st.query_params.get(name, "")
    found = own_checks.look(key, settings.workspace()) if key else None
    if found is None:
        return None
    if found.live:
        st.fragment(_live, run_every=0.5)(key)
        return None
    if found.answer is None:
        st.caption("Cancelled.")
        return None
    about = messages.plain(str(found.asked.get("name", "")))
    if found.answer["ok"]:
        st.markdown(f":material/check_circle: **Understood: {about}**")
    else:
        st.error(messages.plain(str(found.answer["error"])), icon=":material/error:")
    if question is not None and own_checks.key_of(question.arguments, question.files) != key:
        st.caption(f":orange[The choice above changed since {about} was read; ask again.]")
    return found.answer


def _live(key: str) -> None:
    found = own_checks.look(key, settings.workspace())
    if found is None or not found.live:
        st.rerun()
    else:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.progress(found.share, text=messages.plain(found.note.capitalize()))
            st.button(
                "Cancel",
                key=f"own_cancel_{key}",
                icon=":material/stop_circle:",
                on_click=own_checks.cancel,
                args=(key, settings.workspace()),
            )

"""The widgets of a study; what they say becomes a checked `Study`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import cache, settings, state
from dashboard.components import messages, uploads
from dashboard.texts import text
from dashboard.texts.options import HELP
from gifcore.data import DATASETS
from gifcore.errors import GifError
from gifcore.models import MODELS, bundled
from gifcore.study import METHOD_LABELS, METHODS, SELECTORS, Study, parse

OWN = "own"
FORGET = 8  # the class of the example study, Bag in Fashion-MNIST


def draw() -> Study | None:
    """Draw the form and return the study it describes; None while a file is missing.

    Raises:
        GifError: a value that is not possible, in one sentence.
    """
    with st.container(border=True):
        st.subheader("1 · Model, data and what to change")
        asked = _subject()
    with st.container(border=True):
        st.subheader("2 · Which parameters may move, and how the move is computed")
        chosen = _selection()
    with st.expander("Advanced: solver, curvature, test images to explain, seed"):
        advanced = _advanced()
    if asked is None:
        return None
    title = st.text_input(
        "Title", key="new_title", placeholder=_title(asked), persist_state="session", max_chars=80
    )
    return parse(
        {"title": title.strip() or _title(asked)} | _without_names(asked) | chosen | advanced,
        origin="This study",
    )


def _title(asked: dict[str, Any]) -> str:
    return f"Forget {asked['class_name']} ({asked['data_name']})"


def _without_names(asked: dict[str, Any]) -> dict[str, Any]:
    return {key: asked[key] for key in ("data", "model", "change")}


# --- model, data, change ------------------------------------------------------------------------


def _subject() -> dict[str, Any] | None:
    left, middle, right = st.columns(3, gap="large")
    with left:
        model = st.selectbox(
            "Model",
            list(MODELS),
            format_func=lambda name: MODELS[name].title,
            key="new_model",
            help=HELP["model"],
            persist_state="session",
        )
        st.caption(MODELS[model].text)
    with middle:
        data = _data_choice()
    own_weights = _own_weights(model, data)
    source, weights, decay = _own_files(data, own_weights)
    with right:
        label, name = _class(source)
    if source is None or (own_weights and weights is None):
        return None
    return {
        "data": {"source": source},
        "model": {"name": model, "weights": weights, "weight_decay": decay},
        "change": {"label": label},
        "class_name": name,
        "data_name": DATASETS[source].title if source in DATASETS else Path(source).stem,
    }


def _data_choice() -> str:
    options = [*DATASETS] if settings.demo_only() else [*DATASETS, OWN]
    data = st.selectbox(
        "Data",
        options,
        format_func=lambda name: DATASETS[name].title if name in DATASETS else "Load your own …",
        key="new_data",
        help=HELP["data"],
        persist_state="session",
    )
    st.caption(DATASETS[data].text if data in DATASETS else "An .npz file, described below.")
    return data


def _own_weights(model: str, data: str) -> bool:
    """Are the weights loaded? Always so where none come with GIF Studio."""
    if data == OWN:
        return True
    if bundled(model, data) is None:
        st.info(
            f"No trained {MODELS[model].title} for {DATASETS[data].title} comes with GIF Studio: "
            "load its weights below, or choose another model or data set.",
            icon=":material/info:",
        )
        return True
    return st.toggle(
        "Load my own weights instead of the ones that come with GIF Studio",
        key="new_own_weights",
        persist_state="session",
    )


def _own_files(data: str, own_weights: bool) -> tuple[str | None, str | None, float | None]:
    source = None if data == OWN else data
    if data != OWN and not own_weights:
        return source, None, None
    with st.container(border=True):
        left, right = st.columns(2, gap="large")
        with left:
            if data == OWN:
                st.markdown(text("own_data"))
                source = uploads.pick("data", "Data", ("npz",))
            else:
                st.markdown(text("own_weights"))
        with right:
            if data == OWN:
                st.markdown(text("own_weights"))
            weights = uploads.pick("weights", "Weights", ("safetensors", "pt", "pth"))
            decay = _weight_decay()
    return source, weights, decay


def _weight_decay() -> float | None:
    return st.number_input(
        "Weight decay in training",
        min_value=0.0,
        value=None,
        format="%g",
        placeholder="what the checkpoint's card says, else 0",
        key="new_weight_decay",
        help=HELP["weight_decay"],
        persist_state="session",
    )


def _class(source: str | None) -> tuple[int, str]:
    """The class to forget, by name where the data set is known, else by number."""
    names = cache.class_names(source) if source else None
    names = names or st.session_state.get("new_classes", {}).get(source)
    if not names:
        number = st.number_input(
            "Class to forget, by number", 0, 9999, 0, key="new_label_number", help=HELP["label"]
        )
        st.caption("The names are known after the check.")
        return number, f"class {number}"
    if st.session_state.get("new_label") not in range(len(names)):
        st.session_state["new_label"] = min(FORGET, len(names) - 1)
    label = st.selectbox(
        "Class to forget",
        range(len(names)),
        format_func=lambda at: names[at] if names[at] == str(at) else f"{at} · {names[at]}",
        key="new_label",
        help=HELP["label"],
        persist_state="session",
    )
    st.caption("Its training images are removed; the model is moved to forget them.")
    return label, str(names[label])


# --- selection and methods ----------------------------------------------------------------------


def _selection() -> dict[str, Any]:
    left, middle, right = st.columns(3, gap="large")
    with left:
        selector = st.selectbox(
            "Selector",
            list(SELECTORS),
            format_func=state.selector_label,
            key="new_selector",
            help=HELP["selector"],
            persist_state="session",
        )
        st.caption(SELECTORS[selector] + ".")
    with middle:
        ratio = st.select_slider(
            "Parameter ratio",
            state.RATIOS,
            value=state.DEFAULT_RATIO,
            format_func=lambda share: f"{100 * share:g} %",
            key="new_ratio",
            help=HELP["ratio"],
            persist_state="session",
        )
    with right:
        methods = st.pills(
            "Methods",
            list(METHODS),
            selection_mode="multi",
            default=["gif", "if"],
            format_func=lambda name: METHOD_LABELS[name],
            key="new_methods",
            help=HELP["methods"],
            persist_state="session",
        )
        st.caption(
            "; ".join(f"{METHOD_LABELS[m]}: {METHODS[m].partition(': ')[0]}" for m in methods)
        )
    ordered = [name for name in ("if", "gif", "gradient") if name in methods]
    return {"selection": {"selector": selector, "ratio": ratio}, "methods": ordered}


# --- advanced -----------------------------------------------------------------------------------


def _number(name: str, label: str, value: float, low: float, high: float) -> Any:  # noqa: ANN401
    """A number field of the group Advanced; whole numbers stay whole."""
    whole = isinstance(value, int)
    return st.number_input(
        label,
        min_value=low,
        max_value=high,
        value=value,
        step=None if whole else 0.001,
        format=None if whole else "%g",
        key=f"new_{name}",
        help=HELP[name],
        persist_state="session",
    )


def _advanced() -> dict[str, Any]:
    curvature, solver, rest = st.columns(3, gap="large")
    with curvature:
        samples = _number("samples", "Curvature samples", 512, 0, 1_000_000)
        damping = _number("damping", "Damping", 0.0, 0.0, 1e6)
        memory = _number("memory_mb", "Memory for gradient graphs [MB]", 512, 0, 65_536)
        seed = _number("seed", "Seed", 0, 0, 2**31 - 1)
    with solver:
        iterations = _number("iterations", "Iterations", 20, 1, 10_000)
        tolerance = _number("tolerance", "Tolerance", 1e-6, 0.0, 1.0)
        ridge = _number("ridge", "Ridge (GIF)", 0.0, 0.0, 1e6)
    with rest:
        preconditioner = st.selectbox(
            "Preconditioner",
            ["jacobi", "none"],
            format_func=str.capitalize,
            key="new_preconditioner",
            help=HELP["preconditioner"],
            persist_state="session",
        )
        probes = _number("probes", "Probes (0: automatic)", 0, 0, 1000)
        ranking = _ranking()
    return {
        "seed": seed,
        "curvature": {"samples": samples or "all", "damping": damping, "memory_mb": memory},
        "solver": {
            "iterations": iterations,
            "tolerance": tolerance,
            "ridge": ridge,
            "preconditioner": preconditioner,
            "probes": probes or None,
        },
        "ranking": ranking,
    }


def _ranking() -> dict[str, Any]:
    count = _number("count", "Test images to explain", 2, 0, 1000)
    listed = st.text_input(
        "… or these ones",
        key="new_queries",
        placeholder="17, 256, 1024",
        help=HELP["queries"],
        persist_state="session",
    )
    return {"count": count, "queries": positions(listed)}


def positions(listed: str) -> tuple[int, ...]:
    """Return test positions typed with commas or blanks between them.

    >>> positions("17, 256 3")
    (17, 256, 3)

    Raises:
        GifError: something that is not a whole number.
    """
    words = listed.replace(",", " ").split()
    wrong = [word for word in words if not word.isdecimal()]
    if wrong:
        raise GifError(
            f"Test images to explain: '{wrong[0]}' is not a position; give whole numbers from 0, "
            "separated by commas."
        )
    return tuple(int(word) for word in words)


def said(study: Study) -> str:
    """Return a study in one line, for the person who is about to run it."""
    methods = " and ".join(METHOD_LABELS[m] for m in study.methods)
    return messages.plain(
        f"{study.title}: {methods}, {state.selector_label(study.selection.selector).lower()} at "
        f"{100 * study.selection.ratio:g} %, {study.solver.iterations} iterations, curvature of "
        f"{study.curvature.samples} samples"
    )

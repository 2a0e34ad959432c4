"""The widgets of a study; what they say becomes a checked `Study`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import cache, settings, state
from dashboard.charts.style import label as method_label
from dashboard.charts.style import listed
from dashboard.components import (
    change_form,
    fastif_form,
    messages,
    mislabel_form,
    own_forms,
    possible,
    ranking_form,
    retrain_form,
    uploads,
)
from dashboard.components.own_forms import OWN
from dashboard.texts import text
from dashboard.texts.options import CURVATURES, HELP, PRECONDITIONERS, SAMPLERS, SOLVERS
from gifcore import models
from gifcore.data import DATASETS
from gifcore.errors import GifError
from gifcore.models import bundled
from gifcore.study import METHODS, SELECTORS, Study, parse

ORDER = ("if", "gif", "gradient", *(m for m in METHODS if m not in ("if", "gif", "gradient")))


def draw() -> Study | None:
    """Draw the form and return the study it describes; None while a file is missing.

    Raises:
        GifError: a value that is not possible, or a method that cannot run, in one sentence.
    """
    with st.container(border=True):
        st.subheader("1 · Model, data and what to change")
        asked = _subject()
    with st.container(border=True):
        st.subheader("2 · Which parameters may move, and how the move is computed")
        chosen = _selection(asked)
    with st.container(border=True):
        st.subheader("3 · Hold it against models that are really retrained")
        chosen["retrain"] = retrain_form.fields()
    with st.expander("Advanced: curvature, solver, test images to explain, seed"):
        advanced = _advanced(chosen["methods"], asked["data"]["source"] if asked else None)
    if asked is None:
        return None
    title = st.text_input(
        "Title", key="new_title", placeholder=_title(asked), persist_state="session", max_chars=80
    )
    study = parse(
        {"title": title.strip() or _title(asked)} | _without_names(asked) | chosen | advanced,
        origin="This study",
    )
    if problem := possible.refusal(study):
        raise GifError(problem)
    return study


def _title(asked: dict[str, Any]) -> str:
    return f"{asked['title']} ({asked['data_name']})"


def _without_names(asked: dict[str, Any]) -> dict[str, Any]:
    return {key: asked[key] for key in ("data", "model", "change")}


# --- model, data, change ------------------------------------------------------------------------


def _subject() -> dict[str, Any] | None:
    left, middle, right = st.columns(3, gap="large")
    with left:
        model = st.selectbox(
            "Model",
            own_forms.model_names(),
            format_func=models.title,
            key="new_model",
            help=HELP["model"],
            persist_state="session",
        )
        st.caption(own_forms.about(model))
    with middle:
        data = _data_choice()
    with right:
        kind = change_form.kind()
    own_weights = _own_weights(model, data, backdoor=kind == "backdoor")
    source, weights, decay = _own_files(data, own_weights)
    with right:
        change = change_form.fields(kind, source)
    if source is None or change is None or (own_weights and weights is None):
        return None
    return {
        "data": {"source": source},
        "model": {"name": model, "weights": weights, "weight_decay": decay},
        "change": change.values,
        "title": change.title,
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
    st.caption(DATASETS[data].text if data in DATASETS else "Your own, chosen below.")
    return data


def _own_weights(model: str, data: str, *, backdoor: bool) -> bool:
    """Are the weights loaded? Always so where none come with GIF Studio."""
    if data == OWN:
        return True
    if backdoor and bundled(model, f"{data}-backdoor") is None:
        st.info(
            f"No {models.title(model)} trained on {DATASETS[data].title} with a backdoor comes "
            "with GIF Studio: train one in a terminal (`python -m gifcore train --backdoor …`) and "
            "pick it below, its card beside it; or choose Digits and the model FCN.",
            icon=":material/info:",
        )
        return True
    noise = "-noise" if mislabel_form.planted() else ""
    if not backdoor and bundled(model, data + noise) is None:
        st.info(
            f"No trained {models.title(model)} for {DATASETS[data].title} comes with GIF Studio: "
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
                if source is None:
                    icon = ":material/upload_file:"
                    state.link("own", "A zip, a table, or first see what is in it", icon=icon)
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


# --- selection and methods ----------------------------------------------------------------------


def _selection(asked: dict[str, Any] | None) -> dict[str, Any]:
    selector = st.selectbox(
        "Selector",
        list(SELECTORS),
        format_func=selector_line,
        key="new_selector",
        help=HELP["selector"],
        persist_state="session",
    )
    left, right = st.columns([1, 2], gap="large")
    with left:
        ratio = st.select_slider(
            "Parameter ratio",
            state.RATIOS,
            value=state.DEFAULT_RATIO,
            format_func=lambda share: f"{100 * share:g} %",
            key="new_ratio",
            help=HELP["ratio"],
            persist_state="session",
        )
        if problem := possible.ratio_problem(selector, ratio):
            st.caption(f":orange[{problem}]")
    with right:
        methods = _methods(asked)
    return {"selection": {"selector": selector, "ratio": ratio}, "methods": methods}


def selector_line(selector: str) -> str:
    """Return a selector's name and what it takes, in one line."""
    what = SELECTORS[selector]
    return f"{state.selector_label(selector)}: {what[:1].lower()}{what[1:]}"


def _methods(asked: dict[str, Any] | None) -> list[str]:
    methods = st.pills(
        "Methods",
        ORDER,
        selection_mode="multi",
        default=["if", "gif"],
        format_func=method_label,
        key="new_methods",
        help=HELP["methods"],
        wrap=True,
        persist_state="session",
    )
    ordered = [name for name in ORDER if name in methods]
    st.caption("  \n".join(method_line(m) for m in ordered))
    if asked is not None:
        weights = cache.weights_file(
            parse(_without_names(asked) | {"mislabel": mislabel_form.planted_section()})
        )
        if problem := possible.checkpoints_problem(weights):
            st.caption(f":orange[{problem}]" if "tracin" in methods else problem)
    return ordered


def method_line(method: str) -> str:
    """Return a method's name and what it does, in one line of Markdown."""
    name = method_label(method)
    what = METHODS[method].removeprefix(f"{name}: ")
    return f"**{name}** · {what}"


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


def _choice(name: str, label: str, choices: dict[str, tuple[str, str]]) -> str:
    """A box of the group Advanced; under it, what the choice is and when to use it."""
    chosen = st.selectbox(
        label,
        list(choices),
        format_func=lambda one: choices[one][0],
        key=f"new_{name}",
        help=HELP[name],
        persist_state="session",
    )
    st.caption(choices[chosen][1])
    return chosen


def _advanced(methods: list[str], source: str | None) -> dict[str, Any]:
    left, middle, right = st.columns(3, gap="large")
    with left:
        curvature = _curvature()
    with middle:
        solver = _solver()
    with right:
        st.markdown("**Test images and chance**")
        ranking = ranking_form.fields(source)
        preview = {"rank": _number("preview", "Sketch for previews (0: none)", 0, 0, 100_000)}
        fastif = fastif_form.fields(methods)
        mislabel = mislabel_form.fields()
        seed = _number("seed", "Seed", 0, 0, 2**31 - 1)
    sections = {"curvature": curvature, "solver": solver, "ranking": ranking, "preview": preview}
    sections |= {"fastif": fastif, "mislabel": mislabel}
    return {"seed": seed} | sections


def _curvature() -> dict[str, Any]:
    st.markdown("**Curvature**")
    kind = _choice("kind", "Curvature", CURVATURES)
    samples = _number("samples", "Curvature samples", 512, 0, 1_000_000)
    sampler = _choice("sampler", "How they are drawn", SAMPLERS)
    return {
        "kind": kind,
        "samples": samples or "all",
        "sampler": sampler,
        "draws": _number("draws", "Draws of the samples", 1, 1, 100),
        "damping": _damping(),
        "memory_mb": _number("memory_mb", "Memory for gradient graphs [MB]", 512, 0, 65_536),
    }


def _damping() -> float | str:
    way = st.segmented_control(
        "Damping",
        ["By hand", "Automatic"],
        default="By hand",
        required=True,
        key="new_damping_way",
        help=HELP["damping_way"],
        persist_state="session",
    )
    if way == "Automatic":
        return "auto"
    return _number("damping", "Damping by hand", 0.0, 0.0, 1e6)


def _solver() -> dict[str, Any]:
    """Draw the solver with the settings it has; what it has not keeps the engine's default."""
    st.markdown("**Solver**")
    kind = _choice("solver", "Solver", SOLVERS)
    if kind == "dense":
        return {"kind": kind, "ridge": _ridge()}
    if kind == "lissa":
        return {"kind": kind} | _lissa()
    values = {
        "kind": kind,
        "iterations": _number("iterations", "Iterations", 20, 1, 10_000),
        "tolerance": _number("tolerance", "Tolerance", 1e-6, 0.0, 1.0),
    }
    return values | (_lsmr() if kind == "lsmr" else {})


def _ridge() -> float:
    return _number("ridge", "Ridge (GIF)", 0.0, 0.0, 1e6)


def _lsmr() -> dict[str, Any]:
    values: dict[str, Any] = {"ridge": _ridge()}
    values["preconditioner"] = _choice("preconditioner", "Preconditioner (GIF)", PRECONDITIONERS)
    if values["preconditioner"] == "jacobi":
        values["probes"] = _number("probes", "Probes (0: automatic)", 0, 0, 1000) or None
    return values


def _lissa() -> dict[str, Any]:
    values = {
        "iterations": _number("lissa_iterations", "Iterations (J)", 1000, 1, 10_000),
        "batch_size": _number("batch_size", "Batch size (B)", 1, 1, 100_000),
        "chains": _number("chains", "Chains (T)", 1, 1, 1000),
        "damp": _number("damp", "Damp", 5e-3, 0.0, 0.999),
        "scale": _number("scale", "Scale", 1e4, 1e-6, 1e12),
    }
    st.caption(f"Effective damping: damp × scale = {values['damp'] * values['scale']:g}.")
    return values


def said(study: Study) -> str:
    """Return a study in one line, for the person who is about to run it."""
    solver, curvature = study.solver, study.curvature
    steps = "" if solver.kind == "dense" else f" with {solver.iterations:,} iterations"
    damping = ", damping by itself" if curvature.damping == "auto" else ""
    seeds = study.retrain.seeds
    held = f", held against {seeds} retrained model{'s' * (seeds > 1)}" if seeds else ""
    return messages.plain(
        f"{study.title}: {listed([method_label(m) for m in study.methods])}, "
        f"{state.selector_label(study.selection.selector).lower()} at "
        f"{100 * study.selection.ratio:g} %, {SOLVERS[solver.kind][0]}{steps}, "
        f"{CURVATURES[curvature.kind][0]} of {curvature.samples} samples{damping}{held}"
    )

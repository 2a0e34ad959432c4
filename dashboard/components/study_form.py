"""The widgets of a study: six main fields by hand, all others under Advanced; then a `Study`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import cache, settings, state
from dashboard.charts.style import label as method_label
from dashboard.charts.style import listed
from dashboard.components import (
    advanced_form,
    change_form,
    messages,
    mislabel_form,
    option_fields,
    own_forms,
    possible,
    uploads,
)
from dashboard.components.own_forms import OWN
from dashboard.study_options import SHARED, field
from dashboard.texts import text
from dashboard.texts.options import CURVATURES, SOLVERS
from gifcore import models
from gifcore.data import DATASETS
from gifcore.errors import GifError
from gifcore.models import bundled
from gifcore.quota import BLOCKS, Network, chosen, taken
from gifcore.study import METHODS, SELECTORS, SelectionSection, Study, parse

ORDER = ("if", "gif", "gradient", *(m for m in METHODS if m not in ("if", "gif", "gradient")))
DRAWN = "new_drawn"  # the study that the form described when it was drawn last


def draw() -> Study | None:
    """Draw the form and return the study it describes; None while a file is missing.

    Raises:
        GifError: a value that is not possible, or a method that cannot run, in one sentence.
    """
    with st.container(border=True):
        st.subheader("1 · Model, data and what to change")
        asked, boxed = _subject()
    network = _network(asked)
    with st.container(border=True):
        st.subheader("2 · Which parameters may move, and how the move is computed")
        selection, methods, slot = _selection(asked)
    with st.expander("Advanced: every other option, with a default that works"):
        source = asked["data"]["source"] if asked else None
        advanced = advanced_form.draw(
            methods,
            classes=change_form.class_names(source),
            layers=[layer.name for layer in network.layers] if network else [],
            decay=not boxed,
        )
    selection |= advanced.pop("selection")
    _achieved(slot, selection, network)
    if asked is None:
        return None
    title = st.text_input(
        "Title", key="new_title", placeholder=_title(asked), persist_state="session", max_chars=80
    )
    values = _without_names(asked) | {"title": title.strip() or _title(asked), "methods": methods}
    values["change"] |= {"change_samples": advanced.pop(SHARED)}
    values["model"] |= {"weight_decay": advanced.pop("model.weight_decay", asked["decay"])}
    study = parse(values | advanced | {"selection": selection}, origin="This study")
    st.session_state[DRAWN] = study
    if problem := possible.refusal(study):
        raise GifError(problem)
    return study


def _title(asked: dict[str, Any]) -> str:
    return f"{asked['title']} ({asked['data_name']})"


def _without_names(asked: dict[str, Any]) -> dict[str, Any]:
    return {key: asked[key] for key in ("data", "model", "change")}


# --- model, data, change ------------------------------------------------------------------------


def _subject() -> tuple[dict[str, Any] | None, bool]:
    """Draw model, data and change; return them if they are whole, and if own files are asked."""
    left, middle, right = st.columns(3, gap="large")
    with left:
        model = st.selectbox(
            "Model",
            own_forms.model_names(),
            format_func=models.title,
            key="new_model",
            help=field("model.name").help,
            persist_state="session",
        )
        st.caption(own_forms.about(model))
    with middle:
        data = _data_choice()
    with right:
        kind = change_form.kind()
    own_weights = _own_weights(model, data, backdoor=kind == "backdoor")
    boxed = data == OWN or own_weights
    source, weights, decay = _own_files(data) if boxed else (data, None, None)
    with st.container() if kind == "union" else right:  # several changes need the whole width
        change = change_form.fields(kind, source)
    if source is None or change is None or (own_weights and weights is None):
        return None, boxed
    asked = {
        "data": {"source": source},
        "model": {"name": model, "weights": weights},
        "decay": decay,
        "change": change.values,
        "title": change.title,
        "data_name": DATASETS[source].title if source in DATASETS else Path(source).stem,
    }
    return asked, boxed


def _data_choice() -> str:
    options = [*DATASETS] if settings.demo_only() else [*DATASETS, OWN]
    data = st.selectbox(
        "Data",
        options,
        format_func=lambda name: DATASETS[name].title if name in DATASETS else "Load your own …",
        key="new_data",
        help=field("data.source").help,
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


def _own_files(data: str) -> tuple[str | None, str | None, float | None]:
    source = None if data == OWN else data
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
            decay = option_fields.draw(field("model.weight_decay"))
    return source, weights, decay


# --- selection and methods ----------------------------------------------------------------------


def _selection(
    asked: dict[str, Any] | None,
) -> tuple[dict[str, Any], list[str], DeltaGenerator]:
    """Draw selector, ratio and methods; return them, and where to say what the ratio comes to."""
    about, share = field("selection.selector"), field("selection.ratio")
    selector = st.selectbox(
        about.title,
        list(SELECTORS),
        format_func=selector_line,
        key=about.key,
        help=about.help,
        persist_state="session",
    )
    left, right = st.columns([1, 2], gap="large")
    with left:
        st.session_state.setdefault(share.key, state.DEFAULT_RATIO)
        ratio = st.select_slider(
            share.title,
            sorted({*state.RATIOS, st.session_state[share.key]}),  # one of a study file too
            format_func=lambda one: f"{100 * one:g} %",
            key=share.key,
            help=share.help,
            persist_state="session",
        )
        slot = st.container()
        if problem := possible.ratio_problem(selector, ratio):
            st.caption(f":orange[{problem}]")
    with right:
        methods = _methods(asked)
    return {"selector": selector, "ratio": ratio}, methods, slot


def _network(asked: dict[str, Any] | None) -> Network | None:
    """Return the layers of the chosen weights, None where only the engine can read them."""
    weights = _weights_of(asked)
    return cache.network(weights) if weights else None


def _weights_of(asked: dict[str, Any] | None) -> Path | None:
    if asked is None:
        return None
    planted = {"mislabel": mislabel_form.planted_section()}
    return cache.weights_file(parse(_without_names(asked) | planted))


def _achieved(slot: DeltaGenerator, values: dict[str, Any], network: Network | None) -> None:
    if network is None:
        slot.caption("How many parameters that is, the check will say.")
    else:
        slot.caption(achieved(SelectionSection(**values), network))


def achieved(selection: SelectionSection, network: Network) -> str:
    """Return what a ratio comes to in a model, before it runs: k of p parameters."""
    layers = chosen(network, selection.layers, selection.kinds, norms=selection.norms)
    k = taken(selection.selector, selection.ratio, layers, selection.budget)
    most = "at most " if selection.selector in BLOCKS else ""
    said = f"{most}**{k:,} of {network.p:,}** parameters ({100 * k / network.p:.3g} %)"
    if k == 0:
        return f":orange[{said}: too few to choose from; raise the ratio.]"
    left = "" if len(layers) == len(network.layers) else f", in {len(layers)} layers"
    return f"{said[:1].upper()}{said[1:]}{left}."


def selector_line(selector: str) -> str:
    """Return a selector's name and what it takes, in one line."""
    what = SELECTORS[selector]
    return f"{state.selector_label(selector)}: {what[:1].lower()}{what[1:]}"


def _methods(asked: dict[str, Any] | None) -> list[str]:
    about = field("methods")
    st.session_state.setdefault(about.key, list(about.default))
    methods = st.pills(
        about.title,
        ORDER,
        selection_mode="multi",
        format_func=method_label,
        key=about.key,
        help=about.help,
        wrap=True,
        persist_state="session",
    )
    ordered = [name for name in ORDER if name in methods]
    st.caption("  \n".join(method_line(m) for m in ordered))
    if asked is not None and (problem := possible.checkpoints_problem(_weights_of(asked))):
        st.caption(f":orange[{problem}]" if "tracin" in methods else problem)
    return ordered


def method_line(method: str) -> str:
    """Return a method's name and what it does, in one line of Markdown."""
    name = method_label(method)
    what = METHODS[method].removeprefix(f"{name}: ")
    return f"**{name}** · {what}"


# --- what was asked for, in words ----------------------------------------------------------------


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

"""The images marked for a new study: kept while the session lasts, and in the address if short."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import cache, settings, state
from dashboard.components.suspects import Suspects
from dashboard.state import Context
from gifcore.data import DATASETS
from gifcore.study import Study

IN_ADDRESS = 60  # marks; of more the address would be too long to send


def _key(context: Context) -> str:
    """Return what the marks are of: the training data, with the wrong labels planted in them."""
    noise = context.shown.mislabel
    return f"{context.info['data']['hash']} {noise.get('rate')} {noise.get('seed')}"


def marks(context: Context) -> list[int]:
    """Return the marked images, in the order they were marked.

    A session takes them from its address, or from one that was changed by hand.
    """
    baskets: dict[str, list[int]] = st.session_state.setdefault("baskets", {})
    key, said = _key(context), state.picked().get("marked") or []
    if said != st.session_state.get("marked_said", []):
        n = context.info["data"]["sizes"]["train"]
        baskets[key] = [i for i in dict.fromkeys(int(word) for word in said) if i < n]
    found = baskets.setdefault(key, [])
    _say(found)
    return found


def _say(found: list[int]) -> None:
    texts = [str(i) for i in found] if len(found) <= IN_ADDRESS else []
    state.picked()["marked"] = texts or None
    st.session_state["marked_said"] = texts
    if texts != st.query_params.get("marked", "").split(","):
        state.write_address()


def mark(context: Context, indices: list[int], *, put: bool = True) -> None:
    """Put images into the basket, or take them out."""
    found = marks(context)
    gone = set(indices)
    kept = found + [i for i in indices if i not in found] if put else [
        i for i in found if i not in gone
    ]  # fmt: skip
    st.session_state["baskets"][_key(context)] = kept
    _say(kept)


def checkbox(context: Context, index: int) -> None:
    """Draw the mark of one image."""
    key = f"marked-{index}"
    st.session_state[key] = index in marks(context)

    def toggle() -> None:
        mark(context, [index], put=bool(st.session_state[key]))

    st.checkbox(f"mark #{index}", key=key, on_change=toggle)


def draw(
    context: Context,
    suspects: Suspects | None,
    first: list[int],
    *,
    every: list[int] | None = None,
) -> None:
    """Draw what is marked, and what can be done with it.

    Args:
        suspects: what is known of wrong labels; None where it is not about them.
        first: the images that "Mark the first k" takes.
        every: those of all pages, if they may be marked at once.
    """
    found = marks(context)
    st.subheader(f":material/shopping_basket: Marked: {len(found):,}")
    what = "the first" if suspects is not None else "this page:"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            f"Mark {what} {len(first):,}", key="mark-first", icon=":material/done_all:",
            on_click=mark, args=(context, first), disabled=not first,
        )  # fmt: skip
        if every is not None and len(every) > len(first):
            st.button(
                f"Mark all {len(every):,} that match", key="mark-every",
                icon=":material/select_all:", on_click=mark, args=(context, every),
            )  # fmt: skip
        st.button(
            "Unmark all", key="unmark", icon=":material/remove_done:", disabled=not found,
            on_click=mark, args=(context, list(found)), kwargs={"put": False},
        )  # fmt: skip
    st.caption(_said(suspects, found))
    if state.presenting():
        return
    if settings.demo_only():
        st.caption("This server only shows the demo: no study can be started from here.")
        return
    study = cache.study(context.shown.path)
    if study is None:
        st.caption("This version cannot read the study of this record: no study can follow it.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        removed = st.button(
            "Start a study that removes them", key="basket-remove", type="primary",
            icon=":material/delete_sweep:", disabled=not found,
        )  # fmt: skip
        suggested = None if suspects is None else suspects.table.get("suggested")
        relabelled = suggested is not None and st.button(
            "Start one that relabels them", key="basket-relabel",
            icon=":material/label:", disabled=not found,
            help="Each gets the most probable other class, by the model.",
        )  # fmt: skip
    if removed or relabelled:
        labels = None
        if relabelled and suggested is not None:
            labels = suggested.to_numpy()[found].tolist()
        st.session_state.update(form(study, found, labels))
        st.query_params.clear()
        st.switch_page(st.session_state["pages"]["new_study"])


def _said(suspects: Suspects | None, found: list[int]) -> str:
    if not found:
        return (
            "Mark images above by their boxes, or the first ones at once; the marks stay while you "
            "look at other pages."
        )
    wrong = None if suspects is None else suspects.wrong
    words = "Kept while this session lasts" + (
        ", and in the address of this page." if len(found) <= IN_ADDRESS else "."
    )
    if wrong is None:
        return words
    return f"{int(wrong[found].sum()):,} of them are known to be wrong. {words}"


def form(study: Study, indices: list[int], labels: list[int] | None) -> dict[str, Any]:
    """Return the fields of New study for the same model and data, with these images changed.

    Args:
        labels: the new label of each image; None: they are removed.
    """
    # only for who starts one: pages that show marks need no form of a study
    from dashboard.components import change_form, mislabel_form, study_form, uploads

    known = study.data.source in DATASETS
    values: dict[str, Any] = {
        "new_title": "",
        "new_model": study.model.name,
        "new_data": study.data.source if known else study_form.OWN,
        "new_change": "remove-samples" if labels is None else "relabel",
        "new_change_samples": ", ".join(map(str, indices)),
        change_form.EACH: ", ".join(map(str, labels or [])),
        "new_weight_decay": study.model.weight_decay,
    }
    if not known:
        values |= uploads.fields("data", study.data.source)
    if study.model.weights:
        values |= {"new_own_weights": True} | uploads.fields("weights", study.model.weights)
    return values | mislabel_form.values(study.mislabel.planted)

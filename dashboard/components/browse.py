"""All training images as a grid: filtered, in order, page by page; each opens its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import cache, filters, state
from dashboard.charts.style import label, listed
from dashboard.components import basket, filter_form, look, measures, sample_card, sheet
from dashboard.components import page as frame
from dashboard.components.gallery import Pictures
from dashboard.components.sheet import Card
from dashboard.filters import Filter, Known, Size
from dashboard.state import Context
from gifcore.record import SEARCHED
from gifcore.study import RANKS

SIDES: dict[Size, int] = {"small": 72, "medium": 112, "large": 168}  # pixels of a picture
TILE: dict[Size, int] = {"small": 92, "medium": 116, "large": 176}  # of a tile, at least
HEIGHT = 560  # of the grid, which scrolls: the card of a chosen image is in sight below it
UNSCROLLED = 10  # so few tiles need no scrolling
MARKED_AT_ONCE = 2000
TOLD = "browse-told"  # the image that was just chosen


@dataclass(frozen=True)
class Scored:
    """What the tiles say of scores: the test image they are of, their unit and power of ten."""

    of: str  # "test image #17", plain text
    exp: int
    explained: measures.Explained
    preview: bool = False


@st.fragment
def section(
    context: Context, source: Pictures, scores: Mapping[str, np.ndarray], about: Scored | None
) -> None:
    """Draw the filters, how many images match, a page of them, the basket and the downloads."""
    if st.session_state.get("pending"):  # what was chosen here is shown outside of it too
        st.rerun()
    if (index := st.session_state.pop(TOLD, None)) is not None:
        st.toast(f"The card of training image #{index} is below the images.")
    known = known_of(context, source, scores)
    _not_known(context, known)
    can = filter_form.draw(context, known, source.classes)
    positions = filters.apply(can, known)
    st.markdown(matching(can, known, len(positions), source.classes))
    if not len(positions):
        st.info(
            "No training image fits all of these filters at once. Take one of them out, or clear "
            "them all.",
            icon=":material/filter_alt_off:",
        )
        _clear()
    if not len(positions):
        sample_card.section(context, source)
        return
    if about is not None:
        st.caption(legend(about, can))
    left, right = st.columns([5, 6], vertical_alignment="center")
    with left, st.container(horizontal=True, vertical_alignment="center"):
        marking = _marking(context)
        if can.narrows:
            _clear()
    with right:
        can = filter_form.pager(can, len(positions))
    shown = filters.part(positions, can)
    with st.container(height=HEIGHT if len(shown) > UNSCROLLED else "content", border=False):
        _tiles(context, source, known, can, shown, about, marking=marking)
    if marking:
        basket.draw(
            context, None, shown.tolist(),
            every=positions.tolist() if len(positions) <= MARKED_AT_ONCE else None,
        )  # fmt: skip
    sample_card.section(context, source)
    stem = f"training-images-{context.selector}-{context.ratio:g}"
    frame.downloads(
        stem, lambda: table(positions, known, source.classes), f"These {len(positions):,} images"
    )


def known_of(context: Context, source: Pictures, scores: Mapping[str, np.ndarray]) -> Known:
    """Return what the record, its data and the test image's scores say of all training images."""
    path, asked = context.shown.path, filter_form.asked()
    whole = Known(context.info["data"]["sizes"]["train"], scores)
    by = asked.by if asked.by in scores else whole.default_by()
    edited = cache.train(path, by, SEARCHED) if by else None
    opinions = edited if asked.after and edited is not None else cache.train(path)
    return replace(
        whole,
        edited=edited is not None,
        labels=source.labels("train"),
        predicted=None if opinions is None else opinions["predicted"].to_numpy(),
        loss=None if opinions is None else opinions["loss"].to_numpy(),
        classes=len(source.classes),
    )


def _not_known(context: Context, known: Known) -> None:
    """Say in one line each which filters are missing, and why."""
    if known.predicted is None:
        st.caption(
            "This record was made before the model’s answers on training images were kept: there "
            "is no filter by predicted class and by right or wrong. Run its study again for them."
        )
    if not known.scores:
        silent = not any(RANKS.get(m, True) for m in context.methods)
        st.caption(
            f"{listed([label(m) for m in context.methods])} gives no ranking, so images have no "
            "score here: pick another method in the sidebar."
            if silent
            else "No test image is ranked here, so images have no score: choose one above."
        )


def matching(can: Filter, known: Known, count: int, classes: list[str]) -> str:
    """Return how many of all images match, and what is asked of them."""
    if not can.narrows:
        return f"All **{known.n:,}** training images, {filter_form.SORTS[can.sort].lower()}."
    asked = "; ".join(filter_form.words(can, classes))
    return f"**{count:,} of {known.n:,}** training images match: {asked}."


def legend(about: Scored, can: Filter) -> str:
    """Return unit and sign convention of the scores on the tiles."""
    kind = "Approximate influence" if about.preview else "Influence"
    said = (
        f"{kind} on {about.of} by {label(can.by)}, in "
        f"{measures.power(about.exp, about.explained.unit)}. **+ helpful**: removing the image "
        f"from training is predicted to {about.explained.worse} the {about.explained.noun}; "
        "**− harmful**: the opposite."
    )
    if can.after:
        said += f" **✓ ✗**: the answer of the model edited by {label(can.by)}, searched step."
    if can.pair:
        names = listed([label(method) for method in can.pair])
        said += f" **≠**: {names} disagree on it, in sign or by more than a quarter of all places."
    return said


def _clear() -> None:
    st.button(
        "Clear filters", key="browse-clear", icon=":material/filter_alt_off:",
        on_click=filter_form.clear,
    )  # fmt: skip


def _marking(context: Context) -> bool:
    found = len(basket.marks(context))
    return st.toggle(
        f"Mark images ({found:,} marked)" if found else "Mark images",
        key="browse-marking",
        persist_state="session",
        help="Puts a box under every image, to mark it for removal: a new study can be started "
        "without the marked ones. The page Wrong labels shares the marks.",
    )


# --- tiles ----------------------------------------------------------------------------------------


def _tiles(
    context: Context,
    source: Pictures,
    known: Known,
    can: Filter,
    shown: np.ndarray,
    about: Scored | None,
    *,
    marking: bool,
) -> None:
    apart = marks(known, can, shown, about)
    palette = look.palette()
    with st.grid(
        "auto", min_column_width=TILE[can.size], gap="small", vertical_alignment="bottom",
        key="browse-grid",
    ):  # fmt: skip
        for index, mark in zip(shown.tolist(), apart, strict=True):
            with st.container(gap="xxsmall", horizontal_alignment="center"):
                card = tile(index, known, can, source, about, mark)
                st.html(sheet.figure(card, palette, SIDES[can.size]))
                if marking:
                    basket.checkbox(context, index)
                    continue
                st.button(
                    f"#{index}",
                    key=f"tile-{index}",
                    type="primary" if index == context.sample else "secondary",
                    on_click=_choose,
                    args=(index,),
                    width="stretch",
                )


def _choose(index: int) -> None:
    state.show(sample=index)
    st.session_state[TOLD] = index


def marks(known: Known, can: Filter, shown: np.ndarray, about: Scored | None) -> list[str]:
    """Return for each image how the two methods disagree on it; "" where they do not."""
    if not can.pair or about is None:
        return [""] * len(shown)
    first, second = can.pair
    other = first if can.by == second else second
    alone = can.by not in can.pair
    signs = filters.disagree(known, can.pair, "signs")[shown]
    far = filters.disagree(known, can.pair, "places")[shown]
    place = filters.places(known.scores[other])[shown] if far.any() else np.zeros(len(shown), int)
    value = known.scores[other][shown]
    found = []
    for at in range(len(shown)):
        if alone and (signs[at] or far[at]):
            found.append(f"≠ {label(first)}, {label(second)}")
        elif signs[at]:
            found.append(f"≠ {label(other)} {measures.signed(float(value[at]), about.exp)}")
        elif far[at]:
            found.append(f"≠ {label(other)} place {place[at] + 1:,}")
        else:
            found.append("")
    return found


def tile(
    index: int, known: Known, can: Filter, source: Pictures, about: Scored | None, mark: str
) -> Card:
    """Return one image with its score, sign and word, how methods disagree, label and answer."""
    name = "" if known.labels is None else source.classes[int(known.labels[index])]
    said: tuple[str, ...] = (name or "label unknown",)
    words = [f"Training image {index}, {said[0]}"]
    if known.predicted is not None:
        answer = source.classes[int(known.predicted[index])]
        right = answer == name
        said += ("✓ right" if right else f"✗ {answer}" if name else f"→ {answer}",)
        words.append("the model is right" if right else f"the model says {answer}")
    value, word = "", "neutral"
    if about is not None and can.by:
        score = float(known.scores[can.by][index])
        word = "helpful" if score > 0 else "harmful" if score < 0 else "neutral"
        value = measures.signed(score, about.exp)
        words.append(f"influence {value} {measures.power(about.exp, about.explained.unit)}, {word}")
    if mark:
        words.append(f"disagrees: {mark.removeprefix('≠ ')}")
    uri = source.uri("train", index, SIDES[can.size]) if pictured(source) else ""
    return Card(uri, value, word, "\n".join(said), ", ".join(words), mark=mark)


def pictured(source: Pictures) -> bool:
    """Are there pictures to draw? A row of a table of numbers is one pixel high: it has none."""
    if source.data is not None:
        return bool(source.data.shape[1] > 1)
    kept = source.kept.get("train.images")
    return kept is None or kept.shape[1] > 1


# --- export ---------------------------------------------------------------------------------------


def table(positions: np.ndarray, known: Known, classes: list[str]) -> pd.DataFrame:
    """Return the images that match, in the order shown, with all that is known of them."""
    found = pd.DataFrame({"train_index": positions})
    for name, numbers in (("label", known.labels), ("predicted", known.predicted)):
        if numbers is not None:
            found[name] = pd.Categorical.from_codes(numbers[positions], pd.Index(classes))
    if known.right is not None:
        found["right"] = known.right[positions]
    if known.loss is not None:
        found["loss"] = known.loss[positions]
    for method, score in known.scores.items():
        found[f"{method}_influence"] = score[positions]
        found[f"{method}_rank"] = filters.places(score)[positions]
    return found

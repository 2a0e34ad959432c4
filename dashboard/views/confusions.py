"""The part of Before / after that shows what each model takes for what, and which images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import cache, cells, filters, state
from dashboard.cells import BEFORE, EDITED, RETRAINED, Cell
from dashboard.charts.confusion import READABLE, Matrix, confusion
from dashboard.charts.style import label
from dashboard.components import answers, held, look, measures
from dashboard.components.controls import one_of
from dashboard.components.measures import percent
from dashboard.components.messages import plain
from dashboard.state import Context
from gifcore import record as records
from gifcore.outcome import outcome

NARROW, WIDE = 248, 340  # px, the narrowest a matrix is drawn; on a phone one stands below another
SHOWS = {"shares": "Share of each class (%)", "change": "Change from before (points)"}
_PICKS = {"label": "cell-label", "predicted": "cell-predicted", "model": "cell-model"}


@dataclass(frozen=True)
class Judged:
    """The test predictions of one edit beside those before it and of retrained models."""

    name: str  # of the edit: "GIF searched"
    both: pd.DataFrame  # see cells.together
    votes: np.ndarray  # (n, models) predictions of the retrained models
    counts: dict[str, np.ndarray]  # model -> (C, C)
    method: str = ""  # of the edit
    step: str = ""

    @property
    def names(self) -> dict[str, str]:
        """What the matrices are called."""
        n = self.votes.shape[1]
        many = f"Retrained ({n} models)" if n > 1 else "Retrained"
        known = {BEFORE: "Before", EDITED: self.name, RETRAINED: many}
        return {model: known[model] for model in self.counts}


def judged(context: Context, method: str, step: str) -> Judged | None:
    """Return the predictions of an edit, None where the record keeps none."""
    path, classes = context.shown.path, len(context.info["data"]["classes"])
    before, after = cache.samples(path, records.BEFORE), cache.samples(path, method, step)
    if before.empty or after.empty:
        return None
    both = cells.together(before, after)
    again = [
        found
        for name, _ in held.steps(context.info)
        if len(found := cache.samples(path, records.RETRAINED, name)) == len(both)
    ]
    votes, true = cells.voted(both, again), both["label"].to_numpy()
    counts = {
        BEFORE: measures.confusion(true, both["predicted_was"].to_numpy(), classes),
        EDITED: measures.confusion(true, both["predicted_now"].to_numpy(), classes),
    }
    if again:
        columns = [measures.confusion(true, column, classes) for column in votes.T]
        counts[RETRAINED] = np.sum(columns, axis=0)
    return Judged(f"{label(method)} {step}", both, votes, counts, method, step)


def focus(context: Context, found: Judged) -> int:
    """Return the class that is looked at: the sidebar's, the change's, else the most changed."""
    if context.klass is not None:
        return context.klass
    about = outcome(context.info["change"]).label
    if about is not None:
        return about
    return cells.most_changed(found.counts[BEFORE], found.counts[EDITED])


@st.fragment
def section(context: Context, found: Judged) -> None:
    """Draw the matrices, the choice of a cell and its images; a click draws only this again."""
    cell = _cell(context, found)
    shows = one_of("Cells show", SHOWS, "shares", "confusion-shows")
    _matrices(context, found, cell, change=shows == "change")
    _choose(context.info["data"]["classes"], found, cell)
    _images(context, found, cell)
    state.write_address()


# --- which cell -----------------------------------------------------------------------------------


def _cell(context: Context, found: Judged) -> Cell:
    """Return the cell that is picked, else what most images of the class in focus are taken for."""
    classes = len(context.info["data"]["classes"])
    text = st.session_state.get("cell", state.picked().get("cell"))
    picked = cells.parse(text, classes, list(found.counts))
    state.seed("cell", [text] if picked else [], None)
    state.keep("cell")
    return picked or cells.default(focus(context, found), found.counts[EDITED])


def go(shown: list[int], model: str, point: dict[str, Any]) -> None:
    """Go to the cell of a matrix that was clicked."""
    places = (point.get("y"), point.get("x"))
    if all(isinstance(at, int | float) and 0 <= at < len(shown) for at in places):
        true, said = (shown[round(at)] for at in places if at is not None)
        st.session_state["cell"] = Cell(true, said, model).text


def _choose(classes: list[str], found: Judged, cell: Cell) -> None:
    """Offer every cell by hand; the boxes say what a click picked."""
    for name, key in _PICKS.items():
        st.session_state[key] = getattr(cell, name)
    numbers = list(range(len(classes)))
    middle, left, right = st.columns([2, 1, 1], vertical_alignment="bottom")
    options: dict[str, Any] = {"format_func": lambda i: classes[i], "on_change": _picked}
    left.selectbox("True class", numbers, key=_PICKS["label"], **options)
    right.selectbox("Predicted class", numbers, key=_PICKS["predicted"], **options)
    middle.segmented_control(
        "Predicted by",
        list(found.counts),
        key=_PICKS["model"],
        required=True,
        format_func=lambda model: found.names[model],
        on_change=_picked,
        wrap=True,
    )


def _picked() -> None:
    picks = {name: st.session_state[key] for name, key in _PICKS.items()}
    st.session_state["cell"] = Cell(**picks).text


# --- matrices -------------------------------------------------------------------------------------


def _matrices(context: Context, found: Judged, cell: Cell, *, change: bool) -> None:
    info = context.info
    classes, about = info["data"]["classes"], focus(context, found)
    counts = list(found.counts.values())
    always = [about, cell.label, cell.predicted, outcome(info["change"]).label]
    shown = cells.concerned(counts, always)
    before = measures.row_shares(counts[0])
    drawn = {model: name for model, name in found.names.items() if not change or model != BEFORE}
    narrow = len(drawn) > 2 and len(shown) <= READABLE
    with st.grid("auto", min_column_width=NARROW if narrow else WIDE, gap="small"):
        for place, (model, name) in enumerate(drawn.items()):
            shares, count = measures.row_shares(found.counts[model]), found.counts[model]
            models = found.votes.shape[1] if model == RETRAINED else 1
            matrix = Matrix(shares, count, models=models)
            if change:
                less = count - models * counts[0]
                matrix = Matrix(shares - before, less, difference=True, models=models)
            figure = confusion(
                matrix,
                classes,
                shown,
                matrix_title(shares, classes, about, name),
                look.palette(),
                cell=(cell.label, cell.predicted),
                own=model == cell.model,
                marked=about,
                bar=place == 0,
            )
            with st.container(key=f"matrix-{model}"):
                look.chart(figure, f"confusion-{model}", partial(go, shown, model))
    st.caption(_note(found, classes, len(shown), change=change))


def _note(found: Judged, classes: list[str], shown: int, *, change: bool) -> str:
    """Return what a cell counts, how to pick one, and what is left out."""
    n = len(found.both)
    parts = [
        f"{n:,} test images; a row is a true class and sums to 100 %, one scale for all matrices. "
        "A click on a cell shows its images below, as the boxes do; the frame marks that cell."
    ]
    if change:
        parts = [
            "Points of the true class’s images, the model minus the unedited one: blue + is "
            "predicted more often than before, orange − less often. A click on a cell shows the "
            "model’s images below."
        ]
    if RETRAINED in found.counts:
        many = found.votes.shape[1]
        parts.append(
            f"Retrained: the mean of {many} models trained again after the change."
            if many > 1
            else "Retrained: the model trained again after the change."
        )
    if shown < len(classes):
        parts.append(
            f"{shown} of {len(classes)} classes are drawn: those whose rows and columns the edit "
            "changes most. The boxes below know all of them."
        )
    return " ".join(parts)


def matrix_title(shares: np.ndarray, classes: list[str], about: int, name: str) -> str:
    """Return the finding: what most images of the class are taken for."""
    row = shares[about]
    if np.isnan(row).all():
        return f"{name}: no test images of class {classes[about]}"
    top = int(np.nanargmax(row))
    share = percent(float(row[top]))
    if top == about:
        return f"{name}: {share} of class {classes[about]} are recognised"
    return f"{name}: {share} of class {classes[about]} are taken for {classes[top]}"


# --- images ---------------------------------------------------------------------------------------


def _images(context: Context, found: Judged, cell: Cell) -> None:
    classes = context.info["data"]["classes"]
    shown = cells.images(found.both, found.votes, cell)
    st.markdown(f"**{plain(cell_title(found, cell, len(shown), classes))}**")
    _in_training(context, found, cell)
    if shown.empty:
        st.info(
            "No test image is in this cell. Click a darker one, or choose other classes above.",
            icon=":material/grid_off:",
        )
        return
    shown["of"] = found.votes.shape[1]
    answers.draw(context, shown, f"cell-{cell.text}")


def _in_training(context: Context, found: Judged, cell: Cell) -> None:
    """Link to the training images that the same model takes so, where the record knows them."""
    edit = (found.method, found.step) if cell.model == EDITED else ("", "")
    if cell.model == RETRAINED or cache.train(context.shown.path, *edit) is None:
        return
    true, said = (plain(context.info["data"]["classes"][i]) for i in (cell.label, cell.predicted))
    state.link(
        "samples",
        f"Training images of {true} that this model takes for {said}",
        icon=":material/grid_view:",
        filter=filters.answered(cell.label, cell.predicted, edit[0]),
        **{"class": None},
    )


def cell_title(found: Judged, cell: Cell, n: int, classes: list[str]) -> str:
    """Return how many images of the class the model takes for the other, and what share it is."""
    true, said = classes[cell.label], classes[cell.predicted]
    who = {BEFORE: "the unedited model", EDITED: found.name, RETRAINED: "retrained models"}
    row = found.counts[cell.model][cell.label]
    total = int((found.both["label"] == cell.label).sum())
    images = f"{n:,} test image{'s' if n != 1 else ''} of {true}"
    does = f"recognised by {who[cell.model]}"
    if cell.label != cell.predicted:
        does = f"taken for {said} by {who[cell.model]}"
    if not total:
        return f"There are no test images of {true}"
    if cell.model == RETRAINED and found.votes.shape[1] > 1:
        share = percent(row[cell.predicted] / row.sum(), 1)
        return f"{images} {does}, by at least one of {found.votes.shape[1]} (mean {share})"
    was = int(found.counts[BEFORE][cell.label, cell.predicted])
    then = "" if cell.model == BEFORE else f"; before the edit {was:,}"
    return f"{images} {does}: {percent(n / total)} of its {total:,}{then}"

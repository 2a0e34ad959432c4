"""The fields of the filter of all training images; the pick `filter` holds what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from dashboard import filters, state
from dashboard.charts.style import label, listed
from dashboard.components import tabs
from dashboard.components.messages import plain
from dashboard.filters import Filter, Known
from dashboard.state import Context

VIEWS = {
    "few": ":material/swap_vert: Most helpful and harmful",
    "all": ":material/grid_view: Browse all",
    "table": ":material/table_rows: As a table",
}
AFTER = {False: "before the edit", True: "after the edit by {}"}
RIGHT = {"any": "Any", "right": "✓ right", "wrong": "✗ wrong"}
SIZES = {"small": "Small", "medium": "Medium", "large": "Large"}
SORTS = {
    "strongest": "Strongest first (|score|)",
    "helpful": "Most helpful first (score, down)",
    "harmful": "Most harmful first (score, up)",
    "apart": "Methods disagree most first",
    "number": "By number",
    "loss": "Highest loss first",
}
SIGNS = {"": "Any", "helpful": "+ helpful", "harmful": "− harmful"}
APART = {
    "": "any",
    "signs": "≠ sign: one helpful, one harmful",
    "places": "≠ place: far apart in the rankings",
    "either": "either of the two",
}
HOW_APART = (
    "**≠ sign**: the score of one method is positive, that of the other negative. **≠ place**: all "
    "training images are ranked by each method from most helpful to most harmful, and the two "
    "places of the image are more than {far:,} apart, a quarter of all {n:,}."
)
NAMES = {
    "labels": "label",
    "predicted": "the model’s answer",
    "right": "right or wrong",
    "after": "answers after the edit",
    "by": "method",
    "sign": "sign",
    "strongest": "strongest",
    "apart": "disagreement",
    "pair": "methods to compare",
    "sort": "order",
}


def asked() -> Filter:
    """Return what is asked for: the pick, which the address says too."""
    found = state.picked().get("filter")
    return filters.parse(found if isinstance(found, str) else None)


def ask(wanted: Filter) -> None:
    """Ask for something else from now on."""
    state.picked()["filter"] = filters.text(wanted)


def _key(name: str) -> str:
    return f"browse-{name}"


def _changed(name: str) -> None:
    """Take over what a field says; whatever it is, the first page is shown."""
    value = st.session_state[_key(name)]
    if name == "browse":
        tabs.turn("table" if value == "table" else "few", tabs.NAMES["samples"])
        value = value == "all"
    elif name == "after":
        value = value == "after"
    elif name == "right":
        value = None if value == "any" else value == "right"
    elif isinstance(value, list):
        value = tuple(value)
    ask(replace(asked(), **{name: value, "page": 1}))


def _field(name: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - of any widget
    """Give a field its value before it is drawn, and return what ties it to the pick."""
    st.session_state[_key(name)] = value
    return {"key": _key(name), "on_change": _changed, "args": (name,)}


def view() -> str:
    """Return what is shown of the training images, by its name in `VIEWS`."""
    return "all" if asked().browse else tabs.opened(tabs.NAMES["samples"])


def switch() -> Filter:
    """Draw what is shown, the few, all or a table, and how large; return what is asked for."""
    now = asked()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        st.segmented_control(
            "Training images", list(VIEWS), format_func=VIEWS.__getitem__, required=True, wrap=True,
            **_field("browse", view()),
        )  # fmt: skip
        if view() != "table":
            st.segmented_control(
                "Pictures", list(SIZES), format_func=SIZES.__getitem__, required=True,
                **_field("size", now.size),
            )  # fmt: skip
    ask(now)
    state.write_address()
    return now


def draw(context: Context, known: Known, classes: Sequence[str]) -> Filter:
    """Draw the fields that this record knows enough for and return what they say.

    A class that is chosen in the sidebar takes the place of the labels asked for here.
    """
    wanted = asked()
    can = filters.fitted(wanted, known)
    ask(filters.shortened(can, known))
    state.write_address()
    _order(can, known)
    with st.expander(
        "Filters: " + _offered(known), expanded=can.narrows or context.klass is not None,
        key="browse-filters", icon=":material/filter_alt:",
    ):  # fmt: skip
        _facts(can, known, classes, context.klass)
        _scores(can, known)
    if gone := [NAMES.get(name, name) for name in filters.left_out(wanted, can)]:
        st.caption(f"Left out, because this record does not know it here: {listed(gone)}.")
    if context.klass is not None and known.labels is not None:
        can = replace(can, labels=(context.klass,))
    return can


def _offered(known: Known) -> str:
    """Return by what images can be filtered here."""
    found = ["label"] if known.labels is not None else []
    found += ["the model’s answer"] if known.predicted is not None else []
    found += ["right or wrong"] if known.right is not None else []
    found += ["sign and strength of the score"] if known.scores else []
    return listed(found + (["disagreement"] if len(known.scores) > 1 else []) or ["none here"])


def _order(can: Filter, known: Known) -> None:
    left, middle, right = st.columns(3)
    if known.scores:
        left.selectbox(
            "Score by", list(known.scores), format_func=label,
            help="The method whose score is shown, ordered and filtered by.",
            **_field("by", can.by),
        )  # fmt: skip
    middle.selectbox(
        "Order", filters.sorts(known), format_func=SORTS.__getitem__, **_field("sort", can.sort)
    )
    if known.edited:
        right.selectbox(
            "The model’s answers", ["before", "after"],
            format_func=lambda when: AFTER[when == "after"].format(label(can.by)),
            help="What the model says of a training image and its loss there: of the model as it "
            "was trained, or edited by the method on the left, at its searched step.",
            **_field("after", "after" if can.after else "before"),
        )  # fmt: skip


def _facts(can: Filter, known: Known, classes: Sequence[str], klass: int | None) -> None:
    fields: list[Callable[[], Any]] = []
    options = range(len(classes))
    if known.labels is not None:
        shown = [klass] if klass is not None else list(can.labels)
        fields.append(
            lambda: st.multiselect(
                "Label", options, format_func=classes.__getitem__, placeholder="any",
                disabled=klass is not None,
                help=None if klass is None else "The class that is chosen in the sidebar.",
                **_field("labels", shown),
            )
        )  # fmt: skip
    if known.predicted is not None:
        fields.append(
            lambda: st.multiselect(
                "The model says", options, format_func=classes.__getitem__, placeholder="anything",
                help="The class that the model gives the training image.",
                **_field("predicted", list(can.predicted)),
            )
        )  # fmt: skip
    if known.right is not None:
        chosen = {None: "any", True: "right", False: "wrong"}[can.right]
        fields.append(
            lambda: st.segmented_control(
                "Is that the label?", list(RIGHT), format_func=RIGHT.__getitem__,
                required=True, wrap=True, **_field("right", chosen),
            )
        )  # fmt: skip
    if fields:
        for column, field in zip(st.columns(len(fields)), fields, strict=True):
            with column:
                field()


def _scores(can: Filter, known: Known) -> None:
    if not known.scores:
        return
    left, middle, right = st.columns([5, 4, 5])
    with left:
        st.segmented_control(
            f"Sign by {label(can.by)}", list(SIGNS), format_func=SIGNS.__getitem__,
            required=True, wrap=True, **_field("sign", can.sign),
        )  # fmt: skip
    shares = sorted({0, *filters.STRONGEST, can.strongest})
    middle.selectbox(
        f"Strength by {label(can.by)}", shares,
        format_func=lambda share: f"strongest {share} % by |score|" if share else "any",
        help="The images with the largest score without its sign, among all training images.",
        **_field("strongest", can.strongest),
    )  # fmt: skip
    if not can.pair:
        return
    methods = list(known.scores)
    pairs = [(a, b) for at, a in enumerate(methods) for b in methods[at + 1 :]]
    pair = can.pair if can.pair in pairs else can.pair[::-1]
    names = f"{label(pair[0])} and {label(pair[1])}"
    with right:
        st.selectbox(
            f"{names} disagree", list(APART), format_func=APART.__getitem__,
            help=HOW_APART.format(n=known.n, far=int(filters.FAR * known.n)),
            **_field("apart", can.apart),
        )  # fmt: skip
        if len(pairs) > 1:
            st.selectbox(
                "Methods to compare", pairs,
                format_func=lambda two: f"{label(two[0])} and {label(two[1])}",
                **_field("pair", pair),
            )  # fmt: skip


def pager(can: Filter, matches: int) -> Filter:
    """Draw the numbers of the pages and return what is asked for with a page that is there."""
    count = filters.pages(matches, can.size)
    there = replace(can, page=min(can.page, count))
    ask(replace(asked(), page=there.page))
    state.write_address()
    if count > 1:
        _pagination(count, there.page)
    return there


def _pagination(count: int, page: int) -> None:
    """Draw the numbers; another key where they must begin at another page, as they take no value.

    The same key while one turns pages keeps the keyboard where it is.
    """
    turn = st.session_state.setdefault("browse-turn", 0)
    if st.session_state.get(_page_key(turn), page) != page:
        turn = st.session_state["browse-turn"] = turn + 1
    key = _page_key(turn)
    st.pagination(count, default=page, key=key, on_change=_turned, args=(key,))


def _page_key(turn: int) -> str:
    return f"browse-page-{turn}"


def _turned(key: str) -> None:
    ask(replace(asked(), page=st.session_state[key]))


def clear() -> None:
    """Ask for every training image again, in the same order and size."""
    ask(asked().cleared())
    if state.picked().get("class") is not None:
        state.show(**{"class": None})


def words(can: Filter, classes: Sequence[str]) -> list[str]:
    """Return what is filtered by, in words that Markdown shows as they are."""
    said, model = [], f"the model edited by {label(can.by)}" if can.after else "the model"
    if can.labels:
        said.append(f"label {' or '.join(plain(classes[c]) for c in can.labels)}")
    if can.predicted:
        said.append(f"{model} says {' or '.join(plain(classes[c]) for c in can.predicted)}")
    if can.right is not None:
        said.append(f"{model} is {'right' if can.right else 'wrong'}")
    if can.sign:
        said.append(f"{can.sign} by {label(can.by)}")
    if can.strongest:
        said.append(f"among the strongest {can.strongest} % by {label(can.by)}")
    if can.apart:
        how = {"signs": "in sign", "places": "in place", "either": "in sign or place"}[can.apart]
        said.append(f"{listed([label(method) for method in can.pair])} disagree {how}")
    return said

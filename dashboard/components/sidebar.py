"""The sidebar of the record pages: which study, selector, ratio, test image, methods and k."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from dashboard import cache, state
from dashboard.charts.style import label
from dashboard.components import also_chosen, tabs
from dashboard.library import Family
from dashboard.pairing import Combination
from dashboard.state import Context
from gifcore.record import Record
from gifcore.study import RANKS, SELECTORS

FEW = 3  # methods side by side; of more, two are shown until others are picked
FITTED = "fitted"  # study, combination shown and combination left when the study was changed
WANTED = "methods-wanted"  # of all studies; each shows those of them that it has
TOP = (5, 10, 20, 50, 100, 200, 500, 1000)


def draw(families: list[Family], page: str = "") -> Context:
    """Draw the pickers and return what they say; the address says it too.

    Args:
        page: the address of the page that is drawn beside them.
    """
    before = state.picked().get("study")
    tabs.forget_unknown()
    with st.sidebar:
        family = _family(families)
        _fit(family, next((one for one in families if one.key == before), None))
        selector, ratio = _combination(family)
        path = family.paths.get((selector, ratio))
        sibling = cache.open_record(path or family.paths[family.default()])
        _achieved(sibling, ratio, missing=path is None)
        _own_combination(family, (selector, ratio))
        query = _query(sibling)
        methods = _methods(sibling)
        k = _k()
        also = also_chosen.draw(sibling, page)
    context = replace(state.of(family, (selector, ratio)), query=query, methods=methods, k=k)
    state.note_record(context.record)
    state.write_address()
    return replace(context, klass=also.klass, layer=also.layer, sample=also.sample, pin=also.pin)


def _family(families: list[Family]) -> Family:
    by_key = {family.key: family for family in families}
    state.seed("study", list(by_key), families[0].key)
    st.selectbox(
        "Study",
        list(by_key),
        key="study",
        format_func=lambda key: _family_label(by_key[key]),
        help="A family of records that differ only in selector and ratio.",
    )
    return by_key[state.keep("study")]


def _family_label(family: Family) -> str:
    return f"{family.title} (demo)" if family.demo else f"{family.title} · {family.key[:6]}"


def _fit(family: Family, before: Family | None) -> None:
    """Show a study's own combination where it alone lacks the one that the last study was shown at.

    That is of a study picked here: an address that names one is what is picked already.
    """
    selector, ratio = (state.now(key) for key in ("selector", "ratio"))
    if before is None or (selector, ratio) not in before.paths.keys() - family.paths:
        return
    own = family.default()
    for key, value in zip(("selector", "ratio"), own, strict=True):
        state.forget(key)
        state.picked()[key] = value
    st.session_state[FITTED] = family.key, own, (selector, ratio)


def _own_combination(family: Family, shown: Combination) -> None:
    """Say that a study is shown at its own combination, as long as it is."""
    key, own, wanted = st.session_state.get(FITTED, ("", None, None))
    if (key, own) == (family.key, shown):
        st.caption(f"{state.setting(*wanted)} is not computed for this study: its own is shown.")


def _combination(family: Family) -> Combination:
    default = family.default()
    state.seed("selector", list(SELECTORS), default[0])
    st.selectbox(
        "Selector",
        list(SELECTORS),
        key="selector",
        format_func=state.selector_label,
        help="How the parameters to move were chosen. "
        + " ".join(f"**{state.selector_label(s)}**: {text}." for s, text in SELECTORS.items()),
    )
    ratios = sorted({*state.RATIOS, *(ratio for _, ratio in family.paths)})
    state.seed("ratio", ratios, default[1])
    st.select_slider(
        "Parameter ratio",
        ratios,
        key="ratio",
        format_func=lambda ratio: f"{100 * ratio:g} %",
        help="Share of each layer's parameters that may move; whole units round it.",
    )
    return state.keep("selector"), state.keep("ratio")


def _achieved(record: Record, ratio: float, *, missing: bool) -> None:
    p = record.info["selection"]["p"]
    if missing:
        st.caption(f"about {round(ratio * p):,} of {p:,} parameters; not computed yet")
    else:
        st.caption(f"{record.info['selection']['k']:,} of {p:,} parameters selected")


def _query(record: Record) -> int | None:
    queries = {query["index"]: query for query in cache.queries(record)}
    if not queries:
        return None
    classes = record.info["data"]["classes"]
    state.seed("query", list(queries), next(iter(queries)))
    st.selectbox(
        "Test image or group" if any(is_group(q) for q in queries.values()) else "Test image",
        list(queries),
        key="query",
        format_func=lambda index: query_label(queries[index], classes),
        help="The prediction that is explained: one image of the test split, by its position, or "
        "a group of them by its name: then it is their mean loss.",
    )
    return state.keep("query")


def is_group(query: dict[str, Any]) -> bool:
    """Is this query the mean loss of many test images?"""
    return bool(query.get("group"))


def query_noun(query: dict[str, Any]) -> str:
    """Return what a query is, to stand before its label."""
    return "Group of test images" if is_group(query) else "Test image"


def query_label(query: dict[str, Any], classes: list[str]) -> str:
    """Return "#17 · Bag, taken for Shirt", "#17 · Bag" where the model was right, or a group."""
    if is_group(query):
        return f"{query['group']['name']} ({query['group']['size']:,} images)"
    name = f"#{query['index']} · {classes[query['label']]}"
    wrong = query["predicted"] != query["label"]
    return f"{name}, taken for {classes[query['predicted']]}" if wrong else name


def _methods(record: Record) -> list[str]:
    offered = record.methods
    wanted = _wanted(offered)
    shown = [name for name in offered if name in wanted] or first_shown(offered)
    st.session_state["methods"] = shown
    st.pills(
        "Methods",
        offered,
        key="methods",
        selection_mode="multi",
        wrap=True,
        format_func=label,
        help="IF moves all parameters, every other method only the selected ones."
        + "".join(f" {label(m)} gives no ranking." for m in offered if not RANKS.get(m, True)),
        on_change=_want,
        args=(offered,),
    )
    state.keep("methods")
    return shown


def _wanted(offered: list[str]) -> list[str]:
    """Return the methods that are picked, of this study or another: by hand, or by an address."""
    said, asked = state.picked().get("methods"), st.session_state["asked"].get("methods")
    wanted: list[str] | None = st.session_state.get(WANTED)
    if said is None or wanted is None:
        wanted = said or first_shown(offered)
    if asked is not None:
        if [name for name in offered if name in wanted] != asked:
            wanted = asked if set(asked) & set(offered) else first_shown(offered)
        if unknown := [name for name in asked if name not in offered]:
            st.session_state["gone"]["methods"] = ",".join(unknown)
    st.session_state[WANTED] = wanted
    return wanted


def _want(offered: list[str]) -> None:
    """Take over what was picked; methods that this study lacks stay picked for others."""
    elsewhere = [name for name in st.session_state[WANTED] if name not in offered]
    st.session_state[WANTED] = elsewhere + st.session_state["methods"]


def first_shown(offered: list[str]) -> list[str]:
    """Return the methods that a new visit shows: a few, IF and GIF by preference."""
    if len(offered) <= FEW:
        return offered
    known = [name for name in offered if name in ("if", "gif")]
    return known if len(known) == 2 else offered[:2]


def _k() -> int:
    state.seed("k", list(TOP), state.DEFAULT_K)
    st.select_slider(
        "Top k",
        TOP,
        key="k",
        help="How many of the most helpful and most harmful training samples are compared.",
    )
    return state.keep("k")

"""The pickers of Compare: what the sidebar's view is held against, and the method of each side.

The text `other` of the address is the truth: the widgets are set from it, and write it when they
are touched.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import streamlit as st

from dashboard import cache, library, pairing, state
from dashboard.charts.style import PATTERNS, Palette, label
from dashboard.components.messages import plain
from dashboard.library import FAMILY_DIGITS, Family
from dashboard.pairing import MODES, Combination, Mode, Other
from dashboard.picks import number
from dashboard.state import Context
from gifcore.study import USES_SELECTION


@dataclass(frozen=True)
class Side:
    """One of the two views."""

    context: Context
    method: str
    name: str  # as charts call it: "GIF", "GIF at 5 %", "GIF (B)"
    column: str  # how columns of downloads begin

    @property
    def info(self) -> dict[str, Any]:
        return self.context.info

    @property
    def entry(self) -> dict[str, Any]:
        """What record.json says of the method."""
        found: dict[str, Any] = self.info["methods"][self.method]
        return found

    @property
    def steps(self) -> dict[str, Any]:
        """The edits that were evaluated, by the name of their step; none if it only ranked."""
        return self.entry.get("steps") or {}

    @cached_property
    def query(self) -> dict[str, Any] | None:
        """The test image looked at, as this record ranked it."""
        return query_of(self.context)


@dataclass(frozen=True)
class Pair:
    """The sidebar's view and the one it is held against."""

    mode: Mode
    first: Side
    second: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.first, self.second

    @property
    def names(self) -> tuple[str, str]:
        return self.first.name, self.second.name

    @property
    def methods(self) -> tuple[str, str]:
        return self.first.method, self.second.method

    @property
    def one_record(self) -> bool:
        return self.mode == "method"

    @property
    def infos(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.first.info, self.second.info

    @property
    def identical(self) -> bool:
        """Are both the same computation: IF under two selectors, for one?"""
        keys = [side.entry.get("key") for side in self.sides]
        return keys[0] is not None and keys[0] == keys[1]

    def colours(self, palette: Palette) -> tuple[str, str]:
        """Return the colours of both; two of one method are told apart by grey."""
        first, second = self.methods
        return palette.method(first), palette.muted if first == second else palette.method(second)

    @property
    def patterns(self) -> tuple[str, str]:
        """How the bars of both are hatched."""
        first, second = (PATTERNS.get(method, "") for method in self.methods)
        return first, second if first != second else ("/" if second != "/" else "")


def query_of(context: Context) -> dict[str, Any] | None:
    """Return the entry of the test image looked at; None if this record did not rank it."""
    queries = cache.queries(context.shown)
    return next((query for query in queries if query["index"] == context.query), None)


def ranked_by(context: Context) -> list[str]:
    """Return the methods of the record that ranked this test image; none without one."""
    query = query_of(context)
    return [m for m in context.shown.methods if query and m in query["certificates"]]


def draw(context: Context) -> Pair | None:
    """Draw the pickers and return the two views; None where there is no second one."""
    families = {family.key: family for family in library.families()}
    own = context.info["family"][:FAMILY_DIGITS]
    rest = {key: family for key, family in families.items() if key != own}
    touched = st.session_state.get("other")  # "" is the start of the first way of comparing
    said = str((state.picked().get("other") or "") if touched is None else touched)
    asked = pairing.parse(said)
    wanted = asked or Other()
    here = (context.selector, context.ratio)
    offered: list[Mode] = ["method"]
    offered += ["setting"] if len(context.family) > 1 else []
    offered += ["study"] if rest else []
    mode = pairing.mode(wanted, own, here)
    known = mode in offered and (mode != "study" or wanted.study in rest)
    honoured = asked is not None and known
    if not known:
        mode, wanted = "method", Other(first=wanted.first, second=wanted.second)
    starts = _starts(wanted, context, rest)
    if len(offered) > 1:
        _select_mode(offered, mode, starts)
    if mode == "method":
        second = context
        wanted = replace(wanted, study="", selector="", ratio=None)
    else:
        family = rest[wanted.study] if mode == "study" else None
        named = (wanted.selector or here[0], wanted.ratio or here[1])
        combination = _known(context.family if family is None else family.paths, named)
        if combination is None or (mode == "setting" and combination == here):
            honoured = honoured and not wanted.selector and wanted.ratio is None
            combination = _first_shown(context, family)
        study = "" if family is None else family.key
        wanted = replace(wanted, study=study, selector=combination[0], ratio=combination[1])
        _pick_view(context, wanted, rest)  # before it is opened: a damaged record can be left
        second = _other(context, families[own] if family is None else family, combination)
    pair, wanted, methods_there = _methods(mode, context, second, wanted)
    if st.session_state.get("asked", {}).get("other") == said and not (honoured and methods_there):
        st.session_state["gone"]["other"] = said
    st.session_state["other"] = pairing.text(wanted) or None
    state.keep("other")
    return pair


def _starts(now: Other, context: Context, rest: dict[str, Family]) -> dict[Mode, Other]:
    """Return where each way of comparing begins; the first method stays."""
    starts: dict[Mode, Other] = {"method": Other(first=now.first)}
    near = pairing.nearest(context.family, (context.selector, context.ratio))
    if near is not None:
        starts["setting"] = Other(selector=near[0], ratio=near[1], first=now.first)
    if rest:
        key = _by_data(context, rest)[0]
        starts["study"] = Other(study=key, first=now.first)
    return starts


def _by_data(context: Context, rest: dict[str, Family]) -> list[str]:
    """Return the other studies, those of the same data first."""
    data = context.info["data"]["hash"]
    return sorted(rest, key=lambda key: rest[key].data != data)


def _known(paths: Collection[Combination], named: Combination) -> Combination | None:
    """Return the combination that is meant: addresses of old rounded the ratio."""
    if named in paths:
        return named
    close = (c for c in paths if c[0] == named[0] and math.isclose(c[1], named[1], rel_tol=1e-4))
    return next(close, None)


def _first_shown(context: Context, family: Family | None) -> Combination:
    here = (context.selector, context.ratio)
    if family is not None:
        return here if here in family.paths else family.default()
    near = pairing.nearest(context.family, here)
    assert near is not None  # the mode is offered only then
    return near


def _other(context: Context, family: Family, combination: Combination) -> Context:
    return replace(state.of(family, combination), query=context.query, k=context.k)


# --- widgets --------------------------------------------------------------------------------------


def _say(other: Other) -> None:
    st.session_state["other"] = pairing.text(other)


def _select_mode(offered: list[Mode], mode: Mode, starts: dict[Mode, Other]) -> None:
    st.session_state["compare-what"] = mode
    st.segmented_control(
        "Hold this view against",
        offered,
        key="compare-what",
        required=True,
        format_func=lambda name: MODES[name],
        on_change=lambda: _say(starts[st.session_state["compare-what"]]),
        wrap=True,
    )


def _methods(
    mode: Mode, first: Context, second: Context, wanted: Other
) -> tuple[Pair | None, Other, bool]:
    """Draw both methods and return the two views; also: are the named methods there?"""
    fits = pairing.same_data(first.info, second.info)
    ranked = ranked_by(first)
    others = ranked if second is first else ranked_by(second)
    options = [
        _in_order(context, found if fits else [])
        for context, found in ((first, ranked), (second, others))
    ]
    default = _default(first, second, options[0], ranked)
    one = wanted.first if wanted.first in options[0] else default
    if mode == "method":
        options[1] = [method for method in options[1] if method != one]
        if not options[1]:
            return None, wanted, not wanted.second
        shown = [m for m in first.methods if m in options[1]]
        likely = next((m for m in shown if m in ranked), options[1][0])
    else:
        likely = one if one in options[1] else options[1][0]
    two = wanted.second if wanted.second in options[1] else likely
    there = wanted.first in ("", one) and wanted.second in ("", two)
    wanted = replace(wanted, first=one, second=two)
    if mode != "method" or len(options[0]) > 2:
        _pick_methods(mode, first, second, wanted, options)
    names = _names(mode, (first, second), (one, two))
    columns = _columns(mode, (first, second), (one, two))
    sides = [
        Side(context, method, name, column)
        for context, method, name, column in zip(
            (first, second), (one, two), names, columns, strict=True
        )
    ]
    return Pair(mode, sides[0], sides[1]), wanted, there


def _in_order(context: Context, ranked: list[str]) -> list[str]:
    """Return the record's methods, those that ranked the test image first."""
    return ranked + [m for m in context.shown.methods if m not in ranked]


def _default(first: Context, second: Context, options: list[str], by: list[str]) -> str:
    """Return the method that is shown first: of another selection only one that uses it differs."""
    picked = [m for m in first.methods if m in options] or options
    ranked = [m for m in picked if m in by] or picked
    if first.shown.path == second.shown.path:
        return ranked[0]
    differs = [m for m in ranked if USES_SELECTION.get(m, True) and m in second.shown.methods]
    return (differs or ranked)[0]


def _pick_methods(
    mode: Mode, first: Context, second: Context, now: Other, options: list[list[str]]
) -> None:
    alone = mode == "method"
    left, right = st.columns(2)
    if not alone:
        left.markdown("**A: the view of the sidebar**")
        right.markdown("**B: what it is held against**")
    heads = ("First method", "Second method") if alone else ("Method of A", "Method of B")
    for column, head, field, offered in zip(
        (left, right), heads, ("first", "second"), options, strict=True
    ):
        key = f"compare-{field}"
        st.session_state[key] = getattr(now, field)
        with column:
            st.selectbox(
                head,
                offered,
                format_func=label,
                key=key,
                on_change=lambda field=field, key=key: _say(
                    replace(now, **{field: st.session_state[key]})
                ),
            )
    if not alone:
        left.caption(described(first))
        right.caption(described(second))


def _pick_view(context: Context, now: Other, rest: dict[str, Family]) -> None:
    left, right = st.columns(2)
    if now.study:
        with left:
            _pick_study(context, now, rest)
    with right if now.study else left:
        _pick_combination(context, now, rest)


def _pick_study(context: Context, now: Other, rest: dict[str, Family]) -> None:
    data = context.info["data"]["hash"]

    def name(key: str) -> str:
        family = rest[key]
        whose = "demo" if family.demo else key[:6]
        other = "" if family.data == data else " · other data"
        return f"{family.title} · {whose}{other}"

    st.session_state["compare-study"] = now.study
    st.selectbox(
        "Study of B",
        _by_data(context, rest),
        format_func=name,
        key="compare-study",
        on_change=lambda: _say(Other(st.session_state["compare-study"], first=now.first)),
        help="Rankings of training images can be compared where both studies have the same data.",
    )


def _pick_combination(context: Context, now: Other, rest: dict[str, Family]) -> None:
    here = (context.selector, context.ratio)
    paths = rest[now.study].paths if now.study else [c for c in context.family if c != here]
    by_text = {_text(*combination): combination for combination in sorted(paths)}
    if len(by_text) < 2:
        return

    def picked() -> None:
        selector, ratio = by_text[st.session_state["compare-combination"]]
        _say(replace(now, selector=selector, ratio=ratio))

    st.session_state["compare-combination"] = _text(now.selector, now.ratio)
    st.selectbox(
        "Selector and ratio of B",
        list(by_text),
        format_func=lambda key: state.setting(*by_text[key]),
        key="compare-combination",
        on_change=picked,
        help="Those that are computed; others are started by choosing them in the sidebar.",
    )


def _text(selector: str, ratio: float | None) -> str:
    return f"{selector}:{'' if ratio is None else number(ratio)}"


# --- how the two are called -----------------------------------------------------------------------


def described(context: Context) -> str:
    """Return study, selection, model and data in one line."""
    info = context.info
    chosen = info["selection"]
    return plain(
        f"{context.title} · {state.setting(context.selector, context.ratio)}: {chosen['k']:,} of "
        f"{chosen['p']:,} parameters · model {info['model']['name']} · data {info['data']['name']}"
    )


def _names(
    mode: Mode, contexts: tuple[Context, Context], methods: tuple[str, str]
) -> tuple[str, str]:
    labels = label(methods[0]), label(methods[1])
    if mode == "method":
        return labels
    if mode == "study":
        return f"{labels[0]} (A)", f"{labels[1]} (B)"
    one, two = contexts
    names = []
    for context, method, name in zip(contexts, methods, labels, strict=True):
        ratio = f"at {100 * context.ratio:g} %" if one.ratio != two.ratio else ""
        if methods[0] != methods[1] and not USES_SELECTION.get(method, True):
            names.append(name)  # it moves all parameters
        elif one.selector != two.selector:
            chosen = context.selector.replace("-k-", "-k ")
            names.append(f"{name} ({' '.join([chosen, ratio]).strip()})")
        else:
            names.append(f"{name} {ratio}")
    return names[0], names[1]


def _columns(
    mode: Mode, contexts: tuple[Context, Context], methods: tuple[str, str]
) -> tuple[str, str]:
    if mode == "method":
        return methods
    one, two = (
        f"{method}_{context.selector}_{context.ratio:g}"
        for context, method in zip(contexts, methods, strict=True)
    )
    return (one, two) if mode == "setting" else (f"a_{one}", f"b_{two}")

"""What is being looked at: which record, which query, which methods; kept in session and URL.

The picks live in `st.session_state["picked"]`, so that they survive pages without the sidebar,
and in the address as short, checked values, so that a copied address opens the same view. The
widgets are not bound to the address by Streamlit itself: that would put their texts there
(`?query=%2317+…`) and a changed text would break old links.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import cache, settings
from dashboard.library import FAMILY_DIGITS, Family
from dashboard.pairing import Combination
from dashboard.picks import PARAMS, Pick, left_out, parse, text
from dashboard.picks import gone as sentence
from gifcore.errors import GifError
from gifcore.record import Record

DIGITS = 12  # of a record's hash in the address
RATIOS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
DEFAULT_RATIO, DEFAULT_K = 0.05, 50


@dataclass(frozen=True)
class Context:
    """What the sidebar says in this run; pages draw exactly this."""

    record: Record | None  # None if `missing`
    record_path: Path | None
    family: dict[Combination, Path]  # the records there are, by (selector, ratio)
    selector: str
    ratio: float
    query: int | None  # position in the test split; None if the record ranks none
    methods: list[str]  # of the record, at least one, as picked
    k: int  # of overlap@k
    missing: bool  # the picked combination has no record
    workspace: Path
    demo: bool  # a family of the bundled demo
    title: str
    klass: int | None = None  # the class chosen, by its number
    layer: str | None = None  # the layer chosen
    sample: int | None = None  # the training image looked at
    pin: int | None = None  # another one, kept beside it

    @property
    def info(self) -> dict[str, Any]:
        """record.json of the record shown."""
        return self.shown.info

    @property
    def shown(self) -> Record:
        """The record, for pages the router only calls with one."""
        if self.record is None:
            raise GifError("This combination of selector and ratio is not computed yet.")
        return self.record


def context() -> Context:
    """Return what the router put there for this run.

    Raises:
        GifError: there is no record at all to look at.
    """
    found = st.session_state.get("context")
    if found is None:
        raise GifError("There is no finished study to show yet; start one under New study.")
    return found


def of(family: Family, combination: Combination) -> Context:
    """Return the context of one combination of a family as it is first shown."""
    path = family.paths.get(combination)
    record = None if path is None else cache.open_record(path)
    queries = cache.queries(record) if record else []
    return Context(
        record=record,
        record_path=path,
        family=family.paths,
        selector=combination[0],
        ratio=combination[1],
        query=queries[0]["index"] if queries else None,
        methods=record.methods if record else [],
        k=DEFAULT_K,
        missing=record is None,
        workspace=settings.workspace(),
        demo=family.demo,
        title=family.title,
    )


def register(pages: dict[str, Any]) -> None:
    """Remember the router's pages by name ("before_after"), so that others can link to them."""
    st.session_state["pages"] = pages


def link(name: str, label: str, *, icon: str | None = None, **picks: Pick) -> None:
    """Draw a link to a page ("samples") that opens the present view, with some picks changed.

    Nothing is drawn for a page that presenter mode hides.
    """
    page = st.session_state["pages"].get(name)
    if page is None:
        return
    st.page_link(page, label=label, icon=icon, query_params=address(**picks))


def turn_to(name: str, **picks: Pick) -> None:
    """Go to a page now, with some picks changed; like a link it says what of them is not here."""
    show(**picks)
    st.session_state["turned"] = picks
    st.switch_page(st.session_state["pages"][name], query_params=address(**picks))


def presenting() -> bool:
    """Is the dashboard shown to others: no uploads, nothing that computes?"""
    return bool(picked().get("present"))


def closed() -> str:
    """Return why nothing can be computed from here; "" where it can."""
    if settings.demo_only():
        return "This server only shows the demo: nothing can be computed here."
    return "Presenter mode: nothing can be computed here." if presenting() else ""


def dark() -> bool:
    """Is the page drawn on a dark background?"""
    return st.context.theme.type == "dark"


# --- picks, session and address -----------------------------------------------------------------


def picked() -> dict[str, Any]:
    """Return the picks of this session; a new session takes them from its address."""
    return st.session_state.setdefault("picked", {})


def now(key: str) -> Any:  # noqa: ANN401 - whatever the widget holds
    """Return a pick as its widget says it, if that is drawn; it may be newer."""
    return st.session_state.get(key, picked().get(key))


def show(**picks: Pick) -> None:
    """Show something else from the next run on: `show(study=…, selector=…, ratio=0.05)`."""
    st.session_state["pending"] = st.session_state.get("pending", {}) | picks


def picks_of(info: dict[str, Any]) -> dict[str, Any]:
    """Return the picks that show a record, for `show` and `link`."""
    selection = info["selection"]
    return {
        "study": info["family"][:FAMILY_DIGITS],
        "selector": selection["selector"],
        "ratio": selection["ratio"],
    }


def begin_run() -> None:
    """Take over what `show` asked for, or what the address says if it was changed by hand.

    So it is by Back and Forward, too. A run that a sidebar widget or a button started keeps what
    that says: the address of such a run may be older.
    """
    picks, said = picked(), _address()
    written: dict[str, str] = st.session_state.get("address", {})
    touched = any(k in st.session_state and st.session_state[k] != picks.get(k) for k in PARAMS)
    touched = touched or bool(st.session_state.get("pending"))
    changed = {k: v for k, v in said.items() if v != written.get(k)}
    read = parse(changed)
    asked = st.session_state.pop("turned", {}) if touched else read | left_out(said, written)
    st.session_state["asked"] = {k: v for k, v in asked.items() if v is not None}
    st.session_state["gone"] = {k: v for k, v in changed.items() if k not in read}
    st.session_state["drawing"] = True
    pending = st.session_state.pop("pending", {}) | asked
    st.session_state["told"] = set(pending) | (set(said) if asked and not touched else set())
    for key, value in pending.items():
        picks[key] = value
        st.session_state.pop(key, None)
    if not pending and not st.query_params and picks:
        _write_address()  # a link of the navigation: the new page's step of Back says it too


def _address() -> dict[str, str]:
    return {key: st.query_params[key] for key in PARAMS if key in st.query_params}


def address(**picks: Pick) -> dict[str, str]:
    """Return the query parameters of the present view with some picks changed, for a link."""
    values = picked() | picks
    if {"study", "selector", "ratio"} & set(picks) and "record" not in picks:
        values["record"] = None  # it is the hash of the record that is shown now
    return {key: text(values[key]) for key in PARAMS if values.get(key) is not None}


def write_address() -> None:
    """Make the address say what is shown: once the page is drawn, or at once in a fragment.

    Every change of the address is a step of the browser's Back, so that there is one a run.
    """
    if st.session_state.get("drawing"):
        st.session_state["unwritten"] = True
    else:
        _write_address()


def end_run() -> None:
    """Write the address, if the page has one, after all of it is drawn."""
    st.session_state["drawing"] = False
    if st.session_state.pop("unwritten", False):
        _write_address()


def _write_address() -> None:
    texts = address()
    st.session_state["address"] = texts
    if texts == _address():
        return
    others: dict[str, list[str]] = {
        key: st.query_params.get_all(key) for key in st.query_params if key not in PARAMS
    }
    st.query_params.from_dict(others | {key: [text] for key, text in texts.items()})


def seed(key: str, options: Sequence[Pick], default: Pick) -> None:
    """Give a sidebar widget its value before it is drawn: the pick if possible, else `default`."""
    value = st.session_state.get(key, picked().get(key))
    if (
        value not in options
        and st.session_state.get("asked", {}).get(key) == value
        and value is not None
    ):
        st.session_state["gone"][key] = text(value)
    st.session_state[key] = value if value in options else default


def note_record(record: Record | None) -> None:
    """Put the record that is shown into the address; `gone` tells who asked for another one."""
    now = None if record is None else record.hash[:DIGITS]
    asked = st.session_state.get("asked", {}).get("record")
    if now is not None and asked not in (None, now):
        st.session_state["gone"]["record"] = str(asked)
    picked()["record"] = now


def gone() -> str:
    """Return what was asked for and is not here, in one sentence; "" if all of it is."""
    missing = dict(st.session_state.get("gone", {}))
    record = missing.pop("record", None)
    if not missing and record is not None:
        return (
            f"This view was made from the record “{record[:DIGITS]}”, which is not here; of the "
            f"same study, selector and ratio “{picked().get('record')}” is shown: numbers may "
            "differ."
        )
    return sentence(missing)


def keep(key: str) -> Any:  # noqa: ANN401 - whatever the widget holds
    """Remember and return a sidebar widget's value after it was drawn."""
    picked()[key] = st.session_state[key]
    return picked()[key]


def forget(key: str) -> None:
    """Forget a pick and its widget, so that its default is shown."""
    picked().pop(key, None)
    st.session_state.pop(key, None)


def setting(selector: str, ratio: float) -> str:
    """Return "Random at 5 %"."""
    return f"{selector_label(selector)} at {100 * ratio:g} %"


def selector_label(selector: str) -> str:
    """Return a selector's name as people read it: "Highest-k gradients".

    >>> selector_label("highest-k-gradients")
    'Highest-k gradients'
    """
    words = selector.replace("-k-", "-k ")
    return words[:1].upper() + words[1:]

"""The options of a study as a form sees them, read from the config's own fields; no Streamlit.

An option is a field that is drawn from what the config says of it: its type, default, limits, title
and description. What is laid out by hand, and what is left out and why, is listed here too, so that
a test finds every field once.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dashboard.texts.options import CHOICES
from gifcore.change_section import KINDS as CHANGE_KINDS
from gifcore.study import Study

LARGEST = 2**53 - 1  # the largest whole number that a browser keeps
Kind = Literal[
    "flag", "choice", "choices", "whole", "real", "numbers", "reals", "names", "text", "tables"
]

# Drawn by hand: the path of the field and the key of its widget.
BY_HAND: dict[str, str] = {
    "title": "new_title",
    "methods": "new_methods",
    "data.source": "new_data",
    "model.name": "new_model",
    "model.weights": "new_own_weights",
    "model.weight_decay": "new_weight_decay",
    "selection.selector": "new_selector",
    "selection.ratio": "new_ratio",
    "ranking.groups.name": "new_ranking_groups",  # a line of it holds all four
    "ranking.groups.label": "new_ranking_groups",
    "ranking.groups.cell": "new_ranking_groups",
    "ranking.groups.samples": "new_ranking_groups",
    "mislabel.rate": "new_mislabel",  # with new_mislabel_rate
    "mislabel.seed": "new_mislabel_seed",
    "mislabel.folds": "new_mislabel_folds",
    "mislabel.measured": "new_mislabel_look",
    "change.remove-class.label": "new_label",
    "change.remove-samples.indices": "new_change_samples",
    "change.relabel.indices": "new_change_samples",
    "change.relabel.labels": "new_relabel_each",
    "change.reweight.indices": "new_change_samples",
    "change.reweight.weights": "new_reweight",
    "change.add-samples.source": "new_added",
    "change.add-samples.split": "new_added_split",
    "change.add-samples.indices": "new_added_samples",
    "change.add-samples.count": "new_added_count",
    "change.backdoor.label": "new_backdoor_label",
    "change.backdoor.count": "new_backdoor_count",
    "change.backdoor.size": "new_backdoor_size",
    "change.backdoor.strength": "new_backdoor_strength",
    "change.backdoor.seed": "new_backdoor_seed",
    "change.union.changes": "new_union",
} | {f"change.{kind}.kind": "new_change" for kind in CHANGE_KINDS}
LEFT_OUT: dict[str, str] = {
    "fastif.index_file": "It names a file of the server's disk, which no browser should do; the "
    "command line takes it.",
}
SHARED = "change.change_samples"  # every kind of change has it; it is drawn once


@dataclass(frozen=True)
class Option:
    """One field: what a widget of it must know."""

    path: str  # "solver.iterations"
    key: str  # of its widget
    kind: Kind
    title: str
    help: str
    default: Any
    optional: bool  # may be None
    low: float | None
    high: float | None
    choices: tuple[str, ...]  # of a choice
    word: str  # a word that may stand instead of the number, such as "auto"
    empty: str  # what leaving it empty means
    when: Mapping[str, bool | Sequence[str]]  # other fields of the section, what they must be
    inner: type[BaseModel] | None  # the section of a table

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    def at(self, path: str) -> Option:
        """Return the same option under another path, with the key that belongs to it."""
        return replace(self, path=path, key=key_of(path))

    def moved(self, path: str, at: str) -> Option:
        """Return the same option for one of several tables, with a key of its own."""
        return replace(self, path=path, key=self.key.replace("new_", f"new_{at}", 1))

    def counts(self, values: Mapping[str, Any]) -> bool:
        """Does the field count, given the values of the section so far?"""
        return all(_meets(values.get(name), asked) for name, asked in self.when.items())

    def why_not(self, section: Mapping[str, Option], values: Mapping[str, Any]) -> str:
        """Return what would have to be set for the field to count: "Solver is LSMR or Dense"."""
        said = []
        for name, asked in self.when.items():
            if not _meets(values.get(name), asked):
                other = section[name]
                said.append(f"{other.title.partition(' (')[0]} {_words(other, asked)}")
        return " and ".join(said)


def _meets(value: Any, asked: bool | Sequence[str]) -> bool:
    if isinstance(asked, bool):
        return bool(value) == asked
    return value in asked


def _words(other: Option, asked: bool | Sequence[str]) -> str:
    if asked is True:
        return "is on" if other.kind == "flag" else "is given"
    if asked is False:
        return "is left empty"
    words = [choice_label(other.path, one) for one in asked]
    return "is " + (" or ".join([", ".join(words[:-1]), words[-1]]) if words[1:] else words[0])


def choice_label(path: str, choice: str) -> str:
    """Return a choice as people read it."""
    return CHOICES.get(path, {}).get(choice, (choice.capitalize(), ""))[0]


# --- reading the config ---------------------------------------------------------------------------


def options(section: type[BaseModel], at: str) -> dict[str, Option]:
    """Return the options of a section that are drawn from its fields, by name.

    Args:
        at: the path of the section; "" for the study itself, whose sections are no options.
    """
    found = {}
    for name, info in section.model_fields.items():
        path = f"{at}.{name}" if at else name
        if path in BY_HAND or path in LEFT_OUT or _is_section(info.annotation):
            continue
        found[name] = _option(path, info)
    return found


def key_of(path: str) -> str:
    """Return the key of the widget of a field."""
    return BY_HAND.get(path) or "new_" + path.replace(".", "_")


def field(path: str) -> Option:
    """Return any field as an option, also one that is laid out by hand.

    >>> field("change.relabel.labels").title
    'Their labels, one each by number'
    """
    first, *rest = path.split(".")
    section: Any = Study
    if first == "change":
        section, rest = CHANGE_KINDS[rest[0]], rest[1:]
    elif rest:
        section = sections()[first]
    else:
        rest = [first]
    info: FieldInfo = section.model_fields[rest[0]]
    return _option(path, info)


def everything() -> dict[str, Option]:
    """Return every generated option of a study, by path; those of tables are in their `inner`."""
    found = {SHARED: _option(SHARED, CHANGE_KINDS["union"].model_fields["change_samples"])}
    found |= {one.path: one for one in options(Study, "").values()}
    for name, section in sections().items():
        found |= {one.path: one for one in options(section, name).values()}
    return found


def sections() -> dict[str, type[BaseModel]]:
    """Return the sections of a study but the change, which has several forms."""
    return {
        name: _as_section(info.annotation)
        for name, info in Study.model_fields.items()
        if name != "change" and _is_section(info.annotation)
    }


def _as_section(annotation: Any) -> type[BaseModel]:
    found: type[BaseModel] = annotation
    return found


def _is_section(annotation: Any) -> bool:
    parts = [annotation, *get_args(annotation)]
    kinds = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
    tagged = [part for part in parts if get_origin(part) is Annotated]
    tables = get_origin(annotation) is tuple
    return not tables and (bool(kinds) or any(_is_section(get_args(one)[0]) for one in tagged))


def paths() -> Iterator[str]:
    """Yield the path of every field of a study, through its sections, kinds of change and tables.

    What all kinds of change share is yielded once.
    """
    yield SHARED
    for kind, section in CHANGE_KINDS.items():
        yield from (f"change.{kind}.{n}" for n in section.model_fields if n != "change_samples")
    for name, info in Study.model_fields.items():
        if name == "change":
            continue
        yield from _below(name, info)


def _below(path: str, info: FieldInfo) -> Iterator[str]:
    annotation: Any = info.annotation
    inner = annotation if _is_section(annotation) else _table(annotation)
    if inner is None:
        yield path
        return
    if inner is not annotation:
        yield path  # which tables there are
    for name, field in inner.model_fields.items():
        yield from _below(f"{path}.{name}", field)


def _table(annotation: Any) -> type[BaseModel] | None:
    if get_origin(annotation) is tuple:
        first = get_args(annotation)[0]
        if isinstance(first, type) and issubclass(first, BaseModel):
            return first
    return None


def _option(path: str, info: FieldInfo) -> Option:
    annotation, optional = _without_none(info.annotation)
    annotation, word, metadata = _without_word(annotation)
    kind, choices = _kind(annotation)
    low, high = _limits([*info.metadata, *metadata], whole=kind == "whole")
    extra = info.json_schema_extra
    said: Any = extra if isinstance(extra, dict) else {}
    return Option(
        path=path,
        key=key_of(path),
        kind=kind,
        title=info.title or path,
        help=info.description or "",
        default=() if info.is_required() else info.default,
        optional=optional,
        low=low,
        high=high,
        choices=choices,
        word=word,
        empty=said.get("empty", ""),
        when=said.get("when", {}),
        inner=_table(annotation),
    )


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        optional = len(parts) < len(get_args(annotation))
        return (parts[0] if len(parts) == 1 else Union[tuple(parts)]), optional  # noqa: UP007
    return annotation, False


def _without_word(annotation: Any) -> tuple[Any, str, Sequence[Any]]:
    """Take the word out of `number | Literal["word"]`; limits of the number are kept."""
    word, metadata = "", []
    if get_origin(annotation) in (Union, types.UnionType):
        number, literal = get_args(annotation)
        annotation, word = number, get_args(literal)[0]
    if get_origin(annotation) is Annotated:
        annotation, *said = get_args(annotation)
        metadata = [one for info in said for one in getattr(info, "metadata", [info])]
    return annotation, word, metadata


def _limits(metadata: Sequence[Any], *, whole: bool) -> tuple[float | None, float | None]:
    """Return the least and the most; of a real number also a bound that it only comes near."""
    bounds = {
        name: value
        for one in metadata
        for name in ("ge", "gt", "le", "lt")
        if (value := getattr(one, name, None)) is not None
    }
    low = bounds.get("ge", bounds["gt"] + whole if "gt" in bounds else None)
    high = bounds.get("le", bounds["lt"] - whole if "lt" in bounds else None)
    return low, high


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...]]:
    if get_origin(annotation) is Literal:
        return "choice", get_args(annotation)
    if get_origin(annotation) is tuple:
        first = get_args(annotation)[0]
        if get_origin(first) is Literal:
            return "choices", get_args(first)
        if _table(annotation):
            return "tables", ()
        several: dict[Any, Kind] = {str: "names", int: "numbers", float: "reals"}
        plain_one = get_args(first)[0] if get_origin(first) is Annotated else first
        return several.get(plain_one, "tables"), ()
    plain: dict[Any, Kind] = {bool: "flag", int: "whole", float: "real", str: "text"}
    return plain[annotation], ()

"""What a validation error of a study says to people: key, value and what is allowed."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from gifcore.change_section import KINDS

SHOWN = 100  # characters of a value that is refused


def explained(error: ValidationError, origin: str, study: type[BaseModel]) -> str:
    """Return one sentence on the first thing that is wrong."""
    errors = error.errors(include_url=False)
    first = errors[0]
    key = _key(first["loc"])
    others = len({_key(other["loc"]) for other in errors} - {key})
    more = f" ({others} more)" if others else ""
    message = _lower(first["msg"].removeprefix("Value error, "))
    if first["type"] == "extra_forbidden":
        fields = _section_of(first["loc"][:-1], study).model_fields
        allowed = ", ".join(field.alias or name for name, field in fields.items())
        return f"{origin}: unknown key '{key}'; allowed here: {allowed}.{more}"
    if first["type"] == "union_tag_invalid":
        value = first["ctx"]["tag"]
        return (
            f"{origin}: {key}.kind = {value!r} is not possible: choose one of "
            f"{first['ctx']['expected_tags']}.{more}"
        )
    if not first["loc"]:
        return f"{origin}: {message}.{more}"
    return f"{origin}: {key} = {_short(first['input'])} is not possible: {message}.{more}"


def _section_of(location: tuple[int | str, ...], study: type[BaseModel]) -> Any:
    """Return the section that an error is in; a kind in its location names that of the change."""
    section: Any = study
    for part in location:
        if part in KINDS:
            section = KINDS[str(part)]
        elif isinstance(part, str):
            section = section.model_fields[part].annotation
        else:  # the number of a table in a list of tables
            section = get_args(section)[0]
    return section


def _key(location: tuple[int | str, ...]) -> str:
    """Return the key a person wrote: without the kinds of value that were tried for it."""
    parts = [str(part) for part in location if part not in KINDS]
    named = [p for p in parts if not p.startswith(("constrained-", "literal["))]
    return ".".join(named) or "(top level)"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"

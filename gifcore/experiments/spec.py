"""What an experiment is: a file in TOML, one of its presets laid over it, checked and frozen.

experiment = "selectors"        the kind: it says which further keys there are
seeds = 5
[quick]                         keys of a preset replace those above; tables key by key
seeds = 2
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator

from gifcore import data as datasets
from gifcore.change_section import Section
from gifcore.errors import GifError
from gifcore.explained import explained
from gifcore.version import ENGINE_VERSION

PRESETS = ("quick", "full")
PROTOCOLS = ("ours", "paper")
Spec = TypeVar("Spec", bound="Experiment")


class Experiment(Section):
    """The keys that every kind has; a kind's own class adds its own."""

    experiment: str
    title: str = ""
    protocols: tuple[Literal["ours", "paper"], ...] = ("ours", "paper")
    seeds: int = Field(5, ge=1, le=1000)  # 0 … seeds - 1
    data: str = "fashion-mnist"  # a registry name, or the path of an .npz file
    model: str = "tinynet"

    # keys that say which runs are asked for: no run depends on them; a kind adds its own
    free: ClassVar[frozenset[str]] = frozenset({"title", "protocols", "seeds"})

    @field_validator("protocols")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("name one protocol or both, each once")
        return value


def merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with those of `over` in their place, tables key by key.

    >>> merged({"a": 1, "t": {"b": 2, "c": 3}}, {"t": {"b": 4}})
    {'a': 1, 't': {'b': 4, 'c': 3}}
    """
    found = dict(values)
    for key, value in over.items():
        old = found.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        found[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return found


def read_values(path: Path, preset: str) -> dict[str, Any]:
    """Return what an experiment file says with one of its presets laid over.

    Raises:
        GifError: no such file or preset, no TOML, or a table of another preset that is none.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GifError(f"Cannot read the experiment {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GifError(f"{path} is not a TOML file: {error}.") from None
    if preset not in PRESETS:
        raise GifError(f"There is no preset '{preset}'; choose one of: {', '.join(PRESETS)}.")
    presets = {name: values.pop(name, {}) for name in PRESETS}
    for name, table in presets.items():
        if not isinstance(table, dict):
            raise GifError(f"{path}: {name} = {table!r} is not possible: a preset is a table.")
    source = presets[preset].get("data", values.get("data"))
    if isinstance(source, str) and source.endswith(".npz"):
        values["data"] = presets[preset]["data"] = str((path.parent / source).resolve())
    return merged(values, presets[preset])


def checked(values: Mapping[str, Any], kind: type[Spec], origin: str) -> Spec:
    """Return the validated experiment of a kind.

    Raises:
        GifError: with the key, the value and what is allowed, for the first thing that is wrong.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise GifError(explained(error, origin, kind)) from None


def identity(spec: Experiment) -> str:
    """Return the hash of what its runs depend on: keys, data, engine; not how many are asked for.

    Raises:
        GifError: data that cannot be had.
    """
    values: dict[str, Any] = spec.model_dump(mode="json", exclude=set(spec.free))
    values["data"] = datasets.fingerprint(spec.data)
    text = json.dumps(values | {"engine": ENGINE_VERSION}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def dumps(spec: Experiment) -> str:
    """Return the experiment as TOML without presets; `checked` of it gives it back."""
    values = spec.model_dump(mode="json", exclude_none=True)
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = [f"{key} = {_toml(value)}" for key, value in plain.items()]
    for name, table in values.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]", *(f"{key} = {_toml(v)}" for key, v in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

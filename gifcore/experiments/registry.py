"""The kinds of experiment by name: each is a module with a `KIND`, loaded when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from gifcore.errors import GifError
from gifcore.experiments.kind import Kind
from gifcore.experiments.spec import Experiment, checked, merged, read_values


@dataclass(frozen=True)
class KindRow:
    """One kind: the module of gifcore.experiments that has it, and a line for people."""

    module: str
    text: str


KINDS: dict[str, KindRow] = {
    "toy": KindRow("toy", "Figure 2: a linear regression with its truths in closed form"),
    "eigenvalues": KindRow("eigenvalues", "Figure 3: negative eigenvalues by regularisation"),
    "backdoor": KindRow("relabelling", "Table 3: a backdoor is taken back by relabelling"),
    "candidates": KindRow("candidates", "FastIF: what the nearest training images keep"),
    "selectors": KindRow("selectors", "Table 1: selectors over ratios, GIF on each"),
    "methods": KindRow("methods", "Table 2: methods of class removal over ratios"),
    "histogram": KindRow("histogram", "Figure 5: what is predicted for the removed class"),
}


def kind_of(name: str) -> Kind:
    """Return a kind.

    Raises:
        GifError: an unknown kind.
    """
    if name not in KINDS:
        raise GifError(f"experiment = {name!r} is not known; choose one of: {', '.join(KINDS)}.")
    found = import_module(f"gifcore.experiments.{KINDS[name].module}").KIND
    assert isinstance(found, Kind)
    return found


def read(path: Path, preset: str, over: dict[str, Any] | None = None) -> tuple[Experiment, Kind]:
    """Return the experiment of a file with one of its presets, and its kind.

    Args:
        over: keys that replace those of the file.

    Raises:
        GifError: an unreadable file, an unknown kind, or a key or value that is not possible.
    """
    values = merged(read_values(path, preset), over or {})
    if "experiment" not in values:
        raise GifError(f'{path} names no experiment: write experiment = "selectors" or another.')
    kind = kind_of(str(values["experiment"]))
    return checked(values, kind.spec, str(path)), kind

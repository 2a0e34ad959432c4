"""The finished studies there are, of the demo and the workspace, as families of records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from dashboard import cache, settings
from dashboard.pairing import Combination
from gifcore import record as records
from gifcore.record import Listed

FAMILY_DIGITS = 12
DEFAULT = ("highest-k-gradients", 0.05)  # the combination of a family that is shown first


@dataclass(frozen=True)
class Family:
    """Records that differ only in selector and ratio."""

    key: str  # the first digits of the family hash, as the address names it
    title: str
    demo: bool
    paths: dict[Combination, Path] = field(default_factory=dict)
    data: str = ""  # the hash of the data set

    def default(self) -> Combination:
        """The combination shown first: highest-k gradients at 5 %, else the first there is."""
        return DEFAULT if DEFAULT in self.paths else min(self.paths)


def families() -> list[Family]:
    """Return the families of the demo and the workspace; the demo first, then the newest.

    The demo's own begin with that of most records, which it is about.
    Of two records of one combination that with a sketch counts.
    """
    found: dict[str, Family] = {}
    with_sketch: dict[str, set[Combination]] = defaultdict(set)
    for entry, demo in _listed():
        if entry.status != "finished":
            continue
        key = entry.info["family"][:FAMILY_DIGITS]
        data = entry.info["data"]["hash"]
        family = found.setdefault(key, Family(key, entry.title, demo, data=data))
        selection = entry.info["selection"]
        combination = (selection["selector"], selection["ratio"])
        sketched = records.SKETCH in entry.info["files"]
        if combination not in family.paths or (sketched and combination not in with_sketch[key]):
            family.paths[combination] = entry.path
        if sketched:
            with_sketch[key].add(combination)
    return sorted(found.values(), key=lambda one: -len(one.paths) if one.demo else 0)


def _listed() -> Iterable[tuple[Listed, bool]]:
    yield from ((entry, True) for entry in cache.bundled())
    yield from ((entry, False) for entry in listed())


_NEEDED = ("family", "data", "model", "change", "selection", "before")


def listed() -> list[Listed]:
    """Return the studies of the workspace; one that pages cannot draw is called damaged."""
    return [_checked(entry) for entry in cache.listed(settings.workspace())]


def _checked(entry: Listed) -> Listed:
    gone = [key for key in _NEEDED if key not in entry.info]
    if entry.status != "finished" or not gone:
        return entry
    problem = records.foreign(entry.path, KeyError(gone[0]))
    return replace(entry, status="damaged", message=str(problem), info={})

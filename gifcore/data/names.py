"""Class names out of foreign files, made harmless before anything shows or exports them."""

from collections.abc import Iterable

from gifcore.data.limits import MAX_NAME

FORMULA = ("=", "+", "-", "@")  # what a spreadsheet computes when a cell begins with it
_INSTEAD = str.maketrans({"<": "‹", ">": "›"})


def harmless(name: str) -> str:
    """Return a name without HTML brackets, control characters or a formula's first character.

    Charts draw some HTML and spreadsheets compute formulas, wherever a class name goes.

    >>> harmless("<b>cat</b>"), harmless("=1+1"), harmless("-1"), harmless("T-shirt/top")
    ('‹b›cat‹/b›', "'=1+1", '-1', 'T-shirt/top')
    """
    shown = "".join(c if c.isprintable() else " " for c in name).translate(_INSTEAD)
    shown = neutral(" ".join(shown.split())) or "(no name)"
    return shown if len(shown) <= MAX_NAME else shown[: MAX_NAME - 1] + "…"


def neutral(cell: str) -> str:
    """Return text that no spreadsheet takes for a formula; numbers stay as they are.

    >>> neutral("@SUM(A1)"), neutral("-1.5"), neutral("+1e3"), neutral("a=b")
    ("'@SUM(A1)", '-1.5', '+1e3', 'a=b')
    """
    begins = cell.lstrip()[:1]
    return f"'{cell}" if begins in FORMULA and begins and not _is_number(cell) else cell


def apart(names: Iterable[str]) -> tuple[str, ...]:
    """Return harmless names of which no two are equal: a second one gets its number.

    >>> apart(["a", "<", "‹"])
    ('a', '‹', '‹ (2)')
    """
    given: dict[str, int] = {}
    shown = []
    for name in map(harmless, names):
        given[name] = given.get(name, 0) + 1
        shown.append(name if given[name] == 1 else f"{name} ({given[name]})")
    return tuple(shown)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True

"""Where the bundled files are: top level in a checkout, inside the package in a wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "assets"
_CHECKOUT = _PACKAGE.parent / "assets"


def asset(*parts: str) -> Path:
    """The path of a bundled file or folder, whether or not it exists.

    >>> asset("data", "fashion-mnist-mini.npz").name
    'fashion-mnist-mini.npz'
    """
    root = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
    return root.joinpath(*parts)

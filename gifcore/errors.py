"""The two exceptions that leave the engine on purpose.

GifError   something the user can put right; its text is one sentence for people
Cancelled  the user asked to stop; nothing is wrong
"""


class GifError(Exception):
    r"""One user-facing sentence: what was expected, what was found, what to do.

    Names out of foreign files may end up in it, so control characters become spaces.

    >>> str(GifError("no array 'a\nb'."))
    "no array 'a b'."
    """

    def __init__(self, sentence: str) -> None:
        printable = "".join(c if c.isprintable() else " " for c in sentence)
        super().__init__(" ".join(printable.split()))


class Cancelled(Exception):  # noqa: N818 - a request that was honoured, not an error
    """The user cancelled; whoever catches it cleans up and says so."""

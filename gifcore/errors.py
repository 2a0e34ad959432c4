"""The two exceptions that leave the engine on purpose.

GifError   something the user can put right; its text is one sentence for people
Cancelled  the user asked to stop; nothing is wrong
"""


class GifError(Exception):
    """One user-facing sentence: what was expected, what was found, what to do."""


class Cancelled(Exception):  # noqa: N818 - a request that was honoured, not an error
    """The user cancelled; whoever catches it cleans up and says so."""

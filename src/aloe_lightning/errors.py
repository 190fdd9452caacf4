"""The one exception that means "the user can fix this"; it ends in a single line on stderr and exit code 2."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A problem of input or configuration; the message says what is wrong, where it was found and what to do."""


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return a "did you mean" question for the end of a message; "" if no known name is near.

    Among the nearest names the one that begins as the given name does is taken: `alo` is `aloe` rather than `halo`.
    """
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=cutoff)
    if not close:
        return ""
    similarity = difflib.SequenceMatcher(b=name)

    def rank(candidate: str) -> tuple[float, bool]:
        similarity.set_seq1(candidate)
        return similarity.ratio(), candidate[0] == name[0]

    return f", did you mean {max(close, key=rank)!r}?"

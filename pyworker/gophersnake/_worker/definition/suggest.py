"""Says what somebody may have meant by a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], none: str) -> str:
    """Return the end of a message: the nearest known name, or all of them.

    Args:
        name: what does not exist.
        known: what does.
        none: what is said where nothing does.
    """
    import difflib  # only mistakes need it

    known = list(known)
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are: {', '.join(known[:20])}" if known else f"; {none}"

"""The nodes of the section start, which return the time of their first line."""

import time

from gophersnake import node


@node
def stamp(value):  # type: ignore[no-untyped-def]
    """Return the time in nanoseconds."""
    return time.monotonic_ns()


@node
def typed(value: int | None) -> int:
    """Return the time in nanoseconds."""
    return time.monotonic_ns()

"""The node of the section serve that yields the time."""

import time
from collections.abc import Iterator

import gophersnake


@gophersnake.node
def clock(count: int) -> Iterator[int]:
    """Yield the time in nanoseconds, each 5 ms."""
    for _ in range(count):
        time.sleep(0.005)
        yield time.time_ns()

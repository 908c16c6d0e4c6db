"""The begun count: how many frames the worker has handed to node code.

The supervisor reads it from shared memory after a worker has died, to learn which of
the frames that it sent were never begun and can be sent to another worker. In a fused chain
it also reads which member runs, and since when.
"""

from __future__ import annotations

import mmap

MEMBER, SINCE = 2, 3
"""The indexes in a cell of ``OF_CHAIN`` numbers of the running member, counted from 1, and of
the nanoseconds of ``time.monotonic`` at which it began. The number between is the heartbeat's."""

OF_CHAIN = 4
"""How many numbers the cell of a fused chain has."""


class BegunCount:
    """Counts the frames that run node code: call, open, finish and snapshot.

    The stored number is the count plus one, since 0 says that the worker does not count.
    Before ``map_to`` is called the count is private to this process.

    Attributes:
        cell: the number, at index 0. The calls of plain nodes add to it directly, which
            saves them a function call. See ``OF_CHAIN`` for the others.
    """

    def __init__(self) -> None:
        """Begin with a private count."""
        self.cell = _private(1)

    def map_to(self, descriptor: int, numbers: int = 1) -> None:
        """Keep the count, and numbers that follow it, at the beginning of a file from now on.

        Raises:
            OSError: the file cannot be mapped.
            ValueError: the file is too short.
        """
        self.cell = memoryview(mmap.mmap(descriptor, 8 * numbers)).cast("Q")
        self.cell[0] = 1

    def keep_private(self, numbers: int) -> None:
        """Keep so many numbers that only this process sees."""
        self.cell = _private(numbers)

    def unmap(self) -> None:
        """Keep a private count from now on; a forked child must not change its parent's."""
        self.cell = _private(len(self.cell))

    def add(self, frames: int = 1) -> None:
        """Record that the next frames are begun, in the order in which they arrived."""
        self.cell[0] += frames


def _private(numbers: int) -> memoryview:
    return memoryview(bytearray(8 * numbers)).cast("Q")

"""The begun count: how many frames the worker has handed to node code.

The supervisor reads it from shared memory after a worker has died, to learn which of
the frames that it sent were never begun and can be sent to another worker. In a fused chain
it also reads which member runs, and since when.
"""

from __future__ import annotations

import mmap

MEMBER, SINCE = 2, 3
"""The indexes of the running member of a fused chain, counted from 1, and of the reading of
``time.monotonic`` at which it began. The number before is the heartbeat's."""

OF_CHAIN = 4
"""How many numbers the cell of a fused chain has."""


class BegunCount:
    """Counts the frames that run node code: call, open, finish and snapshot.

    The stored number is the count plus one, since 0 says that the worker does not count.
    Before ``map_to`` is called the count is private to this process.

    Attributes:
        cell: the number, at index 0. The calls of plain nodes add to it directly, which
            saves them a function call. At ``MEMBER`` is the running member of a chain.
        times: the same memory as floats, for ``SINCE``.
    """

    def __init__(self) -> None:
        """Begin with a private count."""
        self.keep_private(1)

    def map_to(self, descriptor: int, numbers: int = 1) -> None:
        """Keep the count, and numbers that follow it, at the beginning of a file from now on.

        Raises:
            OSError: the file cannot be mapped.
            ValueError: the file is too short.
        """
        self._keep(memoryview(mmap.mmap(descriptor, 8 * numbers)))
        self.cell[0] = 1

    def keep_private(self, numbers: int) -> None:
        """Keep so many numbers that only this process sees."""
        self._keep(memoryview(bytearray(8 * numbers)))

    def unmap(self) -> None:
        """Keep a private count from now on; a forked child must not change its parent's."""
        self.keep_private(len(self.cell))

    def _keep(self, memory: memoryview) -> None:
        self.cell, self.times = memory.cast("Q"), memory.cast("d")

    def add(self, frames: int = 1) -> None:
        """Record that the next frames are begun, in the order in which they arrived."""
        self.cell[0] += frames

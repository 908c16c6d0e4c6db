"""The begun count: how many frames the worker has handed to node code.

The supervisor reads it from shared memory after a worker has died, to learn which of
the frames that it sent were never begun and can be sent to another worker.
"""

from __future__ import annotations

import mmap


class BegunCount:
    """Counts the frames that run node code: call, open, finish and snapshot.

    The stored number is the count plus one, since 0 says that the worker does not count.
    Before ``map_to`` is called the count is private to this process.

    Attributes:
        cell: the number, at index 0. The calls of plain nodes add to it directly, which
            saves them a function call.
    """

    def __init__(self) -> None:
        """Begin with a private count."""
        self.cell = _private()

    def map_to(self, descriptor: int) -> None:
        """Keep the count in the first 8 bytes of a file from now on.

        Raises:
            OSError: the file cannot be mapped.
            ValueError: the file is too short.
        """
        self.cell = memoryview(mmap.mmap(descriptor, 8)).cast("Q")
        self.cell[0] = 1

    def unmap(self) -> None:
        """Keep a private count from now on; a forked child must not change its parent's."""
        self.cell = _private()

    def add(self, frames: int = 1) -> None:
        """Record that the next frames are begun, in the order in which they arrived."""
        self.cell[0] += frames


def _private() -> memoryview:
    return memoryview(bytearray(8)).cast("Q")

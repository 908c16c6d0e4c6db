"""Says which of the frames that came were begun, beyond the death of the worker."""

from __future__ import annotations

import mmap


class Begun:
    """Counts the frames that node code runs for: call, open, finish and snapshot.

    Of a worker that dies, the supervisor knows by this which of them it never began.
    The count that it sees is one more: 0 is a worker that counts for nobody.
    """

    def __init__(self) -> None:
        """Count for nobody."""
        self._cell = memoryview(bytearray(8)).cast("Q")

    def show(self, descriptor: int) -> None:
        """Count where the supervisor can see it: in the first 8 bytes of a file.

        Raises:
            OSError: the file cannot be mapped.
            ValueError: it is too short.
        """
        self._cell = memoryview(mmap.mmap(descriptor, 8)).cast("Q")
        self._cell[0] = 1

    def count(self, frames: int = 1) -> None:
        """Say that the next frames begin, in the order in which they came."""
        self._cell[0] += frames

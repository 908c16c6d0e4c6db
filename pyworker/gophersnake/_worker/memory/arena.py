"""The shared memory that a worker itself owns."""

from __future__ import annotations

import functools
import time

from gophersnake._worker.memory import segments
from gophersnake._worker.memory.mappings import Atlas
from gophersnake._worker.memory.segments import Segment

OWN = 1 << 31
"""The bit of the numbers that workers give to their own segments."""

LEAST = 64 << 10
"""The size of the smallest segments."""

SPARE = 4
"""Free segments may keep this part of the limit, a quarter."""

REST_TIME = 20.0
"""Seconds that a free segment is kept that nobody needs."""


class Arena:
    """Segments that are used again. It is not safe for use by several threads.

    Attributes:
        limit: how many bytes the segments may take together.
        segments: all of them, by number.
        gone: the numbers of those that the host has and is to forget.
    """

    def __init__(self, limit: int, atlas: Atlas) -> None:
        """Begin without segments; the atlas is told of those that end."""
        self.limit = limit
        self._atlas = atlas
        self.segments: dict[int, Segment] = {}
        self.gone: list[int] = []
        self._free: list[Segment] = []  # the one used last is at the end
        self._total = self._idle = 0
        self._last = 0

    @property
    def in_use(self) -> int:
        """The bytes of the segments that are not free."""
        return self._total - self._idle

    def take(self, size: int) -> Segment | None:
        """Return a segment with room for that many bytes, lent once.

        ``None`` where there is no room within the limit.

        Raises:
            OSError: the system has none to give.
        """
        if size > self.limit:
            return None
        size = min(size_class(size), self.limit)
        for i in range(len(self._free) - 1, -1, -1):
            if self._free[i].size == size:
                segment = self._free.pop(i)
                self._idle -= size
                break
        else:
            if self.in_use + size > self.limit:
                return None  # not even without the free ones
            while self._total + size > self.limit:
                self._end_oldest()
            segment = segments.create(OWN | (self._last + 1), size)
            self._last += 1
            self.segments[segment.number] = segment
            self._total += size
        segment.loans = 1
        return segment

    def rest(self, segment: Segment) -> None:
        """Take a segment back if nobody uses it any more."""
        if segment.loans or segment.arrays:
            return
        now = segment.rested = time.monotonic()
        self._free.append(segment)
        self._idle += segment.size
        while len(self._free) > 1 and self._idle > self.limit // SPARE:
            self._end_oldest()
        if now - self._free[0].rested > REST_TIME:
            self.tidy()

    def tidy(self) -> None:
        """End the segments that nobody has needed for a while."""
        now = time.monotonic()
        while self._free and now - self._free[0].rested > REST_TIME:
            self._end_oldest()

    def _end_oldest(self) -> None:
        segment = self._free.pop(0)
        self._idle -= segment.size
        self._total -= segment.size
        del self.segments[segment.number]
        self._atlas.remove(segment)
        if segment.descriptor < 0:
            self.gone.append(segment.number)
        else:  # the host never heard of it
            segments.discard(segment)


@functools.lru_cache(256)
def size_class(size: int) -> int:
    """Return a size rounded up by a quarter at most, so that a few sizes serve all buffers."""
    size = max(size, LEAST)
    step = 1 << max((size - 1).bit_length() - 3, 12)
    return -(-size // step) * step

"""The segments of shared memory that a worker owns."""

from __future__ import annotations

import errno
import functools
import time

from gophersnake._worker.memory import segments
from gophersnake._worker.memory.segments import Mappings, Segment

OWN = 1 << 31
"""The bit that is set in the numbers of workers' own segments."""

LEAST = 64 << 10
"""The size of the smallest segments, in bytes."""

SPARE = 4
"""Free segments may take one part in so many of the limit: a quarter."""

MOST = 1 << 14
"""How many segments an arena may have if the setup frame does not say."""

KEEP_SECONDS = 20.0
"""How long a free segment is kept for reuse, in seconds."""


class Full(Exception):
    """There was no room in shared memory within the time allowed.

    Attributes:
        hint: how to avoid the error.
    """

    hint = (
        "raise the limit of shared memory, or make the consumers of the node's results "
        "release them earlier"
    )


class Arena:
    """Creates segments and uses them again. Not safe for concurrent use.

    Attributes:
        limit: how many bytes the segments may take together.
        most: how many segments there may be.
        segments: all segments, by number.
        discarded: the numbers of discarded segments that the supervisor has mapped.
    """

    def __init__(self, limit: int, mappings: Mappings, most: int = MOST) -> None:
        """Begin without segments; discarded ones are removed from the mappings."""
        self.limit, self.most = limit, most
        self._mappings = mappings
        self.segments: dict[int, Segment] = {}
        self.discarded: list[int] = []
        self._free: list[Segment] = []  # the one used last is at the end
        self._total = self._idle = 0  # bytes of all segments, and of the free ones
        self._last = 0

    @property
    def in_use(self) -> int:
        """The bytes of the segments that are not free."""
        return self._total - self._idle

    def take(self, size: int) -> Segment | None:
        """Return a segment of at least ``size`` bytes, with one loan.

        Returns ``None`` if that would exceed the limit.

        Raises:
            OSError: the system cannot create a segment, or there are as many as there may be.
        """
        if size > self.limit:
            return None
        size = min(size_class(size), self.limit)
        free = self._free
        if free and free[-1].size == size:  # nearly always
            segment = free.pop()
            self._idle -= size
        else:
            found = self._take_older(size) or self._create(size)
            if found is None:
                return None
            segment = found
        segment.loans = 1
        return segment

    def _take_older(self, size: int) -> Segment | None:
        """Return a free segment of exactly that size, which is not the one used last."""
        for i in range(len(self._free) - 2, -1, -1):
            if self._free[i].size == size:
                self._idle -= size
                return self._free.pop(i)
        return None

    def _create(self, size: int) -> Segment | None:
        """Return a new segment, ``None`` if that would exceed the limit; see ``take``."""
        if self.in_use + size > self.limit:
            return None  # even without the free ones
        while self._total + size > self.limit:
            self._discard_oldest()
        while self._free and len(self.segments) >= self.most:
            self._discard_oldest()
        if len(self.segments) >= self.most:
            raise OSError(errno.EMFILE, f"the worker may have {self.most} segments")
        segment = segments.create(OWN | (self._last + 1), size)
        self._last += 1
        self.segments[segment.number] = segment
        self._total += size
        return segment

    def full(self, size: int, waited: float) -> Full:
        """Return the error of a buffer for which there was no room in so many seconds."""
        return Full(
            f"shared memory is full: {mib(self.in_use)} of {mib(self.limit)} are lent and not "
            f"given back, and there was no room for {mib(size)} within {waited:g} s"
        )

    def free_if_unused(self, segment: Segment) -> None:
        """Make a segment free if it has no loans and no arrays."""
        if segment.loans or segment.arrays:
            return
        now = segment.unused_since = time.monotonic()
        free = self._free
        free.append(segment)
        idle = self._idle = self._idle + segment.size
        if len(free) == 1:
            return
        if idle > self.limit // SPARE:
            while len(free) > 1 and self._idle > self.limit // SPARE:
                self._discard_oldest()
        if now - free[0].unused_since > KEEP_SECONDS:
            self.discard_unused()

    def discard_unused(self) -> None:
        """Discard the segments that have been free for ``KEEP_SECONDS``."""
        now = time.monotonic()
        while self._free and now - self._free[0].unused_since > KEEP_SECONDS:
            self._discard_oldest()

    def _discard_oldest(self) -> None:
        segment = self._free.pop(0)
        self._idle -= segment.size
        self._total -= segment.size
        del self.segments[segment.number]
        self._mappings.remove(segment)
        if segment.descriptor < 0:
            self.discarded.append(segment.number)
        else:  # it was never transferred
            segments.discard(segment)


def mib(size: int) -> str:
    """Return a size in bytes for a message."""
    return f"{size / (1 << 20):.4g} MiB"


@functools.lru_cache(256)
def size_class(size: int) -> int:
    """Return a size rounded up by a quarter at most, so that a few sizes fit all buffers."""
    size = max(size, LEAST)
    step = 1 << max((size - 1).bit_length() - 3, 12)
    return -(-size // step) * step

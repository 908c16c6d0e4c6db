"""Which segment an address lies in."""

from __future__ import annotations

import bisect

from gophersnake._worker.memory.segments import Segment


class Atlas:
    """The segments that arrays lie in, by their addresses."""

    def __init__(self) -> None:
        """Begin without segments."""
        self._starts: list[int] = []
        self._segments: dict[int, Segment] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._starts)

    def add(self, segment: Segment) -> None:
        """Take a segment, whose address is known now."""
        bisect.insort(self._starts, segment.address)
        self._segments[segment.address] = segment

    def remove(self, segment: Segment) -> None:
        """Forget a segment, if it is here at all."""
        if segment.address:
            self._starts.remove(segment.address)
            del self._segments[segment.address]

    def find(self, address: int, size: int) -> tuple[Segment, int] | None:
        """Return the segment that holds all of a piece of memory, and the offset in it."""
        i = bisect.bisect_right(self._starts, address) - 1
        if i < 0:
            return None
        start = self._starts[i]
        segment = self._segments[start]
        return (segment, address - start) if address + size <= start + segment.size else None

"""Segments of shared memory: nameless files, transferred as descriptors over a socket."""

from __future__ import annotations

import bisect
import fcntl
import mmap
import struct
import sys
import weakref
from typing import Any

from gophersnake._worker.originals import os, select, socket
from gophersnake._worker.wire.frames import ProtocolError

ADD_SEALS, GET_SEALS = 1033, 1034
SEAL, SHRINK, GROW, WRITE, FUTURE_WRITE = 1, 2, 4, 8, 16
"""Linux's numbers; Python 3.10 may lack their names."""

FIXED_SIZE = SHRINK | GROW
"""The seals that every segment has: reading a mapping whose file has shrunk is fatal."""

ONLY_OWNER_WRITES = WRITE | FUTURE_WRITE
"""The seals of which every segment has one. The mappings that were made before remain."""

MESSAGE = struct.Struct("<IQ")
"""The message that carries a descriptor: the number and the size of the segment."""

TRANSFER_TIMEOUT = 5.0
"""Seconds to wait for a descriptor. The owner sends it before the first frame that needs it,
so it has arrived when that frame is read, or never will."""

if sys.platform == "linux":
    RECEIVE_FLAGS = socket.MSG_CMSG_CLOEXEC
else:  # there are no segments
    RECEIVE_FLAGS = 0


class Segment:
    """A mapped segment.

    Attributes:
        number: the number by which frames name the segment.
        memory: the mapping. It ends with its last reference, arrays included.
        size: the size in bytes.
        loans: how often the receiving side was lent the segment and has not given it back.
        arrays: how many arrays of this process lie in a segment of its own. For segments
            of the supervisor, ``loans`` counts them.
        address: the address of the mapping; 0 until the first array is made.
        unused_since: the time at which the segment became free, by ``time.monotonic``.
        descriptor: the descriptor of a segment that has not been transferred yet, else -1.
    """

    __slots__ = (
        "address",
        "arrays",
        "descriptor",
        "loans",
        "memory",
        "number",
        "size",
        "unused_since",
    )

    def __init__(self, number: int, memory: mmap.mmap, descriptor: int = -1) -> None:
        """Create a segment that is not lent."""
        self.number = number
        self.memory = memory
        self.size = len(memory)
        self.loans = self.arrays = self.address = 0
        self.unused_since = 0.0
        self.descriptor = descriptor


class Lease(weakref.ref[Any]):
    """A weak reference to an array of bytes in a segment; its callback ends the lease.

    Attributes:
        segment: the segment that the array lies in.
        offset: the offset in it.
        key: the array's identity.
    """

    __slots__ = ("key", "offset", "segment")
    segment: Segment
    offset: int
    key: int


class Mappings:
    """The segments in which arrays lie, by address. Not safe for concurrent use."""

    def __init__(self) -> None:
        """Begin without segments."""
        self._starts: list[int] = []
        self._segments: dict[int, Segment] = {}

    def __bool__(self) -> bool:
        """Return whether there are any segments."""
        return bool(self._starts)

    def add(self, segment: Segment) -> None:
        """Add a segment whose address has been set."""
        bisect.insort(self._starts, segment.address)
        self._segments[segment.address] = segment

    def remove(self, segment: Segment) -> None:
        """Remove a segment, if it was added."""
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


def create(number: int, size: int) -> Segment:
    """Create a segment of ``size`` bytes, to which only this mapping can write.

    Raises:
        OSError: the system has no memory or no descriptor left, or is older than the seal
            for that, Linux 5.1.
    """
    descriptor = os.memfd_create("gophersnake", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        memory = _map(descriptor, size, mmap.PROT_READ | mmap.PROT_WRITE)
        fcntl.fcntl(descriptor, ADD_SEALS, FIXED_SIZE | FUTURE_WRITE | SEAL)
    except BaseException:
        os.close(descriptor)
        raise
    return Segment(number, memory, descriptor=descriptor)


def transfer(channel: socket.socket, segment: Segment) -> None:
    """Send the descriptor of a segment, and close it. This does not wait.

    Raises:
        OSError: the descriptor cannot be sent, now or at all.
    """
    socket.send_fds(channel, [MESSAGE.pack(segment.number, segment.size)], [segment.descriptor])
    discard(segment)


def discard(segment: Segment) -> None:
    """Close the descriptor of a segment that needs no further transfer."""
    os.close(segment.descriptor)
    segment.descriptor = -1


def receive(channel: socket.socket, timeout: float) -> Segment:
    """Receive the next segment that is transferred, and map it for reading.

    Args:
        channel: the socket on which descriptors arrive.
        timeout: the seconds to wait at most.

    Raises:
        ProtocolError: no segment arrives, or the message is invalid.
        OSError: the segment cannot be mapped.
    """
    if not select.select([channel], [], [], max(timeout, 0.0))[0]:
        raise ProtocolError("its descriptor did not arrive")
    try:
        message, descriptors, flags, _ = socket.recv_fds(
            channel, MESSAGE.size + 1, 4, RECEIVE_FLAGS
        )
    except OSError as error:
        raise ProtocolError(str(error)) from error
    try:
        if len(message) != MESSAGE.size:
            raise ProtocolError(f"a message of {len(message)} bytes came instead")
        if flags & socket.MSG_CTRUNC and not descriptors:
            raise ProtocolError("the process has reached its limit of open descriptors")
        if len(descriptors) != 1:
            raise ProtocolError(f"a message came with {len(descriptors)} descriptors")
        number, size = MESSAGE.unpack(message)
        _verify(descriptors[0], size)
        return Segment(number, _map(descriptors[0], size, mmap.PROT_READ))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _verify(descriptor: int, size: int) -> None:
    actual = os.fstat(descriptor).st_size
    if not size or actual != size:
        raise ProtocolError(f"a segment of {actual} bytes is said to have {size}")
    try:
        seals = fcntl.fcntl(descriptor, GET_SEALS)
    except OSError as error:
        raise ProtocolError(f"a descriptor that is not shared memory: {error}") from error
    if seals & FIXED_SIZE != FIXED_SIZE:
        raise ProtocolError("a segment whose size is not sealed")
    if not seals & ONLY_OWNER_WRITES:
        raise ProtocolError("a segment that is not sealed against writing")


def _map(descriptor: int, size: int, protection: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):  # before, a mapping keeps a descriptor of its own
        return mmap.mmap(descriptor, size, mmap.MAP_SHARED, protection, trackfd=False)
    return mmap.mmap(descriptor, size, mmap.MAP_SHARED, protection)

"""Segments of shared memory as the kernel has them: nameless files, handed over a socket."""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import socket
import struct
import sys
from dataclasses import dataclass, field

from gophersnake._worker.wire.frames import ProtocolError

ADD_SEALS, GET_SEALS = 1033, 1034
SEAL, SHRINK, GROW = 1, 2, 4
"""Linux's numbers; Python 3.10 may lack their names."""

SETTLED = SHRINK | GROW
"""Whoever reads a mapping whose file has shrunk dies of it."""

MESSAGE = struct.Struct("<IQ")
"""Number and size of the segment whose descriptor goes with the message."""

HAND_OVER_TIME = 5.0
"""Seconds. A descriptor is sent before the frame that names it: it is there, or never comes."""

if sys.platform == "linux":
    RECEIVE_FLAGS = socket.MSG_CMSG_CLOEXEC
else:  # which has no segments
    RECEIVE_FLAGS = 0


@dataclass(slots=True, eq=False)
class Segment:
    """A mapped segment.

    Attributes:
        number: by which frames name it.
        memory: the mapping. It ends with the last reference, arrays included.
        size: its bytes.
        loans: how often the receiving side was told of it and has not given it back.
        arrays: how many arrays this process has handed out over it. Those over a
            segment of the host's are the loans.
        address: where it is mapped; 0 as long as there was no array.
        rested: when it became free the last time, by ``time.monotonic``.
        descriptor: of one that has not been handed over yet, else -1.
    """

    number: int
    memory: mmap.mmap
    size: int = field(init=False)
    loans: int = 0
    arrays: int = 0
    address: int = 0
    rested: float = 0.0
    descriptor: int = -1

    def __post_init__(self) -> None:
        """Take down the size, which is asked for often."""
        self.size = len(self.memory)


def create(number: int, size: int) -> Segment:
    """Make a segment.

    Raises:
        OSError: the system has none to give.
    """
    descriptor = os.memfd_create("gophersnake", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, ADD_SEALS, SETTLED | SEAL)
        memory = _map(descriptor, size, mmap.PROT_READ | mmap.PROT_WRITE)
    except BaseException:
        os.close(descriptor)
        raise
    return Segment(number, memory, descriptor=descriptor)


def hand_over(channel: socket.socket, segment: Segment) -> None:
    """Send a segment's descriptor, which is closed then, without waiting for room.

    Raises:
        OSError: that is not possible, now or at all.
    """
    socket.send_fds(channel, [MESSAGE.pack(segment.number, segment.size)], [segment.descriptor])
    os.close(segment.descriptor)
    segment.descriptor = -1


def take_over(channel: socket.socket, timeout: float) -> Segment:
    """Return the next segment that is handed over, mapped for reading.

    Raises:
        ProtocolError: none comes, or what comes is none.
        OSError: it cannot be mapped.
    """
    if not select.select([channel], [], [], max(timeout, 0.0))[0]:
        raise ProtocolError("it does not come")
    try:
        message, descriptors, flags, _ = socket.recv_fds(
            channel, MESSAGE.size + 1, 4, RECEIVE_FLAGS
        )
    except OSError as error:
        raise ProtocolError(str(error)) from error
    try:
        if len(message) != MESSAGE.size:
            raise ProtocolError(f"a message of {len(message)} bytes comes instead")
        if flags & socket.MSG_CTRUNC and not descriptors:
            raise ProtocolError("no descriptor is left: the process has all open that it may")
        if len(descriptors) != 1:
            raise ProtocolError(f"a message comes with {len(descriptors)} descriptors")
        number, size = MESSAGE.unpack(message)
        _verify(descriptors[0], size)
        return Segment(number, _map(descriptors[0], size, mmap.PROT_READ))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _verify(descriptor: int, size: int) -> None:
    have = os.fstat(descriptor).st_size
    if not size or have != size:
        raise ProtocolError(f"a segment of {have} bytes is said to have {size}")
    try:
        seals = fcntl.fcntl(descriptor, GET_SEALS)
    except OSError as error:
        raise ProtocolError(f"what comes is no shared memory: {error}") from error
    if seals & SETTLED != SETTLED:
        raise ProtocolError("a segment whose size is not settled")


def _map(descriptor: int, size: int, protection: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):  # before, a mapping keeps a descriptor of its own
        return mmap.mmap(descriptor, size, mmap.MAP_SHARED, protection, trackfd=False)
    return mmap.mmap(descriptor, size, mmap.MAP_SHARED, protection)


def discard(segment: Segment) -> None:
    """Close the descriptor of a segment that is not to be handed over."""
    os.close(segment.descriptor)
    segment.descriptor = -1
